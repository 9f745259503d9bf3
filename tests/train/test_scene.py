from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from job import Job
from toy import RECIPE, write_scene

from atmonr.errors import WorldError
from atmonr.train.scene import SceneTraining, refuse_unequal_replicas
from atmonr.train.stop import StopRequest
from atmonr.world import World


class Gathering:
    """Rank 0's view of two ranks; `other` is what the second one's checksum is."""

    size = 2
    rank = 0

    def __init__(self, other: int | None = None) -> None:
        self.other = other
        self.own: int | None = None

    def gather(self, value: int) -> list[int]:
        self.own = value
        return [value, value if self.other is None else self.other]

    def broadcast_object(self, value: Any) -> Any:
        return value


def module(seed: int) -> torch.nn.Module:
    torch.manual_seed(seed)
    made = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4))
    return made.to(torch.bfloat16)


def test_replicas_that_start_apart_are_refused() -> None:
    worlds = [Gathering(), Gathering()]
    for world, seed in zip(worlds, (0, 1), strict=True):
        refuse_unequal_replicas(module(seed), world)  # type: ignore[arg-type]
    assert worlds[0].own != worlds[1].own
    with pytest.raises(WorldError, match=r"ranks \[1\] of a group start with other parameters"):
        refuse_unequal_replicas(module(0), Gathering(other=worlds[1].own))  # type: ignore[arg-type]


def test_a_single_bit_makes_replicas_unequal() -> None:
    worlds = [Gathering(), Gathering()]
    changed = module(0)
    changed[1].running_mean[3] = 2.0**-100
    for world, each in zip(worlds, (module(0), changed), strict=True):
        refuse_unequal_replicas(each, world)  # type: ignore[arg-type]
    assert worlds[0].own != worlds[1].own


@pytest.fixture
def training(tmp_path: Path) -> SceneTraining:
    job = Job(str(tmp_path / "run"), [str(write_scene(tmp_path, "a"))])
    job.here()
    uri = f"sqlite:///{tmp_path}/mirror.db"
    return SceneTraining(
        config=replace(job, track={"uri": uri}).config,
        run=job.folder,
        recipe=RECIPE,
        world=World.single("cpu"),
        stop=StopRequest(None),
        alone=True,
        quiet=True,
    )


def test_only_rank_0_of_a_group_talks_to_mlflow(training: SceneTraining) -> None:
    other = replace(training, world=replace(training.world, rank=1, size=2))
    with other._mirror("a") as mirror:
        assert mirror is None


def test_a_database_file_is_not_shared_by_groups_of_ranks(
    training: SceneTraining, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING), replace(training, alone=False)._mirror("a") as mirror:
        assert mirror is None
    assert "for one process" in caplog.text
