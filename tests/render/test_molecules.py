"""The air against published optical depths and the closed form of single scattering."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.integrate import quad

from atmonr.render import molecules
from atmonr.render.integrate import integrate


@pytest.mark.parametrize(("wavelength", "depth"), [(441, 0.240), (549, 0.098), (669, 0.044), (873, 0.015)])
def test_vertical_optical_depth(wavelength: float, depth: float) -> None:
    assert molecules.optical_depth(wavelength) == pytest.approx(depth, rel=0.03)


def test_phase_function_has_mean_one_over_the_sphere() -> None:
    mean, _ = quad(lambda c: molecules.phase(torch.tensor(c, dtype=torch.float64)).item() / 2, -1, 1)
    assert mean == pytest.approx(1.0, abs=1e-9)


def test_extinction_profile_is_the_slope_of_the_column_above() -> None:
    height = torch.linspace(0.0, 30_000.0, 7, dtype=torch.float64)
    slope = (molecules.column_above(height - 1) - molecules.column_above(height + 1)) / 2
    torch.testing.assert_close(molecules.depth_profile_per_m(height), slope, rtol=1e-6, atol=0)
    whole, _ = quad(lambda z: molecules.depth_profile_per_m(torch.tensor(z)).item(), 0, 2e5)
    assert whole == pytest.approx(1.0, abs=1e-4)


@pytest.mark.parametrize("depth", [0.015, 0.24])
def test_light_scattered_once_is_the_closed_form(depth: float) -> None:
    """R = P / (4 (mu + mu0)) (1 - exp(-tau (1/mu + 1/mu0))) for any vertical profile (Chandrasekhar 1960)."""
    sun, view, scattering = 0.77, 0.5, -0.3
    edges = np.linspace(60_000.0, 0.0, 2001)
    height = torch.tensor((edges[:-1] + edges[1:]) / 2, dtype=torch.float32)[None]
    above = depth * molecules.column_above(height)
    source = molecules.single_scattering_source(torch.tensor(scattering), torch.tensor(sun), above)
    step = 30.0 / view
    rendered = integrate(depth * molecules.depth_profile_per_m(height) * step, source)
    phase = 0.75 * (1 + scattering**2)
    exact = phase / (4 * (view + sun)) * -np.expm1(-depth * (1 / view + 1 / sun))
    assert rendered.radiance.item() == pytest.approx(exact, rel=2e-3)
