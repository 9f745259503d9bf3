"""One scene's run in MLflow: found again when training resumes, so that its history is one."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from atmonr.atomic import atomic_file
from atmonr.config import Config
from atmonr.run import Run

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

METRICS_PER_REQUEST = 1000  # MLflow's limit


@dataclass(frozen=True)
class Description:
    """What MLflow is told about a scene's run.

    Attributes:
        uri: Tracking server or `sqlite:///` file.
        experiment: Made if it does not exist.
        name: Shown in lists.
        params: Settings that never change within a run, because MLflow refuses to change a parameter.
        tags: Identity of the run, to search by.
        memo: File that remembers which MLflow run this is.
    """

    uri: str
    experiment: str
    name: str
    params: dict[str, str]
    tags: dict[str, str]
    memo: Path


def describe(run: Run, scene: str, config: Config, uri: str) -> Description:
    """Return what MLflow is told about one scene of a run."""
    provenance = run.provenance
    tags = {
        "run": run.path.name,
        "scene": scene,
        "scene_id": run.scene_info(scene)["scene_id"],
        "config_digest": config.digest,
        "version": provenance.get("atmonr"),
        "git_commit": provenance.get("git_commit"),
        "train.steps": config.train.steps,
    }
    return Description(
        uri=uri,
        experiment=config.track.experiment,
        name=f"{run.path.name}/{scene}",
        params={key: str(value) for key, value in config.identity().items()},
        tags={f"atmonr.{key}": str(value) for key, value in tags.items()},
        memo=run.tracking(scene),
    )


class MlflowRun:
    """An open MLflow run; a `Tracker`."""

    def __init__(self, description: Description) -> None:
        """Open the run of the memo, or make a new one; takes seconds, and minutes without a server."""
        from mlflow.entities import Param
        from mlflow.tracking import MlflowClient

        self._client: MlflowClient = MlflowClient(tracking_uri=description.uri)
        known = self._remembered(description)
        self._run_id = known or self._new(description)
        # Equal parameters may be logged again, so a run whose maker was killed early is completed here.
        self._client.log_batch(
            self._run_id, params=[Param(key, value) for key, value in description.params.items()]
        )
        for key, value in description.tags.items():
            self._client.set_tag(self._run_id, key, value)
        self._client.update_run(self._run_id, status="RUNNING")
        # Steps that a killed process had sent and the resumed one repeats are the same numbers again.
        history = self._client.get_metric_history(self._run_id, "loss") if known else []
        self._sent_step = max((metric.step for metric in history), default=-1)

    def log(self, records: list[tuple[int, Mapping[str, Any]]]) -> None:
        """Send metrics.

        Args:
            records: (time in ms since 1970, metrics.jsonl record) pairs.
        """
        from mlflow.entities import Metric

        metrics = [
            Metric(key, float(value), time_ms, record["step"])
            for time_ms, record in records
            if record["step"] > self._sent_step
            for key, value in record.items()
            if key != "step" and isinstance(value, int | float)
        ]
        for first in range(0, len(metrics), METRICS_PER_REQUEST):
            self._client.log_batch(self._run_id, metrics=metrics[first : first + METRICS_PER_REQUEST])

    def upload(self, folder: Path) -> None:
        """Send the files of a folder as `pictures`."""
        self._client.log_artifacts(self._run_id, str(folder), "pictures")

    def end(self, status: str) -> None:
        """Set the run's final status."""
        self._client.set_terminated(self._run_id, status)

    def _remembered(self, description: Description) -> str | None:
        """Return the run that an earlier process used, if it is in this server."""
        from mlflow.exceptions import MlflowException

        if not description.memo.exists():
            return None
        memo = json.loads(description.memo.read_text(encoding="utf-8"))
        if memo["uri"] != description.uri:
            return None
        try:
            return str(self._client.get_run(memo["run_id"]).info.run_id)
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                return None
            raise

    def _new(self, description: Description) -> str:
        run = self._client.create_run(self._experiment(description), run_name=description.name)
        run_id = str(run.info.run_id)
        with atomic_file(description.memo) as temporary:
            temporary.write_text(json.dumps({"uri": description.uri, "run_id": run_id}), encoding="utf-8")
        return run_id

    def _experiment(self, description: Description) -> str:
        from mlflow.exceptions import MlflowException

        found = self._client.get_experiment_by_name(description.experiment)
        if found is not None:
            return str(found.experiment_id)
        try:
            return str(
                self._client.create_experiment(description.experiment, _artifact_location(description.uri))
            )
        except MlflowException as error:
            # Another scene's rank may have made it since.
            found = self._client.get_experiment_by_name(description.experiment)
            if found is None:
                raise error
            return str(found.experiment_id)


def _artifact_location(uri: str) -> str | None:
    """Keep pictures beside a database file; MLflow would put them where the command was started."""
    if not uri.startswith("sqlite:///"):
        return None
    return (Path(uri.removeprefix("sqlite:///")).resolve().parent / "mlartifacts").as_uri()
