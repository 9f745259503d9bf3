"""Light in clouds against closed forms, an exact one-dimensional solution, and symmetry."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.special import expn
from torch import Tensor

from atmonr.render.transport import Light, dark, directions, illuminate

CPU = torch.device("cpu")


def towards(x: float, y: float, up: float, shape: tuple[int, int]) -> Tensor:
    """(3, Y, X) the same sun over every column."""
    sun = torch.tensor([x, y, up]) / math.sqrt(x * x + y * y + up * up)
    return sun[:, None, None].expand(3, *shape).contiguous()


def blob(shape: tuple[int, int, int], extinction: float = 2e-3) -> Tensor:
    """A lopsided cloud away from the edges."""
    z, y, x = (torch.linspace(-1, 1, n) for n in shape)
    z, y, x = torch.meshgrid(z, y, x, indexing="ij")
    inside = (x - 0.1).square() * 5 + (y + 0.2).square() * 9 + (z - 0.1 * x).square() * 6 < 1
    return extinction * inside.float()


def test_directions_integrate_intensity_and_flux_over_a_hemisphere() -> None:
    slope, cosine, weight = directions(CPU)
    assert weight.sum().item() == pytest.approx(0.5)
    assert (weight * cosine).sum().item() == pytest.approx(0.25)
    torch.testing.assert_close(slope.square().sum(1), 1 / cosine**2 - 1, rtol=1e-5, atol=0)
    torch.testing.assert_close((weight[:, None] * slope).sum(0), torch.zeros(2), atol=1e-6, rtol=0)
    assert (slope.abs() > 1e-3).all()


def test_the_direct_beam_through_a_slab_is_the_law_of_beer_on_the_slant() -> None:
    shape, spacing, k = (21, 25, 25), (400.0, 400.0, 100.0), 4e-4
    sun = towards(0.5, -0.3, 0.7, shape[1:])
    light = illuminate(torch.full(shape, k), 1.0, spacing, sun, dark(shape, CPU), 1)
    above = torch.arange(20, -1, -1) * 100.0
    expected = torch.exp(-k * above / sun[2, 0, 0])
    torch.testing.assert_close(light.direct[:, 12, 12], expected, rtol=2e-5, atol=0)
    assert (light.direct[-1] == 1).all()


class Slab:
    """Isotropic scattering between two planes, exact (Chandrasekhar 1960, ch. I and III).

    The mean intensity J of scattered light obeys J(t) = 1/2 int E1(|t - u|) S(u) du with the source function
    S = w (J + exp(-u / mu0) / (4 pi)), for sunlight of unit irradiance; solved on panels with constant S.
    """

    def __init__(self, depth: float, albedo: float, sun_cosine: float, panels: int = 400) -> None:
        self.sun_cosine, self.depth = sun_cosine, depth
        self.edges = np.linspace(0.0, depth, panels + 1)
        self.t = (self.edges[1:] + self.edges[:-1]) / 2
        beam = np.exp(-self.t / sun_cosine) / (4 * math.pi)
        kernel = self._panels(self.t, 2) / 2
        self.diffuse = np.linalg.solve(np.eye(panels) - albedo * kernel, albedo * kernel @ beam)
        self.source = albedo * (self.diffuse + beam)

    def _panels(self, t: np.ndarray, order: int) -> np.ndarray:
        """Integral of E_(order-1)(|t - u|) over each panel, for t inside or at the edge of panels."""
        away = np.abs(t[:, None] - self.edges)
        primitive = np.sign(self.edges - t[:, None]) * (expn(order, 0.0) - expn(order, away))
        return np.diff(primitive, axis=1)

    def flux(self, at: float) -> float:
        """Diffuse flux that leaves through the top (at 0) or the bottom (at `depth`)."""
        return float(2 * math.pi * (self._panels(np.array([at]), 3) @ self.source)[0])


@pytest.mark.parametrize(
    ("depth", "albedo", "sun_cosine"), [(0.5, 1.0, 0.9), (2.0, 1.0, 0.7), (4.0, 1.0, 0.5), (2.0, 0.8, 0.7)]
)
def test_a_wide_slab_is_the_exact_plane_parallel_solution(
    depth: float, albedo: float, sun_cosine: float
) -> None:
    shape, layer, wide = (25, 9, 9), 50.0, 8000.0
    height = layer * (shape[0] - 1)
    extinction = torch.full(shape, depth / height)
    sun = towards(math.sqrt(1 - sun_cosine**2), 0.0, sun_cosine, shape[1:])
    light = illuminate(extinction, albedo, (wide, wide, layer), sun, dark(shape, CPU), 80)
    exact = Slab(depth, albedo, sun_cosine)
    if albedo == 1:
        leaving = exact.flux(0) + exact.flux(depth) + sun_cosine * np.exp(-depth / sun_cosine)
        assert leaving == pytest.approx(sun_cosine, rel=1e-3)
    down_from_top = torch.linspace(depth, 0.0, shape[0]).numpy()
    mean = np.interp(down_from_top, exact.t, exact.diffuse)
    got = light.diffuse[:, 4, 4].numpy()
    # Two polar angles and straight segments between planes: 5 % inside, 12 % on the faces of the slab.
    np.testing.assert_allclose(got[2:-2], mean[2:-2], rtol=0.05)
    np.testing.assert_allclose(got, mean, rtol=0.12)
    transmitted = exact.flux(depth) / sun_cosine + np.exp(-depth / sun_cosine)
    assert light.ground[4, 4].item() == pytest.approx(transmitted, rel=0.03)


@pytest.mark.slow
@pytest.mark.parametrize("depth", [1.0, 6.0])
def test_a_slab_neither_makes_nor_loses_light(depth: float) -> None:
    """Flux up at the top, by an integral over the solved source function, and what reaches the ground."""
    shape, layer, sun_cosine = (25, 9, 9), 50.0, 0.7
    extinction = torch.full(shape, depth / (layer * 24))
    sun = towards(0.3, math.sqrt(0.51 - 0.09), sun_cosine, shape[1:])
    light = illuminate(extinction, 1.0, (6000.0, 6000.0, layer), sun, dark(shape, CPU), 100)
    source = (light.diffuse + light.direct / (4 * math.pi))[:, 4, 4].double().numpy()[::-1]
    t = np.linspace(0.0, depth, 25)
    upwards = 2 * math.pi * np.trapezoid(source * expn(2, t), t)
    assert upwards / sun_cosine + light.ground[4, 4].item() == pytest.approx(1.0, abs=0.05)


def test_clear_air_is_dark_and_fully_lit() -> None:
    shape = (5, 6, 7)
    light = illuminate(
        torch.zeros(shape), 1.0, (100.0,) * 3, towards(0.4, 0.2, 0.8, (6, 7)), dark(shape, CPU), 3
    )
    for got, expected in zip(light, dark(shape, CPU), strict=True):
        assert torch.equal(got, expected)


@pytest.mark.parametrize(("sun_x", "sun_y"), [(1, 0), (-1, 0), (0, 1), (0, -1)])
def test_shadows_fall_away_from_the_sun(sun_x: int, sun_y: int) -> None:
    """With the sun at 45 degrees a cloud 600 m up shades the ground 600 m on the other side."""
    shape, spacing = (9, 31, 41), (100.0, 100.0, 100.0)
    extinction = torch.zeros(shape)
    extinction[6, 15, 20] = 0.05
    light = illuminate(extinction, 1.0, spacing, towards(sun_x, sun_y, 1, shape[1:]), dark(shape, CPU), 1)
    row, column = divmod(int(light.ground.argmin()), 41)
    assert (row, column) == (15 - 6 * sun_y, 20 - 6 * sun_x)
    assert divmod(int(light.direct[0].argmin()), 41) == (row, column)


def test_turning_scene_and_sun_together_turns_the_light() -> None:
    shape = (9, 21, 21)
    extinction, spacing = blob(shape), (150.0, 210.0, 120.0)
    light = illuminate(extinction, 1.0, spacing, towards(0.5, 0.2, 0.8, (21, 21)), dark(shape, CPU), 6)
    turned = illuminate(
        # From x to y: what was at column c is at row c.
        torch.rot90(extinction, -1, (1, 2)),
        1.0,
        (210.0, 150.0, 120.0),
        towards(-0.2, 0.5, 0.8, (21, 21)),
        dark(shape, CPU),
        6,
    )
    assert light.diffuse.max() > 0.01
    torch.testing.assert_close(torch.rot90(light.diffuse, -1, (1, 2)), turned.diffuse, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(torch.rot90(light.direct, -1, (1, 2)), turned.direct, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(torch.rot90(light.ground, -1, (0, 1)), turned.ground, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_a_warm_start_ends_where_a_cold_start_does() -> None:
    shape, spacing = (9, 15, 15), (150.0, 150.0, 120.0)
    sun = towards(0.5, 0.2, 0.8, (15, 15))
    cold = illuminate(blob(shape), 1.0, spacing, sun, dark(shape, CPU), 120)
    other = illuminate(torch.full(shape, 1e-3), 1.0, spacing, sun, dark(shape, CPU), 20)
    warm = other
    for _ in range(60):
        warm = illuminate(blob(shape), 1.0, spacing, sun, warm, 2)
    for got, expected in zip(warm, cold, strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-6)
    assert (other.diffuse - cold.diffuse).abs().max() > 0.005


def test_thicker_cloud_lets_less_light_to_the_ground() -> None:
    shape, spacing = (9, 15, 15), (150.0, 150.0, 120.0)
    sun = towards(0.2, 0.1, 0.9, (15, 15))
    ground = [
        illuminate(blob(shape, k), 1.0, spacing, sun, dark(shape, CPU), 30).ground for k in (5e-4, 2e-3, 8e-3)
    ]
    assert ground[0].min() > ground[1].min() > ground[2].min() > 0
    assert all(field.max() <= 1.2 for field in ground)


def test_a_cloud_that_only_absorbs_leaves_the_direct_beam() -> None:
    shape, spacing = (9, 15, 15), (150.0, 150.0, 120.0)
    sun = towards(0.2, 0.1, 0.9, (15, 15))
    light = illuminate(blob(shape), 0.0, spacing, sun, dark(shape, CPU), 3)
    assert (light.diffuse == 0).all()
    assert torch.equal(light.ground, light.direct[0]) and light.ground.min() < 0.5


def test_no_order_of_scattering_is_no_request() -> None:
    shape = (3, 3, 3)
    with pytest.raises(ValueError, match="at least one order"):
        illuminate(torch.zeros(shape), 1.0, (1.0,) * 3, towards(0, 0, 1, (3, 3)), dark(shape, CPU), 0)


def test_light_stays_finite_in_an_opaque_cloud() -> None:
    shape = (9, 15, 15)
    sun = towards(0.2, 0.1, 0.9, (15, 15))
    light: Light = illuminate(blob(shape, 1.0), 1.0, (150.0, 150.0, 120.0), sun, dark(shape, CPU), 10)
    assert all(torch.isfinite(field).all() for field in light)
    assert light.diffuse.max() * 4 * math.pi < 4.0
