"""The local frame: a faithful, singularity-free map with vertical columns."""

from __future__ import annotations

import json

import numpy as np
import pyproj
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from atmonr.geo.frame import Frame

GEOD = pyproj.Geod(ellps="WGS84")
PROJ = pyproj.Transformer.from_crs("EPSG:4979", "EPSG:4978", always_xy=True)
CENTRES = [
    (0.0, 0.0),
    (45.0, 90.0),
    (60.0, -90.0),
    (18.0, 180.0),
    (-5.0, -179.99),
    (85.0, 33.0),
    (90.0, 0.0),
    (-90.0, 77.0),
]


def frame_at(lat: float, lon: float) -> Frame:
    return Frame(lat, lon, (-1.5e6, -1.5e6, -1e3), (1.5e6, 1.5e6, 2e4))


def random_points(extent_m: float, count: int) -> np.ndarray:
    rng = np.random.default_rng(2)
    radius, angle = extent_m * np.sqrt(rng.uniform(0, 1, count)), rng.uniform(0, 2 * np.pi, count)
    return np.stack([radius * np.cos(angle), radius * np.sin(angle), rng.uniform(-1e3, 1e5, count)], axis=-1)


@given(
    st.floats(-90, 90),
    st.floats(-180, 180),
    st.floats(-1.5e6, 1.5e6),
    st.floats(-1.5e6, 1.5e6),
    st.floats(-1e3, 1e5),
)
def test_there_and_back_is_within_a_millimetre_everywhere_on_earth(lat, lon, x, y, height):
    frame, point = frame_at(lat, lon), np.array([x, y, height])
    np.testing.assert_allclose(frame.from_ecef(frame.to_ecef(point)), point, rtol=0, atol=1e-3)
    got_lat, got_lon, got_height = frame.to_geodetic(point)
    assert -90.0 <= got_lat <= 90.0
    assert -180.0 <= got_lon < 180.0
    np.testing.assert_allclose(frame.from_geodetic(got_lat, got_lon, got_height), point, rtol=0, atol=1e-3)


@pytest.mark.parametrize("centre", CENTRES)
def test_heights_and_places_agree_with_proj(centre):
    frame, points = frame_at(*centre), random_points(1.4e6, 2000)
    lat, lon, height = frame.to_geodetic(points)
    np.testing.assert_array_equal(height, points[:, 2])
    expected = np.stack(PROJ.transform(lon, lat, height), axis=-1)
    np.testing.assert_allclose(frame.to_ecef(points), expected, rtol=0, atol=1e-3)


@pytest.mark.parametrize("centre", CENTRES)
def test_spacing_is_true_to_a_tenth_of_a_percent_within_400_km(centre):
    frame, points = frame_at(*centre), random_points(399e3, 2000)
    lat, lon, _ = frame.to_geodetic(points)
    for azimuth in np.radians([0, 30, 60, 90, 120, 150]):
        moved = points + 1000.0 * np.array([np.cos(azimuth), np.sin(azimuth), 0.0])
        moved_lat, moved_lon, _ = frame.to_geodetic(moved)
        distance = GEOD.inv(lon, lat, moved_lon, moved_lat)[2]
        assert np.abs(distance / 1000.0 - 1.0).max() < 1e-3


@pytest.mark.parametrize("centre", CENTRES)
def test_distance_from_the_centre_is_arc_length(centre):
    frame, points = frame_at(*centre), random_points(1.2e6, 1000)
    lat, lon, _ = frame.to_geodetic(points)
    one = np.ones(len(points))
    distance = GEOD.inv(centre[1] * one, centre[0] * one, lon, lat)[2]
    np.testing.assert_allclose(np.hypot(points[:, 0], points[:, 1]), distance, rtol=1e-5)


