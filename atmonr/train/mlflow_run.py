"""A run folder in MLflow: one parent run, and one child for each scene that has begun.

Which MLflow run is whose is remembered in the run folder, so that a resumed training continues them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from atmonr.atomic import write_json
from atmonr.config import Config
from atmonr.run import Run

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

METRICS_PER_REQUEST = 1000  # MLflow's limit


class MlflowCopy:
    """The MLflow runs of one run folder."""

    def __init__(self, run: Run, config: Config, uri: str) -> None:
        """Open the parent run or make it; takes seconds, and minutes without a server.

        Args:
            run: The run folder.
            config: Its settings.
            uri: Tracking server or `sqlite:///` file.
        """
        from mlflow.tracking import MlflowClient

        self._run, self._config = run, config
        provenance = run.provenance
        self._began_ms = int(datetime.fromisoformat(provenance["created_utc"]).timestamp() * 1000)
        tags = {
            "run": run.path.name,
            "config_digest": config.digest,
            "version": provenance.get("atmonr"),
            "git_commit": provenance.get("git_commit"),
            "train.steps": config.train.steps,
        }
        self._tags = {f"atmonr.{key}": str(value) for key, value in tags.items()}
        client: MlflowClient = MlflowClient(tracking_uri=uri)
        self._place = _Place(client, uri, _experiment(client, config.track.experiment, uri), self._began_ms)
        self._parent = _MlflowRun(self._place, run.path.name, run.tracking())
        self._parent.describe(self._params, self._tags)
        self._parent.status("RUNNING")
        self._children: dict[str, _MlflowRun] = {}
        self._sent: dict[str, tuple[object, ...]] = {}

    def update(self, *, over: bool) -> None:
        """Send what is new since the last call; `over` says that nobody is at work any more."""
        states = [self._update_scene(scene, over) for scene in self._run.scene_names]
        if over:
            worst = next((state for state in ("FAILED", "KILLED", "") if state in states), "FINISHED")
            self._parent.status(worst or "KILLED")

    def _update_scene(self, scene: str, over: bool) -> str:
        """Bring one scene up to date; return its status, "" if it has not begun."""
        metrics, done, failed = self._run.metrics(scene), self._run.done(scene), self._run.failed(scene)
        if not metrics.exists() and failed is None:
            return ""
        finished = done is not None and done["steps"] >= self._config.train.steps
        status = "FINISHED" if finished else "FAILED" if failed else "KILLED" if over else "RUNNING"
        now = (status, metrics.stat().st_size if metrics.exists() else 0)
        if self._sent.get(scene) != now:
            self._send(scene, status)
            self._sent[scene] = now
        return status

    def _send(self, scene: str, status: str) -> None:
        child = self._children.get(scene)
        if child is None:
            child = _MlflowRun(self._place, f"{self._run.path.name}/{scene}", self._run.tracking(scene))
            scene_id = self._run.scene_info(scene)["scene_id"]
            tags = {"atmonr.scene": scene, "atmonr.scene_id": scene_id, "mlflow.parentRunId": self._parent.id}
            child.describe(self._params, {**self._tags, **tags})
            self._children[scene] = child
        child.log(self._run.read_metrics(scene))
        if status == "FINISHED":
            child.upload(self._run.pictures(scene))
        child.describe({}, {"atmonr.failure": (self._run.failed(scene) or {}).get("message", "")})
        child.status(status)

    @property
    def _params(self) -> dict[str, str]:
        """Settings that never change within a run, because MLflow refuses to change a parameter."""
        return {key: str(value) for key, value in self._config.identity().items()}


@dataclass(frozen=True)
class _Place:
    """Where MLflow runs are made.

    Attributes:
        client: Of the server.
        uri: Of the server.
        experiment_id: All runs are in it.
        began_ms: When the run folder was made, in ms since 1970.
    """

    client: MlflowClient
    uri: str
    experiment_id: str
    began_ms: int


class _MlflowRun:
    """One MLflow run."""

    def __init__(self, place: _Place, name: str, memo: Path) -> None:
        """Open the run of the memo, or make a new one.

        Args:
            place: Where.
            name: Shown in lists.
            memo: File that remembers which MLflow run this is.
        """
        self._client, self._began_ms = place.client, place.began_ms
        known = _remembered(place, memo)
        self.id = known or self._new(place, name, memo)
        # Steps that a killed process had sent and the resumed one repeats are the same numbers again.
        history = self._client.get_metric_history(self.id, "loss") if known else []
        self._sent_step = max((metric.step for metric in history), default=-1)

    def describe(self, params: Mapping[str, str], tags: Mapping[str, str]) -> None:
        """Set parameters and tags; equal ones may be set again."""
        from mlflow.entities import Param, RunTag

        self._client.log_batch(
            self.id,
            params=[Param(key, value) for key, value in params.items()],
            tags=[RunTag(key, value) for key, value in tags.items()],
        )

    def log(self, records: list[dict[str, Any]]) -> None:
        """Send those metrics.jsonl records that are new.

        Their time is that of the making of the run folder plus the time spent on the scene, which goes on
        after an interruption where it was.
        """
        from mlflow.entities import Metric

        metrics = [
            Metric(key, float(value), self._began_ms + int(record["wall_s"] * 1000), record["step"])
            for record in records
            if record["step"] > self._sent_step
            for key, value in record.items()
            if key != "step" and isinstance(value, int | float)
        ]
        for first in range(0, len(metrics), METRICS_PER_REQUEST):
            self._client.log_batch(self.id, metrics=metrics[first : first + METRICS_PER_REQUEST])
        self._sent_step = max([self._sent_step, *(record["step"] for record in records)])

    def upload(self, folder: Path) -> None:
        """Send the files of a folder as `pictures`."""
        self._client.log_artifacts(self.id, str(folder), "pictures")

    def status(self, status: str) -> None:
        """Set RUNNING, FINISHED, KILLED (stopped, will be resumed) or FAILED."""
        if status == "RUNNING":
            self._client.update_run(self.id, status=status)
        else:
            self._client.set_terminated(self.id, status)

    def _new(self, place: _Place, name: str, memo: Path) -> str:
        run = self._client.create_run(place.experiment_id, start_time=place.began_ms, run_name=name)
        run_id = str(run.info.run_id)
        write_json(memo, {"uri": place.uri, "run_id": run_id})
        return run_id


def _remembered(place: _Place, memo: Path) -> str | None:
    """Return the run that an earlier process used, if it is in this server."""
    from mlflow.exceptions import MlflowException

    if not memo.exists():
        return None
    known = json.loads(memo.read_text(encoding="utf-8"))
    if known["uri"] != place.uri:
        return None
    try:
        return str(place.client.get_run(known["run_id"]).info.run_id)
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            return None
        raise


def _experiment(client: MlflowClient, name: str, uri: str) -> str:
    """Return the id of an experiment, which is made if need be."""
    from mlflow.exceptions import MlflowException

    found = client.get_experiment_by_name(name)
    if found is not None:
        return str(found.experiment_id)
    try:
        return str(client.create_experiment(name, _artifact_location(uri)))
    except MlflowException as error:
        # Another training may have made it since.
        found = client.get_experiment_by_name(name)
        if found is None:
            raise error
        return str(found.experiment_id)


def _artifact_location(uri: str) -> str | None:
    """Keep pictures beside a database file; MLflow would put them where the command was started."""
    if not uri.startswith("sqlite:///"):
        return None
    return (Path(uri.removeprefix("sqlite:///")).resolve().parent / "mlartifacts").as_uri()
