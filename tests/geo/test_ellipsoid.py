"""Geodesy against PROJ, with the places where formulas break included."""

from __future__ import annotations

import numpy as np
import pyproj
import pytest
from hypothesis import given
from hypothesis import strategies as st

from atmonr.geo.ellipsoid import direction_to_ecef, ecef_to_geodetic, enu_basis, geodetic_to_ecef

PROJ = pyproj.Transformer.from_crs("EPSG:4979", "EPSG:4978", always_xy=True)
LATITUDES = [-90.0, -89.9999999, -45.0, -1e-9, 0.0, 1e-9, 30.0, 60.0, 89.9999999, 90.0]
LONGITUDES = [-180.0, -179.9999999, -90.0, -61.5, 0.0, 1e-9, 90.0, 135.0, 180.0]
HEIGHTS = [-1000.0, 0.0, 1000.0, 20_000.0, 100_000.0]
MILLIMETRE = 1e-3


@pytest.fixture(scope="module")
def places() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Random places and all combinations of the awkward ones: latitude, longitude, height."""
    rng = np.random.default_rng(1)
    awkward = np.array(np.meshgrid(LATITUDES, LONGITUDES, HEIGHTS)).reshape(3, -1)
    random = np.stack(
        [rng.uniform(-90, 90, 20_000), rng.uniform(-180, 180, 20_000), rng.uniform(-1e3, 1e5, 20_000)]
    )
    lat, lon, height = np.concatenate([awkward, random], axis=1)
    return lat, lon, height


def test_cartesian_coordinates_agree_with_proj_to_a_millimetre(places):
    lat, lon, height = places
    expected = np.stack(PROJ.transform(lon, lat, height), axis=-1)
    assert np.abs(geodetic_to_ecef(lat, lon, height) - expected).max() < 1e-6


def test_geodetic_coordinates_agree_with_proj_to_a_millimetre_at_poles_and_meridians_too(places):
    lat, lon, height = places
    xyz = np.stack(PROJ.transform(lon, lat, height), axis=-1)
    got_lat, got_lon, got_height = ecef_to_geodetic(xyz)
    assert np.abs(got_height - height).max() < MILLIMETRE
    assert np.abs(got_lat - lat).max() * 111_700.0 < MILLIMETRE
    east_west = np.radians(got_lon - lon)
    metres = 2.0 * np.abs(np.sin(east_west / 2.0)) * 6.48e6 * np.cos(np.radians(lat))
    assert metres.max() < MILLIMETRE


def test_height_is_right_where_x_is_exactly_zero():
    # A height divided by cos(lat) cos(lon) has been seen to give -6,378,781 m here.
    for sign in (1.0, -1.0):
        lat, lon, height = ecef_to_geodetic([0.0, sign * 6_379_137.0, 0.0])
        assert (lat, lon) == (0.0, sign * 90.0)
        assert height == pytest.approx(1000.0, abs=1e-6)


def test_poles_have_a_height_and_longitude_zero():
    lat, lon, height = ecef_to_geodetic(
        [[0.0, 0.0, 6_356_752.314245179 + 5.0], [0.0, 0.0, -6_356_752.314245179]]
    )
    np.testing.assert_array_equal(lat, [90.0, -90.0])
    np.testing.assert_array_equal(lon, [0.0, 0.0])
    np.testing.assert_allclose(height, [5.0, 0.0], atol=1e-6)


@given(st.floats(-90, 90), st.floats(-180, 180), st.floats(-1e3, 1e5))
def test_there_and_back_is_within_a_millimetre(lat, lon, height):
    xyz = geodetic_to_ecef(lat, lon, height)
    again = geodetic_to_ecef(*ecef_to_geodetic(xyz))
    assert np.linalg.norm(again - xyz) < MILLIMETRE


@given(st.floats(-90, 90), st.floats(-180, 180))
def test_east_north_up_is_a_right_handed_orthonormal_basis(lat, lon):
    basis = enu_basis(lat, lon)
    np.testing.assert_allclose(basis @ basis.T, np.eye(3), atol=1e-12)
    assert np.linalg.det(basis) == pytest.approx(1.0)


def test_directions_point_where_a_step_along_them_leads():
    # Independent: a geodesic step by PROJ in the same azimuth, and a rise by PROJ's own heights.
    geod = pyproj.Geod(ellps="WGS84")
    for lat, lon, azimuth in [
        (0.0, 90.0, 0.0),
        (60.0, 179.9999, 90.0),
        (-45.0, -90.0, 200.0),
        (80.0, 10.0, -70.0),
    ]:
        here = np.array(PROJ.transform(lon, lat, 0.0))
        there_lon, there_lat, _ = geod.fwd(lon, lat, azimuth, 1.0)
        there = np.array(PROJ.transform(there_lon, there_lat, 0.0))
        above = np.array(PROJ.transform(lon, lat, 1.0))
        zenith = np.radians(35.0)
        expected = (there - here) * np.sin(zenith) + (above - here) * np.cos(zenith)
        np.testing.assert_allclose(direction_to_ecef(lat, lon, 35.0, azimuth), expected, atol=1e-6)
