"""Light a cloud for the camera: direct beam, multiple scattering, sky, and the shadow on the ground."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import avg_pool3d, interpolate

from atmonr.export.march import LitVolume, march
from atmonr.render.transport import dark, illuminate, sun_optical_depth

Triple = tuple[float, float, float]

# Water droplets in visible light; light is solved for in the similar medium of (1 - g) times the extinction.
ASYMMETRY = 0.86
# Multiple scattering is smooth, and is solved for on at most so many points.
_LIGHT_POINTS = 60_000
_ORDERS = 24
# Cells are divided to look smooth, up to so many in all.
_POINTS = 6_000_000
_MOST_PARTS = 3
_SHADOW_COLUMNS = 384
# A sun below that would throw shadows without end.
_LOWEST_SUN = 0.08


@dataclass(frozen=True)
class LitScene:
    """A cloud over its ground.

    Attributes:
        volume: The cloud, or None where there is none.
        shadow: (Y, X) share of sunlight that the cloud keeps from the ground.
        shadow_box_m: West, south, east, north limits of `shadow` [m].
        ground_m: Height of the ground [m].
        sun: Unit vector to the sun.
    """

    volume: LitVolume | None
    shadow: Tensor
    shadow_box_m: tuple[float, float, float, float]
    ground_m: float
    sun: Triple


def light_up(
    extinction_per_m: Tensor, first_m: Triple, step_m: Triple, ground_m: float, sun: Triple
) -> LitScene:
    """Solve for the light in a cloud.

    Args:
        extinction_per_m: (Z, Y, X) at cell centres [m^-1].
        first_m: x, y, z of the first centre [m].
        step_m: Size of a cell along x, y, z [m].
        ground_m: Height of the ground [m].
        sun: Unit vector to the sun, above the horizon.
    """
    filled = torch.nonzero(extinction_per_m)
    if len(filled) == 0:
        return LitScene(None, extinction_per_m.new_zeros(2, 2), (0.0, 0.0, 1.0, 1.0), ground_m, sun)
    # Three empty cells around the cloud let light in at its sides and the smoothing fade out.
    low, high = filled.amin(dim=0), filled.amax(dim=0) + 1
    cloud = extinction_per_m[tuple(slice(int(a), int(b)) for a, b in zip(low, high, strict=True))]
    cloud = torch.nn.functional.pad(cloud, (3,) * 6)
    corner = [f + s * (float(i) - 3) for f, s, i in zip(first_m, step_m, low.flip(0), strict=True)]
    fine, first, step = _smooth(cloud, (corner[0], corner[1], corner[2]), step_m)
    similar = (1.0 - ASYMMETRY) * fine
    direct = torch.exp(-sun_optical_depth(similar, step, _everywhere(sun, similar)))
    sky = torch.exp(-sun_optical_depth(similar, step, _everywhere((0.0, 0.0, 1.0), similar)))
    diffuse = _diffuse((1.0 - ASYMMETRY) * cloud, step_m, sun, fine.shape)
    volume = LitVolume(torch.stack([fine, direct, diffuse, sky]), first, step)
    shadow, box = _shadow(volume, ground_m, sun)
    return LitScene(volume, shadow, box, ground_m, sun)


def phase_function(cosine: Tensor) -> Tensor:
    """(N,) phase function [1/sr] of the angle between sunlight and line of sight.

    Half is isotropic, as in the similar medium, half the forward peak that lines thin edges with silver when
    the sun is behind them.
    """
    forward = (1.0 - ASYMMETRY**2) / (1.0 + ASYMMETRY**2 - 2.0 * ASYMMETRY * cosine) ** 1.5
    return (0.85 + 0.15 * forward) / (4.0 * math.pi)


def _everywhere(direction: Triple, like: Tensor) -> Tensor:
    up = max(direction[2], _LOWEST_SUN)
    return like.new_tensor([direction[0], direction[1], up])[:, None, None].expand(3, *like.shape[1:])


def _smooth(cloud: Tensor, first_m: Triple, step_m: Triple) -> tuple[Tensor, Triple, Triple]:
    """Divide cells into parts, about as high as wide, and take off the edges between them."""
    target = min(step_m) / 2.0
    parts = [max(1, min(_MOST_PARTS, round(step / target))) for step in step_m]
    while cloud.numel() * math.prod(parts) > _POINTS and max(parts) > 1:
        parts[parts.index(max(parts))] -= 1
    size = [n * p for n, p in zip(cloud.shape, reversed(parts), strict=True)]
    fine = interpolate(cloud[None, None], size=size, mode="trilinear")
    fine = avg_pool3d(fine, 3, stride=1, padding=1)[0, 0] if max(parts) > 1 else fine[0, 0]
    step = [s / p for s, p in zip(step_m, parts, strict=True)]
    first = [f - s / 2.0 + d / 2.0 for f, s, d in zip(first_m, step_m, step, strict=True)]
    return fine, (first[0], first[1], first[2]), (step[0], step[1], step[2])


def _diffuse(similar: Tensor, step_m: Triple, sun: Triple, shape: torch.Size) -> Tensor:
    """Mean intensity of scattered light [1/sr], solved on few points and interpolated to many."""
    shrink = max(1.0, (similar.numel() / _LIGHT_POINTS) ** (1.0 / 3.0))
    z, y, x = (max(2, round(n / shrink)) for n in similar.shape)
    size = z, y, x
    coarse = torch.nn.functional.adaptive_avg_pool3d(similar[None], size)[0]
    spacing = [s * n / c for s, n, c in zip(step_m, reversed(similar.shape), reversed(size), strict=True)]
    light = illuminate(
        coarse,
        1.0,
        (spacing[0], spacing[1], spacing[2]),
        _everywhere(sun, coarse),
        dark(size, similar.device),
        _ORDERS,
    )
    return interpolate(light.diffuse[None, None], size=list(shape), mode="trilinear")[0, 0]


def _shadow(
    volume: LitVolume, ground_m: float, sun: Triple
) -> tuple[Tensor, tuple[float, float, float, float]]:
    """Where on the ground, and how much, sunlight is missing."""
    (x0, y0, _), (dx, dy, dz), (nx, ny, nz) = volume.first_m, volume.step_m, volume.shape
    top = volume.first_m[2] + dz * nz - ground_m
    up = max(sun[2], _LOWEST_SUN)
    drift = [-top * sun[0] / up, -top * sun[1] / up]
    west, east = x0 + min(drift[0], 0.0), x0 + dx * nx + max(drift[0], 0.0)
    south, north = y0 + min(drift[1], 0.0), y0 + dy * ny + max(drift[1], 0.0)
    columns = rows = _SHADOW_COLUMNS
    device = volume.values.device
    y, x = torch.meshgrid(
        torch.linspace(south, north, rows, device=device),
        torch.linspace(west, east, columns, device=device),
        indexing="ij",
    )
    origins = torch.stack([x, y, torch.full_like(x, ground_m)], dim=-1).view(-1, 3)
    towards = origins.new_tensor([sun[0], sun[1], up])
    directions = (towards / towards.norm()).expand_as(origins)
    similar = LitVolume(volume.values * (1.0 - ASYMMETRY), volume.first_m, volume.step_m)
    passed = march(similar, origins, directions, torch.zeros_like(origins[:, 0])).transmittance
    return 1.0 - passed.view(rows, columns), (west, south, east, north)