def test_axes_are_east_and_north_and_the_centre_is_the_origin():
    frame = frame_at(50.0, 10.0)
    np.testing.assert_allclose(frame.from_geodetic(50.0, 10.0, 123.0), [0.0, 0.0, 123.0], atol=1e-6)
    east, north = frame.from_geodetic(50.0, 10.01), frame.from_geodetic(50.01, 10.0)
    assert east[0] > 700.0 and abs(east[1]) < 1.0
    assert north[1] > 1100.0 and abs(north[0]) < 1e-3


@settings(max_examples=30)
@given(st.floats(-90, 90), st.floats(-180, 180), st.floats(-1e6, 1e6), st.floats(-1e6, 1e6))
def test_a_vertical_column_keeps_its_place(lat, lon, x, y):
    frame = frame_at(lat, lon)
    place = frame.to_geodetic(np.array([x, y, 0.0]))[:2]
    column = frame.from_geodetic(place[0], place[1], np.array([0.0, 5e3, 2e4, 1e5]))
    assert np.ptp(column[:, :2], axis=0).max() < 1e-3


def test_the_equator_does_not_fold_places_of_both_hemispheres_together():
    frame = frame_at(0.0, 20.0)
    north, south = frame.from_geodetic(5.0, 20.0), frame.from_geodetic(-5.0, 20.0)
    assert north[1] > 5e5 and south[1] < -5e5


def test_a_scene_across_the_dateline_or_a_pole_is_in_one_piece():
    across = frame_at(10.0, 180.0).from_geodetic(10.0, np.array([179.9, -179.9]))
    assert np.ptp(across[:, 0]) == pytest.approx(GEOD.inv(179.9, 10.0, -179.9, 10.0)[2], rel=1e-4)
    over_pole = frame_at(90.0, 0.0).from_geodetic(89.9, np.array([0.0, 180.0]))
    assert np.linalg.norm(over_pole[1] - over_pole[0]) == pytest.approx(2 * 11_169.4, rel=1e-4)


def test_the_far_side_of_the_earth_is_not_in_the_frame():
    assert np.isnan(frame_at(20.0, 30.0).from_geodetic(-20.0, -150.0)[:2]).all()
    assert np.isnan(frame_at(20.0, 30.0).to_ecef(np.array([1.2e7, 0.0, 0.0]))).all()


def test_unit_box_is_the_same_in_numpy_and_torch_and_keeps_the_precision():
    frame = Frame(0.0, 0.0, (-1e5, -2e5, 0.0), (3e5, 2e5, 2e4))
    points = np.array([[-1e5, -2e5, 0.0], [3e5, 2e5, 2e4], [1e5, 0.0, 5e3]])
    expected = [[0, 0, 0], [1, 1, 1], [0.5, 0.5, 0.25]]
    np.testing.assert_allclose(frame.unit(points), expected, atol=1e-12)
    single = frame.unit(torch.tensor(points, dtype=torch.float32))
    assert single.dtype == torch.float32
    np.testing.assert_allclose(single.numpy(), expected, atol=1e-6)
    scale, offset = frame.affine()
    np.testing.assert_allclose(points * scale + offset, expected, atol=1e-12)


def test_a_frame_survives_json_exactly():
    frame = Frame(12.345678901234567, -179.1, (-1.1, -2.2, -3.3), (4.4, 5.5, 6.6))
    assert Frame.from_json(json.loads(json.dumps(frame.to_json()))) == frame


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"latitude_deg": 0, "longitude_deg": 0, "lower_m": [0, 0], "upper_m": [1, 1, 1]},
        {"latitude_deg": 91, "longitude_deg": 0, "lower_m": [0, 0, 0], "upper_m": [1, 1, 1]},
        {"latitude_deg": 0, "longitude_deg": 0, "lower_m": [0, 0, 2], "upper_m": [1, 1, 1]},
        {"latitude_deg": 0, "longitude_deg": float("nan"), "lower_m": [0, 0, 0], "upper_m": [1, 1, 1]},
    ],
)
def test_what_is_no_frame_is_refused(values):
    with pytest.raises(ValueError, match="frame"):
        Frame.from_json(values)
