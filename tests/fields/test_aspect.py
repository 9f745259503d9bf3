"""Angles between ray and sun, with their signs."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from atmonr.fields.aspect import FEATURES, SCATTERING_ORDERS, Aspect, direction_network

GLINT = slice(SCATTERING_ORDERS + 2, FEATURES)


def towards(zenith_deg: float, azimuth_deg: float) -> Tensor:
    """(1, 3) unit vector; azimuth from x to y."""
    zenith, azimuth = math.radians(zenith_deg), math.radians(azimuth_deg)
    x, y = math.sin(zenith) * math.cos(azimuth), math.sin(zenith) * math.sin(azimuth)
    return torch.tensor([[x, y, math.cos(zenith)]])


def aspect(sensor: Tensor, sun: Tensor) -> Aspect:
    return Aspect(sensor, sun, torch.zeros(len(sensor), dtype=torch.int64))


def test_scattering_is_forward_when_the_sensor_looks_towards_the_sun_through_the_sample() -> None:
    sun = towards(40, 30)
    assert aspect(-sun, sun).scattering_cosine.item() == pytest.approx(1.0)
    assert aspect(sun, sun).scattering_cosine.item() == pytest.approx(-1.0)


def test_the_scattering_angle_is_that_of_its_formula_in_zenith_and_azimuth() -> None:
    """cos = -mu mu0 - sin sin0 cos(difference of the azimuths towards sensor and sun)."""
    got = aspect(towards(50, 100), towards(35, -20)).scattering_cosine.item()
    t, t0 = math.radians(50), math.radians(35)
    expected = -math.cos(t) * math.cos(t0) - math.sin(t) * math.sin(t0) * math.cos(math.radians(120))
    assert got == pytest.approx(expected, abs=1e-6)


def test_cosines_of_the_zenith_angles_are_not_mixed_up() -> None:
    seen = aspect(towards(60, 10), towards(20, 80))
    assert seen.sensor_cosine.item() == pytest.approx(0.5)
    assert seen.sun_cosine.item() == pytest.approx(math.cos(math.radians(20)))


def test_glint_features_peak_where_a_flat_sea_mirrors_the_sun() -> None:
    sun = towards(35, 20)
    azimuths, zeniths = [
        angle.flatten()
        for angle in torch.meshgrid(
            torch.arange(0.0, 360.0, 5.0), torch.arange(0.0, 70.0, 5.0), indexing="ij"
        )
    ]
    sensor = torch.cat([towards(z, a) for z, a in zip(zeniths.tolist(), azimuths.tolist(), strict=True)])
    glint = aspect(sensor, sun.expand_as(sensor)).features()[:, GLINT]
    for feature in glint.T:
        best = int(feature.argmax())
        assert (zeniths[best], azimuths[best]) == (35.0, 200.0)
        assert feature[best].item() == pytest.approx(1.0, abs=1e-5)
        assert feature.min() < 0.1


def test_features_are_of_order_one_and_finite_everywhere() -> None:
    sun = towards(75, 0)
    sensor = torch.cat([towards(z, a) for z in (0, 45, 75, 84) for a in (0, 90, 180, 270)] + [sun, -sun])
    seen = aspect(sensor, sun.expand_as(sensor))
    features = seen.features()
    assert features.shape == (18, FEATURES)
    assert torch.isfinite(features).all() and features.abs().max() <= 1.001
    # The first one is the cosine of the scattering angle itself.
    torch.testing.assert_close(features[:, 0], seen.scattering_cosine.clamp(-1, 1), atol=1e-5, rtol=0)


def test_a_direction_network_says_nothing_before_training() -> None:
    network = direction_network(5)
    features = torch.randn(3, FEATURES, requires_grad=True)
    out = network(features)
    assert torch.equal(out, torch.zeros(3, 5))
    out.sum().backward()
    assert all(p.grad is not None for p in network.parameters())
