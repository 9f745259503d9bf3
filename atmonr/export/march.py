"""March rays through a lit volume: a pure function from volume and rays to light.

A ray visits every plane of cells across the axis along which it crosses most of them, so it steps over no
cell, and each visit is a bilinear lookup in one plane. Between planes the extinction is taken as linear.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import grid_sample

# What is left of a ray's transmittance when nothing behind shows any more: less than a step of 8-bit colour.
_OPAQUE = 2e-3
# After so many planes, rays that are done or off the cloud are left out.
_PLANES = 8


@dataclass(frozen=True)
class LitVolume:
    """Extinction and light at the points of an even grid; outside it there is nothing.

    Attributes:
        values: (4, Z, Y, X) extinction [m^-1]; direct sunlight, as a share of that above the clouds; mean
            intensity of scattered sunlight [1/sr]; share of the sky's light.
        first_m: x, y, z of the first point [m].
        step_m: Distance of points along x, y, z [m].
    """

    values: Tensor
    first_m: tuple[float, float, float]
    step_m: tuple[float, float, float]

    @property
    def shape(self) -> tuple[int, int, int]:
        """Number of points along x, y, z; none of them 1."""
        _, z, y, x = self.values.shape
        return x, y, z


class Seen(NamedTuple):
    """What rays gather, each (N,)."""

    sunlight: Tensor  # radiance per unit of solar irradiance [1/sr]
    skylight: Tensor  # share of the sky's mean radiance
    transmittance: Tensor  # of everything on the way


def march(volume: LitVolume, origins: Tensor, directions: Tensor, phase: Tensor) -> Seen:
    """Gather light along rays.

    Args:
        volume: What they pass through.
        origins: (N, 3) where they start, or (1, 3) [m].
        directions: (N, 3) unit vectors.
        phase: (N,) phase function at each ray's angle to the sunlight [1/sr].

    Returns:
        What they see; what is behind the volume is left to the caller.
    """
    step = directions.new_tensor(volume.step_m)
    start = (origins - directions.new_tensor(volume.first_m)) / step
    slope = directions / step  # cells per metre
    gathered = torch.zeros(3, len(directions), device=directions.device)
    gathered[2] = 1.0
    axis_of = slope.abs().argmax(dim=1)
    for axis in range(3):
        for sign in (1, -1):
            chosen = torch.nonzero((axis_of == axis) & (slope[:, axis] * sign > 0))[:, 0]
            if len(chosen):
                begin = start.expand_as(slope)[chosen]
                seen = _march_along(volume.values, axis, begin, slope[chosen], phase[chosen])
                gathered[:, chosen] = seen
    return Seen(*gathered)


def _march_along(values: Tensor, axis: int, start: Tensor, slope: Tensor, phase: Tensor) -> Tensor:
    """(3, N) light of rays that all run the same way along an axis; places are in cells, x, y, z."""
    planes = values.movedim(3 - axis, 0)  # (P, 4, rows, columns)
    across = [a for a in range(3) if a != axis]  # columns first, as grid_sample wants them
    forward = bool(slope[0, axis] > 0)
    # A ray meets plane k at t = (k - start) / slope, so its place in the plane is linear in k.
    per_plane = slope[:, across] / slope[:, axis : axis + 1]
    at_zero = start[:, across] - per_plane * start[:, axis : axis + 1]
    lines = torch.cat([at_zero, per_plane, start[:, axis : axis + 1], phase[:, None]], dim=1)
    metres = 1.0 / slope[:, axis].abs()
    seen = slope.new_zeros(3, len(slope))
    seen[2] = 1.0
    firsts = range(0, len(planes), _PLANES)
    for first in firsts if forward else reversed(firsts):
        some = planes[first : first + _PLANES]
        hit = _hits(some[:, 0], first, lines, seen[2])
        if len(hit):
            seen[:, hit] = _cross(some, first, forward, lines[hit], metres[hit], seen[:, hit])
    return seen


def _hits(extinction: Tensor, first: int, lines: Tensor, left: Tensor) -> Tensor:
    """Indices of the rays that are not yet dark and may meet cloud in some planes (P, rows, columns)."""
    filled = torch.nonzero(extinction.amax(dim=0))
    if len(filled) == 0:
        return filled[:, 0]
    # Interpolation reaches one cell further.
    low, high = filled.amin(dim=0).flip(0) - 1.0, filled.amax(dim=0).flip(0) + 1.0
    enter = lines[:, 0:2] + first * lines[:, 2:4]
    leave = enter + (len(extinction) - 1) * lines[:, 2:4]
    beside = (torch.maximum(enter, leave) <= low) | (torch.minimum(enter, leave) >= high)
    return torch.nonzero(~(beside[:, 0] | beside[:, 1]) & (left > _OPAQUE))[:, 0]


def _cross(planes: Tensor, first: int, forward: bool, lines: Tensor, metres: Tensor, seen: Tensor) -> Tensor:
    """(3, N) light of rays after some planes more, `seen` being that before them."""
    sizes = lines.new_tensor([planes.shape[3], planes.shape[2]]) - 1.0
    enter, per_plane = 2.0 * lines[:, 0:2] / sizes - 1.0, 2.0 * lines[:, 2:4] / sizes
    start, phase = lines[:, 4], lines[:, 5]
    sunlight, skylight, left = seen
    count = len(planes)
    for k in range(count) if forward else reversed(range(count)):
        where = torch.add(enter, per_plane, alpha=first + k)[None, None]
        extinction, direct, diffuse, sky = grid_sample(planes[k][None], where, align_corners=True)[0, :, 0]
        ahead = start < first + k if forward else start > first + k
        stopped = left * -torch.expm1(-extinction * metres * ahead)
        sunlight = sunlight + stopped * (phase * direct + diffuse)
        skylight = skylight + stopped * sky
        left = left - stopped
    return torch.stack([sunlight, skylight, left])
