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
from atmonr.tasks.base import Part, parameters_of
from atmonr.train import loop
from atmonr.train.loop import FiniteGuard, StepReport, add_up_, fit, learning_rate_factor
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
        self.parts = {"": Part(self.module, self.optimizers)}
        self.tied = parameters_of(self.parts)
        self.seen: list[tuple[str, int, float]] = []

    def begin(self) -> None:
        pass

    def losses(self, step: int) -> Iterator[tuple[str, Tensor]]:
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
    task.losses = lambda step: iter([("a", (task.module["a"].sum() * task.module["b"].sum()))])  # type: ignore[method-assign]
    run(task, 3)
    assert torch.equal(task.module["b"], torch.ones(2))
    assert not torch.equal(task.module["a"], torch.ones(3))


def test_parts_of_a_loss_make_one_step() -> None:
    whole, parts = LineTask(), LineTask()
    for task in (whole, parts):
        task.optimizers.pop("b")
    whole.losses = lambda step: iter([("a", 3 * whole.module["a"].square().sum())])  # type: ignore[method-assign]
    parts.losses = lambda step: (  # type: ignore[method-assign]
        (name, factor * parts.module["a"].square().sum()) for name, factor in (("", 1), ("", 1), ("a", 1))
    )
    told = [[report.losses["a"].item() for report in run(task, 3)] for task in (whole, parts)]
    assert told[0] == pytest.approx(told[1], rel=1e-6)
    torch.testing.assert_close(whole.module["a"], parts.module["a"])
    assert not torch.equal(parts.module["a"], torch.ones(3))


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_non_finite_loss_ends_training_before_it_moves_a_parameter(fused: bool, bad: float) -> None:
    task = LineTask(fused=fused)
    good: dict[str, Tensor] = {}

    def losses(step: int) -> Iterator[tuple[str, Tensor]]:
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
    task.losses = lambda step: iter([("a", task.module["a"].sqrt().sum())])  # type: ignore[method-assign]
    with pytest.raises(DivergedError, match="step 1: loss 0, gradient not finite"):
        run(task, 3)


def test_updates_stop_on_the_device_and_stay_stopped_until_the_host_looks() -> None:
    """On a GPU the host looks only now and then; finite steps after a bad one must not hide it."""
    task = LineTask()
    guard = FiniteGuard(WORLD.device)
    parameter, optimizer = task.module["a"], task.optimizers["a"]
    states = []
    for step, factor in enumerate([1.0, float("nan"), 1.0, float("inf")], start=1):
        loop._update(task, "a", parameter.square().sum() * factor, step, WORLD, guard)
        loop._clear_gradients(task)
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


def grown(*gradients: Tensor) -> list[nn.Parameter]:
    """Parameters with given gradients."""
    parameters = [nn.Parameter(torch.zeros_like(gradient)) for gradient in gradients]
    for parameter, gradient in zip(parameters, gradients, strict=True):
        parameter.grad = gradient.clone()
    return parameters


def test_gradients_are_summed_in_few_messages_of_bounded_length(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "BUCKET_ELEMENTS", 10)
    shapes = [(2, 3), (3, 1), (25,), (2, 4)]
    parameters = grown(*(torch.rand(shape) for shape in shapes))
    parameters[-1].grad = torch.rand(4, 2).T  # not contiguous, as some operations leave it
    expected = [parameter.grad * 4 for parameter in parameters]
    world, loss = Twins(3.0), torch.tensor(2.0)
    sums = add_up_([[parameter] for parameter in parameters], [loss], world)  # type: ignore[arg-type]
    assert world.lengths == [10, 25, 8]
    assert all(torch.allclose(a, b) for a, b in zip(sums, expected, strict=True))
    assert all(torch.equal(a, p.grad) for a, p in zip(sums, parameters, strict=True))
    assert loss == 8.0


def test_copies_of_a_parameter_get_the_sum_of_their_gradients() -> None:
    first, second, alone = grown(torch.tensor([1.0, 2.0]), torch.tensor([10.0, 20.0]), torch.tensor([5.0]))
    idle = nn.Parameter(torch.zeros(2))  # no ray of the batch concerned it
    add_up_([[first, second, idle], [alone]], [], WORLD)
    for copy in (first, second, idle):
        assert copy.grad.tolist() == [11.0, 22.0]
    assert alone.grad.tolist() == [5.0]


def test_a_sum_does_not_show_how_its_terms_were_spread_over_ranks() -> None:
    """In fp32 the order would decide: here 1e8 + 1 - 1e8 would be 0 or 1."""
    copies = grown(torch.tensor([1e8]), torch.tensor([1.0]), torch.tensor([-1e8]))
    for order in ([0, 1, 2], [0, 2, 1], [1, 0, 2]):
        again = grown(*(copies[index].grad for index in order))
        add_up_([again], [], WORLD)
        assert again[0].grad.item() == 1.0


def test_the_reported_loss_is_the_sum_of_the_ranks_parts() -> None:
    task = LineTask()
    parameter = task.module["a"]
    loss = loop._update(task, "a", parameter.square().sum(), 1, Twins(3.0), FiniteGuard(WORLD.device))  # type: ignore[arg-type]
    assert math.isclose(loss.item(), 12.0)
    assert torch.allclose(parameter.grad, torch.full((3,), 8.0))


def test_a_gradient_that_is_not_tied_stays_on_its_rank_but_ends_all_if_not_finite() -> None:
    task, guard = LineTask(), FiniteGuard(WORLD.device)
    task.tied = []
    loop._update(task, "a", task.module["a"].square().sum(), 1, Twins(3.0), guard)  # type: ignore[arg-type]
    assert torch.allclose(task.module["a"].grad, torch.full((3,), 2.0))
    guard.require_finite()
    task.module["a"].data.zero_()
    loop._update(task, "a", task.module["a"].sqrt().sum(), 2, Twins(3.0), guard)  # type: ignore[arg-type]
    with pytest.raises(DivergedError, match="gradient not finite"):
        guard.require_finite()


def test_a_rank_without_anything_to_learn_from_takes_part_all_the_same() -> None:
    task = LineTask()
    loop._update(task, "a", torch.zeros(()), 1, Twins(3.0), FiniteGuard(WORLD.device))  # type: ignore[arg-type]
    assert task.module["a"].grad.tolist() == [0.0, 0.0, 0.0]


def test_an_update_reads_nothing_back_from_the_device() -> None:
    """Fake tensors have no values: reading one raises."""
    with FakeTensorMode():
        task, guard = LineTask(), FiniteGuard(WORLD.device)
        for step in (1, 2):
            loop._update(task, "a", task.module["a"].square().sum(), step, WORLD, guard)
        with pytest.raises(DataDependentOutputException):
            guard.require_finite()
