"""Tiles hold every ray that passes through them, and those only."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from atmonr.feed.rays import load_rays
from atmonr.feed.tiles import TileRays, load_tiles
from atmonr.geo.tiles import Tiling
from atmonr.store.scene import Scene
from tests.feed.scenes import make_scene

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    return make_scene(tmp_path_factory.mktemp("scene"))


def loaded(scene: Scene, tiles: int) -> tuple[int, dict[int, TileRays], Tiling]:
    tiling = Tiling.of(scene.frame, scene.footprint_m, tiles)
    return *load_tiles(scene, np.flatnonzero(~scene.holdout), tiling, range(tiles), CPU), tiling


@pytest.mark.parametrize("tiles", [2, 4, 9])
def test_every_ray_is_in_each_tile_that_it_passes_through(scene: Scene, tiles: int) -> None:
    whole = load_rays(scene, np.flatnonzero(~scene.holdout), CPU)
    total, parts, tiling = loaded(scene, tiles)
    assert total == len(whole)
    s = torch.linspace(0, 1, 301).expand(total, -1)
    points = whole.take(torch.arange(total)).points(s)
    passed = tiling.tile_at(points[..., 0], points[..., 1])
    for tile, part in parts.items():
        number = torch.from_numpy(part.number)
        for name in ("sight", "reflectance", "view"):
            assert torch.equal(getattr(part.table, name), getattr(whole, name)[..., number])
        through = ((passed == tile).sum(1) > 0).nonzero()[:, 0].tolist()
        grazed = set(part.number.tolist()) - set(through)
        assert set(through) <= set(part.number.tolist())
        assert len(grazed) < 0.03 * total  # between two of the points


def test_each_ray_is_owned_by_one_tile(scene: Scene) -> None:
    total, parts, _ = loaded(scene, 4)
    numbers = np.random.default_rng(0).permutation(total)[:500]
    owned = np.zeros(500, int)
    for part in parts.values():
        batch = part.batch(numbers)
        assert (part.number[np.searchsorted(part.number, numbers[batch.slots])] == numbers[batch.slots]).all()
        place = np.searchsorted(part.number, numbers[batch.slots])
        assert torch.equal(batch.rays.path, part.table.take(torch.from_numpy(place)).path)
        owned[batch.slots[batch.owned]] += 1
    assert (owned == 1).all()


def test_tiles_agree_on_the_runs_of_a_ray(scene: Scene) -> None:
    total, parts, _ = loaded(scene, 9)
    seen: dict[int, list[int]] = {}
    for part in parts.values():
        batch = part.batch(np.arange(total))
        for slot, runs in zip(batch.slots.tolist(), batch.runs, strict=True):
            runs = runs[runs >= 0].tolist()
            assert part.tile in runs
            assert seen.setdefault(slot, runs) == runs
    assert max(map(len, seen.values())) >= 3


def test_a_tile_without_rays_is_no_error(scene: Scene) -> None:
    """Far out in the box, where no ray goes."""
    tiling = Tiling(scene.frame, (scene.frame.lower_m[0] + 1.0,), ())
    total, parts = load_tiles(scene, np.flatnonzero(~scene.holdout), tiling, [0, 1], CPU)
    assert len(parts[0].number) == 0
    assert len(parts[1].number) == total
    batch = parts[0].batch(np.arange(10))
    assert len(batch.slots) == len(batch.rays) == 0
