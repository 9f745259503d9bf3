"""One scene from start, or from its last checkpoint, to its finished result."""

from __future__ import annotations

import json
import logging
import math
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from atmonr.atomic import atomic_file
from atmonr.config import Config
from atmonr.errors import DivergedError, StoppedError, WorldError
from atmonr.run import Run
from atmonr.tasks.base import Recipe, Task
from atmonr.train.agree import gpu_memory_errors, on_every_rank, on_leader
from atmonr.train.boundary import Boundary
from atmonr.train.checkpoint import Checkpoints
from atmonr.train.loop import fit
from atmonr.train.progress import Progress
from atmonr.train.stop import StopRequest
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

    def __call__(self, scene: str, path: Path) -> None:
        """Train one scene unless it is finished; the errors are those of `session.train`."""
        if on_leader(self.world, lambda: self._finished(scene)):
            log.info("%s: finished before", scene)
            return
        if self.world.any(self.stop.requested()):
            raise StoppedError(f"{scene}: stopped before it began; continue with --resume")
        # Replicas start from the same random numbers.
        torch.manual_seed(self.config.train.seed)
        task = on_every_rank(self.world, lambda: self.recipe.build(self.config, path, self.world.device))
        checkpoints = Checkpoints(
            run=self.run,
            scene=scene,
            config_digest=self.config.digest,
            scene_id=self.run.scene_info(scene)["scene_id"],
            keep=self.config.train.keep_checkpoints,
        )
        start_step = self._begin(scene, task, checkpoints)
        refuse_unequal_replicas(task.module, self.world)
        self.progress.begin(self.config.train.steps, start_step)
        boundary = Boundary(
            run=self.run,
            scene=scene,
            task=task,
            settings=self.config.train,
            world=self.world,
            checkpoints=checkpoints,
            stop=self.stop,
            progress=self.progress,
            start_step=start_step,
        )
        self._fit(scene, task, start_step, boundary, checkpoints)
        on_leader(self.world, lambda: self._finish(scene, task, boundary))

    def _finished(self, scene: str) -> bool:
        done = self.run.done(scene)
        return done is not None and done["steps"] >= self.config.train.steps

    def _begin(self, scene: str, task: Task, checkpoints: Checkpoints) -> int:
        """Load the newest checkpoint or save the untrained state; return the number of steps done."""

        def prepare() -> Path | None:
            found = checkpoints.find()
            if found is None:
                # Shows at once whether the disk can hold the model, and leaves a good state to diverge from.
                checkpoints.save(0, task)
            return found

        found = on_leader(self.world, prepare)
        step = on_every_rank(self.world, lambda: checkpoints.load(found, task)) if found else 0
        on_leader(self.world, lambda: self.run.truncate_metrics(scene, step))
        log.info("%s: starts at step %d of %d", scene, step, self.config.train.steps)
        return step

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
                )
        except DivergedError as error:
            raise DivergedError(
                f"{scene}: {error}; last good checkpoint: {checkpoints.latest_name()}; "
                "lower train.learning_rate and start again in a new run folder"
            ) from error

    def _finish(self, scene: str, task: Task, boundary: Boundary) -> None:
        score = task.finish(self.run.pictures(scene))
        with atomic_file(self.run.heldout(scene)) as temporary:
            temporary.write_text(json.dumps(_finite(score), indent=2) + "\n", encoding="utf-8")
        self.run.mark_done(scene, {"steps": self.config.train.steps, "wall_s": round(boundary.wall_s, 3)})
        log.info("%s: finished", scene)


def refuse_unequal_replicas(module: torch.nn.Module, world: World) -> None:
    """Compare the states of all ranks bit by bit: copies that differ at the start would never meet.

    Raises:
        WorldError: On every rank, if one differs.
    """
    if world.size == 1:
        return
    checksum = 0
    for tensor in module.state_dict().values():
        data = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
        checksum = zlib.crc32(data, checksum)
    gathered = world.gather(checksum) or []
    different = world.broadcast_object([rank for rank, other in enumerate(gathered) if other != gathered[0]])
    if different:
        raise WorldError(
            f"ranks {different} of a group start with other parameters than rank 0; "
            "expected the same torch version and kind of device on every rank"
        )


def _finite(value: Any) -> Any:
    """Return JSON data with null for what JSON cannot hold, such as a perfect picture's infinite PSNR."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
