"""A campaign in MLflow: an experiment, a parent run, and a child for each task that has begun.

Compute nodes only write to their folders; this runs where there is a network. What was sent is remembered in
the campaign folder, and found again by tags where that is lost, so that any number of calls makes each run
once.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from atmonr.atomic import write_json
from atmonr.config import load
from atmonr.errors import ConfigError, StoreError
from atmonr.run import Run
from launch.attempts import all_attempts
from launch.board import Board
from launch.campaign_file import Care
from launch.cost import stage_times
from launch.disk import read_if_there
from launch.folder import Folder
from launch.policy import Adjustment
from launch.report import pictures_of, scores_of
from launch.task import Task

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

POINTS_PER_RUN = 500
PER_REQUEST = 1000  # metrics, MLflow's limit
PARAMS_PER_REQUEST = 100
SAVE_EVERY = 25  # tasks, between two notes of what was sent
# A server that is away is told soon; there is a next time.
PATIENCE = {
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}
TERMINAL = {
    "done": "FINISHED",
    "failed": "FAILED",
    "quarantined": "FAILED",
    "cancelled": "KILLED",
    "ready": "KILLED",  # interrupted, and not taken up yet
}


@dataclass
class Sent:
    """What a call sent."""

    tasks: int = 0
    changed: int = 0
    points: int = 0
    pictures: int = 0


def sync(folder: Folder, uri: str) -> Sent:
    """Send what is new.

    Args:
        folder: Of the campaign.
        uri: Of the tracking server, or `sqlite:///` and a file.

    Raises:
        StoreError: If the server does not answer; what was sent stays sent, and the next call sends the rest.
    """
    for name, value in PATIENCE.items():
        os.environ.setdefault(name, value)
    from mlflow.exceptions import MlflowException
    from mlflow.tracking import MlflowClient

    copy: Copy | None = None
    try:
        copy = Copy(folder, MlflowClient(tracking_uri=uri), uri)
        copy.send()
    except MlflowException as error:
        words = " ".join(str(error).split())[:300]
        raise StoreError(f"{uri}: MLflow: {words}; the next `track sync` sends what is missing") from error
    finally:
        if copy is not None:
            copy.save()
    return copy.sent


class Copy:
    """The MLflow runs of a campaign."""

    def __init__(self, folder: Folder, client: MlflowClient, uri: str) -> None:
        """Find or make the experiment and the parent run."""
        self._folder, self._client, self._uri = folder, client, uri
        self._settings, self._tasks = folder.settings, folder.tasks()
        self._all_known = read_if_there(folder.tracking) or {}
        self.sent = Sent(tasks=len(self._tasks))
        self._experiment = _experiment(client, self._settings["name"], uri, folder.path)
        known = self._all_known.setdefault(uri, {})
        if known.get("experiment") != self._experiment:  # the server is new, or was emptied
            known.clear()
            known.update(experiment=self._experiment, runs={}, marks={})
        self._runs: dict[str, str] = known["runs"]
        self._marks: dict[str, dict[str, Any]] = known["marks"]
        # Runs that were made just before a crash are in no note, but have their tags.
        self._runs |= self._tagged()
        self._params: dict[str, dict[str, str]] = {}
        self._parent = self._runs.get("campaign") or self._new("campaign", self._settings["name"], None)

    def send(self) -> None:
        """Send all tasks that have begun and changed since."""
        board = Board(self._folder, self._tasks, Care(**self._settings["care"]))
        open_tasks = 0
        for number, task in enumerate(self._tasks):
            status = board.status(task.key)
            open_tasks += status in ("ready", "running", "waiting")
            attempts = all_attempts(self._folder.of(task))
            if attempts:
                self._send(task, status, attempts)
            if number % SAVE_EVERY == 0:
                self.save()
        if open_tasks:
            self._client.update_run(self._parent, status="RUNNING")
        else:
            self._client.set_terminated(self._parent, "FINISHED")

    def save(self) -> None:
        """Note what was sent."""
        write_json(self._folder.tracking, self._all_known)

    def _send(self, task: Task, status: str, attempts: list[dict[str, Any]]) -> None:
        last = attempts[-1]
        claim = last["claim"]
        adjustment = Adjustment(claim["seed"], claim["doublings"])
        run = Run(self._folder.of(task) / f"run{adjustment.suffix}")
        metrics = run.metrics(task.granule) if task.kind == "field" else None
        size = metrics.stat().st_size if metrics is not None and metrics.exists() else 0
        pictures = pictures_of(self._folder, task) if task.kind == "field" and status == "done" else []
        mark = self._marks.setdefault(task.key, {"step": -1, "pictures": []})
        now = [status, last["number"], size, len(pictures)]
        if mark.get("seen") == now:
            return
        began_s = attempts[0]["claim"]["time_s"]
        run_id = self._runs.get(task.key) or self._new(task.key, task.name, self._parent, began_s=began_s)
        if not mark.get("described"):  # not with the making of the run, after which a server may vanish
            self._describe(run_id, self._params_of(task))
            mark["described"] = True
        self._log(run_id, self._points(run, task, mark, began_s))
        self._tag(run_id, task, status, last, adjustment)
        for picture in pictures:
            if picture.name not in mark["pictures"]:
                self._client.log_artifact(run_id, str(picture), "pictures")
                mark["pictures"].append(picture.name)
                self.sent.pictures += 1
        if status == "running":
            self._client.update_run(run_id, status="RUNNING")
        else:
            self._client.set_terminated(run_id, TERMINAL.get(status, "KILLED"))
        mark["seen"] = now
        self.sent.changed += 1

    def _points(
        self, run: Run, task: Task, mark: dict[str, Any], began_s: float
    ) -> Iterator[tuple[str, float, int, int]]:
        """Yield (name, value, time in ms, step) of what was not sent yet, and move the mark."""
        if task.kind == "field":
            # Another seed begins at step 0 again; the same steps of the first are then others.
            if mark.get("run", run.path.name) != run.path.name:
                mark["step"] = -1
            mark["run"] = run.path.name
            records = run.read_metrics(task.granule)
            stride = max(1, len(records) // POINTS_PER_RUN)
            for record in records[::stride]:
                if record["step"] > mark["step"]:
                    time_ms = int((began_s + record["wall_s"]) * 1000)
                    for name, value in record.items():
                        if name != "step" and isinstance(value, int | float):
                            yield name, float(value), time_ms, record["step"]
            mark["step"] = max([mark["step"], *(record["step"] for record in records)])
        final = {f"seconds_{stage}": taken for stage, taken in stage_times(self._folder, task).items()}
        final |= {f"heldout_{name}": value for name, value in scores_of(self._folder, task).items()}
        for name, value in final.items():
            # Sent again, a point that is the same to the last digit stays one point.
            yield name, value, int(began_s * 1000), 0

    def _log(self, run_id: str, points: Iterator[tuple[str, float, int, int]]) -> None:
        from mlflow.entities import Metric

        metrics = [Metric(*point) for point in points]
        for first in range(0, len(metrics), PER_REQUEST):
            self._client.log_batch(run_id, metrics=metrics[first : first + PER_REQUEST])
        self.sent.points += len(metrics)

    def _tag(
        self, run_id: str, task: Task, status: str, last: Mapping[str, Any], adjustment: Adjustment
    ) -> None:
        from mlflow.entities import RunTag

        tags = {
            "status": status,
            "attempt": last["number"],
            "host": last["claim"]["host"],
            "job": last["claim"]["job"],
            "failure": last["end"].get("class", ""),
            "reason": last["end"].get("reason", ""),
            "seed_added": adjustment.seed,
            "doublings": adjustment.doublings,
        }
        self._client.log_batch(run_id, tags=[RunTag(f"atmonr.{k}", str(v)[:4000]) for k, v in tags.items()])

    def _describe(self, run_id: str, params: Mapping[str, str]) -> None:
        """Set parameters, those of the config, which no retry changes; equal ones may be set again."""
        from mlflow.entities import Param

        pairs = [Param(name, value) for name, value in params.items()]
        for first in range(0, len(pairs), PARAMS_PER_REQUEST):
            self._client.log_batch(run_id, params=pairs[first : first + PARAMS_PER_REQUEST])

    def _new(self, key: str, name: str, parent: str | None, *, began_s: float = 0.0) -> str:
        """Make a run."""
        lock = self._settings["lock"]
        tags = {
            "atmonr.task": key,
            "atmonr.campaign": self._settings["name"],
            "atmonr.code": " ".join(filter(None, (lock.get("atmonr"), lock.get("git_commit")))),
            "atmonr.image_digest": lock.get("image_digest") or "",
        }
        if parent is not None:
            task = next(task for task in self._tasks if task.key == key)
            tags |= {
                "mlflow.parentRunId": parent,
                "atmonr.granule": task.granule,
                "atmonr.kind": task.kind,
                "atmonr.variant": task.variant,
                "atmonr.config": str(task.facts.get("config", "")),
                "atmonr.input": str(task.facts.get("input", "")),
            }
        run = self._client.create_run(
            self._experiment, start_time=int(began_s * 1000) or None, run_name=name, tags=tags
        )
        run_id = str(run.info.run_id)
        self._runs[key] = run_id
        return run_id

    def _params_of(self, task: Task) -> dict[str, str]:
        name = task.facts.get("config_file")
        if not isinstance(name, str):
            return {}
        if name not in self._params:
            try:
                config = load(self._folder.path / name)
            except ConfigError:
                self._params[name] = {}
            else:
                identity = config.identity() | {"train.steps": config.train.steps}
                self._params[name] = {key: str(value) for key, value in identity.items()}
        return self._params[name]

    def _tagged(self) -> dict[str, str]:
        """All runs of the experiment that are tasks of this campaign, by key."""
        found: dict[str, str] = {}
        token: str | None = None
        while True:
            page = self._client.search_runs([self._experiment], max_results=1000, page_token=token)
            for run in page:
                if (key := run.data.tags.get("atmonr.task")) is not None:
                    found.setdefault(key, str(run.info.run_id))
            token = page.token
            if not token:
                return found


def _experiment(client: MlflowClient, name: str, uri: str, folder: Path) -> str:
    """Return the id of an experiment, which is made if need be."""
    found = client.get_experiment_by_name(name)
    if found is not None:
        return str(found.experiment_id)
    # MLflow would put pictures where the command is started.
    beside = Path(uri.removeprefix("sqlite:///")).resolve().parent / "mlartifacts"
    return str(client.create_experiment(name, beside.as_uri() if uri.startswith("sqlite:///") else None))
