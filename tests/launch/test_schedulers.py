"""Scripts, to the letter, and what happens when a scheduler fails. The golden files are what users review."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import submitit
from campaigns import frozen, real_place
from typer.testing import CliRunner

from atmonr.errors import ConfigError, StoreError, UsageError
from launch.cli import app
from launch.driver import Driver, Started
from launch.folder import Folder
from launch.schedulers import Order, scheduler_of
from launch.schedulers.local import Local
from launch.schedulers.pbs import Pbs
from launch.schedulers.slurm import Slurm
from launch.site import Pool
from launch.status import status_of

GOLDEN = Path(__file__).parent / "golden"

POOL = Pool(
    slots=4,
    gpus=4,
    cpus=32,
    memory_gb=64.0,
    max_jobs=16,
    grace_s=180,
    options=["--partition=gpu", "--exclusive"],
    setup=["module load apptainer"],
)


def order(count: int = 3, folder: Path = Path("/campaign/jobs/ab"), pool: Pool = POOL) -> Order:
    command = ["python", "-m", "atmonr", "campaign", "work", "/a b/campaign", "--pool", "gpu"]
    return Order("my campaign-gpu", command, pool, count, 95, folder, ("n1", "n2"))


@pytest.mark.parametrize("kind", ["slurm", "pbs", "local"])
def test_scripts_are_as_reviewed(kind: str) -> None:
    pool = POOL if kind == "slurm" else POOL.model_copy(update={"options": ["-q gpu"]})
    script = scheduler_of(kind).script(order(pool=pool))
    golden = GOLDEN / f"{kind}.sh"
    if not golden.exists():  # made anew by removing it; look at it before it is committed
        golden.write_text(script)
    assert script == golden.read_text()
    assert subprocess.run(["bash", "-n", str(golden)], check=False).returncode == 0


def test_the_shell_passes_a_signal_on_and_tells_the_workers_code(tmp_path: Path) -> None:
    """What a batch system does at the end of the time, played with the script's own lines."""
    worker = "import signal, sys, time; signal.signal(signal.SIGUSR2, lambda *_: sys.exit(75)); "
    worker += f"open({str(tmp_path / 'up')!r}, 'w').close(); time.sleep(60)"
    script = Pbs().script(order(1, tmp_path, Pool()))
    lines = [line for line in script.splitlines() if not line.startswith(("#PBS", "case"))]
    text = "\n".join(lines).replace(
        next(line for line in lines if line.endswith("&")), f"{sys.executable} -c {json.dumps(worker)} &"
    )
    (tmp_path / "job.sh").write_text(text)
    process = subprocess.Popen(["bash", str(tmp_path / "job.sh")])
    wait_until(lambda: (tmp_path / "up").exists())
    process.terminate()
    assert process.wait(20) == 75


def test_what_sbatch_refuses_can_be_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    programs(tmp_path, monkeypatch, srun="exit 0", sbatch="echo 'Socket timed out' >&2; exit 1")
    (tmp_path / "job").mkdir()
    with pytest.raises(StoreError, match=r"sbatch: .*Socket timed out"):
        Slurm().submit(order(2, tmp_path / "job"))
    programs(tmp_path, monkeypatch, sbatch="echo Submitted batch job 77")
    assert Slurm().submit(order(2, tmp_path / "job")) == ["77_0", "77_1"]


