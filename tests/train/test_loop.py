from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import suppress
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode

from atmonr.errors import DivergedError
from atmonr.tasks.base import Share
from atmonr.train import loop
from atmonr.train.loop import FiniteGuard, StepReport, average_, fit, learning_rate_factor
from atmonr.world import World

WORLD = World.single("cpu")


class LineTask:
    """Fits two numbers, `a` and `b`, each with its own optimizer; losses are made by the test."""

    def __init__(self, *, fused: bool = True) -> None:
        self.module = nn.ParameterDict({"a": nn.Parameter(torch.ones(3)), "b": nn.Parameter(torch.ones(2))})
        self.optimizers = {
            "a": torch.optim.AdamW([self.module["a"]], lr=0.1, fused=fused),
            "b": torch.optim.SGD([self.module["b"]], lr=0.5),
        }
        self.seen: list[tuple[str, int, float]] = []

    def losses(self, step: int, share: Share) -> Iterator[tuple[str, Tensor]]:
        self.seen.append(("a", step, self.module["a"][0].item()))
        yield "a", self.module["a"].square().sum()
        self.seen.append(("b", step, self.module["a"][0].item()))
        yield "b", (self.module["b"] * self.module["a"].sum()).sum()

    def after_step(self, step: int) -> None:
        self.seen.append(("after", step, self.module["a"][0].item()))

    def evaluate(self, step: int) -> dict[str, float]:
        return {}

    def finish(self, pictures: Path) -> dict[str, float]:
        return {}


def run(task: LineTask, steps: int, start_step: int = 0, until: int | None = None) -> list[StepReport]:
    """Train; leave the loop after step `until`, as a stop does."""
    reports: list[StepReport] = []

    class Left(Exception):
        pass

    def at_boundary(report: StepReport) -> None:
        reports.append(report)
        if report.step == until:
            raise Left

    with suppress(Left):
        fit(task, steps=steps, start_step=start_step, world=WORLD, at_boundary=at_boundary)
    return reports


def test_learning_rate_rises_in_equal_steps_then_follows_half_a_cosine_to_the_floor() -> None:
    rates = [learning_rate_factor(step, 1000) for step in range(1000)]
    rises = torch.tensor(rates[:100]).diff()
    assert torch.allclose(rises, torch.full_like(rises, 1 / 101))
    assert rates[100] == 1
    assert rates[550] == pytest.approx((1 + loop.FLOOR) / 2)  # half way down
    assert rates[999] == pytest.approx(loop.FLOOR, abs=1e-4)
    assert all(later < earlier for earlier, later in pairwise(rates[100:]))


@pytest.mark.parametrize("steps", [1, 2, 9, 10, 11])
def test_learning_rate_is_positive_and_at_most_one_in_the_shortest_runs(steps: int) -> None:
    assert all(0 < learning_rate_factor(step, steps) <= 1 for step in range(steps + 1))


def test_groups_keep_their_ratio_and_a_continued_training_does_not_scale_twice() -> None:
    task = LineTask()
    run(task, 40, until=20)
    first = task.optimizers["a"].param_groups[0]["lr"], task.optimizers["b"].param_groups[0]["lr"]
    assert first == pytest.approx((0.1 * learning_rate_factor(19, 40), 0.5 * learning_rate_factor(19, 40)))
    reports = run(task, 40, start_step=20)
    assert reports[0].step == 21
    assert reports[0].learning_rate == pytest.approx(0.1 * learning_rate_factor(20, 40))


def test_a_second_loss_sees_the_first_update_and_what_follows_sees_both() -> None:
    task = LineTask()
    run(task, 1)
    (first, before), (second, between), (third, after) = ((what, value) for what, _, value in task.seen)
    assert (first, second, third) == ("a", "b", "after")
    assert before == 1
    assert between < 1
    assert after == between


