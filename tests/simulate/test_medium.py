"""The solver's grid, and the sun's way through it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from atmonr.errors import SceneError
from atmonr.simulate import optics
from atmonr.simulate.medium import Medium, build_medium, sun_depth
from atmonr.simulate.volume import Volume
from tests.simulate.conftest import SlabMaker
from tests.simulate.places import towards


def depth_at(medium: Medium, x: float, y: float, z: float, sun: torch.Tensor) -> float:
    return float(sun_depth(medium, *torch.tensor([[x], [y], [z]], dtype=torch.float32), sun)[0])


@pytest.mark.parametrize("zenith", [0.0, 40.0, 75.0])
@pytest.mark.parametrize("albedo", [0.0, 1.0])
def test_the_sun_is_attenuated_by_the_slant_depth_above(
    slab: SlabMaker, zenith: float, albedo: float
) -> None:
    medium = build_medium(slab(3.0, albedo))
    scale = 1 - albedo * optics.forward_fraction()
    mu = np.cos(np.radians(zenith))
    for height, share in ((0.0, 1.0), (2000.0, 0.5), (5000.0, 0.0)):
        expected = scale * 3.0 * share / mu
        assert depth_at(medium, 0, 0, height, towards(zenith, 33.0)) == pytest.approx(expected, abs=1e-3)


def test_air_attenuates_too(slab: SlabMaker) -> None:
    medium = build_medium(slab(0.0), rayleigh_depth=0.24)
    sun = towards(60.0, 0.0)
    assert depth_at(medium, 0, 0, 0.0, sun) == pytest.approx(0.48, rel=1e-5)
    assert depth_at(medium, 0, 0, 8000.0, sun) == pytest.approx(0.48 / np.e, rel=1e-5)


@pytest.mark.parametrize("azimuth", [0.0, 90.0, 215.0])
def test_a_shadow_falls_away_from_the_sun(box: Volume, azimuth: float) -> None:
    """The middle of the block, 1500 m up, shades the ground 1500 m tan(zenith) away from the sun."""
    medium = build_medium(box)
    sun = towards(30.0, azimuth)
    toward_sun = np.array([np.sin(np.radians(azimuth)), np.cos(np.radians(azimuth))])
    middle = -1500.0 * np.tan(np.radians(30.0)) * toward_sun
    expected = 0.05 * 1000 / np.cos(np.radians(30.0)) * medium.cloud_scale
    assert depth_at(medium, *middle, 0.0, sun) == pytest.approx(expected, rel=0.005)
    assert depth_at(medium, *-middle, 0.0, sun) == 0
    assert depth_at(medium, *(middle - 1000.0 * toward_sun), 0.0, sun) == 0


def test_planes_rise_from_the_ground_to_the_end_of_the_air(box: Volume) -> None:
    medium = build_medium(box, rayleigh_depth=0.24, rim=4)
    heights = medium.z_m.numpy()
    first, last = medium.cloud_planes
    assert heights[0] == 0 and heights[-1] == 50_000.0
    assert (np.diff(heights) > 0).all()
    np.testing.assert_allclose(heights[first : last + 1], 950.0 + 100.0 * np.arange(12))
    assert medium.cloud_ZYX.shape[1:] == (28, 28)
    assert float(medium.cloud_ZYX.sum()) == pytest.approx(float(box.extinction_per_m.sum()))
    assert not medium.cloud_ZYX[[first, last]].any()


def test_empty_levels_cost_nothing(box: Volume) -> None:
    extinction = np.zeros((20, 20, 60), np.float32)
    extinction[:, :, 30:40] = box.extinction_per_m
    high = replace(box, altitude_m=50.0 + 100.0 * np.arange(60), extinction_per_m=extinction)
    first, last = build_medium(high).cloud_planes
    assert last - first == 11


def test_cloud_on_the_ground_or_above_the_air_is_refused(box: Volume) -> None:
    for base in (50.0, 49_800.0):
        moved = replace(box, altitude_m=base + 100.0 * np.arange(10))
        with pytest.raises(SceneError, match="expected it to stay one cell"):
            build_medium(moved)
