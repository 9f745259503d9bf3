"""Loops over threads, and where compiled code may not be kept."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import pytest

from atmonr.compiled import default_threads, in_parts


@pytest.mark.parametrize(("count", "threads"), [(0, 4), (1, 4), (7, 1), (7, 3), (3, 8)])
def test_parts_cover_the_range_once(count: int, threads: int) -> None:
    done, lock = [], threading.Lock()

    def work(first: int, last: int) -> None:
        with lock:
            done.extend(range(first, last))

    in_parts(count, threads, work)
    assert sorted(done) == list(range(count))


def test_an_error_in_a_part_is_raised() -> None:
    def work(first: int, last: int) -> None:
        raise ValueError("part")

    with pytest.raises(ValueError, match="part"):
        in_parts(4, 2, work)


@pytest.mark.parametrize(("told", "expected"), [("3", 3), ("", None), ("0", None), ("2,1", None)])
def test_threads_are_as_many_as_told_or_as_there_are_processors(
    told: str, expected: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0, 5}, raising=False)
    monkeypatch.setenv("OMP_NUM_THREADS", told)
    assert default_threads() == (expected or 2)


@pytest.mark.slow
def test_where_no_cache_can_be_kept_it_is_compiled_all_the_same(tmp_path: Path) -> None:
    """As in an image that nobody can write to, with a home that is not there."""
    script = """
import numba.core.caching as caching
caching.CacheImpl._locator_classes = []
from atmonr.compiled import compiled
print(compiled(lambda x: x + 1)(41))
"""
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert found.stdout == "42\n"
