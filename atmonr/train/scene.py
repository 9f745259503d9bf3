"""One scene, or several together, from start or from the last checkpoint to the finished result."""

from __future__ import annotations

import logging
import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from atmonr.atomic import write_json
from atmonr.config import Config
from atmonr.errors import ConfigError, DivergedError, StoppedError, WorldError
from atmonr.run import Run
from atmonr.stop import StopRequest
from atmonr.tasks.base import Recipe, Task
from atmonr.train.agree import gpu_memory_errors, on_every_rank, on_leader
from atmonr.train.boundary import Boundary
from atmonr.train.checkpoint import Checkpoints
from atmonr.train.loop import WARMUP_STEPS, fit
from atmonr.train.progress import Progress
from atmonr.world import World

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class SceneTraining:
    """Trains scenes one after the other with the ranks of one group.

    Attributes:
        config: The run's settings.
        run: The run folder.
        recipe: Builds the task of a scene.
        world: The ranks of the group.
        stop: Tells when to stop.
        progress: Is told how it goes.
    """

    config: Config
    run: Run
    recipe: Recipe
    world: World
    stop: StopRequest
    progress: Progress

    def __call__(self, scenes: Sequence[str], paths: Sequence[Path]) -> None:
        """Train one scene, or several together, unless finished; the errors are those of `session.train`."""
        scene = scenes[0]
        if on_leader(self.world, lambda: all(self._finished(each) for each in scenes)):
            log.info("%s: finished before", ", ".join(scenes))
            return
        if self.world.any(self.stop.requested()):
            raise StoppedError(f"{scene}: stopped before it began; continue with --resume")
        # Replicas start from the same random numbers.
        torch.manual_seed(self.config.train.seed)
        task = on_every_rank(self.world, lambda: self._build(paths))
        checkpoints = Checkpoints(
            run=self.run,
            scene=scene,
            config_digest=self.config.digest,
            scene_id=self.run.scene_info(scene)["scene_id"],
            keep=self.config.train.keep_checkpoints,
            world=self.world,
            together=tuple(scenes) if len(scenes) > 1 else (),
        )
        start_step = self._begin(scenes, task, checkpoints)
        refuse_unequal_replicas(task, self.world)
        self.progress.begin(self.config.train.steps, start_step)
        boundary = Boundary(
            run=self.run,
            scenes=scenes,
            task=task,
            settings=self.config.train,
            world=self.world,
            checkpoints=checkpoints,
            stop=self.stop,
            progress=self.progress,
            start_step=start_step,
        )
        self._fit(scene, task, start_step, boundary, checkpoints)
        self._finish(scenes, task, boundary)

    def _build(self, paths: Sequence[Path]) -> Task:
        if not self.config.world.shared_decoder:
            return self.recipe.build(self.config, paths[0], self.world.device, self.world)
        if self.recipe.together is None:
            raise ConfigError("world.shared_decoder: this task has nothing that scenes could share")
        return self.recipe.together(self.config, paths, self.world.device, self.world)

    def _finished(self, scene: str) -> bool:
        done = self.run.done(scene)
        return done is not None and done.get("steps", 0) >= self.config.train.steps

    def _begin(self, scenes: Sequence[str], task: Task, checkpoints: Checkpoints) -> int:
        """Load the newest checkpoint, or begin and save the untrained state; return the steps done."""
        step = checkpoints.find(task)
        if step is None:
            step = 0
            task.begin()
            # Shows at once whether the disk can hold the model, and leaves a good state to diverge from.
            checkpoints.save(step, task)
        else:
            checkpoints.load(step, task)
        on_leader(self.world, lambda: self._truncate_metrics(scenes, step))
        log.info("%s: starts at step %d of %d", ", ".join(scenes), step, self.config.train.steps)
        return step

    def _truncate_metrics(self, scenes: Sequence[str], step: int) -> None:
        for scene in scenes:
            self.run.truncate_metrics(scene, step)

    def _fit(
        self, scene: str, task: Task, start_step: int, boundary: Boundary, checkpoints: Checkpoints
    ) -> None:
        try:
            with gpu_memory_errors():
                fit(
                    task,
                    steps=self.config.train.steps,
                    start_step=start_step,
                    world=self.world,
                    at_boundary=boundary,
                    # Adam's first steps are no danger to a decoder that is learned already.
                    warmup_steps=0 if self.config.train.warm_start else WARMUP_STEPS,
                )
        except DivergedError as error:
            raise DivergedError(
                f"{scene}: {error}; last good checkpoint: {checkpoints.latest_name()}; "
                "lower train.learning_rate and start again in a new run folder"
            ) from error

    def _finish(self, scenes: Sequence[str], task: Task, boundary: Boundary) -> None:
        with gpu_memory_errors():
            scores = task.finish([self.run.pictures(scene) for scene in scenes])
        on_leader(self.world, lambda: self._keep(scenes, scores, boundary))

    def _keep(self, scenes: Sequence[str], scores: list[dict[str, Any]], boundary: Boundary) -> None:
        done = {"steps": self.config.train.steps, "wall_s": round(boundary.wall_s, 3)}
        for scene, score in zip(scenes, scores, strict=True):
            write_json(self.run.heldout(scene), _finite(score))
            self.run.mark_done(scene, done)
            log.info("%s: finished", scene)


def refuse_unequal_replicas(task: Task, world: World) -> None:
    """Compare what ranks hold alike bit by bit: copies that differ at the start would never meet.

    Raises:
        WorldError: On every rank, if one differs.
    """
    alike = list(task.parts[""].module.state_dict().values()) if "" in task.parts else []
    gathered = world.gather_all(_checksum([*(copies[0] for copies in task.tied), *alike]))
    different = {rank for rank, other in enumerate(gathered) if other != gathered[0]}
    if not all(torch.equal(copies[0], copy) for copies in task.tied for copy in copies[1:]):
        different.add(world.rank)
    if different := set().union(*world.gather_all(different)):
        raise WorldError(
            f"ranks {sorted(different)} of a group start with other parameters than rank 0; "
            "expected the same torch version and kind of device on every rank"
        )


def _checksum(tensors: Sequence[torch.Tensor]) -> int:
    checksum = 0
    for tensor in tensors:
        data: Any = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
        checksum = zlib.crc32(data, checksum)
    return checksum


def _finite(value: Any) -> Any:
    """Return JSON data with null for what JSON cannot hold, such as a perfect picture's infinite PSNR."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
