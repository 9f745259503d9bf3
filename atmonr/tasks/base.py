"""What a task is: the only thing the training loop knows about what it trains."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from atmonr.config import Config


@dataclass(frozen=True)
class Share:
    """The part of every global batch that one rank computes.

    The random numbers of a step are drawn for the whole global batch and then sliced, so that any number of
    ranks sees the same rays and the same sample positions.

    Attributes:
        index: Position of this rank in its group.
        count: Ranks in the group; the batch size is a multiple of it.
    """

    index: int = 0
    count: int = 1


class Task(Protocol):
    """Something to learn. It knows no rank, no path and no tracker.

    Attributes:
        module: Everything whose state a checkpoint keeps.
        optimizers: One entry per name that `losses` yields.
    """

    module: nn.Module
    optimizers: Mapping[str, torch.optim.Optimizer]

    def losses(self, step: int, share: Share) -> Iterator[tuple[str, Tensor]]:
        """Yields (optimizer name, scalar fp32 loss) in the order in which the optimizers step.

        The loop clears gradients, runs backward and steps between two yields, so that a second loss sees the
        first update. Everything random is a pure function of (seed, step): a resumed run repeats it exactly.
        Each loss is the mean over this rank's share; the loop averages gradients over ranks.
        """
        ...

    def after_step(self, step: int) -> None:
        """Updates that follow the optimizers and are functions of the module's state and `step` alone."""
        ...

    def evaluate(self, step: int) -> dict[str, float]:
        """Scores on the held-out split, by metric name."""
        ...

    def finish(self, pictures: Path) -> dict[str, Any]:
        """Draws the closing pictures into an existing folder; returns the held-out score as JSON data."""
        ...


@dataclass(frozen=True)
class Recipe:
    """How a kind of task is made from data on disk; the command line hands one to the training session.

    Attributes:
        describe: Scene path -> JSON data that identifies it (`name`, `scene_id`) and lets its products be
            extracted without it; cheap, reads no rays.
        build: (config, scene path, device) -> Task with its data resident on the device.
    """

    describe: Callable[[Path], dict[str, Any]]
    build: Callable[[Config, Path, torch.device], Task]
