"""A campaign on a real Slurm, on which everything happens that happens on clusters."""

from __future__ import annotations

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

sys.path.insert(0, str(Path(__file__).parent))

from cluster import Cluster, running_cluster, until

from launch.attempts import all_attempts, read_state
from launch.folder import Folder

pytestmark = [
    pytest.mark.slow,
    pytest.mark.slurm,
    pytest.mark.alone,
    pytest.mark.filterwarnings("default:::mlflow"),
]

GRANULES = 12
BAD = "PACE_HARP2.bad"
CONFIG = """\
[field]
method = "instant_ngp"
levels = 2
log2_table_size = 9
[render]
samples = 6
[light]
every_steps = 1000
max_points = 1000
[train]
steps = 30
batch_rays = 32
log_every_steps = 10
evaluate_every_steps = 30
"""
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
        folder = self.folder
        states = [read_state(folder.of(task)) for task in folder.tasks()]
        return [dict(state.claim) for state in states if state.status == "running"]

    def done(self) -> int:
        folder = self.folder
        return sum(read_state(folder.of(task)).status == "done" for task in folder.tasks())

    def classes(self) -> list[str]:
        folder = self.folder
        return [
            attempt["end"].get("class", "")
            for task in folder.tasks()
            for attempt in all_attempts(folder.of(task))
        ]

    def wait_for(self, happens: Callable[[], bool]) -> None:
        until(happens, within_s=600.0)


def pid_of(worker: str) -> int:
    return int(worker.split("-")[-2])


def children_of(pid: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def test_a_campaign_survives_what_clusters_do(cluster: Cluster, place: Path) -> None:
    story = Story(cluster, place)
    campaign = str(place / "campaign.toml")
    assert "#SBATCH --signal=B:USR2@15" in story.atmonr("plan", campaign)

    driver = story.drive("submit")
    story.wait_for(lambda: (place / "campaign" / "campaign.json").exists() and len(story.running()) >= 2)
    driver.send_signal(signal.SIGKILL)  # the driver dies, and another goes on
    driver.wait()
    driver = story.drive("resume")
    rival = story.drive("resume")
    cluster.stop_accounting()

    # One command is killed.
    story.wait_for(lambda: len(story.running()) >= 4)
    killed = kill_a_command(story)
    # Another partition takes a node away.
    cluster.run("sbatch", "-p", "high", "-c", "2", "-o", "/dev/null", "--wrap", "sleep 5")
    story.wait_for(lambda: "preempted" in story.classes())
    cluster.start_accounting()
    driver.send_signal(signal.SIGKILL)
    driver.wait()
    driver = story.drive("resume")

    # A worker dies, and its command with it.
    story.wait_for(lambda: len(story.running()) >= 2)
    worker = story.running()[0]["worker"]
    os.kill(pid_of(worker), signal.SIGKILL)
    story.wait_for(lambda: "lost" in story.classes())
    # A node goes down.
    story.wait_for(lambda: len(story.running()) >= 1)
    claim = story.running()[-1]
    cluster.run("scontrol", "update", f"nodename={claim['host']}", "state=down", "reason=test")
    story.wait_for(lambda: claim not in story.running())
    cluster.run("scontrol", "update", f"nodename={claim['host']}", "state=resume", check=False)

    for process in (driver, rival):
        assert process.wait(900) == 0, (place / "driver.log").read_text()
    check_the_end(story, killed)

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
    before = len(story.classes())
    assert "submitted" not in story.atmonr("submit", campaign)
    assert len(story.classes()) == before


def kill_a_command(story: Story) -> str:
    """Kill a command under a worker; return the name of the worker."""
    for _ in range(100):
        for claim in story.running():
            pid = pid_of(claim["worker"])
            try:
                children = children_of(pid)
                if children:
                    os.killpg(children[0], signal.SIGKILL)
                    return str(claim["worker"])
            except (FileNotFoundError, ProcessLookupError):
                continue
        time.sleep(0.2)
    raise AssertionError("nothing runs")


def check_the_end(story: Story, killed: str) -> None:
    folder = story.folder
    log = (story.place / "driver.log").read_text()
    status = json.loads(story.atmonr("status", str(story.place / "campaign.toml"), "--json"))
    assert status["counts"] == {"done": 2 * (GRANULES - 1), "quarantined": 1, "blocked": 1}, log
    (bad,) = (row for row in status["tasks"] if row["status"] == "quarantined")
    assert bad["name"] == BAD and "not readable as netCDF-4" in bad["reason"]
    attempts = {task.key: all_attempts(folder.of(task)) for task in folder.tasks()}
    # No task was done twice, and what was not its fault used up nothing.
    for tries in attempts.values():
        assert sum(attempt["end"]["class"] == "done" for attempt in tries) <= 1
        assert all(attempt["end"] for attempt in tries)
    classes = story.classes()
    assert {"killed", "preempted", "input", "lost"} <= set(classes)
    ends = [attempt["end"] for tries in attempts.values() for attempt in tries]
    (victim,) = (end for end in ends if end["class"] == "killed")
    assert victim["worker"] == killed
    # One config, one code: all runs of equal granules are equal, those that were interrupted too.
    checkpoints = {last_checkpoint(folder.of(task)) for task in folder.tasks() if task.kind == "field"}
    assert len(checkpoints - {None}) == 1


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


def last_checkpoint(folder: Path) -> int | None:
    """Something that equal trainings have in common: the last loss."""
    files = list(folder.glob("run/scenes/*/metrics.jsonl"))
    if not files:
        return None
    record = json.loads(files[0].read_text().splitlines()[-1])
    return hash((record["step"], record.get("loss")))


def same_variables(one: Path, other: Path) -> bool:
    import xarray as xr

    with xr.open_dataset(one) as left, xr.open_dataset(other) as right:
        return left.drop_attrs().equals(right.drop_attrs())
