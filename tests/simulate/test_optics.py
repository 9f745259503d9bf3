"""Phase functions and the harmonics that carry them."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy.special import eval_legendre

from atmonr.simulate import optics

Phase = Callable[[torch.Tensor], torch.Tensor]

NODES, WEIGHTS = np.polynomial.legendre.leggauss(400)


@pytest.mark.parametrize(
    ("phase", "moment"),
    [(optics.cloud_phase, optics.cloud_moment), (optics.rayleigh_phase, optics.rayleigh_moment)],
)
@pytest.mark.parametrize("degree", range(5))
def test_moments_are_the_integrals_of_the_phase_function(
    phase: Phase, moment: Callable[[int], float], degree: int
) -> None:
    values = phase(torch.from_numpy(NODES)).numpy()
    integral = 0.5 * np.sum(WEIGHTS * values * eval_legendre(degree, NODES))
    assert moment(degree) == pytest.approx(integral, abs=1e-6)


def test_clouds_scatter_mostly_forward_and_a_little_more_backward_than_sideways() -> None:
    forward, sideways, backward = optics.cloud_phase(torch.tensor([1.0, -0.3, -1.0])).tolist()
    assert forward > 100 * backward > 100 * sideways
    assert 0.82 < optics.cloud_moment(1) < 0.88


def test_scaling_keeps_energy_and_drops_the_first_moment_that_is_not_kept() -> None:
    assert optics.scaled_cloud_moment(0) == pytest.approx(1.0)
    assert optics.scaled_cloud_moment(optics.DEGREE + 1) == pytest.approx(0.0)
    # Similarity: the scaled medium moves light about as far as the true one.
    truth = 1 - optics.cloud_moment(1)
    scaled = (1 - optics.forward_fraction()) * (1 - optics.scaled_cloud_moment(1))
    assert scaled == pytest.approx(truth)


def test_harmonics_obey_the_addition_theorem() -> None:
    generator = torch.Generator().manual_seed(0)
    directions = torch.nn.functional.normalize(torch.randn(2, 50, 3, generator=generator).double(), dim=-1)
    first, second = optics.harmonics(directions)
    cosine = (directions[0] * directions[1]).sum(-1).numpy()
    for degree in range(optics.DEGREE + 1):
        kept = optics.degrees() == degree
        total = (first * second)[:, kept].sum(-1).numpy()
        expected = (2 * degree + 1) / (4 * math.pi) * eval_legendre(degree, cosine)
        np.testing.assert_allclose(total, expected, atol=1e-6)


def test_air_above_a_height_is_the_integral_of_its_extinction() -> None:
    heights = torch.linspace(2000.0, 120_000.0, 200_001, dtype=torch.float64)
    column = torch.trapezoid(optics.rayleigh_extinction(heights, 0.24), heights)
    assert float(column) == pytest.approx(float(optics.rayleigh_depth_above(heights[0], 0.24)), rel=1e-5)
