"""Checkpoints: complete or absent, never half; readable without running code that a file brings along.

A checkpoint is one file per part of the task: one for most, one per tile for a tiled scene. `latest` moves
when all are on disk.
"""

from __future__ import annotations

import logging
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import torch

from atmonr.atomic import atomic_file, write_text
from atmonr.checkpoint_file import read_checkpoint
from atmonr.errors import ResumeError
from atmonr.run import Run
from atmonr.tasks.base import Part, Task
from atmonr.train.agree import on_every_rank, on_leader
from atmonr.world import World

FORMAT = 1

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Checkpoints:
    """The checkpoints of one scene of a run; every method is called on every rank that trains it.

    Nothing else belongs to the state of a training: the learning rate and all random numbers are functions of
    the config and the step.

    Attributes:
        run: The run folder.
        scene: Name of the scene.
        config_digest: Identity of the config; a checkpoint of another one is refused.
        scene_id: Identity of the scene; a checkpoint of another one is refused.
        keep: How many to keep, at least 2: the newest may be the one that a full disk has damaged.
        world: The ranks that train the scene.
        together: Names of all scenes, the first being `scene`, where one task learns several.
    """

    run: Run
    scene: str
    config_digest: str
    scene_id: str
    keep: int
    world: World
    together: tuple[str, ...] = ()

    def save(self, step: int, task: Task) -> None:
        """Write the state after `step` steps, then mark it as the latest, then remove the oldest.

        The same state always gives the same bytes.

        Raises:
            StoreError: If the disk is full or refuses; the checkpoints before are untouched.
        """
        on_every_rank(self.world, lambda: self._write_parts(step, task))
        on_leader(self.world, lambda: self._mark(step))

    def find(self, task: Task) -> int | None:
        """Return the newest step whose checkpoint is whole on every rank; None if none was ever written.

        Raises:
            ResumeError: If there are some and none can be read, or it belongs to another config or scene.
        """
        steps = on_leader(self.world, self._steps)
        for step in steps:
            if not self.world.any(on_every_rank(self.world, partial(self._damaged, step, task))):
                return int(step)
        if steps:
            raise ResumeError(
                f"{self.run.checkpoint(self.scene, steps[0])}: damaged, and so is every other checkpoint "
                "beside it; start again in a new run folder"
            )
        return None

    def load(self, step: int, task: Task) -> None:
        """Put a checkpoint's state into `task`.

        Raises:
            ResumeError: If it cannot be read, or is of another config, scene or model.
        """
        on_every_rank(self.world, lambda: self._load_parts(step, task))

    def latest_name(self) -> str:
        """Return the file name of the newest complete checkpoint; "none" if there is none."""
        latest = self.run.latest(self.scene)
        return latest.read_text(encoding="utf-8", errors="replace").strip() if latest.exists() else "none"

    def _write_parts(self, step: int, task: Task) -> None:
        for name, part in task.parts.items():
            if not name and self.world.rank > 0:
                continue  # every rank holds it alike
            state = {
                "format": FORMAT,
                "step": step,
                "config_digest": self.config_digest,
                "scene_id": self._scene_id(part),
                "module": _plain(part.module.state_dict()),
                "optimizers": _plain({key: opt.state_dict() for key, opt in part.optimizers.items()}),
            }
            # torch names the archive inside after a path, which would put the temporary name into the file.
            with (
                atomic_file(self._file(step, name, part)) as temporary,
                open(temporary, "wb") as stream,
            ):
                _write(state, stream)

    def _mark(self, step: int) -> None:
        """Name a step, all of whose parts are on disk, as the latest, and remove the oldest."""
        scenes = self.together or (self.scene,)
        for scene in scenes:
            write_text(self.run.latest(scene), self.run.checkpoint(scene, step).name + "\n")
        for scene in scenes:
            # Later ones, unreadable when training resumed, do not count.
            done = [saved for saved in self.run.saved_steps(scene) if saved <= step]
            for old in done[self.keep :]:
                for path in self.run.parts_of(scene, old):
                    path.unlink(missing_ok=True)

    def _file(self, step: int, name: str, part: Part) -> Path:
        return self.run.checkpoint(part.scene or self.scene, step, "" if part.scene else name)

    def _scene_id(self, part: Part) -> str:
        return str(self.run.scene_info(part.scene)["scene_id"]) if part.scene else self.scene_id

    def _steps(self) -> list[int]:
        """Return the steps with checkpoints, that named by `latest` first: it was on disk for certain."""
        latest = self.latest_name()
        saved = self.run.saved_steps(self.scene)
        return sorted(saved, key=lambda step: self.run.checkpoint(self.scene, step).name != latest)

    def _damaged(self, step: int, task: Task) -> bool:
        """Return whether a part of a checkpoint that this rank needs cannot be read."""
        for name, part in task.parts.items():
            path = self._file(step, name, part)
            try:
                state = read_checkpoint(path)
            except ResumeError as error:
                log.warning("%s; trying the one before", error)
                return True
            self._refuse_other(path, state, part)
        return False

    def _load_parts(self, step: int, task: Task) -> None:
        for name, part in task.parts.items():
            path = self._file(step, name, part)
            state = read_checkpoint(path)
            self._refuse_other(path, state, part)
            try:
                part.module.load_state_dict(state["module"])
                for key, optimizer in part.optimizers.items():
                    optimizer.load_state_dict(state["optimizers"][key])
            except (RuntimeError, ValueError, KeyError, TypeError, AttributeError) as error:
                reason = " ".join(str(error).split())
                raise ResumeError(
                    f"{path}: does not fit the model: {reason}; use the version that wrote it"
                ) from error

    def _refuse_other(self, path: Path, state: dict[str, Any], part: Part) -> None:
        if state.get("format") != FORMAT:
            raise ResumeError(
                f"{path}: checkpoint format {state.get('format')}; this version reads format {FORMAT}"
            )
        for key, expected in (("config_digest", self.config_digest), ("scene_id", self._scene_id(part))):
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
