"""What a task is: the only thing the training loop knows about what it trains."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from atmonr.config import Config


class Peers(Protocol):
    """The ranks that work on one task together, as far as a task may know them; `World` is one.

    Every method is called by all of them, in the same order.
    """

    @property
    def rank(self) -> int:
        """Position of this rank, from 0."""
        ...

    @property
    def size(self) -> int:
        """Number of ranks."""
        ...

    def all_reduce_sum_(self, tensor: Tensor) -> Tensor:
        """Replace `tensor`, in place and on every rank, by its sum over the ranks."""
        ...

    def exchange_(self, outgoing: Tensor, sent: Sequence[int], received: Sequence[int]) -> Tensor:
        """Send the first `sent[0]` rows to rank 0, the next to rank 1, and so on; return what comes."""
        ...

    def gather_all(self, value: Any) -> list[Any]:
        """Return every rank's `value`, in order of rank, on every rank."""
        ...


class Alone:
    """The peers of a task that nobody else works on."""

    rank, size = 0, 1

    def all_reduce_sum_(self, tensor: Tensor) -> Tensor:
        """The tensor itself."""
        return tensor

    def exchange_(self, outgoing: Tensor, sent: Sequence[int], received: Sequence[int]) -> Tensor:
        """What was sent."""
        return outgoing

    def gather_all(self, value: Any) -> list[Any]:
        """The one value."""
        return [value]


class Part(NamedTuple):
    """A piece of what is learned with its own file in a checkpoint: a scene, or one tile of it."""

    module: nn.Module
    optimizers: Mapping[str, torch.optim.Optimizer]  # one entry per name that `losses` yields
    scene: str | None = None  # which scene's, where a task learns several


class Task(Protocol):
    """Something to learn. It knows its peers, but no path and no tracker.

    Attributes:
        parts: What this rank holds, by name; "" names a part that every rank holds alike.
        tied: Parameters whose gradients are summed over ranks, each with all of its copies on this rank: the
            copies start equal and stay so. Those not mentioned belong to this rank alone.
    """

    parts: Mapping[str, Part]
    tied: Sequence[Sequence[nn.Parameter]]

    def begin(self) -> None:
        """What a training that starts anew needs from its peers before the first step; else not called."""
        ...

    def losses(self, step: int) -> Iterator[tuple[str, Tensor]]:
        """Yields (optimizer name, scalar fp32 loss) in the order in which the optimizers step.

        The loop runs backward, steps and clears gradients between two yields, so that a second loss sees the
        first update. After a loss without a name it runs backward only: that is a part of the next one, and
        what the part needed of memory is free again. Everything random is a pure function of (seed, step),
        drawn for the whole batch whatever the number of ranks and parts: a resumed run repeats it exactly.
        Each loss is this rank's part of the global one: parts, and gradients of tied parameters, add up over
        the ranks.
        """
        ...

    def after_step(self, step: int) -> None:
        """Updates that follow the optimizers and are functions of the module's state and `step` alone."""
        ...

    def evaluate(self, step: int) -> dict[str, float]:
        """Scores on the held-out split, by metric name; called on every rank, the first one's count."""
        ...

    def finish(self, pictures: Sequence[Path]) -> list[dict[str, Any]]:
        """Draws the closing pictures and returns the held-out scores as JSON data, one per scene.

        Called on every rank; the first one's scores count.

        Args:
            pictures: Existing folder of each scene.
        """
        ...


def parameters_of(parts: Mapping[str, Part]) -> list[list[nn.Parameter]]:
    """Every parameter, as `Task.tied` of a task that all ranks hold alike."""
    return [[parameter] for part in parts.values() for parameter in part.module.parameters()]


@dataclass(frozen=True)
class Recipe:
    """How a kind of task is made from data on disk; the command line hands one to the training session.

    Attributes:
        describe: Scene path -> JSON data that identifies it (`name`, `scene_id`) and lets its products be
            extracted without it; `rays`, if it is there, is their number for training. Cheap, reads no rays.
        build: (config, scene path, device, peers) -> Task with its data resident on the device; does not wait
            for the peers.
        together: Likewise for several scenes that share what can be shared; None where nothing can.
    """

    describe: Callable[[Path], dict[str, Any]]
    build: Callable[[Config, Path, torch.device, Peers], Task]
    together: Callable[[Config, Sequence[Path], torch.device, Peers], Task] | None = None
