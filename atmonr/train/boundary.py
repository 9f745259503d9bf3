"""What happens between two steps: write down, evaluate, save, stop."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch

from atmonr.config import TrainConfig
from atmonr.errors import StoppedError
from atmonr.run import Run
from atmonr.stop import StopRequest
from atmonr.tasks.base import Task
from atmonr.train.agree import on_leader
from atmonr.train.checkpoint import Checkpoints
from atmonr.train.loop import StepReport
from atmonr.train.progress import Progress
from atmonr.world import World

log = logging.getLogger(__name__)


class Boundary:
    """Called after every step on every rank; rank 0 writes.

    Nothing here changes what is learned, so that a run does not depend on when it was saved or watched.
    """

    def __init__(
        self,
        *,
        run: Run,
        scenes: Sequence[str],
        task: Task,
        settings: TrainConfig,
        world: World,
        checkpoints: Checkpoints,
        stop: StopRequest,
        progress: Progress,
        start_step: int,
    ) -> None:
        self._run = run
        self._scenes = scenes
        self._label = ", ".join(scenes)
        self._task = task
        self._settings = settings
        self._world = world
        self._checkpoints = checkpoints
        self._stop = stop
        self._progress = progress
        # A resumed training goes on counting where the metrics end.
        earlier = run.read_metrics(scenes[0])[-1:] if world.rank == 0 else []
        self._begin_s = time.monotonic() - (earlier[0]["wall_s"] if earlier else 0.0)
        self._saved_s = self._logged_s = time.monotonic()
        self._logged_step = start_step
        self._paused_s = 0.0

    def __call__(self, report: StepReport) -> None:
        """Act on a finished step.

        Raises:
            DivergedError: If a value was not finite, before anything of it is written.
            StoppedError: If any rank was asked to stop, after saving.
        """
        settings, step = self._settings, report.step
        stopping, save_due = self._agree()
        last = step == settings.steps
        logging_due = last or step % settings.log_every_steps == 0
        evaluating = step % settings.evaluate_every_steps == 0
        saving = last or stopping or save_due or step % settings.checkpoint_every_steps == 0
        if logging_due or evaluating or saving:
            report.guard.require_finite()
        if logging_due or evaluating:
            self._log(report, evaluating)
        if saving:
            self._save(step)
        self._progress.advance(step)
        if stopping:
            reason = self._stop.reason or "another rank"
            raise StoppedError(
                f"{self._label}: stopped by {reason} at step {step}, saved; continue with --resume"
            )

    @property
    def wall_s(self) -> float:
        """Seconds spent on this scene, in earlier processes too."""
        return time.monotonic() - self._begin_s

    def _agree(self) -> tuple[bool, bool]:
        """Return whether to stop and whether a checkpoint is due by time, the same on every rank."""
        stopping = self._stop.requested()
        due = time.monotonic() - self._saved_s >= 60 * self._settings.checkpoint_every_minutes
        if self._world.size > 1:
            # Host memory: a GPU does not wait for this. Rank 0's clock decides for all.
            flags = torch.tensor([stopping, due and self._world.rank == 0], dtype=torch.int32)
            stopping, due = (bool(flag) for flag in self._world.all_reduce_sum_(flags).tolist())
        return stopping, due

    def _log(self, report: StepReport, evaluating: bool) -> None:
        losses = {name: loss.item() for name, loss in report.losses.items()}
        training_s = max(time.monotonic() - self._logged_s - self._paused_s, 1e-9)
        rate = (report.step - self._logged_step) / training_s
        record: dict[str, Any] = {
            "step": report.step,
            "wall_s": round(self.wall_s, 3),
            "loss": sum(losses.values()),
            "lr": report.learning_rate,
            "steps_per_s": rate,
            "rays_per_s": rate * self._settings.batch_rays,
        }
        if len(losses) > 1:
            record |= {f"loss_{name}": loss for name, loss in losses.items()}
        if evaluating:
            with self._pause():
                record |= self._task.evaluate(report.step)
        on_leader(self._world, lambda: self._tell(record))
        self._logged_step, self._logged_s, self._paused_s = report.step, time.monotonic(), 0.0

    def _tell(self, record: dict[str, Any]) -> None:
        for scene in self._scenes:
            self._run.append_metrics(scene, _of_scene(record, scene))
        self._progress.report(record)

    def _save(self, step: int) -> None:
        with self._pause():
            self._checkpoints.save(step, self._task)
        self._saved_s = time.monotonic()
        log.info("%s: saved step %d", self._label, step)

    @contextmanager
    def _pause(self) -> Iterator[None]:
        """Leave the time inside out of the rate of training."""
        begin_s = time.monotonic()
        yield
        self._paused_s += time.monotonic() - begin_s


def _of_scene(record: Mapping[str, Any], scene: str) -> dict[str, Any]:
    """What of a record concerns a scene: scores of one among several are named `score@scene`."""
    named = ((*name.partition("@"), value) for name, value in record.items())
    return {name: value for name, at, whose, value in named if not at or whose == scene}
