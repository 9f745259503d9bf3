"""Sunlight in a cloud: direct beam and multiply scattered light on a grid.

The scattering problem is replaced by its similar isotropic one (van de Hulst 1980, ch. 14: extinction (1 - g)
times the true one, isotropic scattering, no absorption). Discrete directions sweep the grid plane by plane
along short characteristics, and one order of scattering is added per sweep, starting from the last known
field: while the extinction changes little between calls, a call or two suffice.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import grid_sample

POLAR_ANGLES = 2  # per hemisphere, double Gauss
AZIMUTHS = 8


class Light(NamedTuple):
    """Light on a grid, per unit of solar irradiance on a plane facing the sun."""

    direct: Tensor  # (Z, Y, X) transmittance towards the sun
    diffuse: Tensor  # (Z, Y, X) mean intensity of scattered light [1/sr]
    ground: Tensor  # (Y, X) direct and diffuse light that reaches the lowest plane, 1 without cloud


class Directions(NamedTuple):
    """Quadrature over one hemisphere; the other is its mirror image."""

    slope: Tensor  # (D, 2) horizontal metres per vertical metre, x and y
    cosine: Tensor  # (D,) of the angle from the vertical
    weight: Tensor  # (D,) solid angle / 4 pi; sums to 1/2


def directions(device: torch.device) -> Directions:
    """Double-Gauss polar angles and even azimuths, off the axes."""
    node, share = np.polynomial.legendre.leggauss(POLAR_ANGLES)
    cosine = np.repeat((node + 1.0) / 2.0, AZIMUTHS)
    azimuth = np.tile(2.0 * math.pi * (np.arange(AZIMUTHS) + 0.5) / AZIMUTHS, POLAR_ANGLES)
    tangent = np.sqrt(1.0 - cosine**2) / cosine
    slope = np.stack([tangent * np.cos(azimuth), tangent * np.sin(azimuth)], axis=1)
    weight = np.repeat(share / 2.0, AZIMUTHS) / AZIMUTHS / 2.0
    return Directions(*(torch.tensor(a, dtype=torch.float32, device=device) for a in (slope, cosine, weight)))


def illuminate(
    extinction_per_m: Tensor,
    albedo: float,
    spacing_m: tuple[float, float, float],
    sun: Tensor,
    before: Light,
    orders: int,
) -> Light:
    """Adds orders of scattering to the light on a grid.

    Args:
        extinction_per_m: (Z, Y, X) extinction of the similar isotropic medium at grid points, lowest plane
            first [m^-1].
        albedo: Single-scattering albedo of that medium.
        spacing_m: Distance of grid points in x, y, z [m].
        sun: (3, Y, X) x, y, upward components of the unit vector to the sun; upward component positive.
        before: Light of an earlier, similar extinction to start from.
        orders: Sweeps to do.

    Returns:
        Light on the same grid. Nothing but the sun shines in from outside the grid, and the ground is black.
    """
    direct = torch.exp(-sun_optical_depth(extinction_per_m, spacing_m, sun))
    quadrature = directions(extinction_per_m.device)
    diffuse, downward = before.diffuse, None
    for _ in range(orders):
        source = albedo * (direct / (4.0 * math.pi) + diffuse)
        down, downward = _sweep(extinction_per_m, source, spacing_m, quadrature, from_top=True)
        up, _ = _sweep(extinction_per_m, source, spacing_m, quadrature, from_top=False)
        diffuse = down + up
    if downward is None:
        raise ValueError("illuminate: expected at least one order of scattering")
    flux = 4.0 * math.pi * torch.einsum("dyx,d->yx", downward, quadrature.weight * quadrature.cosine)
    return Light(direct, diffuse, direct[0] + flux / sun[2])


def dark(shape: tuple[int, int, int], device: torch.device) -> Light:
    """Light in the absence of cloud: the direct beam everywhere, nothing scattered."""
    one = torch.ones(shape, device=device)
    return Light(one, torch.zeros_like(one), one[0].clone())


def sun_optical_depth(extinction: Tensor, spacing: tuple[float, float, float], sun: Tensor) -> Tensor:
    """(Z, Y, X) optical depth from each grid point towards the sun, plane by plane from the top.

    The arguments are those of `illuminate`; the extinction may be that of any medium.
    """
    step = spacing[2] / sun[2]
    shift = (sun[:2] / sun[2] * spacing[2]).permute(1, 2, 0)[None]
    upwind = _upwind(shift, spacing, extinction.shape[1:])
    depth = [torch.zeros_like(extinction[0])]
    for plane in range(len(extinction) - 2, -1, -1):
        above = torch.stack([depth[-1], extinction[plane + 1]])[None]
        passed, outside = grid_sample(above, upwind, align_corners=True)[0]
        depth.append(passed + 0.5 * step * (outside + extinction[plane]))
    return torch.stack(depth[::-1])


def _sweep(
    extinction: Tensor,
    source: Tensor,
    spacing: tuple[float, float, float],
    quadrature: Directions,
    from_top: bool,
) -> tuple[Tensor, Tensor]:
    """Light that travels through one hemisphere.

    Returns:
        (Z, Y, X) share of the mean intensity [1/sr], and (D, Y, X) intensity that leaves the last plane.
    """
    upward = 1.0 if from_top else -1.0
    shift = (quadrature.slope * (upward * spacing[2]))[:, None, None, :]
    upwind = _upwind(shift.expand(-1, *extinction.shape[1:], -1), spacing, extinction.shape[1:])
    step = (spacing[2] / quadrature.cosine)[:, None, None]
    planes = range(len(extinction) - 1, -1, -1) if from_top else range(len(extinction))
    intensity = torch.zeros_like(upwind[..., 0])
    mean = torch.zeros_like(extinction)
    last = None
    for plane in planes:
        if last is not None:
            emitted = extinction[last] * source[last]
            behind = torch.stack(
                [intensity, extinction[last].expand_as(intensity), emitted.expand_as(intensity)], 1
            )
            arriving, before, glow = grid_sample(behind, upwind, align_corners=True).unbind(1)
            total = before + extinction[plane]
            depth = 0.5 * total * step
            added = (glow + extinction[plane] * source[plane]) / total.clamp_min(1e-20)
            intensity = arriving * torch.exp(-depth) - added * torch.expm1(-depth)
        mean[plane] = torch.einsum("dyx,d->yx", intensity, quadrature.weight)
        last = plane
    return mean, intensity


def _upwind(shift_m: Tensor, spacing: tuple[float, float, float], shape: torch.Size) -> Tensor:
    """(D, Y, X, 2) sampling grid at every point displaced by (D or 1, Y, X, 2) metres; outside is empty."""
    rows, columns = shape
    y = torch.arange(rows, device=shift_m.device)[:, None] + shift_m[..., 1] / spacing[1]
    x = torch.arange(columns, device=shift_m.device)[None, :] + shift_m[..., 0] / spacing[0]
    return torch.stack([2.0 * x / (columns - 1) - 1.0, 2.0 * y / (rows - 1) - 1.0], -1)
