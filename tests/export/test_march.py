"""The renderer keeps to the physics that can be known without it."""

from __future__ import annotations

import math
from functools import cache

import pytest
import torch

from atmonr.export.lighting import LitScene, light_up, phase_function
from atmonr.export.march import LitVolume, march
from atmonr.export.scenery import background, develop, picture

STEP_M = (200.0, 250.0, 100.0)
UP = (0.0, 0.0, 1.0)
LOW_EAST = (0.8, 0.0, 0.6)


def unit(*vector: float) -> torch.Tensor:
    v = torch.tensor([vector])
    return v / v.norm()


def lit(extinction: torch.Tensor) -> LitVolume:
    return LitVolume(torch.stack([extinction, *torch.ones(3, *extinction.shape)]), (0.0, 0.0, 0.0), STEP_M)


@cache
def ball_scene(sun: tuple[float, float, float]) -> LitScene:
    """A round cloud, 2 km across and opaque, on cells of 100 m."""
    z, y, x = torch.meshgrid(*(torch.arange(n) - (n - 1) / 2 for n in (26, 28, 30)), indexing="ij")
    cloud = 0.02 * ((x**2 + y**2 + z**2) < 100).float()
    return light_up(cloud, (-1_450.0, -1_350.0, 500.0), (100.0, 100.0, 100.0), 0.0, sun)


def view(scene: LitScene, place: tuple[float, float, float], size: int = 40) -> torch.Tensor:
    """A picture of the ball from a place, x growing to the right for one in the south."""
    origin = torch.tensor(place)
    ahead = torch.tensor([0.0, 0.0, 1_750.0]) - origin
    ahead /= ahead.norm()
    right = torch.linalg.cross(ahead, torch.tensor(UP))
    right /= right.norm()
    above = torch.linalg.cross(right, ahead)
    span = (torch.arange(size) + 0.5 - size / 2) * 0.01
    rays = ahead + span[None, :, None] * right - span[:, None, None] * above
    return picture(scene, origin, rays / rays.norm(dim=-1, keepdim=True), 1e5)


@pytest.mark.parametrize("optical_depth", [0.1, 1.0, 4.0])
@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_a_slab_lets_through_what_beers_law_says(optical_depth: float, axis: int, sign: float) -> None:
    volume = lit(torch.full((11, 12, 13), optical_depth / (STEP_M[axis] * (13, 12, 11)[axis])))
    middle = torch.tensor([1_200.0, 1_375.0, 500.0])
    straight = torch.zeros(3)
    straight[axis] = sign
    seen = march(volume, (middle - 1e4 * straight)[None], straight[None], torch.zeros(1))
    assert float(seen.transmittance) == pytest.approx(math.exp(-optical_depth), rel=0.01)


@pytest.mark.parametrize("direction", [(0.3, 0.2, -1.0), (1.0, 0.1, -0.8), (-0.5, 0.4, 0.7)])
def test_a_slanted_way_through_a_wide_slab_is_longer_by_its_cosine(direction: tuple[float, ...]) -> None:
    volume = lit(torch.full((10, 120, 120), 1e-3))
    ray = unit(*direction)
    origin = torch.tensor([[12_000.0, 15_000.0, 450.0]]) - 3_000.0 * ray
    seen = march(volume, origin, ray, torch.zeros(1))
    depth = 1e-3 * 10 * STEP_M[2] / abs(float(ray[0, 2]))
    assert float(seen.transmittance) == pytest.approx(math.exp(-depth), rel=0.01)


def test_what_is_behind_the_camera_is_not_seen() -> None:
    volume = lit(torch.full((10, 12, 12), 1e-3))
    inside = torch.tensor([[1_100.0, 1_300.0, 450.0]])
    down = march(volume, inside, unit(0.0, 0.0, -1.0), torch.zeros(1))
    away = march(volume, inside + torch.tensor([[0.0, 0.0, 2_000.0]]), unit(0.0, 0.0, 1.0), torch.zeros(1))
    assert float(down.transmittance) == pytest.approx(math.exp(-0.5), rel=0.02)
    assert float(away.transmittance) == 1.0 and float(away.sunlight) == 0.0


