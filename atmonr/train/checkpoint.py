"""Checkpoints: complete or absent, never half; readable without running code that a file brings along."""

from __future__ import annotations

import logging
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import torch

from atmonr.atomic import atomic_file
from atmonr.checkpoint_file import read_checkpoint
from atmonr.errors import ResumeError
from atmonr.run import Run
from atmonr.tasks.base import Task

FORMAT = 1

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Checkpoints:
    """The checkpoints of one scene of a run; one process writes them.

    Nothing else belongs to the state of a training: the learning rate and all random numbers are functions of
    the config and the step.

    Attributes:
        run: The run folder.
        scene: Name of the scene.
        config_digest: Identity of the config; a checkpoint of another one is refused.
        scene_id: Identity of the scene; a checkpoint of another one is refused.
        keep: How many to keep, at least 2: the newest may be the one that a full disk has damaged.
    """

    run: Run
    scene: str
    config_digest: str
    scene_id: str
    keep: int

    def save(self, step: int, task: Task) -> Path:
        """Write the state after `step` steps, then mark it as the latest, then remove the oldest.

        The same state always gives the same bytes.

        Raises:
            StoreError: If the disk is full or refuses; the checkpoints before are untouched.
        """
        state = {
            "format": FORMAT,
            "step": step,
            "config_digest": self.config_digest,
            "scene_id": self.scene_id,
            "module": _plain(task.module.state_dict()),
            "optimizers": _plain({name: opt.state_dict() for name, opt in task.optimizers.items()}),
        }
        path = self.run.checkpoint(self.scene, step)
        # torch names the archive inside after a path, which would put the temporary name into the file.
        with atomic_file(path) as temporary, open(temporary, "wb") as stream:
            _write(state, stream)
        with atomic_file(self.run.latest(self.scene)) as temporary:
            temporary.write_text(path.name + "\n", encoding="utf-8")
        self._prune(step)
        return path

    def find(self) -> Path | None:
        """Return the newest checkpoint that is whole; None if none was ever written.

        Raises:
            ResumeError: If there are some and none can be read, or it belongs to another config or scene.
        """
        candidates = self._newest_first()
        for path in candidates:
            try:
                state = read_checkpoint(path)
            except ResumeError as error:
                log.warning("%s; trying the one before", error)
                continue
            self._refuse_other(path, state)
            return path
        if candidates:
            raise ResumeError(
                f"{candidates[0]}: damaged, and so is every other checkpoint beside it; "
                "start again in a new run folder"
            )
        return None

    def load(self, path: Path, task: Task) -> int:
        """Put a checkpoint's state into `task`; return the number of steps done.

        Raises:
            ResumeError: If it cannot be read, or is of another config, scene or model.
        """
        state = read_checkpoint(path)
        self._refuse_other(path, state)
        try:
            task.module.load_state_dict(state["module"])
            for name, optimizer in task.optimizers.items():
                optimizer.load_state_dict(state["optimizers"][name])
        except (RuntimeError, ValueError, KeyError) as error:
            reason = " ".join(str(error).split())
            raise ResumeError(
                f"{path}: does not fit the model: {reason}; use the version that wrote it"
            ) from error
        return int(state["step"])

    def latest_name(self) -> str:
        """Return the file name of the newest complete checkpoint; "none" if there is none."""
        latest = self.run.latest(self.scene)
        return latest.read_text(encoding="utf-8", errors="replace").strip() if latest.exists() else "none"

    def _newest_first(self) -> list[Path]:
        """Return all checkpoints, the one named by `latest` before any other: it was on disk for certain."""
        latest = self.latest_name()
        return sorted(self.run.all_checkpoints(self.scene), key=lambda path: path.name != latest)

    def _prune(self, step: int) -> None:
        """Keep the newest up to `step`; later ones, unreadable when training resumed, do not count."""
        newest = self.run.checkpoint(self.scene, step)
        done = [path for path in self.run.all_checkpoints(self.scene) if path.name <= newest.name]
        for path in done[self.keep :]:
            path.unlink(missing_ok=True)

    def _refuse_other(self, path: Path, state: dict[str, Any]) -> None:
        if state.get("format") != FORMAT:
            raise ResumeError(
                f"{path}: checkpoint format {state.get('format')}; this version reads format {FORMAT}"
            )
        for key, expected in (("config_digest", self.config_digest), ("scene_id", self.scene_id)):
            if state.get(key) != expected:
                raise ResumeError(
                    f"{path}: {key} is {state.get(key)}, expected {expected}; it was made with another "
                    f"{key.split('_')[0]}, so use another run folder"
                )


def _plain(value: Any) -> Any:
    """Copy nested containers; tensors stay as they are.

    What is written depends on which strings and containers are one object, and after a resume other ones are.
    """
    if isinstance(value, dict):
        return {_plain(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_plain(item) for item in value)
    return sys.intern(value) if isinstance(value, str) else value


def _write(state: dict[str, Any], stream: BinaryIO) -> None:
    try:
        torch.save(state, stream)
    except RuntimeError as error:
        # torch reports a refused write as an inconsistency of its archive; the reason is beside it.
        if isinstance(error.__context__, OSError):
            raise error.__context__ from error
        raise
