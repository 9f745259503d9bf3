"""A campaign in MLflow: each run once, whatever happens to the server or to the note of what was sent."""

from __future__ import annotations

import base64
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from campaigns import frozen

from atmonr.errors import StoreError
from launch.attempts import claim, finish
from launch.folder import Folder
from launch.mlflow_sync import sync
from launch.task import Task

pytestmark = pytest.mark.slow

PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)


def played(folder: Folder, task: Task, number: int = 1, *, kind: str = "done", steps: int = 40) -> None:
    """Write what an attempt leaves behind."""
    place = folder.of(task)
    begun: dict[str, Any] = {
        "worker": "w",
        "host": "n1",
        "job": "5",
        "time_s": 1.7e9,
        "seed": 0,
        "doublings": 0,
    }
    claim(place, number, begun, durable=False)
    if task.kind == "field":
        scene = place / "run" / "scenes" / task.granule
        (scene / "pictures").mkdir(parents=True, exist_ok=True)
        lines = [
            json.dumps({"step": s, "wall_s": s * 1.0, "loss": 1.0 / (s + 1)}) for s in range(0, steps, 10)
        ]
        (scene / "metrics.jsonl").write_text("\n".join(lines) + "\n")
        if kind == "done":
            (scene / "pictures" / "heldout.png").write_bytes(PNG)
            score = {"heldout": {"all": {"psnr_db": 30.0, "ssim": 0.9}}}
            (place / "score.json").write_text(json.dumps(score))
    ended = {"class": kind, "reason": "", "time_s": 1.7e9, "host": "n1", "seconds": 9.0}
    finish(place, number, ended, durable=False)


class Server:
    """A real tracking server on this machine, with its data in one SQLite file."""

    def __init__(self, place: Path) -> None:
        self.place, self.process = place, None
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.uri = f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(self.port)]
        command += ["--backend-store-uri", f"sqlite:///{self.place / 'db'}", "--workers", "1"]
        command += ["--artifacts-destination", str(self.place / "artifacts")]
        with open(self.place / "log", "ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
        over = time.monotonic() + 120
        while True:
            try:
                urllib.request.urlopen(f"{self.uri}/health", timeout=2).close()
                return
            except OSError:
                assert time.monotonic() < over, (self.place / "log").read_text()[-2000:]
                time.sleep(0.5)

    def stop(self) -> None:
        if self.process is not None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            self.process = None


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    made = Server(tmp_path)
    made.start()
    try:
        yield made
    finally:
        made.stop()


def runs_of(uri: str) -> list[Any]:
    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking_uri=uri)
    (experiment,) = (found for found in client.search_experiments() if found.name == "try")
    return list(client.search_runs([experiment.experiment_id], max_results=5000))


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that is away is told at once."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")


@pytest.mark.filterwarnings("default")  # MLflow's own
def test_outages_lose_nothing_and_double_nothing(
    tmp_path: Path, server: Server, quick: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow.tracking import MlflowClient

    folder = frozen(tmp_path / "campaign", 12)
    tasks = folder.tasks()
    for task in tasks[:20]:
        played(
            folder,
            task,
            kind="preempted" if task is tasks[15] else "done",
            steps=20 if task is tasks[15] else 40,
        )
    create, made = MlflowClient.create_run, []

    def create_and_fall(client: Any, *arguments: Any, **named: Any) -> Any:
        made.append(1)
        run = create(client, *arguments, **named)
        if len(made) == 8:  # after this run was made, and before anybody noted that
            server.stop()
        return run

    monkeypatch.setattr(MlflowClient, "create_run", create_and_fall)
    with pytest.raises(StoreError, match="the next `track sync` sends what is missing"):
        sync(folder, server.uri)
    server.start()
    monkeypatch.undo()
    assert sync(folder, server.uri).changed >= 13
    runs = runs_of(server.uri)
    assert len(runs) == 21 and len({run.data.tags["atmonr.task"] for run in runs}) == 21
    # Nothing new, nothing sent.
    again = sync(folder, server.uri)
    assert (again.changed, again.points, again.pictures) == (0, 0, 0)
    # The interrupted one goes on in its run, and so does all else when the note is lost.
    played(folder, tasks[15], 2)
    for task in tasks[20:]:
        played(folder, task)
    folder.tracking.unlink()
    sync(folder, server.uri)
    runs = {run.data.tags["atmonr.task"]: run for run in runs_of(server.uri)}
    assert len(runs) == 25 == len(runs_of(server.uri))
    parent = runs.pop("campaign")
    assert parent.info.status == "FINISHED"
    assert {run.data.tags["mlflow.parentRunId"] for run in runs.values()} == {parent.info.run_id}
    assert {run.info.status for run in runs.values()} == {"FINISHED"}
    resumed = runs[tasks[15].key]
    assert resumed.data.tags["atmonr.attempt"] == "2" and resumed.data.tags["atmonr.job"] == "5"
    client = MlflowClient(tracking_uri=server.uri)
    for key in (tasks[15].key, tasks[13].key):
        steps = [metric.step for metric in client.get_metric_history(runs[key].info.run_id, "loss")]
        assert sorted(set(steps)) == [0, 10, 20, 30]
        assert runs[key].data.metrics["heldout_psnr_db"] == 30.0
        pictures = client.list_artifacts(runs[key].info.run_id, "pictures")
        assert [picture.path for picture in pictures] == ["pictures/heldout.png"]


@pytest.mark.alone
@pytest.mark.filterwarnings("default")
def test_five_hundred_runs_are_sent_in_two_minutes(tmp_path: Path, server: Server) -> None:
    folder = frozen(tmp_path / "campaign", 250)
    for task in folder.tasks():
        played(folder, task)
    start = time.perf_counter()
    assert sync(folder, server.uri).changed == 500
    assert time.perf_counter() - start <= 120.0
    assert len(runs_of(server.uri)) == 501
    start = time.perf_counter()
    assert sync(folder, server.uri).changed == 0
    assert time.perf_counter() - start <= 10.0