def test_a_bright_fog_glows_by_what_it_takes_away() -> None:
    """With a source of 1 everywhere, light gained is light lost."""
    fog = torch.rand(8, 9, 10, generator=torch.manual_seed(0)) * 2e-3
    volume = lit(torch.nn.functional.pad(fog, (1,) * 6))  # there is light beside it too
    rays = torch.nn.functional.normalize(torch.randn(500, 3, generator=torch.manual_seed(1)), dim=1)
    seen = march(volume, torch.tensor([[900.0, 1_000.0, 350.0]]) - 5_000.0 * rays, rays, torch.zeros(500))
    assert torch.allclose(seen.sunlight, 1.0 - seen.transmittance, atol=1e-5)
    assert torch.allclose(seen.skylight, 1.0 - seen.transmittance, atol=1e-5)
    assert float(seen.transmittance.min()) < 0.5


def test_without_cloud_there_is_sky_and_sea_exactly() -> None:
    scene = light_up(torch.zeros(4, 5, 6), (0.0, 0.0, 50.0), STEP_M, 0.0, LOW_EAST)
    origin, rays = (
        torch.tensor([0.0, 0.0, 3_000.0]),
        torch.nn.functional.normalize(torch.randn(6, 7, 3), dim=2),
    )
    bare = develop(background(scene, origin, rays.reshape(-1, 3), 1e5), scene.sun[2]).view(6, 7, 3)
    assert torch.equal(picture(scene, origin, rays, 1e5), bare)


@pytest.mark.slow
def test_around_a_cloud_the_picture_is_that_without_it_but_for_the_shadow() -> None:
    cloud, none = ball_scene(UP), light_up(torch.zeros(4, 5, 6), (0.0, 0.0, 50.0), STEP_M, 0.0, UP)
    seen, bare = (view(s, (0.0, -8_000.0, 3_000.0)) for s in (cloud, none))
    assert torch.equal(seen[:4], bare[:4])
    assert (seen != bare).any(dim=2).float().mean() > 0.2


@pytest.mark.slow
def test_the_side_to_the_sun_is_brighter() -> None:
    seen = view(ball_scene(LOW_EAST), (0.0, -8_000.0, 1_750.0)).float().mean(dim=2)
    middle = seen[18:22]
    assert middle[:, 24:30].mean() > middle[:, 10:16].mean() + 20
    top = view(ball_scene(UP), (0.0, -8_000.0, 1_750.0)).float().mean(dim=2)[:, 18:22]
    assert top[11:16].mean() > top[24:29].mean() + 20


@pytest.mark.slow
def test_a_thick_cloud_is_bright_but_neither_black_nor_burnt_out() -> None:
    seen = view(ball_scene((0.0, -0.6, 0.8)), (0.0, -8_000.0, 3_000.0)).float()
    cloud = seen[17:23, 17:23]
    assert 180 < cloud.mean() < 250
    assert cloud.std() > 0.5


@pytest.mark.slow
def test_light_in_the_cloud_is_finite_and_within_what_shone_in() -> None:
    values = ball_scene(LOW_EAST).volume.values  # type: ignore[union-attr]
    assert torch.isfinite(values).all() and (values >= 0).all()
    assert float(values[1].max()) <= 1.0 and float(values[3].max()) <= 1.0
    # In a medium that absorbs nothing, mean intensity can exceed the beam's 1 / 4 pi a little, not by much.
    assert float(values[2].max()) < 4 / (4 * math.pi)


@pytest.mark.slow
def test_the_shadow_lies_opposite_the_sun() -> None:
    scene = ball_scene(LOW_EAST)
    west, south, east, north = scene.shadow_box_m
    rows, columns = scene.shadow.shape
    y, x = torch.meshgrid(
        torch.linspace(south, north, rows), torch.linspace(west, east, columns), indexing="ij"
    )
    weight = scene.shadow / scene.shadow.sum()
    # The middle of the ball is at (0, 0, 1750): its shadow is 1750 * 0.8 / 0.6 further west.
    assert float((x * weight).sum()) == pytest.approx(-1_750 * 0.8 / 0.6, abs=60)
    assert float((y * weight).sum()) == pytest.approx(0, abs=60)
    assert 0.9 < float(scene.shadow.max()) <= 1.0
    assert float(scene.shadow[0].max()) == float(scene.shadow[:, -1].max()) == 0.0


def test_the_phase_function_sums_to_one_and_looks_forward() -> None:
    cosine = torch.linspace(-1, 1, 200_001, dtype=torch.float64)
    total = 2 * math.pi * torch.trapezoid(phase_function(cosine), cosine)
    assert float(total) == pytest.approx(1.0, rel=1e-3)
    assert float(phase_function(torch.tensor(1.0))) > 5 * float(phase_function(torch.tensor(-1.0)))
