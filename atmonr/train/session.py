"""A training session: scenes dealt to ranks, each trained, and one outcome for all."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from atmonr.config import Config
from atmonr.errors import AtmonrError, ConfigError, DivergedError, SceneError, StoppedError, UsageError
from atmonr.layout import layout
from atmonr.provenance import provenance
from atmonr.run import Run
from atmonr.tasks.base import Recipe
from atmonr.train.agree import on_leader
from atmonr.train.scene import SceneTraining
from atmonr.train.stop import StopRequest
from atmonr.world import World

log = logging.getLogger(__name__)

Failure = tuple[str, AtmonrError]


def train(
    config: Config,
    scenes: Sequence[Path],
    run: Path,
    *,
    recipe: Recipe,
    resume: bool,
    world: World,
    quiet: bool,
) -> None:
    """Train one model per scene and write everything into a run folder; called on every rank.

    A scene that is damaged or diverges does not keep the others from being trained; any other error ends the
    session. Whatever the outcome, all ranks raise the same error, so that all end with the same exit code.

    Args:
        config: The run's settings.
        scenes: Scenes, each with a name of its own.
        run: Run folder, new unless `resume`.
        recipe: Reads and builds the kind of task that the config asks for.
        resume: Continue an existing run folder; finished scenes are left as they are.
        world: All ranks.
        quiet: Show nothing on the terminal.

    Raises:
        UsageError: If two scenes share a name, or the run folder exists and `resume` is not set.
        ResumeError: If the run folder is of another config or scene, or its checkpoints cannot be read.
        SceneError: If a scene cannot be read.
        DivergedError: If a loss became infinite or NaN; the last good checkpoint is kept.
        StoppedError: If a signal or the STOP file asked to stop; everything is saved.
        StoreError: If the run folder cannot be written.
        GpuMemoryError: If the GPU's memory does not suffice.
        WorldError: If ranks and scenes cannot be matched, or another rank failed.
    """
    _refuse_uneven_batches(config)
    own = layout(world.size, len(scenes), config.world.ranks_per_scene)[world.rank]
    folder, names = on_leader(world, lambda: _open_run(config, scenes, run, recipe, resume))
    group = world.split(own.group)
    with (
        _log_file(folder.log(world.rank)),
        StopRequest(folder.stop_file if group.rank == 0 else None) as stop,
    ):
        training = SceneTraining(
            config=config,
            run=folder,
            recipe=recipe,
            world=group,
            stop=stop,
            alone=len(own.group) == world.size,
            quiet=quiet or world.rank > 0,
        )
        failures = _train_each([(names[index], scenes[index]) for index in own.scenes], training)
    _end_together(failures, world)


def _train_each(scenes: Sequence[tuple[str, Path]], training: SceneTraining) -> list[Failure]:
    """Train scenes in turn; return the errors that concern one scene only, and the stop that ended all."""
    failures: list[Failure] = []
    for name, path in scenes:
        try:
            training(name, path)
        except StoppedError as error:
            if training.world.rank == 0 and not training.alone:
                # A signal may have reached only some of the groups.
                with suppress(OSError):
                    training.run.stop_file.touch()
            return [*failures, (name, error)]
        except (DivergedError, SceneError) as error:
            log.error("%s", error)
            failures.append((name, error))
    return failures


def _open_run(
    config: Config, scenes: Sequence[Path], path: Path, recipe: Recipe, resume: bool
) -> tuple[Run, list[str]]:
    """Make or reopen the run folder; return it and the scenes' names, in order."""
    infos = [recipe.describe(scene) for scene in scenes]
    names = [str(info["name"]) for info in infos]
    _refuse_shared_names(names, scenes)
    by_name: Mapping[str, dict[str, Any]] = dict(zip(names, infos, strict=True))
    if not resume:
        return Run.create(path, config, by_name, provenance()), names
    run = Run.resume(path, config, by_name)
    run.stop_file.unlink(missing_ok=True)  # it asked the processes before this one
    return run, names


def _refuse_shared_names(names: Sequence[str], scenes: Sequence[Path]) -> None:
    name, count = Counter(names).most_common(1)[0]
    if count > 1:
        paths = ", ".join(str(path) for known, path in zip(names, scenes, strict=True) if known == name)
        raise UsageError(f"{paths}: all are named '{name}', which names their results; rename all but one")


def _refuse_uneven_batches(config: Config) -> None:
    rays, ranks = config.train.batch_rays, config.world.ranks_per_scene
    if rays % ranks:
        raise ConfigError(
            f"train.batch_rays={rays} cannot be shared by world.ranks_per_scene={ranks} ranks; "
            f"expected a multiple, such as {rays + -rays % ranks}"
        )


def _end_together(failures: list[Failure], world: World) -> None:
    """Raise one error on every rank if anything failed on any.

    A stop comes first: the run has to be resumed anyway, and then tells of the scenes that fail again.
    """
    world.meet()  # scenes may take hours longer than others, which no collective waits for
    gathered = world.gather(failures if failures else [])
    # Ranks that share a scene report the same failure.
    unique = {name: error for part in gathered or [] for name, error in part}
    errors = sorted(unique.values(), key=lambda error: not isinstance(error, StoppedError))
    error = errors[0] if errors else None
    if len(errors) > 1:
        error = type(errors[0])("; ".join(str(error) for error in errors))
    error = world.broadcast_object(error)
    if error is not None:
        raise error


@contextmanager
def _log_file(path: Path) -> Iterator[None]:
    """Keep this rank's log in the run folder."""
    package = logging.getLogger("atmonr")
    handler = logging.FileHandler(path, encoding="utf-8", delay=True)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    level = package.level
    package.addHandler(handler)
    package.setLevel(logging.INFO)
    try:
        yield
    finally:
        package.removeHandler(handler)
        package.setLevel(level)
        handler.close()
