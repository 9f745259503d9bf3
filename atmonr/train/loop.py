"""The training loop, the same for every task and any number of ranks."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.utils import get_total_norm

from atmonr.errors import DivergedError
from atmonr.tasks.base import Share, Task
from atmonr.world import World

WARMUP_STEPS = 100
FLOOR = 0.02

# 64 MiB of fp32: large enough for full bandwidth, small beside the model.
BUCKET_ELEMENTS = 2**24


@dataclass(frozen=True)
class StepReport:
    """What a finished step tells; its tensors stay on the device until somebody reads them.

    Attributes:
        step: Number of steps done, this one included.
        losses: Mean loss over the ranks, fp32 scalar, by optimizer name.
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
) -> None:
    """Train `task` from `start_step` to `steps`.

    The host never waits for a GPU here. There, a non-finite loss or gradient stops all further updates on the
    device, so that the state stays finite until `at_boundary` asks the guard.

    Args:
        task: What to train. All ranks hold equal copies, and the same parameters take part in a step on each.
        steps: Number of steps in the whole training; shapes the learning rate.
        start_step: Number of steps done before.
        world: The ranks that share every batch.
        at_boundary: Called after every step; may raise to end the training.

    Raises:
        DivergedError: On a CPU, as soon as a loss or gradient is not finite.
    """
    share = Share(world.rank, world.size)
    guard = FiniteGuard(world.device)
    for step in range(start_step, steps):
        learning_rate = _set_learning_rates(task, learning_rate_factor(step, steps))
        losses = {}
        for name, loss in task.losses(step, share):
            losses[name] = _update(task.optimizers[name], loss, step + 1, world, guard)
        if world.device.type == "cpu":
            guard.require_finite()
        task.after_step(step)
        at_boundary(StepReport(step + 1, losses, learning_rate, guard))


def learning_rate_factor(step: int, steps: int) -> float:
    """Return what the optimizers' own learning rates are multiplied by.

    Linear warm-up, because Adam's first steps rest on moments of one or two gradients, then half a cosine
    (Loshchilov and Hutter 2017, arXiv 1608.03983) down to a floor.

    Args:
        step: Number of steps done, from 0.
        steps: Number of steps in the whole training.
    """
    warmup = min(WARMUP_STEPS, steps // 10)
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

    def watch(self, step: int, loss: Tensor, gradients: Sequence[Tensor]) -> None:
        """Look at one loss (scalar) and its gradients; a single NaN or infinity shows in their norm.

        Args:
            step: Number of steps done once this one is, as checkpoints and metrics count.
            loss: fp32 scalar.
            gradients: Of every parameter that takes part.
        """
        finite = torch.isfinite(loss) & torch.isfinite(get_total_norm(gradients))
        first = ~finite & (self.tripped == 0)
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


def _update(
    optimizer: torch.optim.Optimizer, loss: Tensor, step: int, world: World, guard: FiniteGuard
) -> Tensor:
    """Take one optimizer step; return the mean loss over the ranks."""
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    mean_loss = loss.detach().clone()
    gradients = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
    # The loss travels with the gradients so that all ranks judge, and report, the same number.
    average_([*gradients, mean_loss], world)
    guard.watch(step, mean_loss, gradients)
    if optimizer.defaults.get("fused"):
        # Fused optimizers leave everything as it is where this device scalar is 1.
        optimizer.found_inf = guard.tripped  # type: ignore[attr-defined]
        optimizer.step()
    elif not guard.tripped.item():
        optimizer.step()
    return mean_loss


def average_(tensors: Sequence[Tensor], world: World) -> None:
    """Replace tensors, in place, by their mean over the ranks; shapes and order agree on all ranks."""
    if world.size == 1:
        return
    for bucket in _buckets(tensors):
        flat = torch.cat([tensor.reshape(-1) for tensor in bucket])
        world.all_reduce_sum_(flat).div_(world.size)
        parts = flat.split([tensor.numel() for tensor in bucket])
        for tensor, part in zip(bucket, parts, strict=True):
            tensor.copy_(part.view_as(tensor))


def _buckets(tensors: Sequence[Tensor]) -> Iterator[list[Tensor]]:
    bucket: list[Tensor] = []
    for tensor in tensors:
        if bucket and sum(t.numel() for t in bucket) + tensor.numel() > BUCKET_ELEMENTS:
            yield bucket
            bucket = []
        bucket.append(tensor)
    yield bucket


def _set_learning_rates(task: Task, factor: float) -> float:
    """Scale every group's own rate, which is kept beside it and goes into checkpoints; return the first."""
    for optimizer in task.optimizers.values():
        for group in optimizer.param_groups:
            group.setdefault("initial_lr", group["lr"])
            group["lr"] = group["initial_lr"] * factor
    first = next(iter(task.optimizers.values()))
    return float(first.param_groups[0]["lr"])
