"""Loops compiled for processors (numba), where NumPy or torch would pass over memory again and again."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any, cast

from numba import njit


def compiled(function: Callable[..., Any], **options: Any) -> Callable[..., Any]:
    """The function, compiled at its first call and kept on disk for other processes where that is possible.

    Args:
        function: Plain loops over NumPy arrays; nothing it calls may take Python's lock.
        options: Of `numba.njit`.
    """
    try:
        made = njit(cache=True, nogil=True, error_model="numpy", **options)(function)
    except RuntimeError:  # no place for the cache, such as in an image that nobody can write to
        made = njit(nogil=True, error_model="numpy", **options)(function)
    return cast(Callable[..., Any], made)


def default_threads() -> int:
    """As many as OMP_NUM_THREADS says, as for all libraries, or as this process has processors."""
    told = os.environ.get("OMP_NUM_THREADS", "")
    if told.isdecimal() and int(told):
        return int(told)
    # Only Linux tells which processors a process may use.
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def in_parts(count: int, threads: int, work: Callable[[int, int], None]) -> None:
    """Calls `work(first, last)` for parts of `range(count)` of nearly equal size, one for each thread."""
    threads = min(threads, count)
    if threads < 2:
        work(0, count)
        return
    edges = [count * thread // threads for thread in range(threads + 1)]
    with ThreadPoolExecutor(threads) as pool:
        for done in [pool.submit(work, *part) for part in pairwise(edges)]:
            done.result()
