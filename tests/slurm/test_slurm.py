"""A campaign on a real Slurm, on which everything happens that happens on clusters."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from campaigns import real_place, smallest_field

sys.path.insert(0, str(Path(__file__).parent))

from cluster import Cluster, running_cluster, until

from atmonr.checkpoint_file import read_checkpoint
from launch.attempts import all_attempts, read_state
from launch.folder import Folder

pytestmark = [
    pytest.mark.slow,
    pytest.mark.slurm,
    pytest.mark.alone,
    pytest.mark.filterwarnings("default:::mlflow"),
]

GRANULES = 12
STEPS = 300
BAD = "PACE_HARP2.bad"
CONFIG = smallest_field(STEPS)
SITE = """\
title = "four pretended nodes"
scheduler = "slurm"
heartbeat_s = 2.0
lease_s = 12.0
idle_s = 6.0
[gpu]
slots = 1
cpus = 2
max_jobs = 4
wall_minutes = 30
grace_s = 15
options = ["--partition=low"]
"""
CAMPAIGN = """\
name = "real"
folder = "campaign"
site = "site.toml"
ingest_options = ["--top-height-m", "6000"]
extract_options = ["--horizontal-step-m", "600", "--vertical-step-m", "600"]
[granules]
files = ["data/*.nc"]
[config]
file = "config.toml"
[care]
canaries = 2
[export]
evaluate = false
quicklook = false
"""


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with running_cluster() as made:
        yield made


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A campaign file, and granules that differ in a few bytes behind their end; one is cut off."""
    simulate = [sys.executable, "-m", "atmonr", "simulate", "--preset", "cumulus", "--lines", "10"]
    simulate += ["--pixels", "10", "--subpixels", "1", "-o", str(tmp_path / "g"), "--quiet"]
    subprocess.run(simulate, check=True, capture_output=True)
    (original,) = (tmp_path / "g").glob("*L1B*.nc")
    (tmp_path / "data").mkdir()
    for number in range(GRANULES - 1):
        copy = tmp_path / "data" / f"PACE_HARP2.{number:02d}.nc"
        copy.write_bytes(original.read_bytes() + bytes([number]))
    (tmp_path / "data" / f"{BAD}.nc").write_bytes(original.read_bytes()[:9000])
    for name, text in (("config", CONFIG), ("site", SITE), ("campaign", CAMPAIGN)):
        (tmp_path / f"{name}.toml").write_text(text)
    return tmp_path


