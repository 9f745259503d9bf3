"""Training with the real MLflow, in other processes: its import changes warnings and loggers of this one."""

from __future__ import annotations

import os
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from job import MPIEXEC, Job
from toy import write_scene

pytestmark = pytest.mark.slow


@pytest.fixture
def job(tmp_path: Path) -> Job:
    return Job(str(tmp_path / "run"), [str(write_scene(tmp_path, "a"))])


def run(job: Job) -> tuple[int, float, str]:
    """Return exit code, seconds and log of a training."""
    begin = time.monotonic()
    code, _, _ = job.elsewhere(timeout_s=120)
    return code, time.monotonic() - begin, job.folder.log(0).read_text()


def rows(database: Path, query: str) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(database)) as connection:
        return connection.execute(query).fetchall()


def test_a_database_file_holds_what_metrics_jsonl_holds(job: Job, tmp_path: Path) -> None:
    database = tmp_path / "mirror.db"
    job = replace(job, track={"uri": f"sqlite:///{database}", "experiment": "clouds"})
    code, _, log = run(job)
    assert code == 0
    assert "WARNING" not in log
    written = {record["step"]: record["loss"] for record in job.folder.read_metrics("a")}
    assert dict(rows(database, "select step, value from metrics where key = 'loss'")) == written
    params = dict(rows(database, "select distinct key, value from params"))
    assert params == {key: str(value) for key, value in job.config.identity().items()}
    tags = dict(rows(database, "select key, value from tags"))
    assert tags["atmonr.scene_id"] == "id-of-a"
    assert tags["atmonr.config_digest"] == job.config.digest
    assert tags["atmonr.run"] == "run"
    assert rows(database, "select name from experiments where name = 'clouds'")
    assert rows(database, "select status, name from runs order by name") == [
        ("FINISHED", "run"),
        ("FINISHED", "run/a"),
    ]
    parent = rows(database, "select run_uuid from runs where name = 'run'")
    assert rows(database, "select value from tags where key = 'mlflow.parentRunId'") == parent
    assert [path.name for path in (tmp_path / "mlartifacts").rglob("*.png")] == ["closing.png"]
    assert not Path("mlruns").exists()


def test_a_resumed_run_goes_on_in_the_same_mlflow_run_without_repeating_a_step(
    job: Job, tmp_path: Path
) -> None:
    database = tmp_path / "mirror.db"
    job = replace(job, track={"uri": f"sqlite:///{database}"})
    write_scene(tmp_path, "a", signal_at_rank_step=[0, 35], signal="SIGTERM")
    assert run(job)[0] == 75
    assert rows(database, "select distinct status from runs") == [("KILLED",)]
    write_scene(tmp_path, "a")
    # A killed process has sent more than its last checkpoint holds.
    (job.folder.checkpoint("a", 36)).unlink()
    longer = replace(job.resumed(), settings={"steps": 70})
    code, _, log = run(longer)
    assert code == 0
    assert "starts at step 20 of 70" in log
    assert "WARNING" not in log
    assert rows(database, "select status from runs") == [("FINISHED",), ("FINISHED",)]
    steps = [step for (step,) in rows(database, "select step from metrics where key = 'loss' order by step")]
    assert steps == [10, 20, 30, 40, 50, 60, 70]


@pytest.mark.skipif(not MPIEXEC.exists(), reason="needs the mpiexec of `pip install atmonr[mpi]`")
def test_scenes_of_several_ranks_are_children_of_one_run_and_stay_so_when_resumed(
    job: Job, tmp_path: Path
) -> None:
    database = tmp_path / "mirror.db"
    scenes = [*job.scenes, *(str(write_scene(tmp_path, name)) for name in ("b", "c"))]
    write_scene(tmp_path, "b", nan_at_step=33)
    job = replace(job, scenes=scenes, track={"uri": f"sqlite:///{database}"})
    code, _, errors = job.elsewhere(ranks=2, timeout_s=120)
    assert code == 70, errors
    query = "select name, status from runs order by name"
    assert rows(database, query) == [
        ("run", "FAILED"),
        ("run/a", "FINISHED"),
        ("run/b", "FAILED"),
        ("run/c", "FINISHED"),
    ]
    failure = "select value from tags where key = 'atmonr.failure' and value != ''"
    assert "diverged at step 34" in str(rows(database, failure))
    write_scene(tmp_path, "b")
    code, _, errors = job.resumed().elsewhere(timeout_s=120)
    assert code == 0, errors
    assert rows(database, query) == [(name, "FINISHED") for name in ("run", "run/a", "run/b", "run/c")]
    assert rows(database, failure) == []
    parents = rows(database, "select value, count(*) from tags where key = 'mlflow.parentRunId' group by 1")
    assert parents == [(*rows(database, "select run_uuid from runs where name = 'run'")[0], 3)]
    for scene in ("a", "b", "c"):
        losses = "select step, value from metrics join runs using (run_uuid) where key = 'loss' and name = "
        copied = rows(database, f"{losses}'run/{scene}' order by step")
        assert copied == [(record["step"], record["loss"]) for record in job.folder.read_metrics(scene)]


def test_an_unreachable_server_changes_nothing(job: Job) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        uri = f"http://127.0.0.1:{closed.getsockname()[1]}"
        code, _, log = run(replace(job, track={"uri": uri}))
    assert code == 0
    assert log.count("WARNING") == 1
    assert "MLflow copy is incomplete" in log
    assert job.folder.done("a")


def test_a_server_that_accepts_and_never_answers_changes_nothing(job: Job) -> None:
    with socket.socket() as mute:
        mute.bind(("127.0.0.1", 0))
        mute.listen()
        code, seconds, log = run(replace(job, track={"uri": f"http://127.0.0.1:{mute.getsockname()[1]}"}))
    assert code == 0
    assert log.count("WARNING") == 1
    assert seconds < 60


def test_an_impossible_uri_changes_nothing(job: Job) -> None:
    code, _, log = run(replace(job, track={"uri": "nonsense://where"}))
    assert code == 0
    assert log.count("WARNING") == 1


@contextmanager
def server(folder: Path) -> Iterator[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "server", "--port", str(port), "--workers", "1"]
    command += [
        "--backend-store-uri",
        f"sqlite:///{folder}/server.db",
        "--artifacts-destination",
        str(folder),
    ]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "MLFLOW_DISABLE_TELEMETRY": "true"}
    process = subprocess.Popen(
        command, env=environment, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    uri = f"http://127.0.0.1:{port}"
    try:
        wait_for(f"{uri}/health", process)
        yield uri
    finally:
        process.terminate()
        process.wait(30)


def wait_for(url: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 90
    while True:
        try:
            with urllib.request.urlopen(url, timeout=1):
                return
        except OSError:
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.2)


def test_a_real_server_gets_metrics_and_pictures(job: Job, tmp_path: Path) -> None:
    folder = tmp_path / "server"
    folder.mkdir()
    with server(folder) as uri:
        code, _, log = run(replace(job, track={"uri": uri}))
        assert code == 0
        assert "WARNING" not in log
        assert rows(folder / "server.db", "select count(*) from metrics where key = 'loss'") == [(6,)]
        assert rows(folder / "server.db", "select status from runs") == [("FINISHED",), ("FINISHED",)]
        assert list(folder.rglob("closing.png"))
