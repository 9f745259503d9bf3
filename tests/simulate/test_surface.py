"""Ground and sea."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from atmonr.errors import UsageError
from atmonr.simulate.surface import Black, Land, Ocean, surface_named
from tests.simulate.places import towards


def places() -> tuple[torch.Tensor, torch.Tensor]:
    x, y = torch.meshgrid(torch.arange(60.0) * 320, torch.arange(60.0) * 320, indexing="ij")
    return x, y


def test_glint_is_brightest_where_the_sea_is_a_mirror() -> None:
    sun = towards(40.0, 30.0)
    zenith = np.arange(0.0, 66.0, 2.0)
    towards_sun = torch.stack([towards(angle, 30.0) for angle in zenith])
    away = torch.stack([towards(angle, 210.0) for angle in zenith])
    glint = Ocean().glint(away, sun)
    assert abs(zenith[int(glint.argmax())] - 40.0) <= 6.0
    assert 0.2 < float(glint.max()) < 2.0
    assert float(Ocean().glint(towards_sun, sun)[zenith > 20].max()) < 0.01


def test_all_the_light_that_a_smooth_water_mirrors_is_a_few_percent() -> None:
    """The integral of the glint over all directions is near Fresnel's 2.1 % for a high sun."""
    sun = towards(0.0, 0.0)
    zenith = np.arange(0.5, 80.0)
    glint = Ocean().glint(torch.stack([towards(angle, 0.0) for angle in zenith]), sun).numpy()
    radians = np.radians(zenith)
    albedo = np.sum(glint * 2 * np.cos(radians) * np.sin(radians)) * np.radians(1.0)
    assert albedo == pytest.approx(0.021, rel=0.08)


def test_the_sea_is_dark_and_bluest_in_the_blue() -> None:
    values = [float(Ocean().albedo(*places(), nm).mean()) for nm in (440.0, 550.0, 665.0, 865.0)]
    assert values == sorted(values, reverse=True)
    assert min(values) > 0.015 and max(values) < 0.055


def test_land_is_textured_and_the_same_for_the_same_seed() -> None:
    red = Land(960.0, seed=1).albedo(*places(), 665.0)
    assert 0.05 <= float(red.min()) < 0.12 and 0.28 < float(red.max()) <= 0.35
    torch.testing.assert_close(red, Land(960.0, seed=1).albedo(*places(), 665.0))
    assert float((red - Land(960.0, seed=2).albedo(*places(), 665.0)).abs().mean()) > 0.05
    infrared = Land(960.0, seed=1).albedo(*places(), 865.0)
    assert float(infrared.mean()) > float(red.mean())
    # Neighbouring pixels are alike, pixels far apart are not.
    step = float((red[1:] - red[:-1]).abs().mean())
    assert 0.01 < step < 0.5 * float(red.std())


def test_names() -> None:
    assert isinstance(surface_named("black", 1.0, 0), Black)
    assert float(Black().albedo(*places(), 440.0).max()) == 0
    with pytest.raises(UsageError, match="surface 'snow': expected black, ocean or land"):
        surface_named("snow", 1.0, 0)
