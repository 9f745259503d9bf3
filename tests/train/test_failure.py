"""Whom a failure ends, and what is told of it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from atmonr.errors import (
    AtmonrError,
    DivergedError,
    GpuMemoryError,
    ResumeError,
    SceneError,
    StoppedError,
    StoreError,
)
from atmonr.train.agree import on_leader
from atmonr.train.failure import ends_group, record_of, told_by_all
from atmonr.world import World

ALONE = World.single("cpu")
PAIR = replace(ALONE, size=2)


@pytest.mark.parametrize("kind", [SceneError, ResumeError, GpuMemoryError])
def test_what_concerns_a_scene_alone_ends_a_group_only_if_the_others_do_not_know(kind: Any) -> None:
    assert not ends_group(kind("bad"), ALONE)
    assert ends_group(kind("bad"), PAIR)

    def fail() -> None:
        raise kind("bad")

    with pytest.raises(AtmonrError) as caught:
        on_leader(ALONE, fail)
    assert not ends_group(caught.value, PAIR)


def test_all_ranks_see_a_scene_diverge_and_nobody_goes_on_with_a_full_disk_or_a_bug() -> None:
    assert not ends_group(DivergedError("nan"), PAIR)
    for error in (StoreError("full"), RuntimeError("a bug")):
        assert ends_group(error, ALONE) and ends_group(error, PAIR)


def test_a_record_is_plain_data_of_one_line() -> None:
    record = record_of(GpuMemoryError("too\nlarge"), 7)
    assert {key: record[key] for key in ("error", "message", "step", "exit_code")} == {
        "error": "GpuMemoryError",
        "message": "too large",
        "step": 7,
        "exit_code": 76,
    }
    assert record_of(ValueError("odd"), None)["exit_code"] == 1


def test_all_failures_are_told_in_one_error_and_a_stop_comes_first() -> None:
    told_by_all({}, ALONE)
    failures = {"b": SceneError("b: damaged"), "a": DivergedError("a: diverged")}
    with pytest.raises(DivergedError, match="a: diverged; b: damaged") as caught:
        told_by_all(failures, ALONE)
    assert caught.value.exit_code == 70
    with pytest.raises(StoppedError, match="c: stopped; a: diverged; b: damaged"):
        told_by_all({**failures, "c": StoppedError("c: stopped")}, ALONE)


def test_an_unforeseen_error_is_raised_as_it_is_where_it_happened() -> None:
    with pytest.raises(KeyError):
        told_by_all({"a": SceneError("a: damaged"), "b": KeyError("b")}, ALONE)