class Story:
    """What is done to the campaign, and what can be seen of it."""

    def __init__(self, cluster: Cluster, place: Path) -> None:
        self.cluster, self.place = cluster, place

    def atmonr(self, *arguments: str) -> str:
        return self.cluster.run(sys.executable, "-m", "atmonr", "campaign", *arguments)

    def drive(self, verb: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "atmonr", "campaign", verb, str(self.place / "campaign.toml")]
        with open(self.place / "driver.log", "ab") as log:
            return subprocess.Popen(
                [*command, "--wait", "--every-s", "2"],
                env=self.cluster.environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    @property
    def folder(self) -> Folder:
        return Folder.open(self.place / "campaign")

    def running(self) -> list[dict[str, Any]]:
        """Claims of the attempts that go on, with the key of the task and the number of the attempt."""
        folder = self.folder
        states = [(task.key, read_state(folder.of(task))) for task in folder.tasks()]
        return [
            {**state.claim, "key": key, "number": state.number}
            for key, state in states
            if state.status == "running"
        ]

    def other_than(self, *hosts: str) -> dict[str, Any]:
        """One that goes on, on another node than these."""
        found: list[dict[str, Any]] = []

        def look() -> bool:
            found[:] = [claim for claim in self.running() if claim["host"] not in hosts]
            return bool(found)

        self.wait_for(look)
        return found[0]

    def done(self) -> int:
        folder = self.folder
        return sum(read_state(folder.of(task)).status == "done" for task in folder.tasks())

    def ends(self) -> list[dict[str, Any]]:
        folder = self.folder
        return [attempt["end"] for task in folder.tasks() for attempt in all_attempts(folder.of(task))]

    def submission(self, job: str) -> Path:
        """The script of a job, or of an array."""
        (found,) = self.folder.path.glob(f"jobs/*/*/{job}_submission.sh")
        return found

    def wait_for(self, happens: Callable[[], bool]) -> None:
        until(happens, within_s=300.0)


def pid_of(worker: str) -> int:
    return int(worker.split("-")[-2])


def children_of(pid: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def test_a_campaign_survives_what_clusters_do(cluster: Cluster, place: Path) -> None:
    story = Story(cluster, place)
    campaign = str(place / "campaign.toml")
    planned = story.atmonr("plan", campaign)
    assert "#SBATCH --signal=B:USR2@15" in planned and "#SBATCH --array=0-1%2" in planned

    driver = story.drive("submit")
    story.wait_for(lambda: (place / "campaign" / "campaign.json").exists() and len(story.running()) >= 2)
    driver.send_signal(signal.SIGKILL)  # the driver dies, and another goes on
    driver.wait()
    driver = story.drive("resume")
    rival = story.drive("resume")
    cluster.stop_accounting()

    # One job hangs until its time is over. One command is killed.
    hung = story.running()[0]
    pipe = hang(story, hung)
    cluster.run("scontrol", "update", f"jobid={hung['job']}", "timelimit=1")
    killed = kill_a_command(story, besides=hung["worker"])
    # Another partition takes a node away from a training.
    preempted = preempt_a_training(story)
    cluster.start_accounting()
    driver.send_signal(signal.SIGKILL)
    driver.wait()
    driver = story.drive("resume")

    # A node goes down, and comes back, but is used no more.
    down = story.other_than(hung["host"], preempted["host"])
    cluster.run("scontrol", "update", f"nodename={down['host']}", "state=down", "reason=test")
    bad = story.folder.bad_node(down["host"])
    story.wait_for(bad.exists)
    cluster.run("scontrol", "update", f"nodename={down['host']}", "state=resume", check=False)
    # A worker dies, and its command with it.
    dead = story.other_than(hung["host"], down["host"])
    os.kill(pid_of(dead["worker"]), signal.SIGKILL)
    job = ("sacct", "-n", "-X", "-D", "-P", "-S", "now-1hour", "-o", "State", "-j")
    story.wait_for(lambda: cluster.run(*job, hung["job"]).split() == ["TIMEOUT"])
    pipe.unlink()

    for process in (driver, rival):
        assert process.wait(900) == 0, (place / "driver.log").read_text()
    check_the_end(story)
    ends = story.ends()
    (victim,) = (end for end in ends if end["class"] == "killed")
    assert victim["worker"] == killed
    lost = {end["worker"] for end in ends if end["class"] == "lost"}
    assert {hung["worker"], dead["worker"]} <= lost <= {hung["worker"], dead["worker"], down["worker"]}
    assert "NODE_FAIL" in cluster.run(*job, down["job"]).split()
    check_the_node_was_left_alone(story, down["host"])
    check_all_trainings_are_equal(story, preempted["key"])

    story.atmonr("collect", campaign, "-o", str(place / "mosaic.nc"))
    folder = story.folder
    parts = sorted(
        str(folder.path / task.facts["parts"])
        for task in folder.tasks()
        if task.kind == "field" and read_state(folder.of(task)).status == "done"
    )
    by_hand = [sys.executable, "-m", "atmonr", "merge", *parts, "-o", str(place / "hand.nc")]
    cluster.run(*by_hand)
    assert same_variables(place / "mosaic.nc", place / "hand.nc")
    check_mlflow(story, f"sqlite:///{place / 'mlflow.db'}")
    story.atmonr("report", campaign, "-o", str(place / "report.html"))
    assert (place / "report.html").read_text().count("data:image/png") == 1  # in the script that shows them
    before = len(ends)
    assert "submitted" not in story.atmonr("submit", campaign)
    assert len(story.ends()) == before


def test_one_submit_is_enough_where_scenes_are_made_in_jobs_of_their_own(
    cluster: Cluster, tmp_path: Path
) -> None:
    campaign = real_place(tmp_path, "slurm", granules=4)
    options = 'cpus = 2\nmax_jobs = 2\noptions = ["--partition=low"]\n'
    with open(tmp_path / "site.toml", "a") as site:
        site.write(f"[gpu]\n{options}[cpu]\n{options}")
    with open(campaign, "a") as file:
        file.write("[care]\ncanaries = 1\n")
    story = Story(cluster, tmp_path)
    submitted = story.atmonr("submit", campaign)
    assert "submitted 4 jobs" in submitted
    story.wait_for(lambda: story.done() == 8)
    assert [end["class"] for end in story.ends()] == ["done"] * 8
    jobs = {end["job"].partition("_")[0] for end in story.ends() if end["stage"] != "ingest"}
    for job in jobs:
        assert "afterany" in (story.submission(job)).read_text()
    assert len(jobs) == 2


def hang(story: Story, claim: dict[str, Any]) -> Path:
    """Make a worker hang in writing its heartbeat, as at a file server that is gone, and kill its command.

    No signal wakes it: what its process is told to do, it does when that is over. Return what it hangs at.
    """
    pid, heartbeat = pid_of(claim["worker"]), story.folder.worker(claim["worker"])
    pipe = heartbeat.with_suffix(".pipe")
    os.mkfifo(pipe)
    pipe.replace(heartbeat)
    until(lambda: Path(f"/proc/{pid}/wchan").read_text() == "wait_for_partner")
    for child in children_of(pid):
        os.killpg(child, signal.SIGKILL)
    return heartbeat


def preempt_a_training(story: Story) -> dict[str, Any]:
    """Have a training preempted after its first steps and before its last; return its attempt's claim."""
    folder = story.folder
    tasks = {task.key: task for task in folder.tasks() if task.kind == "field"}

    def training() -> dict[str, Any] | None:
        for claim in story.running():
            task = tasks.get(claim["key"])
            if task is not None and 0 < steps_of(folder.of(task)) < STEPS / 2:
                return claim
        return None

    for _ in range(10):
        story.wait_for(lambda: training() is not None)
        claim = training()
        if claim is None:
            continue
        wrap = ("-p", "high", "-c", "2", "-w", claim["host"], "-o", "/dev/null", "--wrap", "sleep 5")
        story.cluster.run("sbatch", *wrap)
        story.wait_for(lambda claim=claim: claim not in story.running())  # type: ignore[misc]
        end = all_attempts(folder.of(tasks[claim["key"]]))[claim["number"] - 1]["end"]
        if end["class"] == "preempted" and end["stage"] == "train" and 0 < end["step"] < STEPS:
            return claim
    raise AssertionError("no training was preempted")


def steps_of(folder: Path) -> int:
    for metrics in folder.glob("run/scenes/*/metrics.jsonl"):
        return 10 * metrics.read_text().count("\n")
    return 0


def kill_a_command(story: Story, besides: str) -> str:
    """Kill a command under another worker than `besides`; return the name of its worker."""
    for _ in range(300):
        for claim in story.running():
            pid = pid_of(claim["worker"])
            try:
                children = children_of(pid) if claim["worker"] != besides else []
                if children:
                    os.killpg(children[0], signal.SIGKILL)
                    return str(claim["worker"])
            except (FileNotFoundError, ProcessLookupError):
                continue
        time.sleep(0.2)
    raise AssertionError("nothing runs")


def check_the_end(story: Story) -> None:
    """All that can be done is done, once; what was not its fault used up nothing."""
    folder = story.folder
    log = (story.place / "driver.log").read_text()
    status = json.loads(story.atmonr("status", str(story.place / "campaign.toml"), "--json"))
    assert status["counts"] == {"done": 2 * (GRANULES - 1), "quarantined": 1, "blocked": 1}, log
    (bad,) = (row for row in status["tasks"] if row["status"] == "quarantined")
    assert bad["name"] == BAD and "not readable as netCDF-4" in bad["reason"]
    for task in folder.tasks():
        tries = all_attempts(folder.of(task))
        assert sum(attempt["end"]["class"] == "done" for attempt in tries) <= 1
        # One after the other.
        for before, after in itertools.pairwise(tries):
            assert before["end"]["time_s"] <= after["claim"]["time_s"]
    assert {end["class"] for end in story.ends()} == {"done", "killed", "preempted", "input", "lost"}


def check_the_node_was_left_alone(story: Story, host: str) -> None:
    """After a node failed, jobs are kept from it, and a job that Slurm itself sends there takes nothing."""
    folder = story.folder
    noted_s = folder.bad_node(host).stat().st_mtime
    for task in folder.tasks():
        for claim in folder.of(task).glob("claim-*.json"):
            record = json.loads(claim.read_text())
            assert record["host"] != host or claim.stat().st_mtime <= noted_s + 1.0
    later = [
        job for record in folder.jobs() if record["submitted_s"] > noted_s + 5.0 for job in record["jobs"]
    ]
    assert later
    for job in later:
        assert f"#SBATCH --exclude={host}" in story.submission(job.partition("_")[0]).read_text()


def check_all_trainings_are_equal(story: Story, preempted: str) -> None:
    """Granules, config and code are equal, so trainings are to the last bit, that which was preempted too."""
    folder, found = story.folder, {}
    for task in folder.tasks():
        if task.kind == "field" and read_state(folder.of(task)).status == "done":
            (last,) = folder.of(task).glob(f"run/scenes/*/checkpoints/step-{STEPS:08d}.pt")
            state = read_checkpoint(last)
            assert state["step"] == STEPS
            found[task.key] = bits_of([state["module"], state["optimizers"]])
    assert preempted in found and len(found) == GRANULES - 1
    assert len(set(found.values())) == 1


def bits_of(value: Any) -> bytes:
    if isinstance(value, torch.Tensor):
        return value.numpy().tobytes()
    parts = [item for pair in value.items() for item in pair] if isinstance(value, dict) else value
    return b"".join(map(bits_of, parts)) if isinstance(parts, list | tuple) else repr(value).encode()


def check_mlflow(story: Story, uri: str) -> None:
    """One parent, one child for each task that began, and the pictures of what was trained."""
    from mlflow.tracking import MlflowClient

    send = (sys.executable, "-m", "atmonr", "track", "sync", str(story.folder.path), "--uri", uri)
    story.cluster.run(*send)
    assert "0 of 24 tasks sent" in story.cluster.run(*send)
    client = MlflowClient(tracking_uri=uri)
    experiment = client.get_experiment_by_name("real")
    runs = {run.data.tags["atmonr.task"]: run for run in client.search_runs([experiment.experiment_id])}
    parent = runs.pop("campaign")
    assert len(runs) == 2 * GRANULES - 1
    assert {run.data.tags["mlflow.parentRunId"] for run in runs.values()} == {parent.info.run_id}
    trained = [run for run in runs.values() if run.data.tags["atmonr.kind"] == "field"]
    assert all(run.info.status == "FINISHED" for run in trained)
    assert all(client.list_artifacts(run.info.run_id, "pictures") for run in trained)


def same_variables(one: Path, other: Path) -> bool:
    import xarray as xr

    with xr.open_dataset(one) as left, xr.open_dataset(other) as right:
        return left.drop_attrs().equals(right.drop_attrs())
