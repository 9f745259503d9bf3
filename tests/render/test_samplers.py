"""Bins that cover the ray, samples inside them, and a density that is followed."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from atmonr.render.integrate import integrate
from atmonr.render.samplers import Samples, biased, pdf, uniform

RAYS, PARTS, BINS = 7, 12, 48


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def from_density(jitter: Tensor) -> Samples:
    """Weights that differ from ray to ray, with gaps."""
    weights = random(len(jitter), PARTS, seed=5)
    return pdf(torch.where(weights > 0.4, weights, 0.0), jitter, 0.1)


SAMPLERS = pytest.mark.parametrize("sampler", [uniform, biased, from_density])
Sampler = Callable[[Tensor], Samples]


@SAMPLERS
def test_bins_cover_the_whole_ray_and_each_holds_its_sample(sampler: Sampler) -> None:
    jitter = random(RAYS, BINS)
    jitter[0], jitter[1] = 0.0, 1.0 - 2.0**-24
    position, width = sampler(jitter)
    assert (width > 0).all()
    torch.testing.assert_close(width.double().sum(1), torch.ones(RAYS).double(), atol=2e-6, rtol=0)
    # The bins are contiguous from 0, so a sample lies in its own bin if it lies between the running sums.
    edges = torch.nn.functional.pad(width.double().cumsum(1), (1, 0))
    assert (position >= edges[:, :-1] - 1e-6).all() and (position <= edges[:, 1:] + 1e-6).all()
    np.testing.assert_allclose((position - edges[:, :-1]) / width, jitter, atol=1e-3)
    assert position.min() >= 0 and position.max() <= 1


@SAMPLERS
@pytest.mark.parametrize("jitter", [0.0, 0.5, 0.999])
def test_nothing_before_the_surface_is_left_out(sampler: Sampler, jitter: float) -> None:
    """The optical depth of constant extinction is extinction times length, wherever the samples lie."""
    _, width = sampler(torch.full((RAYS, BINS), jitter))
    rendered = integrate(width * 25_000.0 * 1e-4, torch.ones(RAYS, BINS))
    torch.testing.assert_close(rendered.transmittance, torch.full((RAYS,), np.exp(-2.5)), rtol=3e-6, atol=0)


def test_uniform_bins_are_equal() -> None:
    position, width = uniform(torch.full((1, 4), 0.5))
    assert width.tolist() == [[0.25] * 4]
    assert position.tolist() == [[0.125, 0.375, 0.625, 0.875]]


def test_biased_bins_shrink_linearly_towards_the_surface() -> None:
    _, width = biased(torch.zeros(2, 10))
    np.testing.assert_allclose(width[0], (19 - 2 * np.arange(10)) / 100, rtol=1e-5)


def test_pdf_bins_hold_equal_shares_of_the_density() -> None:
    weights, floor = random(RAYS, PARTS, seed=3).square(), 0.2
    position, _ = pdf(weights, torch.zeros(RAYS, BINS), floor)
    for row, placed in zip(weights.double().numpy(), position.numpy(), strict=True):
        density = floor / PARTS + (1 - floor) * row / row.sum()
        cumulative = np.concatenate([[0.0], density.cumsum()])
        expected = np.interp(np.arange(BINS) / BINS, cumulative, np.arange(PARTS + 1) / PARTS)
        np.testing.assert_allclose(placed, expected, atol=2e-6)


def test_pdf_samples_lie_where_the_weight_is() -> None:
    weights = torch.zeros(1, PARTS)
    weights[0, 3] = 7.0
    position, _ = pdf(weights, torch.full((1, 100), 0.5), 0.2)
    inside = (position > 3 / PARTS) & (position < 4 / PARTS)
    # 80 by weight and a twelfth of the other 20.
    assert 80 <= int(inside.sum()) <= 84
    assert int((position > 4 / PARTS).sum()) > 0


def test_pdf_without_any_weight_is_uniform() -> None:
    jitter = random(RAYS, BINS)
    torch.testing.assert_close(pdf(torch.zeros(RAYS, PARTS), jitter, 0.1), uniform(jitter), atol=2e-6, rtol=0)


def test_a_tiny_weight_is_still_a_weight() -> None:
    weights = torch.zeros(1, PARTS)
    weights[0, -1] = 1e-30
    position, _ = pdf(weights, torch.full((1, 10), 0.5), 0.1)
    assert (position > (PARTS - 1) / PARTS).sum() >= 9


def test_samples_carry_no_gradient_to_the_weights() -> None:
    """A fine network that moves the samples of the coarse one trains it for another purpose than its own."""
    position, width = pdf(torch.ones(1, PARTS, requires_grad=True), torch.zeros(1, 4), 0.5)
    assert not position.requires_grad and not width.requires_grad