def test_a_scheduler_that_does_not_answer_is_unknown_and_not_empty(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    programs(tmp_path, monkeypatch, squeue="exit 1", sacct="exit 1", qstat="exit 1")
    assert Slurm().alive(["1_0"]) is None
    assert Slurm().failed_nodes(["1_0"]) == {}
    assert Pbs().alive(["1.s"]) is None
    programs(tmp_path, monkeypatch, squeue="echo 1_1; echo 2_0", sacct="exit 0", qstat="exit 0")
    assert Slurm().alive(["1_0", "1_1"]) == {"1_1"}
    assert Slurm().failed_nodes(["1_0"]) == {}
    assert Pbs().alive(["1.s"]) == set()


def test_failed_nodes_are_told_by_the_accounting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    programs(tmp_path, monkeypatch, sacct="echo 'n3|NODE_FAIL|12_0'")
    assert Slurm().failed_nodes(["12_0"]) == {"n3": "NODE_FAIL of job 12_0"}


def test_short_options_of_sbatch_are_refused() -> None:
    with pytest.raises(ConfigError, match="'-p gpu': expected sbatch's long form"):
        Slurm().script(order(pool=Pool(options=["-p gpu"])))


class Counting:
    """A scheduler that counts."""

    def __init__(self) -> None:
        self.jobs: list[str] = []
        self.answers = True

    def script(self, order: Order) -> str:
        return ""

    def submit(self, order: Order) -> list[str]:
        new = [f"j{len(self.jobs) + number}" for number in range(order.count)]
        self.jobs += new
        return new

    def alive(self, jobs: list[str]) -> set[str] | None:
        return set(self.jobs) & set(jobs) if self.answers else None

    def failed_nodes(self, jobs: list[str]) -> dict[str, str]:
        return {"n9": "NODE_FAIL"} if jobs else {}

    def cancel(self, jobs: list[str]) -> None:
        self.jobs = []


def test_topping_up_twice_submits_nothing_twice(tmp_path: Path) -> None:
    folder = frozen(tmp_path / "campaign", 100, pools={"gpu": {"max_jobs": 5, "slots": 2}})
    scheduler = Counting()
    started: Started = Driver(folder, scheduler).top_up()
    # Eight canaries at two a job, and no more until they are done.
    assert started.jobs == ("j0", "j1", "j2", "j3") and started.open == {"gpu": 200}
    assert Driver(folder, scheduler).top_up().jobs == ()
    assert folder.bad_nodes() == ["n9"]
    scheduler.answers = False
    assert Driver(folder, scheduler).top_up().jobs == ()
    assert Driver(folder, scheduler).cancel() == 4


def test_what_must_not_begin_yet_is_queued_behind_what_it_waits_for(tmp_path: Path) -> None:
    pools = {"gpu": {"max_jobs": 4, "slots": 4}, "cpu": {"max_jobs": 5, "slots": 2}}
    folder = frozen(tmp_path / "campaign", 100, pool="cpu", pools=pools)
    orders: list[Order] = []

    class Keeping(Counting):
        def submit(self, order: Order) -> list[str]:
            orders.append(order)
            return super().submit(order)

    scheduler = Keeping()
    started = Driver(folder, scheduler).top_up(ahead=True)
    assert started.alive == {"gpu": 4, "cpu": 5}
    told = [(order.name, order.count, "--canaries" in order.command, list(order.after)) for order in orders]
    assert told == [
        ("try-cpu", 4, True, []),  # eight canaries, two a job
        ("try-cpu", 1, False, ["j0", "j1", "j2", "j3"]),
        ("try-gpu", 2, True, ["j0", "j1", "j2", "j3"]),  # theirs, as soon as those scenes are there
        ("try-gpu", 2, False, ["j0", "j1", "j2", "j3", "j4", "j5", "j6"]),
    ]
    assert Driver(folder, scheduler).top_up(ahead=True).jobs == ()
    # Whoever is there to wait submits what may begin, and no more.
    scheduler.jobs = []
    assert Driver(folder, scheduler).top_up().alive == {"gpu": 0, "cpu": 4}


def test_two_drivers_do_not_submit_at_once(tmp_path: Path) -> None:
    folder = frozen(tmp_path / "campaign", 1, pools={"gpu": {}})

    class Meeting(Counting):
        def submit(self, order: Order) -> list[str]:
            with pytest.raises(UsageError, match="submitting for this campaign just now"):
                Driver(folder, Counting()).top_up()
            return super().submit(order)

    assert Driver(folder, Meeting()).top_up().jobs == ("j0",)


def test_a_driver_that_was_killed_while_submitting_blocks_nobody(tmp_path: Path) -> None:
    from launch.attempts import claim

    folder = frozen(tmp_path / "campaign", 1, pools={"gpu": {}})
    claim(folder.driver, 1, {"worker": "elsewhere-123", "time_s": time.time() - 1000.0})
    assert Driver(folder, Counting()).top_up().jobs == ("j0",)


def test_local_workers_outlive_who_started_them_and_can_be_ended(tmp_path: Path) -> None:
    script = f"import time; open({str(tmp_path / 'up')!r}, 'w').close(); time.sleep(60)"
    (job,) = Local().submit(Order("x", [sys.executable, "-c", script], Pool(), 1, 10, tmp_path))
    assert Local().alive([job, f"{job.partition('-')[0]}-1", "none"]) == {job}
    wait_until(lambda: (tmp_path / "up").exists())
    Local().cancel([job])
    wait_until(lambda: Local().alive([job]) == set())


def test_a_local_worker_waits_for_others(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    first = [sys.executable, "-c", f"import time; time.sleep(1); open({str(tmp_path / 'first')!r}, 'w')"]
    then = [
        sys.executable,
        "-c",
        f"import os; os.rename({str(tmp_path / 'first')!r}, {str(tmp_path / 'then')!r})",
    ]
    jobs = Local().submit(Order("first", first, Pool(), 1, 10, tmp_path / "one"))
    (later,) = Local().submit(Order("then", then, Pool(), 1, 10, tmp_path / "two", after=jobs))
    assert Local().alive([*jobs, later]) == {*jobs, later}
    wait_until((tmp_path / "then").exists)


# PBS with its programs played by one script: qsub starts the jobs, qstat tells, qdel ends.
PBS = """\
import json, os, pathlib, re, signal, subprocess, sys
here = pathlib.Path(__file__).parent / "pbs"
here.mkdir(exist_ok=True)
name, words = sys.argv[1], sys.argv[2:]
if name == "qsub":
    text = pathlib.Path(words[0]).read_text()
    number = len(list(here.glob("*.script"))) + 1
    (here / f"{number}.script").write_text(text)
    array = re.search(r"^#PBS -J 0-([0-9]+)$", text, re.M)
    after = re.search(r"^#PBS -W depend=afterany:(.*)$", text, re.M)
    needed = set(re.findall(r"([0-9]+)(?:\\[\\])?[.]s", after[1] if after else ""))
    pids = [path.read_text() for path in here.glob("*.pid") if re.match("[0-9]+", path.name)[0] in needed]
    wait = "".join(f"while grep -qs '^State:.[^Z]' /proc/{pid}/status; do sleep 0.2; done; " for pid in pids)
    ids = [f"{number}[{i}].s" for i in range(int(array[1]) + 1)] if array else [f"{number}.s"]
    for job in ids:
        log = open(here / f"{job}.log", "w")
        run = subprocess.Popen(["bash", "-c", wait + "exec bash $0", words[0]], stdout=log, stderr=log,
                               env={**os.environ, "PBS_JOBID": job}, start_new_session=True)
        (here / f"{job}.pid").write_text(str(run.pid))
    print(f"{number}[].s" if array else ids[0])
elif name == "qstat":
    jobs = {}
    for path in here.glob("*.pid"):
        stat = pathlib.Path(f"/proc/{path.read_text()}/stat")
        runs = stat.exists() and stat.read_text().rpartition(")")[2].split()[0] != "Z"
        jobs[path.stem] = {"job_state": "R" if runs else "F"}
    print(json.dumps({"Jobs": jobs}))
else:
    for job in words:
        os.kill(int((here / f"{job}.pid").read_text()), signal.SIGTERM)
"""


@pytest.fixture
def pbs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    (tmp_path / "pbs.py").write_text(PBS)
    call = f'exec {sys.executable} {tmp_path / "pbs.py"} $(basename $0) "$@"'
    programs(tmp_path, monkeypatch, qsub=call, qstat=call, qdel=call)
    yield tmp_path
    for path in tmp_path.glob("pbs/*.pid"):
        subprocess.run(["kill", "--", f"-{path.read_text()}"], check=False, capture_output=True)


def test_jobs_of_pbs_run_are_seen_and_are_deleted(pbs: Path) -> None:
    (pbs / "job").mkdir()
    command = [sys.executable, "-c", "import time; time.sleep(60)"]
    one = Pbs().submit(Order("one", command, Pool(), 1, 10, pbs / "job"))
    many = Pbs().submit(Order("many", command, Pool(), 3, 10, pbs / "job"))
    assert one == ["1.s"] and many == ["2[0].s", "2[1].s", "2[2].s"]
    assert Pbs().alive([*one, *many, "9.s"]) == {*one, *many}
    Pbs().cancel([many[1], *one])
    wait_until(lambda: Pbs().alive([*one, *many]) == {many[0], many[2]})


def test_submitit_finds_the_plug_in_and_runs_functions_with_it(pbs: Path) -> None:
    executor = submitit.AutoExecutor(pbs / "pickles", cluster="pbs")
    executor.update_parameters(name="power", timeout_min=5, cpus_per_task=2)
    jobs = [executor.submit(pow, 2, 5), executor.submit(pow, 2)]
    assert jobs[0].result() == 32
    with pytest.raises(submitit.core.utils.FailedJobError, match="pow"):
        jobs[1].result()
    assert "Job completed successfully" in jobs[0].stdout()
    assert jobs[0].job_id == "1.s" and jobs[0].done()
    with pytest.raises(ValueError, match="tasks_per_node: no parameter of PBS jobs"):
        executor.update_parameters(tasks_per_node=2)


def test_a_job_of_pbs_waits_for_others(pbs: Path) -> None:
    (pbs / "job").mkdir()
    first = [sys.executable, "-c", f"import time; time.sleep(1); open({str(pbs / 'first')!r}, 'w')"]
    then = [sys.executable, "-c", f"import os; os.rename({str(pbs / 'first')!r}, {str(pbs / 'then')!r})"]
    jobs = Pbs().submit(Order("first", first, Pool(), 2, 10, pbs / "job"))
    (pbs / "other").mkdir()
    Pbs().submit(Order("then", then, Pool(), 1, 10, pbs / "other", after=jobs))
    assert "#PBS -W depend=afterany:1[].s" in (pbs / "pbs" / "2.script").read_text().splitlines()
    wait_until((pbs / "then").exists)


def test_a_campaign_runs_on_pbs(pbs: Path) -> None:
    campaign = real_place(pbs, "pbs")
    done = CliRunner().invoke(app, ["submit", campaign, "--wait", "--every-s", "0.3"], catch_exceptions=False)
    assert done.exit_code == 0 and "try on here: 4 done" in done.stdout
    assert "submitted 1 jobs: 1.s" in done.stdout
    (log,) = (pbs / "pbs").glob("1.s.log")
    assert log.read_text() == ""
    jobs = {row["job"] for row in status_of(Folder.open(pbs / "campaign"))["tasks"]}
    assert jobs == {"1.s"}


def test_one_submit_is_enough_where_scenes_are_made_in_jobs_of_their_own(pbs: Path) -> None:
    campaign = real_place(pbs, "pbs", granules=3)
    with open(pbs / "site.toml", "a") as site:
        site.write("[gpu]\nmax_jobs = 2\n[cpu]\nmax_jobs = 2\n")
    with open(campaign, "a") as file:
        file.write("[care]\ncanaries = 1\n")
    done = CliRunner().invoke(app, ["submit", campaign], catch_exceptions=False)
    assert "submitted 4 jobs: 1.s, 2.s, 3.s, 4.s" in done.stdout
    wait_until(lambda: status_of(Folder.open(pbs / "campaign"))["counts"] == {"done": 6})
    tasks = status_of(Folder.open(pbs / "campaign"))["tasks"]
    assert all(row["attempts"] == 1 for row in tasks)
    by_kind = {kind: {row["job"] for row in tasks if row["kind"] == kind} for kind in ("scene", "field")}
    assert by_kind == {"scene": {"1.s", "2.s"}, "field": {"3.s", "4.s"}}


def wait_until(happens: object) -> None:
    over = time.monotonic() + 120
    while not happens():  # type: ignore[operator]
        assert time.monotonic() < over
        time.sleep(0.05)


def programs(place: Path, monkeypatch: pytest.MonkeyPatch, **texts: str) -> None:
    """Put programs of a scheduler before all others on PATH."""
    folder = place / "bin"
    folder.mkdir(exist_ok=True)
    for name, text in texts.items():
        (folder / name).write_text(f"#!/bin/bash\n{text}\n")
        (folder / name).chmod(0o755)
    if not os.environ["PATH"].startswith(str(folder)):
        monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
