"""What becomes of a session when a scene fails: whom it ends, what is written down, what is told."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from atmonr.errors import AtmonrError, DivergedError, GpuMemoryError, ResumeError, SceneError, StoppedError
from atmonr.world import World


def ends_group(error: Exception, group: World) -> bool:
    """Return whether a scene's error ends the work of its group.

    It does unless it concerns that scene alone and every rank of the group knows of it: otherwise the others
    are waiting in the middle of a step for a rank that will not come.
    """
    if isinstance(error, DivergedError):
        return False  # all ranks see the same loss
    concerns_scene_only = isinstance(error, SceneError | ResumeError | GpuMemoryError)
    known_to_all = group.size == 1 or (isinstance(error, AtmonrError) and error.everywhere)
    return not (concerns_scene_only and known_to_all)


def record_of(error: Exception, step: int | None) -> dict[str, Any]:
    """Return what the run folder keeps of a failure, as JSON data.

    Args:
        error: What ended the scene's training.
        step: Number of steps done before, as far as the rank that writes this knows.
    """
    return {
        "error": type(error).__name__,
        "message": " ".join(str(error).split()),
        "step": step,
        "exit_code": error.exit_code if isinstance(error, AtmonrError) else 1,
        "time_utc": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def told_by_all(failures: Mapping[str, Exception], world: World) -> None:
    """Raise one error on every rank if anything failed on any.

    A stop comes first: the run has to be resumed anyway, and then tells of the scenes that fail again. An
    error that nobody foresaw is raised as it is where it happened, for the sake of its traceback.

    Args:
        failures: The errors of this rank, by scene; ranks that share a scene have the same.
        world: All ranks.
    """
    portable = {name: _portable(error, world) for name, error in failures.items()}
    unique = {name: error for part in world.gather_all(portable) for name, error in part.items()}
    # By name, because which group had which scene differs from session to session.
    names = sorted(unique, key=lambda name: (not isinstance(unique[name], StoppedError), name))
    first = unique[names[0]] if names else None
    if first is not None and len(names) > 1:
        code = first.exit_code
        first = type(first)("; ".join(str(unique[name]) for name in names))
        first.exit_code = code
    for error in failures.values():
        if not isinstance(error, AtmonrError):
            raise error
    if first is not None:
        raise first


def _portable(error: Exception, world: World) -> AtmonrError:
    """Return an error that other ranks can receive: foreign ones may not survive the journey."""
    if isinstance(error, AtmonrError):
        return error
    shared = AtmonrError(f"rank {world.rank} failed with {type(error).__name__}: {error}; see its log")
    shared.exit_code = 1
    return shared
