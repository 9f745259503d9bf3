"""Radiance carried along straight lines through a `Medium`, from plane to plane of its nodes.

Each plane receives radiance from the plane before by short characteristics: it is interpolated where the line
of travel leaves that plane, attenuated, and joined by what is emitted or scattered into the line on the way.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import grid_sample

from atmonr.simulate import optics
from atmonr.simulate.medium import Medium

RINGS = optics.DEGREE + 1  # of equal slope, per hemisphere: exact for products of two kept harmonics
AZIMUTHS = 8
STEPS_PER_CELL = 0.5  # slanting light is interpolated anew after every second cell; finer changes 1 %
TINY = 1e-30  # keeps the source function of empty air, 0 / 0, at 0

Segment = tuple[Tensor, Tensor]  # extinction [1/m] and emission [1/m/sr] at one end


class Beam(NamedTuple):
    """Directions of travel that are carried together."""

    direction_D3: Tensor  # unit vectors
    weight_D: Tensor  # solid angles [sr]


class Sweep:
    """Harmonics of the emission to harmonics of the radiance: once down and once up through all planes.

    Args:
        medium: the atmosphere.
        ground_albedo_YX: albedo of the Lambertian ground at the nodes.
        direct_YX: flux of direct sunlight onto the ground.
    """

    def __init__(self, medium: Medium, ground_albedo_YX: Tensor, direct_YX: Tensor) -> None:
        self._medium = medium
        self._ground_albedo_YX, self._direct_YX = ground_albedo_YX, direct_YX
        self._extinction_ZYX = medium.extinction_ZYX
        self._unit_YX2 = medium.unit(*medium.node_places())
        self._thickness_m = medium.thickness_m
        shallow, *steep = _rings()
        self._beams = [shallow, Beam(*(torch.cat(parts) for parts in zip(*steep, strict=True)))]

    def __call__(self, source_MZYX: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Harmonics of the radiance (M, Z, Y, X), diffuse flux onto the ground and out of the top (Y, X)."""
        total = torch.zeros_like(source_MZYX)
        down_YX = self._hemisphere(source_MZYX, total, torch.zeros_like(self._direct_YX), -1)
        ground_YX = self._ground_albedo_YX / math.pi * (self._direct_YX + down_YX)
        up_YX = self._hemisphere(source_MZYX, total, ground_YX, 1)
        return total, down_YX, up_YX

    def _hemisphere(self, source_MZYX: Tensor, total: Tensor, start_YX: Tensor, sign: int) -> Tensor:
        """Carry radiance down (sign -1) or up (1) in all directions; returns the flux that comes out."""
        flux_YX = torch.zeros_like(self._direct_YX)
        for upward in self._beams:
            beam = Beam(upward.direction_D3 * torch.tensor([1.0, 1.0, sign]), upward.weight_D)
            radiance = self._travel(source_MZYX, total, start_YX.expand(len(beam.weight_D), -1, -1), beam)
            flux_YX += torch.tensordot(beam.weight_D * upward.direction_D3[:, 2], radiance, 1)
        return flux_YX

    def _travel(self, source_MZYX: Tensor, total: Tensor, radiance: Tensor, beam: Beam) -> Tensor:
        """Carry (D, Y, X) radiance from end to end, adding its harmonics to `total`."""
        mu_D = beam.direction_D3[:, 2].abs()
        slope_D2 = beam.direction_D3[:, :2] / mu_D[:, None]
        steepness = float(slope_D2.norm(dim=-1).max())
        harmonics_DM = optics.harmonics(beam.direction_D3)
        weighted_DM = beam.weight_D[:, None] * harmonics_DM

        def segment(plane: int) -> Segment:
            emission_DYX = torch.tensordot(harmonics_DM, source_MZYX[:, plane], 1)
            return self._extinction_ZYX[plane].expand_as(emission_DYX), emission_DYX

        last = len(self._extinction_ZYX) - 1
        planes = range(last + 1) if beam.direction_D3[0, 2] > 0 else range(last, -1, -1)
        before = segment(planes[0])
        for start, end in pairwise(planes):
            here = segment(end)
            gap_m = abs(float(self._medium.z_m[end] - self._medium.z_m[start]))
            steps = self._medium.substeps(min(start, end), gap_m * steepness, STEPS_PER_CELL)
            stride = slope_D2 * (gap_m / steps), (gap_m / steps / mu_D)[:, None, None]
            radiance, *means = self._between(radiance, before, here, steps, *stride)
            for plane, mean_DYX in zip((start, end), means, strict=True):
                share = gap_m / self._thickness_m[plane]
                total[:, plane] += share * torch.tensordot(weighted_DM, mean_DYX, dims=([0], [0]))
            before = here
        return radiance

    def _between(
        self, radiance: Tensor, start: Segment, end: Segment, steps: int, run_D2: Tensor, length_D11: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Carry (D, Y, X) radiance from one plane to the next in steps of given run and length.

        Returns:
            The radiance that arrives, and the mean radiance on the way as the nodes of the start and of the
            end plane see it. Sharing each step's mean among the nodes, by the weights with which they make up
            the step's extinction, conserves energy; the radiance at the nodes does not when cells are thick.
        """
        offset_D112 = self._medium.unit_step(run_D2)[:, None, None, :]
        at_start, at_end = torch.zeros_like(radiance), torch.zeros_like(radiance)
        for step in range(steps):
            near, far = (_between_planes(start, end, (step + ahead) / steps) for ahead in (0, 1))
            upstream = torch.stack([radiance, *near], dim=1)
            entering, extinction, emission = shifted(upstream, self._unit_YX2 - offset_D112).unbind(dim=1)
            crossing = cross((extinction, emission), far, length_D11)
            excess = entering - crossing.source
            radiance = entering - excess * crossing.absorbed
            mean = crossing.middle + excess * crossing.passed
            back = shifted(mean[:, None], self._unit_YX2 + offset_D112)[:, 0]
            at_end += (back * step + mean * (step + 1)) / (2 * steps**2)
            at_start += (back * (steps - step) + mean * (steps - step - 1)) / (2 * steps**2)
        return radiance, at_start, at_end


def _rings() -> list[Beam]:
    """Upward directions in rings of equal slope, the shallowest first.

    Gauss-Legendre on each hemisphere by itself, because radiance jumps at the horizon.
    """
    azimuth_A = (torch.arange(AZIMUTHS) + 0.5) * (2 * math.pi / AZIMUTHS)
    rings = []
    for node, weight in zip(*np.polynomial.legendre.leggauss(RINGS), strict=True):
        mu_A = torch.full((AZIMUTHS,), 0.5 * float(node + 1))
        sine_A = (1 - mu_A * mu_A).sqrt()
        direction = torch.stack([sine_A * azimuth_A.cos(), sine_A * azimuth_A.sin(), mu_A], dim=-1)
        rings.append(Beam(direction, torch.full((AZIMUTHS,), float(weight) * math.pi / AZIMUTHS)))
    return rings


def shifted(fields: Tensor, unit: Tensor) -> Tensor:
    """(D, C, Y, X) fields at other places; beyond the outermost nodes their values go on."""
    return grid_sample(fields, unit, padding_mode="border", align_corners=True)


class Crossing(NamedTuple):
    """What a segment does to radiance: (1 - absorbed) of it passes, and absorbed times the source joins it.

    The mean on the way is `middle + passed (radiance - source)`. It balances energy: extinction times mean is
    what enters and is emitted less what leaves.
    """

    absorbed: Tensor
    source: Tensor
    passed: Tensor
    middle: Tensor


def cross(start: Segment, end: Segment, length_m: float | Tensor) -> Crossing:
    """A segment along which extinction and emission change linearly.

    The source function weights the two ends as a constant extinction would: by half each when the segment is
    thin, ever more by the end when it is thick. A constant source function is exact.
    """
    total = start[0] + end[0]
    depth = total * (0.5 * length_m)
    # Below 1e-3 differences cancel in float32, and a depth of 1e-3 instead errs by less than 1e-3.
    safe = depth.clamp_min(1e-3)
    absorbed = -torch.expm1(-safe)
    weight = 1 / safe + 1 - 1 / absorbed
    passed = absorbed / safe
    extinction, emission = (torch.lerp(b, a, weight) for a, b in zip(start, end, strict=True))
    source = emission / extinction.clamp_min(TINY)
    return Crossing(passed * depth, source, passed, (start[1] + end[1]) / total.clamp_min(TINY))


def _between_planes(start: Segment, end: Segment, share: float) -> Segment:
    return torch.lerp(start[0], end[0], share), torch.lerp(start[1], end[1], share)
