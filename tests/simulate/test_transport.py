"""Multiple scattering against energy conservation, a Monte Carlo reference and symmetries."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from atmonr.simulate import optics
from atmonr.simulate.medium import Medium, build_medium
from atmonr.simulate.transport import Light, solve
from atmonr.simulate.volume import Volume
from tests.simulate.conftest import SlabMaker
from tests.simulate.places import towards

SUN_DEG = 40.0
MU0 = float(np.cos(np.radians(SUN_DEG)))


def shine(medium: Medium, ground_albedo: float = 0.0, azimuth_deg: float = -42.0) -> Light:
    ground = torch.full(medium.cloud_ZYX.shape[1:], ground_albedo)
    return solve(medium, towards(SUN_DEG, azimuth_deg), ground)


def albedo_and_transmittance(light: Light) -> tuple[float, float]:
    direct = MU0 * light.sunlit_ZYX[0].mean()
    return float(light.up_YX.mean()) / MU0, float(light.down_YX.mean() + direct) / MU0


def monte_carlo(optical_depth: float, photons: int = 60_000) -> float:
    """Albedo of a conservative layer: photons followed one by one with the whole phase function."""
    random = np.random.default_rng(0)
    depth, mu, reflected = np.zeros(photons), np.full(photons, MU0), 0
    (share, forward), (_, backward) = optics.CLOUD_LOBES
    while depth.size:
        depth = depth + mu * random.exponential(size=depth.size)
        reflected += int((depth < 0).sum())
        inside = (depth >= 0) & (depth <= optical_depth)
        depth, mu = depth[inside], mu[inside]
        g = np.where(random.random(mu.size) < share, forward, backward)
        turn = (1 + g * g - ((1 - g * g) / (1 - g + 2 * g * random.random(mu.size))) ** 2) / (2 * g)
        around = np.cos(2 * np.pi * random.random(mu.size))
        mu = mu * turn + np.sqrt(np.clip((1 - mu**2) * (1 - turn**2), 0, None)) * around
    return reflected / photons


@pytest.mark.parametrize("optical_depth", [0.5, 2.0, 8.0, 32.0])
def test_a_layer_that_absorbs_nothing_conserves_energy(slab: SlabMaker, optical_depth: float) -> None:
    reflected, passed = albedo_and_transmittance(shine(build_medium(slab(optical_depth))))
    assert reflected + passed == pytest.approx(1.0, abs=0.003)


@pytest.mark.slow
@pytest.mark.parametrize("optical_depth", [2.0, 32.0])
def test_the_albedo_of_a_layer_is_that_of_followed_photons(slab: SlabMaker, optical_depth: float) -> None:
    reflected, _ = albedo_and_transmittance(shine(build_medium(slab(optical_depth, levels=40))))
    assert reflected == pytest.approx(monte_carlo(optical_depth), rel=0.06)


def test_the_albedo_of_a_thick_layer_is_near_two_stream_theory(slab: SlabMaker) -> None:
    """Delta-Eddington with a slanting sun, conservative (E. P. Shettle and J. A. Weinman, 1970)."""
    reflected, _ = albedo_and_transmittance(shine(build_medium(slab(16.0, levels=40))))
    depth = (1 - optics.cloud_moment(1)) * 16.0
    beam = np.exp(-16.0 * (1 - optics.cloud_moment(1) ** 2) / MU0)
    passed = (2 / 3 + MU0 + (2 / 3 - MU0) * beam) / (4 / 3 + depth)
    assert reflected == pytest.approx(1 - passed, rel=0.05)


def test_a_pure_absorber_sends_nothing_back(slab: SlabMaker) -> None:
    light = shine(build_medium(slab(2.0, albedo=0.0)))
    reflected, passed = albedo_and_transmittance(light)
    assert reflected == 0
    assert passed == pytest.approx(np.exp(-2.0 / MU0), rel=1e-3)


def test_a_white_ground_under_any_cloud_sends_everything_back(slab: SlabMaker) -> None:
    medium = build_medium(slab(6.0), rayleigh_depth=0.24)
    reflected, _ = albedo_and_transmittance(shine(medium, ground_albedo=1.0))
    assert reflected == pytest.approx(1.0, abs=0.01)


def test_a_ground_adds_light_by_repeated_reflection(slab: SlabMaker) -> None:
    """The adding equations: A + T t a / (1 - a s), t and s the layer's for light from below."""
    medium = build_medium(slab(4.0))
    dark, ground = albedo_and_transmittance(shine(medium)), 0.4
    lit = albedo_and_transmittance(shine(medium, ground))
    bounced = lit[0] - dark[0]
    # What comes up leaves the same way for every ground: two grounds fix t and s, a third is a prediction.
    other = albedo_and_transmittance(shine(medium, 0.8))
    up_other = other[0] - dark[0]
    passed, spherical = np.linalg.solve(
        [[ground * dark[1], bounced * ground], [0.8 * dark[1], up_other * 0.8]], [bounced, up_other]
    )
    assert passed + spherical == pytest.approx(1.0, abs=0.01)


@pytest.mark.slow
def test_energy_is_conserved_where_cells_are_thick_and_edges_sharp(box: Volume) -> None:
    """All light that the sun loses in a low block comes out of the top and the bottom of a wide scene."""
    low = replace(
        box, altitude_m=150.0 + 100.0 * np.arange(4), extinction_per_m=box.extinction_per_m[:, :, :4]
    )
    light = shine(build_medium(low, rim=40))
    lost = MU0 * float((1 - light.sunlit_ZYX[0]).sum())
    assert float(light.up_YX.sum() + light.down_YX.sum()) == pytest.approx(lost, rel=0.01)


@pytest.mark.slow
def test_a_quarter_turn_of_cloud_and_sun_changes_nothing(box: Volume) -> None:
    random = np.random.default_rng(1)
    lumpy = replace(
        box,
        extinction_per_m=box.extinction_per_m * random.random(box.extinction_per_m.shape).astype(np.float32),
    )
    # Counter-clockwise seen from above: x becomes y, azimuths fall by 90 degrees.
    turned = replace(lumpy, extinction_per_m=np.rot90(lumpy.extinction_per_m, axes=(0, 1)).copy())
    light = shine(build_medium(lumpy), azimuth_deg=30.0)
    other = shine(build_medium(turned), azimuth_deg=-60.0)
    again = torch.rot90(other.up_YX, 1, dims=(0, 1))
    torch.testing.assert_close(again, light.up_YX, rtol=2e-3, atol=1e-4)


@pytest.mark.slow
def test_starting_from_a_solution_takes_fewer_iterations(slab: SlabMaker) -> None:
    medium = build_medium(slab(16.0))
    ground = torch.zeros(medium.cloud_ZYX.shape[1:])
    first = solve(medium, towards(SUN_DEG, 0.0), ground)
    again = solve(medium, towards(SUN_DEG, 0.0), ground, guess=first)
    assert again.iterations < first.iterations
    torch.testing.assert_close(again.up_YX, first.up_YX, rtol=5e-3, atol=0)
