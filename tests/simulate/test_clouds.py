"""Procedural clouds."""

from __future__ import annotations

import numpy as np
import pytest

from atmonr.errors import UsageError
from atmonr.simulate.clouds import PRESETS, build, preset_named
from atmonr.simulate.volume import Volume

CLOUDY = ("cumulus", "stratocumulus", "deep")


def make(name: str, lines: int = 48, pixels: int = 40, seed: int = 0) -> Volume:
    preset = PRESETS[name]
    return build(preset, lines, pixels, preset.pixel_m, 18.0, -61.5, 348.0, seed)


def optical_depth(cloud: Volume) -> np.ndarray:
    return cloud.extinction_per_m.sum(axis=2) * (cloud.altitude_m[1] - cloud.altitude_m[0])


@pytest.mark.parametrize("name", CLOUDY)
def test_the_same_seed_gives_the_same_cloud_and_another_seed_another(name: str) -> None:
    first, again, other = make(name, seed=3), make(name, seed=3), make(name, seed=4)
    np.testing.assert_array_equal(first.extinction_per_m, again.extinction_per_m)
    assert np.abs(first.extinction_per_m - other.extinction_per_m).max() > 1e-3


@pytest.mark.parametrize("name", CLOUDY)
@pytest.mark.parametrize("seed", range(3))
def test_clouds_are_as_thick_as_real_ones_and_leave_clear_air(name: str, seed: int) -> None:
    cloud = make(name, seed=seed)
    depth = optical_depth(cloud)
    cloudy = depth > 0.3
    assert 0.03 < cloudy.mean() < 0.9
    assert 2 < np.median(depth[cloudy]) < 30
    assert 10 < depth.max() < 150
    # The mean free path in cloud is tens to hundreds of metres.
    assert 0.003 < cloud.extinction_per_m.max() < 0.1


def test_extinction_of_a_cumulus_grows_with_height_above_its_flat_base() -> None:
    cloud = make("cumulus")
    # The strongest cells of a level are the undiluted ones.
    profile = cloud.extinction_per_m.max(axis=(0, 1))[:15]
    assert (np.diff(profile) > 0).all()
    base = np.argmax(cloud.extinction_per_m > 0, axis=2)[optical_depth(cloud) > 10]
    assert np.median(base) == 0


@pytest.mark.parametrize(("lines", "pixels"), [(4, 4), (17, 60), (80, 24)])
@pytest.mark.parametrize("name", PRESETS)
def test_any_size_can_be_asked_for(name: str, lines: int, pixels: int) -> None:
    cloud = make(name, lines, pixels)
    picture_m = PRESETS[name].pixel_m * np.array([pixels, lines])
    assert (np.array([np.ptp(cloud.x_m), np.ptp(cloud.y_m)]) <= picture_m).all()
    assert cloud.altitude_m[-1] < PRESETS[name].top_m


@pytest.mark.parametrize("name", ["slab", "absorber"])
def test_a_slab_has_unit_optical_depth_and_ends_inside_its_box(name: str) -> None:
    cloud = make(name)
    depth = optical_depth(cloud)
    assert set(np.unique(depth.round(5))) == {0.0, 1.0}
    assert depth[[0, -1]].max() == depth[:, [0, -1]].max() == 0
    assert cloud.single_scattering_albedo == (1.0 if name == "slab" else 0.0)


def test_a_clear_sky_is_empty() -> None:
    assert not make("clear").extinction_per_m.any()


def test_an_unknown_preset_is_refused_with_those_there_are() -> None:
    with pytest.raises(UsageError, match="preset 'cirrus': expected one of cumulus, stratocumulus, deep"):
        preset_named("cirrus")
