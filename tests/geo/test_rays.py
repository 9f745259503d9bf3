"""Lines of sight: start at the right height, point the right way, survive compression to float32."""

from __future__ import annotations

import numpy as np
import pyproj
import pytest

from atmonr.geo.frame import Frame
from atmonr.geo.paths import path_points, paths_of
from atmonr.geo.rays import trace

PROJ = pyproj.Transformer.from_crs("EPSG:4979", "EPSG:4978", always_xy=True)
TOP_M = 20_000.0
CENTRES = [(0.0, 0.0), (45.0, 90.0), (60.0, -90.0), (85.0, 10.0), (-90.0, 0.0), (18.0, 180.0)]
Pixels = tuple[Frame, list[np.ndarray]]


def pixels_around(centre: tuple[float, float], count: int = 1500, steepest_deg: float = 72.0) -> Pixels:
    """A frame and latitude, longitude, altitude, zenith and azimuth of random pixels within 1,100 km."""
    rng = np.random.default_rng(3)
    frame = Frame(*centre, (-1.3e6, -1.3e6, -1e3), (1.3e6, 1.3e6, 2e4))
    places = rng.uniform([-8e5, -8e5, -400.0], [8e5, 8e5, 5000.0], (count, 3))
    zenith = rng.uniform(0.0, steepest_deg, count)
    zenith[:3] = 0.0, 45.0, steepest_deg
    return frame, [*frame.to_geodetic(places), zenith, rng.uniform(-180, 180, count)]


def proj_heights(xyz: np.ndarray) -> np.ndarray:
    """Heights above the ellipsoid by PROJ, of (..., 3) points."""
    return np.asarray(PROJ.transform(*np.moveaxis(xyz, -1, 0), direction="INVERSE")[2])


@pytest.mark.parametrize("centre", CENTRES)
def test_rays_start_at_the_top_and_end_at_the_pixel_to_a_millimetre(centre):
    _, pixels = pixels_around(centre, steepest_deg=85.0)
    rays = trace(*pixels, TOP_M)
    assert np.abs(proj_heights(rays.origin_ecef) - TOP_M).max() < 1e-3
    ends = np.stack(PROJ.transform(pixels[1], pixels[0], pixels[2]), axis=-1)
    np.testing.assert_allclose(rays.at(1.0), ends, rtol=0, atol=1e-3)
    np.testing.assert_allclose(rays.at(0.0), rays.origin_ecef)


def test_directions_match_an_independent_east_north_up_construction():
    lat, lon, zenith, azimuth = 33.0, -120.0, 50.0, 160.0
    phi, lam = np.radians(lat), np.radians(lon)
    # Columns of the rotation that carries east, north, up to Earth-centred axes: Rz(90 + lon) Rx(90 - lat).
    a, b = np.pi / 2 + lam, np.pi / 2 - phi
    about_z = np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]])
    about_x = np.array([[1, 0, 0], [0, np.cos(b), -np.sin(b)], [0, np.sin(b), np.cos(b)]])
    theta, psi = np.radians(zenith), np.radians(azimuth)
    local = [np.sin(theta) * np.sin(psi), np.sin(theta) * np.cos(psi), np.cos(theta)]
    rays = trace(lat, lon, 0.0, zenith, azimuth, TOP_M)
    np.testing.assert_allclose(rays.direction, -(about_z @ about_x @ local), atol=1e-14)


def test_a_vertical_ray_is_as_long_as_the_climb_and_an_oblique_one_longer():
    rays = trace(10.0, 20.0, 500.0, np.array([0.0, 60.0]), 0.0, TOP_M)
    assert rays.length_m[0] == pytest.approx(19_500.0, abs=1e-3)
    assert 38_500.0 < rays.length_m[1] < 39_000.0  # 2 x 19,500 m less the Earth's curvature


def test_a_sensor_in_the_south_is_seen_through_air_in_the_south():
    rays = trace(10.0, 20.0, 0.0, 45.0, 180.0, TOP_M)
    x, y, height = Frame(10.0, 20.0, (-1e5, -1e5, 0), (1e5, 1e5, 2e4)).from_ecef(rays.origin_ecef)
    assert y == pytest.approx(-20_000.0, rel=0.01)
    assert abs(x) < 1.0 and height == pytest.approx(TOP_M, abs=1e-3)


@pytest.mark.parametrize("top_m", [20_000.0, 50_000.0])
@pytest.mark.parametrize("centre", CENTRES)
def test_float32_paths_keep_geodetic_height_within_a_centimetre_along_the_most_slant_rays(centre, top_m):
    frame, pixels = pixels_around(centre, steepest_deg=85.0)
    pixels = [values.astype(np.float32) for values in pixels]
    rays = trace(*pixels, top_m)
    fraction = np.linspace(0.0, 1.0, 65)
    fitted = path_points(paths_of(frame, top_m, *pixels).path, fraction)
    assert fitted.dtype == np.float32
    points = np.stack([rays.at(s) for s in fraction], axis=1)
    assert np.abs(fitted[..., 2] - proj_heights(points)).max() < 0.01
    assert np.abs(fitted - frame.from_ecef(points))[..., :2].max() < 0.2


def test_pixels_that_see_nothing_become_nan_and_leave_the_others_alone():
    lat = np.array([0.0, np.nan, 0.0, 0.0, 0.0])
    altitude = np.array([0.0, 0.0, np.inf, TOP_M, 0.0])
    zenith = np.array([30.0, 30.0, 30.0, 30.0, 90.0])
    rays = trace(lat, 0.0, altitude, zenith, 0.0, TOP_M)
    bad = [False, True, True, True, True]
    np.testing.assert_array_equal(np.isnan(rays.length_m), bad)
    np.testing.assert_array_equal(np.isnan(rays.origin_ecef).all(axis=-1), bad)
    np.testing.assert_array_equal(np.isnan(rays.direction).all(axis=-1), bad)


def test_many_rays_give_what_few_rays_give():
    # More rays than are converted together, in a two-dimensional image.
    lat, lon = np.meshgrid(np.linspace(10, 20, 200), np.linspace(170, 190, 200), indexing="ij")
    whole = trace(lat, lon, 0.0, 40.0, 10.0, TOP_M)
    assert whole.origin_ecef.shape == (200, 200, 3)
    row = trace(lat[-1], lon[-1], 0.0, 40.0, 10.0, TOP_M)
    np.testing.assert_array_equal(whole.origin_ecef[-1], row.origin_ecef)
