"""Quadrature against closed forms and fp64."""

from __future__ import annotations

from contextlib import nullcontext

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from torch import Tensor

from atmonr.render.integrate import integrate


def reference(depth_S: np.ndarray, source_S: np.ndarray) -> float:
    """Radiance of one ray in fp64, bin after bin."""
    radiance, passed = 0.0, 1.0
    for depth, source in zip(depth_S, source_S, strict=True):
        radiance += passed * (1.0 - np.exp(-depth)) * source
        passed *= np.exp(-depth)
    return float(radiance)


def rays(count: int, bins: int, depth: float) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(2)
    return depth / bins * 2 * torch.rand(count, bins, generator=generator), torch.rand(
        count, bins, generator=generator
    )


@pytest.mark.parametrize("depth", [1e-6, 1e-2, 1.0, 30.0, 1e4])
def test_weights_and_transmittance_sum_to_one(depth: float) -> None:
    rendered = integrate(*rays(50, 96, depth))
    assert (rendered.weights >= 0).all()
    total = rendered.weights.double().sum(1) + rendered.transmittance.double()
    torch.testing.assert_close(total, torch.ones(50).double(), atol=3e-6, rtol=0)


@pytest.mark.parametrize("depth", [1e-4, 0.3, 4.0, 80.0])
def test_a_uniform_slab_is_its_closed_form(depth: float) -> None:
    rendered = integrate(torch.full((1, 64), depth / 64), torch.full((1, 64), 0.7))
    assert rendered.radiance.item() == pytest.approx(-0.7 * np.expm1(-depth), rel=2e-6)
    assert rendered.transmittance.item() == pytest.approx(np.exp(-depth), rel=2e-5, abs=1e-37)


def test_varying_extinction_and_source_converge_to_the_integral() -> None:
    length = 30_000.0

    def extinction(t: float | np.ndarray) -> float | np.ndarray:
        return 2e-4 * np.exp(-(((t - 18_000.0) / 4_000.0) ** 2)) + 1e-5

    def source(t: float | np.ndarray) -> float | np.ndarray:
        return 0.5 + 0.4 * np.sin(t / 3_000.0)

    def seen(t: float) -> float:
        return float(np.exp(-quad(extinction, 0, t)[0]) * extinction(t) * source(t))

    exact = quad(seen, 0, length, epsrel=1e-9)[0]
    bins = 512
    t = (np.arange(bins) + 0.5) * length / bins
    depth = torch.tensor(extinction(t) * length / bins, dtype=torch.float32)[None]
    rendered = integrate(depth, torch.tensor(source(t), dtype=torch.float32)[None])
    assert rendered.radiance.item() == pytest.approx(exact, rel=2e-5)


def test_gradients_are_those_of_finite_differences_in_fp64() -> None:
    depth, source = rays(1, 12, 3.0)
    depth.requires_grad_(), source.requires_grad_()
    integrate(depth, source).radiance.sum().backward()
    values = [depth.detach()[0].double().numpy(), source.detach()[0].double().numpy()]
    for which, gradient in enumerate((depth.grad, source.grad)):
        assert gradient is not None
        for k in range(12):
            up, down = [[v.copy() for v in values] for _ in range(2)]
            up[which][k] += 1e-5
            down[which][k] -= 1e-5
            slope = (reference(*up) - reference(*down)) / 2e-5
            assert gradient[0, k].item() == pytest.approx(slope, rel=1e-4, abs=1e-6)


def test_gradient_of_the_transmittance_reaches_every_bin_alike() -> None:
    depth, source = rays(1, 12, 3.0)
    depth.requires_grad_()
    rendered = integrate(depth, source)
    rendered.transmittance.sum().backward()
    assert depth.grad is not None
    torch.testing.assert_close(depth.grad, -rendered.transmittance.detach()[:, None].expand(1, 12))


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16])
def test_quadrature_is_fp32_whatever_the_networks_are(kind: torch.dtype) -> None:
    depth, source = (values.to(kind) for values in rays(20, 200, 2.0))
    expected = integrate(depth.float(), source.float())
    for context in (nullcontext(), torch.autocast("cpu", dtype=torch.bfloat16)):
        with context:
            rendered = integrate(depth, source)
        for got, exact in zip(rendered, expected, strict=True):
            assert got.dtype == torch.float32
            assert torch.equal(got, exact)


def test_thin_bins_keep_their_relative_precision() -> None:
    depth = torch.full((1, 8), 1e-9)
    rendered = integrate(depth, torch.ones(1, 8))
    assert rendered.radiance.item() == pytest.approx(8e-9, rel=1e-6)


def test_a_thin_layer_far_along_the_ray_keeps_its_optical_depth() -> None:
    """In half precision, distances of 40 km are known to 32 m, and this layer of 200 m to a sixth."""
    step, bins = 25.0, 1800
    begin = np.arange(bins) * step
    inside = (begin >= 40_000.0) & (begin < 40_200.0)
    depth = torch.tensor(np.where(inside, step / 200.0, 0.0), dtype=torch.float32)[None]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rendered = integrate(depth, torch.full_like(depth, 0.5))
    assert rendered.transmittance.item() == pytest.approx(np.exp(-1.0), rel=1e-6)
    assert rendered.radiance.item() == pytest.approx(0.5 * (1 - np.exp(-1.0)), rel=1e-6)
