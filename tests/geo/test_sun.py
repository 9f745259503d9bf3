"""The direction of the sun over a scene, against an independent far-away sun."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from atmonr.geo.ellipsoid import enu_basis, geodetic_to_ecef
from atmonr.geo.frame import Frame
from atmonr.geo.sun import local_directions, sun_direction, sun_polynomial

SUN = np.array([0.6, 0.3, 0.742])  # Earth-centred, towards the sun


def scene(centre: tuple[float, float], extent_m: float = 9e5, count: int = 400):
    """A frame and lat, lon, solar zenith, solar azimuth of pixels all lit by the one parallel beam `SUN`."""
    rng = np.random.default_rng(4)
    frame = Frame(*centre, (-1e6, -1e6, 0.0), (1e6, 1e6, 2e4))
    lat, lon, _ = frame.to_geodetic(
        rng.uniform([-extent_m, -extent_m, 0], [extent_m, extent_m, 1], (count, 3))
    )
    east, north, up = np.moveaxis(enu_basis(lat, lon) @ (SUN / np.linalg.norm(SUN)), -1, 0)
    return frame, lat, lon, np.degrees(np.arccos(up)), np.degrees(np.arctan2(east, north))


@pytest.mark.parametrize("centre", [(10.0, 20.0), (60.0, 180.0), (89.9, 45.0), (90.0, 0.0)])
def test_polynomial_reproduces_a_parallel_beam_over_a_whole_granule(centre):
    frame, lat, lon, zenith, azimuth = scene(centre)
    coefficients = sun_polynomial(frame, lat, lon, zenith, azimuth)
    assert coefficients.shape == (3, 6)
    places = frame.from_geodetic(lat, lon)
    unit = frame.unit(places)
    got = np.stack(sun_direction(coefficients, unit[:, 0], unit[:, 1]), axis=-1)
    # The way to go in the frame, found by really going 1 km towards the sun.
    start = geodetic_to_ecef(lat, lon, 0.0)
    going = frame.from_ecef(start + 1000.0 * SUN / np.linalg.norm(SUN)) - places
    going /= np.linalg.norm(going, axis=-1, keepdims=True)
    angle = np.degrees(np.arccos(np.clip((got * going).sum(axis=-1), -1, 1)))
    assert angle.max() < 0.3
    np.testing.assert_allclose(np.linalg.norm(got, axis=-1), 1.0, atol=1e-12)


def test_near_the_centre_the_frame_axes_are_east_north_up():
    frame, lat, lon, zenith, azimuth = scene((35.0, -100.0), extent_m=5e3)
    theta, psi = np.radians(zenith), np.radians(azimuth)
    expected = np.stack([np.sin(theta) * np.sin(psi), np.sin(theta) * np.cos(psi), np.cos(theta)], axis=-1)
    towards = np.broadcast_to(SUN / np.linalg.norm(SUN), expected.shape)
    got = local_directions(frame, frame.from_geodetic(lat, lon), towards)
    np.testing.assert_allclose(got, expected, atol=1e-3)


def test_few_samples_give_one_constant_direction():
    frame, lat, lon, zenith, azimuth = scene((10.0, 20.0), count=4)
    coefficients = sun_polynomial(frame, lat, lon, zenith, azimuth)
    assert coefficients.shape == (3, 1)
    x, _, up = sun_direction(coefficients, np.array([0.1, 0.9]), np.array([0.5, 0.5]))
    assert x.shape == (2,) and up[0] == up[1]


def test_samples_on_one_line_do_not_make_up_a_slope_across_it():
    frame, _, _, _, _ = scene((10.0, 20.0))
    lat = np.linspace(8.0, 12.0, 50)
    assert sun_polynomial(frame, lat, np.full(50, 20.0), np.full(50, 40.0), np.full(50, 90.0)).shape == (3, 1)


def test_torch_and_numpy_evaluate_alike():
    frame, lat, lon, zenith, azimuth = scene((10.0, 20.0))
    coefficients = sun_polynomial(frame, lat, lon, zenith, azimuth).tolist()
    x, y = np.linspace(0, 1, 5), np.linspace(1, 0, 5)
    for a, b in zip(
        sun_direction(coefficients, x, y),
        sun_direction(coefficients, torch.tensor(x), torch.tensor(y)),
        strict=True,
    ):
        np.testing.assert_allclose(a, b.numpy(), atol=1e-14)


def test_missing_angles_are_refused():
    frame, lat, lon, zenith, azimuth = scene((10.0, 20.0), count=10)
    zenith[3] = np.nan
    with pytest.raises(ValueError, match="sun direction"):
        sun_polynomial(frame, lat, lon, zenith, azimuth)
