"""Errors that all ranks raise together, so that none waits for one that has left."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import torch

from atmonr.errors import AtmonrError, GpuMemoryError, WorldError
from atmonr.world import World

T = TypeVar("T")


def on_leader(world: World, work: Callable[[], T]) -> T:
    """Do `work` on rank 0 alone; every rank returns its result or raises its error.

    Raises:
        AtmonrError: What `work` raised. Any other kind of error keeps its type on rank 0 and is a WorldError
            elsewhere.
    """
    result, error = _attempt(work) if world.rank == 0 else (None, None)
    result, shared = world.broadcast_object((result, _portable(error, world)))
    _raise_first(error, shared)
    return result


def on_every_rank(world: World, work: Callable[[], T]) -> T:
    """Do `work` on every rank; when it fails on one, every rank raises.

    Raises:
        AtmonrError: This rank's own error, or else that of the first rank that failed.
    """
    result, error = _attempt(work)
    _raise_first(error, *world.gather_all(_portable(error, world)))
    return result  # type: ignore[return-value]  # None only with an error, which has been raised


@contextmanager
def gpu_memory_errors() -> Iterator[None]:
    """Turn torch's out-of-memory error into one that says what to change.

    Raises:
        GpuMemoryError: If the GPU's memory does not suffice.
    """
    try:
        yield
    except torch.OutOfMemoryError as error:
        reason = str(error).splitlines()[0]
        raise GpuMemoryError(
            f"{reason}; raise train.ray_chunks or world.ranks_per_scene, or lower render.samples"
        ) from error


def _attempt(work: Callable[[], T]) -> tuple[T | None, Exception | None]:
    try:
        with gpu_memory_errors():
            return work(), None
    except Exception as error:  # whatever it is, the other ranks must hear of it
        return None, error


def _portable(error: Exception | None, world: World) -> AtmonrError | None:
    """Return an error that other ranks can receive: foreign ones may not survive the journey."""
    if error is None or isinstance(error, AtmonrError):
        return error
    return WorldError(f"rank {world.rank} failed with {type(error).__name__}: {error}; see its message")


def _raise_first(*errors: Exception | None) -> None:
    for error in errors:
        if error is not None:
            if isinstance(error, AtmonrError):
                error.everywhere = True
            raise error
