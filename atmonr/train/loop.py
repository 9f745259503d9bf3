"""The training loop, the same for every task and any number of ranks."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.utils import get_total_norm

from atmonr.errors import DivergedError
from atmonr.tasks.base import Task
from atmonr.world import World

WARMUP_STEPS = 100
FLOOR = 0.02

# 64 MiB of fp32: large enough for full bandwidth, small beside the model.
BUCKET_ELEMENTS = 2**24
# Sums of so few numbers travel in fp64, which costs little: rounded to fp32 afterwards, they do not show in
# which order, and so over how many ranks, they were added up.
FINE_ELEMENTS = 2**20


@dataclass(frozen=True)
class StepReport:
    """What a finished step tells; its tensors stay on the device until somebody reads them.

    Attributes:
        step: Number of steps done, this one included.
        losses: Loss summed over the ranks' parts, fp32 scalar, by optimizer name.
        learning_rate: Of the first optimizer's first parameter group.
        guard: Knows whether every loss and gradient so far was finite.
    """

    step: int
    losses: dict[str, Tensor]
    learning_rate: float
    guard: FiniteGuard


def fit(
    task: Task,
    *,
    steps: int,
    start_step: int,
    world: World,
    at_boundary: Callable[[StepReport], None],
    warmup_steps: int = WARMUP_STEPS,
) -> None:
    """Train `task` from `start_step` to `steps`.

    The host never waits for a GPU here. There, a non-finite loss or gradient stops all further updates on the
    device, so that the state stays finite until `at_boundary` asks the guard.

    Args:
        task: What to train. Tied parameters are equal on all ranks, and the same take part in a step on each.
        steps: Number of steps in the whole training; shapes the learning rate.
        start_step: Number of steps done before.
        world: The ranks that share every batch.
        at_boundary: Called after every step; may raise to end the training.
        warmup_steps: Steps at most over which the learning rate rises.

    Raises:
        DivergedError: On a CPU, as soon as a loss or gradient is not finite.
    """
    guard = FiniteGuard(world.device)
    for step in range(start_step, steps):
        learning_rate = _set_learning_rates(task, learning_rate_factor(step, steps, warmup_steps))
        losses, earlier = {}, torch.zeros((), device=world.device)
        for name, loss in task.losses(step):
            if not name:  # a part of the next one
                earlier = earlier + _backward(loss)
                continue
            losses[name] = _update(task, name, loss, step + 1, world, guard, earlier)
            _clear_gradients(task)
            earlier = torch.zeros((), device=world.device)
        if world.device.type == "cpu":
            guard.require_finite()
        task.after_step(step)
        at_boundary(StepReport(step + 1, losses, learning_rate, guard))


def learning_rate_factor(step: int, steps: int, warmup_steps: int = WARMUP_STEPS) -> float:
    """Return what the optimizers' own learning rates are multiplied by.

    Linear warm-up, because Adam's first steps rest on moments of one or two gradients, then half a cosine
    (Loshchilov and Hutter 2017, arXiv 1608.03983) down to a floor.

    Args:
        step: Number of steps done, from 0.
        steps: Number of steps in the whole training.
        warmup_steps: Steps of warm-up at most.
    """
    warmup = min(warmup_steps, steps // 10)
    if step < warmup:
        return (step + 1) / (warmup + 1)
    progress = (step - warmup) / max(1, steps - warmup)
    return FLOOR + (1 - FLOOR) * 0.5 * (1 + math.cos(math.pi * progress))


class FiniteGuard:
    """Notices the first loss or gradient that is not finite without the host waiting for the device.

    Attributes:
        tripped: 1 from then on, else 0; fp32 scalar on the device, as fused optimizers expect it.
    """

    def __init__(self, device: torch.device) -> None:
        self.tripped = torch.zeros((), device=device)
        self._step = torch.zeros((), dtype=torch.int64, device=device)
        self._loss = torch.zeros((), device=device)

    def watch(self, step: int, loss: Tensor, finite: Tensor) -> None:
        """Look at one loss and whether its gradients are finite.

        Args:
            step: Number of steps done once this one is, as checkpoints and metrics count.
            loss: fp32 scalar.
            finite: Boolean scalar; of the gradients of every parameter that takes part, on any rank.
        """
        first = ~(torch.isfinite(loss) & finite) & (self.tripped == 0)
        self._step = torch.where(first, step, self._step)
        self._loss = torch.where(first, loss, self._loss)
        self.tripped.masked_fill_(first, 1.0)

    def require_finite(self) -> None:
        """Wait for the device and refuse to go on if it has met a non-finite value.

        Raises:
            DivergedError: Names the first step concerned and its loss.
        """
        if self.tripped.item():
            what = f"loss {self._loss.item():g}"
            if math.isfinite(self._loss.item()):
                what += ", gradient not finite"
            raise DivergedError(f"diverged at step {int(self._step)}: {what}")


def _clear_gradients(task: Task) -> None:
    """Of all parameters: a loss may reach some that only other ones move."""
    for part in task.parts.values():
        for optimizer in part.optimizers.values():
            optimizer.zero_grad(set_to_none=True)


def _backward(loss: Tensor) -> Tensor:
    if loss.requires_grad:  # not so where no ray of the batch concerns this rank
        loss.backward()
    return loss.detach().clone()


def _update(
    task: Task,
    name: str,
    loss: Tensor,
    step: int,
    world: World,
    guard: FiniteGuard,
    earlier: Tensor | None = None,
) -> Tensor:
    """Take one step of the optimizers of one name; return the loss summed over its parts and the ranks."""
    optimizers = [part.optimizers[name] for part in task.parts.values()]
    total = _backward(loss)
    if earlier is not None:
        total += earlier
    mine = {p for optimizer in optimizers for group in optimizer.param_groups for p in group["params"]}
    tied = [copies for copies in task.tied if copies[0] in mine]
    own = [p.grad for p in mine.difference(*tied) if p.grad is not None]
    # A single NaN or infinity shows in the norm. The loss travels with the gradients so that all ranks judge,
    # and report, the same numbers.
    broken = (~torch.isfinite(get_total_norm(own))).float() if own else torch.zeros_like(total)
    sums = add_up_(tied, [total, broken], world)
    guard.watch(step, total, torch.isfinite(get_total_norm(sums)) & (broken == 0))
    for optimizer in optimizers:
        if optimizer.defaults.get("fused"):
            # Fused optimizers leave everything as it is where this device scalar is 1.
            optimizer.found_inf = guard.tripped  # type: ignore[attr-defined]
            optimizer.step()
        elif not guard.tripped.item():
            optimizer.step()
    return total


def add_up_(tied: Sequence[Sequence[nn.Parameter]], scalars: Sequence[Tensor], world: World) -> list[Tensor]:
    """Sum gradients over the copies of each parameter and over the ranks, and scalars over the ranks.

    Args:
        tied: Copies of each parameter; number, order and shapes of parameters agree on all ranks. The sum
            becomes the gradient of every copy; one without gradient counts as zero.
        scalars: Replaced in place.
        world: The ranks.

    Returns:
        The summed gradients, one per parameter that has one.
    """
    if world.size == 1 and all(len(copies) == 1 for copies in tied):
        return [copies[0].grad for copies in tied if copies[0].grad is not None]
    for bucket in _buckets([[scalar] for scalar in scalars] + [list(copies) for copies in tied]):
        fine = sum(copies[0].numel() for copies in bucket) <= FINE_ELEMENTS
        kind = torch.float64 if fine else torch.float32
        flat = torch.cat([_local_sum(copies, kind) for copies in bucket])
        world.all_reduce_sum_(flat)
        for copies, part in zip(bucket, flat.split([c[0].numel() for c in bucket]), strict=True):
            for copy in copies:
                if not isinstance(copy, nn.Parameter):
                    copy.copy_(part.view_as(copy))
                else:
                    copy.grad = part.view_as(copy).to(copy.dtype, copy=True)
    return [copies[0].grad for copies in tied if copies[0].grad is not None]


def _local_sum(copies: Sequence[Tensor], kind: torch.dtype) -> Tensor:
    """(N,) sum over the copies on this rank of their gradients, or of the values of plain tensors."""
    total = torch.zeros(copies[0].numel(), dtype=kind, device=copies[0].device)
    for copy in copies:
        values = copy.grad if isinstance(copy, nn.Parameter) else copy
        if values is not None:
            total += values.reshape(-1)
    return total


def _buckets(tensors: Sequence[list[Tensor]]) -> Iterator[list[list[Tensor]]]:
    bucket: list[list[Tensor]] = []
    for copies in tensors:
        if bucket and sum(c[0].numel() for c in bucket) + copies[0].numel() > BUCKET_ELEMENTS:
            yield bucket
            bucket = []
        bucket.append(copies)
    yield bucket


def _set_learning_rates(task: Task, factor: float) -> float:
    """Scale every group's own rate, which is kept beside it and goes into checkpoints; return the first."""
    optimizers = [optimizer for part in task.parts.values() for optimizer in part.optimizers.values()]
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group.setdefault("initial_lr", group["lr"])
            group["lr"] = group["initial_lr"] * factor
    return float(optimizers[0].param_groups[0]["lr"])
