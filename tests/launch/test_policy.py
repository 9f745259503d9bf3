from __future__ import annotations

from typing import Any

import pytest

from launch.policy import Adjustment, class_of, verdict


def end(kind: str, **more: Any) -> dict[str, Any]:
    return {"class": kind, "reason": kind, "time_s": 1000.0, "stage": "train", **more}


@pytest.mark.parametrize(
    ("code", "stopping", "kind"),
    [
        (0, False, "done"),
        (2, False, "config"),
        (65, False, "input"),
        (70, False, "diverged"),
        (74, False, "io"),
        (75, False, "preempted"),
        (76, False, "gpu-memory"),
        (77, False, "config"),
        (78, False, "config"),
        (1, False, "bug"),
        (-9, False, "killed"),
        (137, False, "killed"),
        (-15, True, "preempted"),
        (143, True, "preempted"),
        (70, True, "diverged"),
    ],
)
def test_exit_codes_name_their_class(code: int, stopping: bool, kind: str) -> None:
    assert class_of(code, stopping=stopping) == kind


@pytest.mark.parametrize(
    ("kind", "retries", "after"),
    [
        ("gpu-memory", 2, "failed"),
        ("killed", 2, "failed"),
        ("io", 5, "failed"),
        ("input", 0, "quarantined"),
        ("diverged", 1, "quarantined"),
        ("config", 0, "failed"),
        ("bug", 1, "failed"),
        ("lost", 5, "failed"),
    ],
)
def test_each_class_has_its_retries(kind: str, retries: int, after: str) -> None:
    for times in range(1, retries + 1):
        assert verdict([end(kind)] * times).status == "ready"
    over = verdict([end(kind)] * (retries + 1))
    assert (over.status, over.failure, over.reason) == (after, kind, kind)


def test_preemption_uses_up_nothing() -> None:
    ends = [end("preempted", step=step) for step in range(50)]
    assert verdict([*ends, end("bug")]).status == "ready"
    assert verdict([end("bug"), *ends]).status == "ready"


def test_a_task_that_its_wall_time_is_too_short_for_ends() -> None:
    stuck = [end("preempted", step=7, wall_over=True)] * 3
    assert "needs more wall time" in verdict(stuck).reason
    assert verdict(stuck).status == "failed"
    assert verdict([*stuck[:2], end("preempted", step=8, wall_over=True)]).status == "ready"
    assert verdict([end("preempted", step=7, wall_over=False)] * 9).status == "ready"


def test_retries_wait_longer_each_time() -> None:
    pauses = [verdict([end("io")] * times).not_before_s - 1000.0 for times in (1, 2, 3)]
    assert pauses == [30.0, 60.0, 120.0]


def test_a_retry_is_another_attempt_where_the_same_would_fail_the_same_way() -> None:
    assert verdict([end("diverged")]).adjustment == Adjustment(seed=1)
    assert verdict([end("gpu-memory")] * 2).adjustment == Adjustment(doublings=2)
    assert verdict([end("gpu-memory", stage="extract")]).adjustment == Adjustment()
    # It stays so: the run of the other seed is continued.
    assert verdict([end("diverged"), end("preempted")]).adjustment.suffix == "-seed1"


def test_a_pardon_gives_all_retries_again() -> None:
    ends = [end("bug"), end("bug")]
    assert verdict(ends).status == "failed"
    assert verdict(ends, pardoned=2).status == "ready"
    assert verdict([*ends, end("bug")], pardoned=2).status == "ready"
    assert verdict([*ends, end("bug"), end("bug")], pardoned=2).status == "failed"
    assert verdict([*ends, end("done")], pardoned=2).status == "done"
