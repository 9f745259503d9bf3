"""A campaign's folder. The only place that knows where things lie in it.

campaign.json           the frozen settings and where they came from: code, config, image, packages
tasks.jsonl             one task a line
configs/                resolved configs
tasks/ab/<key>/         records, logs and results of one task (attempts.py)
done/ab/<key>.json      that a task is done, for those who look for others
workers/ab/<id>.json    a worker's heartbeat: the time of the file, and what it is at
jobs/ab/<id>/           a job's record, script and log
losses/<host>/          workers that vanished on a node
nodes/<host>.json       a node that failed and is used no more
halt.json  lifted.json  why no task is begun any more; when `resume` was called last
driver/                 who is submitting just now
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from atmonr.atomic import write_json, write_text
from atmonr.errors import UsageError
from atmonr.json_file import read_json, store_errors
from launch.disk import names_in, read_if_there
from launch.task import Task


@dataclass(frozen=True)
class Folder:
    """A campaign's folder.

    Attributes:
        path: Absolute.
    """

    path: Path

    @classmethod
    def open(cls, path: Path) -> Folder:
        """Open an existing one.

        Raises:
            UsageError: If nothing was ever submitted there.
        """
        folder = cls(path.resolve())
        if not folder.settings_file.is_file():
            raise UsageError(
                f"{path}: not a campaign folder (no campaign.json in it); submit the campaign first"
            )
        return folder

    @property
    def settings_file(self) -> Path:
        """What `freeze` wrote last."""
        return self.path / "campaign.json"

    @property
    def settings(self) -> dict[str, Any]:
        """What `freeze` was given."""
        return read_json(self.settings_file)

    @property
    def halt_file(self) -> Path:
        """Its existence keeps workers from beginning tasks."""
        return self.path / "halt.json"

    @property
    def lifted_file(self) -> Path:
        """When its user last asked to go on: what failed before is no reason to halt again."""
        return self.path / "lifted.json"

    @property
    def lifted_s(self) -> float:
        """That time [s since 1970]; 0 if that never was."""
        return float((read_if_there(self.lifted_file) or {}).get("time_s", 0.0))

    @property
    def driver(self) -> Path:
        """Folder of attempts at submitting."""
        return self.path / "driver"

    @property
    def tracking(self) -> Path:
        """What is remembered of MLflow runs."""
        return self.path / "mlflow.json"

    def freeze(self, settings: dict[str, Any], configs: dict[str, str], tasks: Sequence[Task]) -> None:
        """Write what workers go by; what is there is replaced, tasks keep their folders.

        Args:
            settings: JSON data.
            configs: {path from the folder: text}.
            tasks: All tasks.

        Raises:
            StoreError: If the file system refuses.
        """
        for name, text in configs.items():
            write_text(self.path / name, text)
        write_text(self.path / "tasks.jsonl", "".join(json.dumps(task.to_json()) + "\n" for task in tasks))
        # Last: its existence tells that the rest is there.
        write_json(self.settings_file, settings)

    def tasks(self) -> list[Task]:
        """All tasks, in order.

        Raises:
            StoreError: If they cannot be read.
        """
        path = self.path / "tasks.jsonl"
        with store_errors(path):
            lines = path.read_text(encoding="utf-8").splitlines()
        return [Task.from_json(json.loads(line)) for line in lines]

    def of(self, task: Task) -> Path:
        """Folder of a task."""
        return self.path / task.folder

    def worker(self, name: str) -> Path:
        """Heartbeat of a worker."""
        return self.path / "workers" / name[-2:] / f"{name}.json"

    def workers(self) -> Iterator[Path]:
        """All heartbeats, of workers that ended too."""
        yield from self._two_deep("workers")

    def job(self, name: str) -> Path:
        """Folder of a job."""
        return self.path / "jobs" / name[-2:] / name

    def jobs(self) -> Iterator[dict[str, Any]]:
        """Records of all jobs ever submitted."""
        for folder in self._two_deep("jobs"):
            record = read_if_there(folder / "job.json")
            if record is not None:
                yield record

    def bad_nodes(self) -> list[str]:
        """Nodes that failed and are used no more."""
        return [name.removesuffix(".json") for name in names_in(self.path / "nodes")]

    def bad_node(self, host: str) -> Path:
        """Record of why a node is used no more."""
        return self.path / "nodes" / f"{os.path.basename(host)}.json"

    def done_mark(self, key: str) -> Path:
        """Says again that a task is done: these folders are listed sooner than those of all tasks."""
        return self.path / "done" / key[:2] / f"{key}.json"

    def marked_done(self) -> set[str]:
        """Keys of tasks that are done; of the newest ones some may be missing."""
        folders = [self.path / "done" / inner for inner in names_in(self.path / "done")]
        return {name[: -len(".json")] for folder in folders for name in names_in(folder)}

    def losses(self, host: str) -> Path:
        """Folder of the workers that vanished on a node."""
        return self.path / "losses" / os.path.basename(host)

    def halted(self) -> dict[str, Any] | None:
        """Why no task is begun any more; None if that is not so."""
        return read_if_there(self.halt_file)

    def _two_deep(self, name: str) -> Iterator[Path]:
        for inner in names_in(self.path / name):
            for entry in names_in(self.path / name / inner):
                yield self.path / name / inner / entry
