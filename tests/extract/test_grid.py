from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyproj import Geod

from atmonr.errors import UsageError
from atmonr.extract.grids.voxel import VoxelGrid
from atmonr.geo.frame import Frame


def test_spacing_is_exactly_what_was_asked(make_grid):
    # Stretching the cells between rounded ends gives 3009 m here.
    grid = make_grid(half_m=500_000.0, step_m=3_000.0)
    assert grid.shape[1:] == (334, 334)
    for coordinate, step in ((grid.x_m, 3_000.0), (grid.y_m, 3_000.0), (grid.altitude_m, 1_500.0)):
        assert np.all(np.diff(coordinate) == step)


@pytest.mark.parametrize("latitude, longitude", [(0, 0), (60, 10), (-35, 180), (89.9, 90), (-90, -90)])
def test_neighbouring_columns_are_a_step_apart_on_the_earth(make_grid, latitude, longitude):
    grid = make_grid(latitude, longitude, half_m=100_000.0, step_m=1_000.0)
    lat, lon = grid.latitude_longitude()
    geod = Geod(ellps="WGS84")
    _, _, east = geod.inv(lon[:, :-1], lat[:, :-1], lon[:, 1:], lat[:, 1:])
    _, _, north = geod.inv(lon[:-1], lat[:-1], lon[1:], lat[1:])
    np.testing.assert_allclose(east, 1_000.0, rtol=1e-3)
    np.testing.assert_allclose(north, 1_000.0, rtol=1e-3)


@given(
    west=st.floats(-1e6, 1e6), width=st.floats(1.0, 1e6), step=st.floats(50.0, 1e4), top=st.floats(1.0, 3e4)
)
@settings(max_examples=50, deadline=None)
def test_cells_cover_the_footprint_centred_and_none_is_to_spare(west, width, step, top):
    frame = Frame(0.0, 0.0, (-1.0, -1.0, 0.0), (1.0, 1.0, 1.0))
    footprint = (west, -50.0, west + width, 50.0)
    grid = VoxelGrid.covering(frame, footprint, top, horizontal_step_m=step, vertical_step_m=step)
    low, high = grid.x_m[0] - step / 2, grid.x_m[-1] + step / 2
    assert low <= west + 1e-6 * step and high >= west + width - 1e-6 * step
    assert (low + high) / 2 == pytest.approx(west + width / 2, abs=1e-6)
    assert grid.x_m.size == 1 or (grid.x_m.size - 1) * step < width
    assert grid.altitude_m[0] == step / 2
    assert grid.altitude_m[-1] + step / 2 >= top - 1e-6 * step


def test_an_extent_of_whole_steps_gets_no_sliver(make_grid):
    # 0.3 / 0.1 is a little more than 3 in floating point.
    assert make_grid(half_m=0.15, step_m=0.1).shape[2] == 3


def test_points_are_the_coordinates(make_grid):
    grid = make_grid()
    part = slice(3, 9), slice(10, 13), slice(0, 40, 7)
    points = grid.points(part)
    coords = {coordinate.name: coordinate.values for coordinate in grid.coordinates()}
    assert points.dtype == np.float64
    for axis, name in ((0, "x"), (1, "y"), (2, "z")):
        expected = coords[name][part[grid.dims.index(name)]]
        along = [1, 1, 1]
        along[grid.dims.index(name)] = -1
        assert np.array_equal(points[..., axis], np.broadcast_to(expected.reshape(along), points.shape[:3]))


def test_indices_beyond_sixteen_bits_stay_in_place(make_grid):
    frame = make_grid().frame
    grid = VoxelGrid(frame, (2.5, -10.0, -399_995.0), (5.0, 10.0, 10.0), (1, 3, 80_000))
    far = grid.points((slice(0, 1), slice(1, 2), slice(79_999, 80_000)))[0, 0, 0]
    np.testing.assert_allclose(far, [399_995.0, 0.0, 2.5])


def test_cells_around_the_centre_do_not_collide(make_grid):
    # Rounding coordinates toward zero merges the cells on both sides of it.
    x = make_grid(half_m=500.0, step_m=200.0).x_m
    assert x.tolist() == [-400.0, -200.0, 0.0, 200.0, 400.0]


def test_a_box_keeps_cells_of_the_whole_grid(make_grid):
    whole, part = make_grid(), make_grid(bbox_deg=(-61.52, 17.97, -61.48, 18.01))
    assert np.isin(np.round(part.x_m, 6), np.round(whole.x_m, 6)).all()
    assert np.isin(np.round(part.y_m, 6), np.round(whole.y_m, 6)).all()
    lat, lon = part.latitude_longitude()
    assert abs(lat.min() - 17.97) < 0.002 and abs(lat.max() - 18.01) < 0.002
    assert abs(lon.min() + 61.52) < 0.002 and abs(lon.max() + 61.48) < 0.002


def test_a_box_may_cross_the_dateline(make_grid):
    part = make_grid(10.0, 180.0, half_m=50_000.0, step_m=1_000.0, bbox_deg=(179.9, 9.9, -179.8, 10.1))
    assert part.x_m[0] == pytest.approx(-10_965, abs=1_000)
    assert part.x_m[-1] == pytest.approx(21_930, abs=1_000)


@pytest.mark.parametrize("box", [(-180, 89, 180, 90), (0, 89, 360, 90)])
def test_a_box_may_hold_the_pole(make_grid, box):
    part = make_grid(90.0, 0.0, half_m=200_000.0, step_m=5_000.0, bbox_deg=box)
    for coordinate in (part.x_m, part.y_m):
        assert coordinate[0] == pytest.approx(-111_700, abs=5_000)
        assert coordinate[-1] == pytest.approx(111_700, abs=5_000)


@pytest.mark.parametrize(
    "box", [(10, 40, 11, 41), (0, 5, 1, 4), (0, -100, 1, 0), (0, float("nan"), 1, 2), (5, 0, 5, 1)]
)
def test_a_box_that_is_elsewhere_or_impossible_is_refused(make_grid, box):
    with pytest.raises(UsageError, match="--bbox"):
        make_grid(bbox_deg=box)


@pytest.mark.parametrize("step", [0.0, -100.0, float("nan"), float("inf"), 1e-9])
def test_an_impossible_step_is_refused(make_grid, step):
    with pytest.raises(UsageError, match="step"):
        make_grid(step_m=step)


def test_a_grid_of_too_many_cells_is_refused_before_anything_is_allocated(make_grid):
    with pytest.raises(UsageError, match="larger step"):
        make_grid(half_m=700_000.0, step_m=100.0, top_m=20_000.0)


def test_a_grid_survives_json(make_grid):
    grid = make_grid(latitude=-77.3, step_m=333.3)
    again = VoxelGrid.from_json(grid.to_json())
    assert again == grid and again.digest == grid.digest
    assert again.digest != make_grid(latitude=-77.3, step_m=333.4).digest
