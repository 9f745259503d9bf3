"""The image on a real Slurm: ranks that srun starts, and a campaign that is preempted."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from campaigns import smallest_field
from cluster import Cluster, running_cluster, until

from launch.attempts import all_attempts, read_state
from launch.folder import Folder
from launch.task import Task

pytestmark = [pytest.mark.slow, pytest.mark.image, pytest.mark.alone]

GRANULES = 4
CONFIG = smallest_field(400)
SITE = """\
title = "four pretended nodes"
scheduler = "slurm"
container = ["apptainer", "exec"]
heartbeat_s = 2.0
lease_s = 20.0
idle_s = 4.0
[gpu]
slots = 1
cpus = 2
max_jobs = 2
wall_minutes = 30
grace_s = 15
options = ["--partition=low"]
setup = ["export OMP_NUM_THREADS=1"]
"""
CAMPAIGN = """\
name = "image"
folder = "campaign"
site = "site.toml"
image = "{image}"
ingest_options = ["--top-height-m", "6000"]
extract_options = ["--horizontal-step-m", "600", "--vertical-step-m", "600"]
[granules]
files = ["../data/*.nc"]
[config]
file = "config.toml"
[care]
canaries = 0
[export]
evaluate = false
"""


@pytest.fixture(scope="module")
def cluster(image: Path) -> Iterator[Cluster]:
    with running_cluster() as made:
        yield made


@pytest.mark.parametrize(
    ("options", "library"),
    [(("--mpi=pmi2", "-N2", "-n2"), "MPICH Version"), (("--mpi=pmix", "-N1", "-n2"), "Open MPI v4")],
)
def test_ranks_that_srun_starts_meet(
    cluster: Cluster, image: Path, options: tuple[str, ...], library: str
) -> None:
    doctor = ("apptainer", "exec", str(image), "atmonr", "doctor", "--mpi", "--device", "cpu")
    shown = cluster.run("srun", *options, "--cpus-per-task=1", *doctor)
    assert "over 2 ranks: right" in shown
    assert library in shown


@pytest.fixture
def place(tmp_path: Path, image: Path) -> Path:
    """A campaign file; granules, in a folder of their own, differ in a byte behind their end."""
    simulate = [sys.executable, "-m", "atmonr", "simulate", "--preset", "cumulus", "--lines", "10"]
    simulate += ["--pixels", "10", "--subpixels", "1", "-o", str(tmp_path / "g"), "--quiet"]
    subprocess.run(simulate, check=True, capture_output=True)
    (original,) = (tmp_path / "g").glob("*L1B*.nc")
    for folder in ("data", "place"):
        (tmp_path / folder).mkdir()
    for number in range(GRANULES):
        copy = tmp_path / "data" / f"PACE_HARP2.{number}.nc"
        copy.write_bytes(original.read_bytes() + bytes([number]))
    for name, text in (("config", CONFIG), ("site", SITE), ("campaign", CAMPAIGN.format(image=image))):
        (tmp_path / "place" / f"{name}.toml").write_text(text)
    return tmp_path / "place"


def test_a_campaign_in_the_image_is_preempted_and_resumes(cluster: Cluster, image: Path, place: Path) -> None:
    with open(place / "driver.log", "wb") as log:
        driver = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "atmonr",
                "campaign",
                "submit",
                "campaign.toml",
                "--wait",
                "--every-s",
                "2",
            ],
            cwd=place,
            env=cluster.environment,
            stdout=log,
            stderr=log,
        )
    with driver:
        until(lambda: (place / "campaign" / "campaign.json").exists(), within_s=60)
        folder = Folder.open(place / "campaign")
        # Another partition takes the node of a training that is under way.
        until(lambda: bool(training(folder)), within_s=300)
        (task, host), *_ = training(folder)
        cluster.run("sbatch", "-p", "high", "-w", host, "-c", "2", "-o", "/dev/null", "--wrap", "sleep 3")
        assert driver.wait(600) == 0, (place / "driver.log").read_text()

    assert [read_state(folder.of(each)).status for each in folder.tasks()] == ["done"] * 2 * GRANULES
    assert [attempt["end"]["class"] for attempt in all_attempts(folder.of(task))] == ["preempted", "done"]
    # It went on where it was, and came to what those did that nobody interrupted: all granules are equal.
    logged = {each.key: metrics(folder, each) for each in folder.tasks() if each.kind == "field"}
    steps = [record["step"] for record in logged[task.key] if "loss" in record]
    assert steps == sorted(set(steps))
    assert len({json.dumps(records[-1].get("loss")) for records in logged.values()}) == 1

    digest = f"sha256:{hashlib.sha256(image.read_bytes()).hexdigest()}"
    for each in folder.tasks():
        if each.kind == "field":
            told = json.loads((folder.of(each) / "run" / "provenance.json").read_text())
            assert told["container_image"] == digest
            assert told["git_commit"]
    # The jobs were requeued, from outside of the image: the same ones came to an end.
    assert "Restarts=1" in cluster.run("scontrol", "show", "jobs")


def training(folder: Folder) -> list[tuple[Task, str]]:
    """Trainings that run and have taken steps, each with its node."""
    states = [(task, read_state(folder.of(task))) for task in folder.tasks() if task.kind == "field"]
    return [
        (task, str(dict(state.claim)["host"]))
        for task, state in states
        if state.status == "running"
        and any(0 < record["step"] < 300 for record in metrics(folder, task)[-1:])
    ]


def metrics(folder: Folder, task: Task) -> list[dict]:
    """What a training has logged."""
    files = list(folder.of(task).glob("run/scenes/*/metrics.jsonl"))
    return [
        json.loads(line)
        for file in files
        for line in file.read_text().splitlines(keepends=True)
        if line[-1] == "\n"
    ]
