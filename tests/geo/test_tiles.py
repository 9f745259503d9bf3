"""Tiles cover a scene without gap or overlap, and a ray's runs say where it is."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from atmonr.geo.frame import Frame
from atmonr.geo.paths import path_points, paths_of
from atmonr.geo.tiles import Tiling

BOX = ((-60e3, -90e3, 0.0), (50e3, 80e3, 20e3))
FOOTPRINT = (-30e3, -50e3, 30e3, 50e3)


def tiling(tiles: int, centre: tuple[float, float] = (10.0, 20.0), rim_m: float = 0.0) -> Tiling:
    return Tiling.of(Frame(*centre, *BOX), FOOTPRINT, tiles, rim_m)


@settings(deadline=None)
@given(tiles=st.integers(1, 60))
def test_there_are_as_many_tiles_as_asked_for_and_together_they_are_the_box(tiles: int) -> None:
    cut = tiling(tiles)
    assert len(cut) == tiles
    boxes = [cut.box(tile) for tile in range(tiles)]
    volumes = [np.prod(np.subtract(box.upper_m, box.lower_m)) for box in boxes]
    assert sum(volumes) == pytest.approx(np.prod(np.subtract(BOX[1], BOX[0])))
    middles = np.array([np.add(box.upper_m, box.lower_m) / 2 for box in boxes])
    assert cut.tile_at(middles[:, 0], middles[:, 1]).tolist() == list(range(tiles))


def test_tiles_are_as_square_as_their_number_allows() -> None:
    assert [len(cuts) + 1 for cuts in (tiling(6).x_cuts_m, tiling(6).y_cuts_m)] == [2, 3]
    assert [len(cuts) + 1 for cuts in (tiling(2).x_cuts_m, tiling(2).y_cuts_m)] == [1, 2]
    assert tiling(4).x_cuts_m == (0.0,) and tiling(4).y_cuts_m == (0.0,)


@pytest.mark.parametrize("tiles", [1, 4, 15])
def test_numpy_and_torch_find_the_same_tile(tiles: int) -> None:
    x, y = np.random.default_rng(0).uniform(-60e3, 60e3, (2, 500)).astype(np.float32)
    x[0] = y[0] = 0.0  # on a border
    found = tiling(tiles).tile_at(torch.from_numpy(x), torch.from_numpy(y))
    assert found.tolist() == tiling(tiles).tile_at(x, y).tolist()


@pytest.mark.parametrize("rim_m", [0.0, 3e3, 25e3])
@pytest.mark.parametrize("tiles", [1, 2, 4, 15])
def test_shares_add_up_and_are_those_of_rays_whose_borders_are_moved(tiles: int, rim_m: float) -> None:
    """Also where a rim is wider than a tile."""
    cut = tiling(tiles, rim_m=rim_m)
    x, y = np.random.default_rng(2).uniform(-55e3, 50e3, (2, 60))
    shares = np.stack([cut.share(tile, x, y) for tile in range(tiles)])
    np.testing.assert_allclose(shares.sum(0), 1.0, atol=1e-12)
    assert shares.min() > -1e-12
    in_torch = torch.stack([cut.share(t, torch.from_numpy(x), torch.from_numpy(y)) for t in range(tiles)])
    np.testing.assert_allclose(in_torch.numpy(), shares, atol=1e-12)
    moved = cut.shifts(np.arange(20_000))
    found = cut.tile_at(x - moved[:, :1], y - moved[:, 1:])
    for tile in range(tiles):
        np.testing.assert_allclose((found == tile).mean(0), shares[tile], atol=2e-3)


def test_shares_change_evenly_over_the_rim() -> None:
    cut = tiling(2, rim_m=2e3)
    y = np.array([-9e3, -2e3, -1e3, 0.0, 1e3, 2e3, 9e3])
    np.testing.assert_allclose(cut.share(1, 0.0 * y, y), [0, 0, 0.25, 0.5, 0.75, 1, 1])


def slanted_paths(centre: tuple[float, float]) -> np.ndarray:
    """Rays that cross up to 60 km from all sides."""
    frame = Frame(*centre, *BOX)
    rng = np.random.default_rng(1)
    x, y = rng.uniform(-30e3, 30e3, 300), rng.uniform(-50e3, 50e3, 300)
    latitude, longitude, _ = frame.to_geodetic(np.stack([x, y, np.zeros(300)], -1))
    zenith, azimuth = rng.uniform(0, 70, 300), rng.uniform(-180, 180, 300)
    seen = (values.astype(np.float32) for values in (latitude, longitude, 0.0 * x, zenith, azimuth))
    return paths_of(frame, 20e3, *seen).path


@pytest.mark.parametrize("centre", [(10.0, 20.0), (-30.0, 180.0), (89.9, 0.0), (0.0, -90.0)])
@pytest.mark.parametrize("tiles", [1, 2, 4, 30])
def test_every_point_of_a_ray_lies_in_the_tile_of_its_run(centre: tuple[float, float], tiles: int) -> None:
    """At the dateline, the pole and longitude 90 as anywhere else."""
    cut, paths = tiling(tiles, centre), slanted_paths(centre)
    ends, runs = cut.runs(paths)
    assert runs.shape == (300, ends.shape[1] + 1)
    s = np.linspace(0, 1, 997, dtype=np.float32)
    points = path_points(paths, s)
    run = (s[None, :, None] >= ends[:, None]).sum(-1)
    told = np.take_along_axis(runs, run, 1)
    found = cut.tile_at(points[..., 0], points[..., 1])
    # Within rounding of a border either is right.
    near = np.abs(s[None, :, None] - ends[:, None]).min(-1, initial=np.inf) < 1e-5
    assert (told == found)[~near].all()
    assert near.mean() < 1e-2
    if tiles == 30:
        assert (runs >= 0).sum(1).max() >= 4  # some pass three borders


def test_runs_by_moved_borders_are_those_of_a_tiling_with_such_borders() -> None:
    cut, paths = tiling(4), slanted_paths((10.0, 20.0))
    moved = Tiling(cut.frame, (cut.x_cuts_m[0] + 700.0,), (cut.y_cuts_m[0] - 300.0,))
    before = paths.copy()
    for found, expected in zip(cut.runs(paths, (700.0, -300.0)), moved.runs(paths), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert np.array_equal(paths, before)
    each = np.where(np.arange(300)[:, None] % 2, (700.0, -300.0), (0.0, 0.0))
    _, runs = cut.runs(paths, each)
    assert np.array_equal(runs[1::2], moved.runs(paths)[1][1::2])
    assert np.array_equal(runs[::2], cut.runs(paths)[1][::2])


def test_a_ray_that_leaves_a_tile_and_comes_back_has_a_run_for_each_visit() -> None:
    cut = Tiling(Frame(0.0, 0.0, *BOX), (0.0,), ())
    path = np.zeros((1, 3, 5))
    path[0, 0, :3] = 100.0, -1000.0, 1000.0  # x = 100 - 1000 s + 1000 s^2
    ends, runs = cut.runs(path)
    assert runs.tolist() == [[1, 0, 1]]
    assert ends[0] == pytest.approx(np.roots([1000, -1000, 100])[::-1], rel=1e-6)


def test_a_ray_along_a_border_belongs_to_one_side() -> None:
    cut = Tiling(Frame(0.0, 0.0, *BOX), (0.0,), (0.0,))
    path = np.zeros((1, 3, 5))
    path[0, 1, :2] = 500.0, 100.0
    assert cut.runs(path)[1].tolist() == [[3]]


def test_no_ray_has_no_run() -> None:
    ends, runs = tiling(4).runs(np.empty((0, 3, 5)))
    assert len(ends) == len(runs) == 0
