"""The view table and the geometry of views, against PROJ."""

from __future__ import annotations

import numpy as np
import pyproj
import pytest

from atmonr.geo.ellipsoid import direction_to_ecef
from atmonr.geo.frame import Frame
from atmonr.simulate.instrument import Geometry, ground_zenith, irradiances, observe, view_angles, wavelengths
from tests.simulate.places import ecef, line_of_sight

PLACES = [(0.0, 0.0), (18.0, -61.5), (60.0, 90.0), (-35.0, 179.99), (90.0, 30.0)]
WGS84 = pyproj.Geod(ellps="WGS84")


def look(latitude: float = 18.0, longitude: float = -61.5, height_m: float = 2000.0) -> Geometry:
    frame = Frame(latitude, longitude, (-1e4, -1e4, 0.0), (1e4, 1e4, 1e4))
    sun = direction_to_ecef(latitude, longitude, 40.0, -42.0)
    return observe(frame, 348.0, sun, 12, 9, 320.0, height_m)


def test_the_view_table_is_harp2s() -> None:
    """Ninety views: ten green, sixty red, ten near infrared, ten blue, each from ahead to behind."""
    wavelength, counts = np.unique(wavelengths(), return_counts=True)
    np.testing.assert_allclose(wavelength, [440.16, 549.57, 664.57, 865.63])
    assert counts.tolist() == [10, 10, 60, 10]
    assert wavelengths()[[0, 10, 70, 80]].tolist() == [549.57, 664.57, 865.63, 440.16]
    for start, end in ((0, 10), (10, 70), (70, 80), (80, 90)):
        assert (np.diff(view_angles()[start:end]) < 0).all()
    assert int(np.argmin(np.abs(view_angles()))) == 39
    assert irradiances()[[0, 10, 70, 80]].tolist() == [1860.0, 1530.0, 960.0, 1830.0]


def test_zenith_angles_at_the_ground_exceed_those_at_the_instrument() -> None:
    expected = [22.2, 45.3, 57.9, 65.0, 68.1]
    np.testing.assert_allclose(ground_zenith(np.array([20.0, 40.0, 50.0, 55.0, 57.0])), expected, atol=0.06)


def test_views_ahead_see_the_sensor_behind_and_views_astern_ahead() -> None:
    geometry = look()
    zenith, azimuth = (a[:, 6, 4] for a in (geometry.sensor_zenith, geometry.sensor_azimuth))
    np.testing.assert_allclose(zenith, np.abs(ground_zenith(view_angles())), atol=0.01)
    expected = np.where(view_angles() > 0, 168.0, -12.0)
    oblique = np.abs(view_angles()) > 2
    np.testing.assert_allclose(azimuth[oblique], expected[oblique], atol=0.3)


def test_latitude_grows_with_line_and_longitude_with_pixel() -> None:
    geometry = look(-35.0, 179.99)
    assert (np.diff(geometry.latitude, axis=1) > 0).all()
    eastwards = (np.diff(geometry.longitude, axis=2) + 180) % 360 - 180
    assert (eastwards > 0).all()
    assert (np.abs(geometry.longitude) <= 180).all()


@pytest.mark.parametrize(("latitude", "longitude"), PLACES)
def test_pixels_are_evenly_spaced_on_the_ground(latitude: float, longitude: float) -> None:
    geometry = look(latitude, longitude)
    for view in (10, 39, 69):
        lat, lon = geometry.latitude[view].astype(float), geometry.longitude[view].astype(float)
        _, _, along_m = WGS84.inv(lon[:-1], lat[:-1], lon[1:], lat[1:])
        _, _, across_m = WGS84.inv(lon[:, :-1], lat[:, :-1], lon[:, 1:], lat[:, 1:])
        # Single precision of a longitude of 180 degrees is a metre and a half.
        np.testing.assert_allclose(along_m, 320.0, atol=2.5)
        np.testing.assert_allclose(across_m, 320.0, atol=2.5)


@pytest.mark.parametrize(("latitude", "longitude"), PLACES)
def test_all_views_see_a_cloud_at_the_meeting_height_at_the_same_pixel(
    latitude: float, longitude: float
) -> None:
    geometry = look(latitude, longitude, height_m=2000.0)
    place = geometry.latitude.astype(float), geometry.longitude.astype(float)
    direction = line_of_sight(*place, geometry.sensor_zenith, geometry.sensor_azimuth)
    back = pyproj.Transformer.from_crs("EPSG:4978", "EPSG:4979", always_xy=True)
    length = 2000.0 / np.cos(np.radians(geometry.sensor_zenith))
    for _ in range(3):
        points = ecef(*place, 0.0) + length[..., None] * direction
        height = back.transform(*np.moveaxis(points, -1, 0))[2]
        length += (2000.0 - height) / np.cos(np.radians(geometry.sensor_zenith))
    spread_m = np.linalg.norm(points - points[39], axis=-1)
    # Beside the track the satellite looks aslant, and more so from overhead than from far ahead.
    assert spread_m[:, :, 4].max() < 15.0
    assert spread_m.max() < 40.0


@pytest.mark.parametrize(("latitude", "longitude"), PLACES)
def test_the_satellite_is_one_point_for_a_line_of_a_view(latitude: float, longitude: float) -> None:
    """Lines of sight of a line's pixels meet at the height of the orbit."""
    geometry = look(latitude, longitude)
    place = geometry.latitude[20].astype(float), geometry.longitude[20].astype(float)
    direction = line_of_sight(*place, geometry.sensor_zenith[20], geometry.sensor_azimuth[20])
    origin = ecef(*place, 0.0)
    first, last = direction[:, 0], direction[:, -1]
    gap = origin[:, -1] - origin[:, 0]
    sine = np.linalg.norm(np.cross(first, last), axis=-1)
    distance = np.einsum("li,li->l", np.cross(gap, last), np.cross(first, last)) / sine**2
    satellite = origin[:, 0] + distance[:, None] * first
    back = pyproj.Transformer.from_crs("EPSG:4978", "EPSG:4979", always_xy=True)
    height = back.transform(*satellite.T)[2]
    np.testing.assert_allclose(height, 676_500.0, rtol=0.02)


def test_the_sun_is_where_it_was_put() -> None:
    geometry = look()
    np.testing.assert_allclose(geometry.solar_zenith[39, 5:7, 4].mean(), 40.0, atol=0.01)
    np.testing.assert_allclose(geometry.solar_azimuth[39, 5:7, 4].mean(), -42.0, atol=0.01)


def test_views_ahead_see_a_place_minutes_before_views_astern() -> None:
    geometry = look()
    assert geometry.seconds.min() == 0
    red = geometry.seconds[10:70, 6]
    assert (np.diff(red) > 0).all()
    assert 330 < red[-1] - red[0] < 390
    np.testing.assert_allclose(np.diff(geometry.seconds, axis=1), 320.0 / 6800.0)