def test_a_loss_moves_only_the_parameters_of_its_own_optimizer() -> None:
    task = LineTask()
    task.optimizers.pop("b")
    task.losses = lambda step, share: iter([("a", (task.module["a"].sum() * task.module["b"].sum()))])  # type: ignore[method-assign]
    run(task, 3)
    assert torch.equal(task.module["b"], torch.ones(2))
    assert not torch.equal(task.module["a"], torch.ones(3))


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_non_finite_loss_ends_training_before_it_moves_a_parameter(fused: bool, bad: float) -> None:
    task = LineTask(fused=fused)
    good: dict[str, Tensor] = {}

    def losses(step: int, share: Share) -> Iterator[tuple[str, Tensor]]:
        good["a"] = task.module["a"].detach().clone()
        yield "a", task.module["a"].square().sum() * (bad if step == 4 else 1.0)

    task.losses = losses  # type: ignore[method-assign]
    with pytest.raises(DivergedError, match=rf"step 5: loss {bad:g}$"):
        run(task, 10)
    assert torch.equal(task.module["a"], good["a"])
    assert task.seen[-1][:2] == ("after", 3)


def test_a_non_finite_gradient_behind_a_finite_loss_is_noticed() -> None:
    task = LineTask()
    task.module["a"].data.zero_()
    # The derivative of a square root at zero is infinite, its value is not.
    task.losses = lambda step, share: iter([("a", task.module["a"].sqrt().sum())])  # type: ignore[method-assign]
    with pytest.raises(DivergedError, match="step 1: loss 0, gradient not finite"):
        run(task, 3)


def test_updates_stop_on_the_device_and_stay_stopped_until_the_host_looks() -> None:
    """On a GPU the host looks only now and then; finite steps after a bad one must not hide it."""
    task = LineTask()
    guard = FiniteGuard(WORLD.device)
    parameter, optimizer = task.module["a"], task.optimizers["a"]
    states = []
    for step, factor in enumerate([1.0, float("nan"), 1.0, float("inf")], start=1):
        loop._update(optimizer, parameter.square().sum() * factor, step, WORLD, guard)
        states.append((parameter.detach().clone(), optimizer.state[parameter]["exp_avg"].clone()))
    assert all(torch.equal(a, b) for later in states[1:] for a, b in zip(later, states[0], strict=True))
    assert optimizer.state[parameter]["step"] == 1
    with pytest.raises(DivergedError, match="step 2: loss nan"):
        guard.require_finite()


class Twins:
    """A world whose other rank holds `factor` times the same tensors."""

    size = 2

    def __init__(self, factor: float) -> None:
        self.factor = factor
        self.lengths: list[int] = []

    def all_reduce_sum_(self, tensor: Tensor) -> Tensor:
        self.lengths.append(tensor.numel())
        return tensor.mul_(1 + self.factor)


def test_gradients_are_averaged_in_few_messages_of_bounded_length(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "BUCKET_ELEMENTS", 10)
    tensors = [
        torch.rand(2, 3),
        torch.rand(()),
        torch.rand(3, 1),
        torch.rand(25),
        torch.rand(4).expand(2, 4).T,
    ]
    tensors[-1] = tensors[-1].clone()
    expected = [tensor * 2 for tensor in tensors]
    world = Twins(3.0)
    average_(tensors, world)  # type: ignore[arg-type]
    assert world.lengths == [10, 25, 8]
    assert all(torch.allclose(a, b) for a, b in zip(tensors, expected, strict=True))


def test_the_reported_loss_is_the_mean_over_ranks() -> None:
    task = LineTask()
    parameter = task.module["a"]
    loss = loop._update(
        task.optimizers["a"],
        parameter.square().sum(),
        1,
        Twins(3.0),
        FiniteGuard(WORLD.device),  # type: ignore[arg-type]
    )
    assert math.isclose(loss.item(), 6.0)
    assert torch.allclose(parameter.grad, torch.full((3,), 4.0))


def test_an_update_reads_nothing_back_from_the_device() -> None:
    """Fake tensors have no values: reading one raises."""
    with FakeTensorMode():
        task, guard = LineTask(), FiniteGuard(WORLD.device)
        for step in (1, 2):
            loop._update(task.optimizers["a"], task.module["a"].square().sum(), step, WORLD, guard)
        with pytest.raises(DataDependentOutputException):
            guard.require_finite()
