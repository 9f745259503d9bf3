"""What the ground or the sea reflects. Albedos and reflectances are numbers of 1; places are metres."""

from __future__ import annotations

import math
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from atmonr.errors import UsageError

WIND_M_PER_S = 5.0
WATER_INDEX = 1.34

# Wavelength [nm] and, at it, the albedo of sea water with foam, of vegetation and of bare soil.
_WAVELENGTH_NM = (440.0, 550.0, 665.0, 865.0)
_WATER = (0.050, 0.035, 0.025, 0.020)
_PLANTS = (0.05, 0.09, 0.06, 0.30)
_SOIL = (0.16, 0.25, 0.35, 0.35)


class Surface(Protocol):
    """A Lambertian albedo that may vary from place to place, and what mirrors the sun beside it."""

    black: bool  # reflects nothing anywhere

    def albedo(self, x_m: Tensor, y_m: Tensor, wavelength_nm: float) -> Tensor:
        """Lambertian albedo at places of any shape."""
        ...

    def glint(self, view: Tensor, sun: Tensor) -> Tensor:
        """Reflectance pi I / (mu0 F0) of the direct sun seen from (..., 3) directions to the sensor."""
        ...


class Black:
    """Nothing comes back."""

    black = True

    def albedo(self, x_m: Tensor, y_m: Tensor, wavelength_nm: float) -> Tensor:
        return torch.zeros_like(x_m)

    def glint(self, view: Tensor, sun: Tensor) -> Tensor:
        return torch.zeros_like(view[..., 0])


class Ocean:
    """A dark sea whose waves mirror the sun.

    Source of the slopes: C. Cox and W. Munk, J. Opt. Soc. Am. 44 (1954), isotropic form.
    """

    black = False

    def albedo(self, x_m: Tensor, y_m: Tensor, wavelength_nm: float) -> Tensor:
        return torch.full_like(x_m, float(np.interp(wavelength_nm, _WAVELENGTH_NM, _WATER)))

    def glint(self, view: Tensor, sun: Tensor) -> Tensor:
        half = view + sun
        half = half / half.norm(dim=-1, keepdim=True)
        variance = 0.003 + 0.00512 * WIND_M_PER_S
        upright = half[..., 2] ** 2
        slopes = torch.exp(-(1 - upright) / (upright * variance)) / (math.pi * variance)
        mirrored = _fresnel((half * sun).sum(dim=-1))
        return math.pi * mirrored * slopes / (4 * sun[2] * view[..., 2] * upright**2)


class Land:
    """Fields and woods: a patchwork of vegetation and soil with detail down to a few pixels.

    Args:
        detail_m: the shortest wavelength of the pattern.
        seed: which pattern.
    """

    black = False

    def __init__(self, detail_m: float, seed: int) -> None:
        generator = np.random.default_rng([seed, 1])
        length = detail_m * np.geomspace(1.0, 12.0, 24)
        angle = generator.uniform(0.0, math.pi, length.size)
        waves = np.stack([np.cos(angle), np.sin(angle)]) * (2 * math.pi / length)
        self._waves_2K = torch.tensor(waves, dtype=torch.float32)
        self._phase_K = torch.tensor(generator.uniform(0, 2 * math.pi, length.size), dtype=torch.float32)
        self._height_K = torch.tensor((length / length.mean()) ** 0.5 * 0.35, dtype=torch.float32)

    def albedo(self, x_m: Tensor, y_m: Tensor, wavelength_nm: float) -> Tensor:
        pattern = (torch.stack([x_m, y_m], dim=-1) @ self._waves_2K + self._phase_K).sin() @ self._height_K
        soil = torch.sigmoid(2.0 * pattern)
        plants, bare = (float(np.interp(wavelength_nm, _WAVELENGTH_NM, part)) for part in (_PLANTS, _SOIL))
        return plants + (bare - plants) * soil

    def glint(self, view: Tensor, sun: Tensor) -> Tensor:
        return torch.zeros_like(view[..., 0])


def surface_named(name: str, detail_m: float, seed: int) -> Surface:
    """The surface called "black", "ocean" or "land".

    Raises:
        UsageError: for any other name.
    """
    if name == "black":
        return Black()
    if name == "ocean":
        return Ocean()
    if name == "land":
        return Land(detail_m, seed)
    raise UsageError(f"surface {name!r}: expected black, ocean or land")


def _fresnel(cos_incidence: Tensor) -> Tensor:
    """Share of unpolarised light that a smooth water surface mirrors."""
    cos_refracted = (1 - (1 - cos_incidence**2) / WATER_INDEX**2).sqrt()
    across = (cos_incidence - WATER_INDEX * cos_refracted) / (cos_incidence + WATER_INDEX * cos_refracted)
    along = (WATER_INDEX * cos_incidence - cos_refracted) / (WATER_INDEX * cos_incidence + cos_refracted)
    return 0.5 * (across**2 + along**2)
