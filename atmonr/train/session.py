"""A training session: scenes handed to groups of ranks, each trained, and one outcome for all."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from atmonr.config import Config
from atmonr.errors import AtmonrError, ConfigError, LostRankError, StoppedError, UsageError
from atmonr.layout import Layout, layout
from atmonr.provenance import provenance
from atmonr.run import Run
from atmonr.stop import StopRequest
from atmonr.tasks.base import Recipe
from atmonr.train.agree import on_leader
from atmonr.train.failure import ends_group, record_of, told_by_all
from atmonr.train.plan import Plan, SceneWork, order, plan_of, survey
from atmonr.train.progress import Progress, post_empty_rows
from atmonr.train.scene import SceneTraining
from atmonr.train.tracking import mirror
from atmonr.train.watch import watch
from atmonr.world import World

log = logging.getLogger(__name__)


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

    A scene that is damaged, diverges or is too large for the GPU does not keep the others from being trained.
    An error that one rank of a group cannot share with the others ends that group, and only that. Whatever
    the outcome, all ranks that are left raise the same error, so that all end with the same exit code.

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
        WorldError: If ranks and scenes cannot be matched.
        LostRankError: If another rank died or left; what was saved can be continued.
    """
    _refuse_uneven_batches(config)
    together = config.world.shared_decoder
    ranks = layout(
        world.size, len(scenes), config.world.tiles, config.world.ranks_per_scene, together=together
    )
    folder, todo = on_leader(world, lambda: _open(config, scenes, run, recipe, resume))
    number = on_leader(world, lambda: _announce(world, len(ranks.groups)))
    own = ranks.group_of(world.rank)
    group = world.split(ranks.groups[own])
    with (
        _log_file(folder.log(world.rank)),
        StopRequest(folder.stop_file if group.rank == 0 else None) as stop,
        mirror(folder, config, on=world.rank == 0),
        watch(world, number, len(ranks.groups), todo, quiet=quiet),
    ):
        training = SceneTraining(
            config=config,
            run=folder,
            recipe=recipe,
            world=group,
            stop=stop,
            progress=Progress(world, number, own if group.rank == 0 and not quiet else None),
        )
        units = [todo] if together and todo else [[scene] for scene in todo]
        failures = _train_each(_drawn(units, number, ranks, world, group), training)
        stopped = any(isinstance(error, StoppedError) for error in failures.values())
        _meet(world, folder, todo, lambda: stopped or stop.signalled)
    told_by_all(failures, world)


def plan(
    config: Config, scenes: Sequence[Path], run: Path, *, recipe: Recipe, resume: bool, ranks: int
) -> Plan:
    """Return what `train` would do on a number of ranks; writes nothing and needs no other rank.

    Raises:
        UsageError: If two scenes share a name, or the run folder exists and `resume` is not set.
        ResumeError: If there is no run folder to resume.
        SceneError: If a scene cannot be read.
        WorldError: If ranks and scenes cannot be matched.
    """
    if not resume and run.exists():
        raise UsageError(f"{run}: run folder exists; continue it with --resume or choose another folder")
    _refuse_uneven_batches(config)
    infos = [recipe.describe(scene) for scene in scenes]
    _refuse_shared_names([str(info["name"]) for info in infos], scenes)
    return plan_of(config, survey(config, scenes, infos, Run.open(run) if resume else None), ranks)


def _drawn(
    todo: Sequence[Sequence[SceneWork]], session: int, ranks: Layout, world: World, group: World
) -> Iterator[Sequence[SceneWork]]:
    """Yield the work of one group, a scene or several together; the next goes to whichever is free first."""
    if len(ranks.groups) == 1:
        yield from todo
        return
    counter = f"scene of session {session}"
    while (number := on_leader(group, lambda: world.next_number(counter))) < len(todo):
        yield todo[number]


def _train_each(units: Iterator[Sequence[SceneWork]], training: SceneTraining) -> dict[str, Exception]:
    """Train scenes in turn until none is left or one ends them all; return the errors, by scene."""
    failures: dict[str, Exception] = {}
    for scenes in units:
        name = ", ".join(scene.name for scene in scenes)
        training.progress.take(name)
        try:
            training([scene.name for scene in scenes], [scene.path for scene in scenes])
        except StoppedError as error:
            log.info("%s", error)
            return {**failures, name: error}
        except LostRankError:
            raise
        except Exception as error:
            ends = ends_group(error, training.world)
            if training.world.rank == 0 or ends:
                with suppress(AtmonrError):  # never hide the error that led here
                    for scene in scenes:
                        training.run.mark_failed(scene.name, record_of(error, training.progress.row.step))
            if ends and training.world.size > 1:
                raise  # the others of the group wait for this rank, and only its end wakes them
            log.error("%s: failed: %s", name, str(error), exc_info=not isinstance(error, AtmonrError))
            if ends:
                return {**failures, name: error}
            # Anew, because the error's traceback holds everything that the scene had in the GPU's memory.
            failures[name] = type(error)(str(error))
        training.progress.end(failed=name in failures)
    return failures


def _meet(world: World, run: Run, todo: Sequence[SceneWork], stopping: Callable[[], bool]) -> None:
    """Wait until every group has ended, and ask those at work to stop if this rank was asked to.

    A signal may reach some ranks only, and also one that has no scene left.
    """
    told = False

    def pass_on() -> None:
        nonlocal told
        if not told and stopping():
            told = True
            with suppress(OSError):
                run.stop_file.touch()

    pass_on()
    try:
        world.meet(pass_on)
    except LostRankError as error:
        unfinished = [scene.name for scene in todo if run.done(scene.name) is None]
        lost = LostRankError(f"{error}; not finished: {', '.join(unfinished)}; continue with --resume")
        lost.exit_code = error.exit_code
        raise lost from error


def _open(
    config: Config, scenes: Sequence[Path], path: Path, recipe: Recipe, resume: bool
) -> tuple[Run, list[SceneWork]]:
    """Make or reopen the run folder; return it and the unfinished scenes in the order of doing."""
    infos = [recipe.describe(scene) for scene in scenes]
    names = [str(info["name"]) for info in infos]
    _refuse_shared_names(names, scenes)
    by_name = dict(zip(names, infos, strict=True))
    if resume:
        run = Run.resume(path, config, by_name)
        run.stop_file.unlink(missing_ok=True)  # it asked the processes before this one
    else:
        run = Run.create(path, config, by_name, provenance())
    work = survey(config, scenes, infos, run if resume else None)
    if config.world.shared_decoder:  # all of them, or none
        return run, work if any(scene.steps_left for scene in work) else []
    return run, [work[index] for index in order(work)]


def _announce(world: World, groups: int) -> int:
    """Return the number of this session in the world, once the groups' rows of progress can be read."""
    session = world.next_number("session")
    post_empty_rows(world, session, groups)
    return session


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


@contextmanager
def _log_file(path: Path) -> Iterator[None]:
    """Keep this rank's log in the run folder."""
    package = logging.getLogger("atmonr")
    handler = logging.FileHandler(path, encoding="utf-8", delay=True)
    # A full disk is told of by what has to be written; logging would add a traceback for every line.
    handler.handleError = lambda record: None  # type: ignore[method-assign]
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
