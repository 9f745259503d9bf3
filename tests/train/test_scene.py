from __future__ import annotations

from typing import Any

import pytest
import torch

from atmonr.errors import WorldError
from atmonr.tasks.base import Part
from atmonr.train.scene import refuse_unequal_replicas


class Gathering:
    """A world of two ranks in which the other one answers `other`, or what this one does."""

    rank, size = 0, 2

    def __init__(self, other: Any = None) -> None:
        self.other, self.own = other, None

    def gather_all(self, value: Any) -> list[Any]:
        if isinstance(value, set):  # of the ranks that differ
            return [value, set()]
        self.own = value
        return [value, value if self.other is None else self.other]


class Held:
    """As much of a task as the comparison of replicas needs."""

    def __init__(self, module: torch.nn.Module, copies: int = 1) -> None:
        self.parts = {"": Part(module, {})}
        self.tied = [[parameter] * copies for parameter in module.parameters()]


def module(seed: int) -> torch.nn.Module:
    torch.manual_seed(seed)
    made = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4))
    return made.to(torch.bfloat16)


def refuse(module: torch.nn.Module, world: Gathering) -> None:
    refuse_unequal_replicas(Held(module), world)  # type: ignore[arg-type]


def test_replicas_that_start_apart_are_refused() -> None:
    worlds = [Gathering(), Gathering()]
    for world, seed in zip(worlds, (0, 1), strict=True):
        refuse(module(seed), world)
    assert worlds[0].own != worlds[1].own
    with pytest.raises(WorldError, match=r"ranks \[1\] of a group start with other parameters"):
        refuse(module(0), Gathering(other=worlds[1].own))


def test_a_single_bit_makes_replicas_unequal() -> None:
    worlds = [Gathering(), Gathering()]
    changed = module(0)
    changed[1].running_mean[3] = 2.0**-100
    for world, each in zip(worlds, (module(0), changed), strict=True):
        refuse(each, world)
    assert worlds[0].own != worlds[1].own


def test_copies_on_one_rank_that_differ_are_refused() -> None:
    held = Held(module(0), copies=2)
    refuse_unequal_replicas(held, Gathering())  # type: ignore[arg-type]
    held.tied[0][1] = torch.nn.Parameter(held.tied[0][0] + 1)
    with pytest.raises(WorldError, match=r"ranks \[0\] of a group start with other parameters"):
        refuse_unequal_replicas(held, Gathering())  # type: ignore[arg-type]
