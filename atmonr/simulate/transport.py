"""Light scattered many times, by discrete ordinates on the grid of a `Medium`.

The scattering source is kept as its spherical harmonics up to `optics.DEGREE`, with the forward peak removed
by delta-M scaling. Orders of scattering are summed by a fixed-point iteration with Anderson's acceleration.
All radiances are for a sun of unit irradiance.

Method: K. F. Evans, "The spherical harmonics discrete ordinate method", J. Atmos. Sci. 55 (1998), in outline.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from atmonr.simulate import optics
from atmonr.simulate.characteristics import Sweep, shifted
from atmonr.simulate.medium import Medium, sun_depth

TOLERANCE = 5e-4  # relative change of the source that ends the iteration; then some 0.2 % of light is missing
MEMORY = 5  # steps that the acceleration looks back
ITERATIONS = 200


@dataclass(frozen=True)
class Light:
    """The solved radiation field.

    Attributes:
        sunlit_ZYX: transmittance from the sun to every node (delta-M scaled).
        source_MZYX: harmonics of the emission [1/m/sr] by light scattered at least once before.
        down_YX: diffuse flux onto the ground, in units of the solar irradiance.
        up_YX: diffuse flux leaving the top.
        iterations: how many iterations it took.
    """

    sunlit_ZYX: Tensor
    source_MZYX: Tensor
    down_YX: Tensor
    up_YX: Tensor
    iterations: int


def solve(medium: Medium, sun: Tensor, ground_albedo_YX: Tensor, guess: Light | None = None) -> Light:
    """Solve for the radiation field.

    Args:
        medium: the atmosphere.
        sun: (3,) unit vector towards the sun, in the medium's axes.
        ground_albedo_YX: (Y, X) albedo of the Lambertian ground at the nodes.
        guess: a solution for a similar atmosphere on the same nodes, to start from.
    """
    sunlit = _sunlit(medium, sun)
    gain_MZYX = _gain(medium)
    first = gain_MZYX * optics.harmonics(-sun)[:, None, None, None] * sunlit
    sweep = Sweep(medium, ground_albedo_YX, float(sun[2]) * sunlit[0])

    def once_more(source_MZYX: Tensor) -> Tensor:
        radiance_MZYX, _, _ = sweep(first + source_MZYX)
        return gain_MZYX * radiance_MZYX

    start = torch.zeros_like(first) if guess is None else guess.source_MZYX
    source, iterations = _fixed_point(once_more, start)
    _, down_YX, up_YX = sweep(first + source)
    return Light(sunlit, source, down_YX, up_YX, iterations)


def _gain(medium: Medium) -> Tensor:
    """(M, Z, Y, X) factor [1/m] from harmonics of radiance to those of the emission by scattering it."""
    cloud_ZYX = medium.cloud_ZYX * medium.albedo * (1 - optics.forward_fraction())
    air_Z11 = medium.rayleigh_Z[:, None, None]
    by_degree = [
        optics.scaled_cloud_moment(degree) * cloud_ZYX + optics.rayleigh_moment(degree) * air_Z11
        for degree in range(optics.DEGREE + 1)
    ]
    return torch.stack([by_degree[degree] for degree in optics.degrees()])


def _sunlit(medium: Medium, sun: Tensor) -> Tensor:
    """(Z, Y, X) transmittance from the sun, as the cell around each node sees it on average.

    In a thick cell the mean differs from the value at the node, and it is the mean that conserves energy:
    what the sun loses between two planes is shared among the nodes that make up the extinction there.
    """
    x, y = medium.node_places()
    extinction_ZYX, thickness_m = medium.extinction_ZYX, medium.thickness_m
    sunlit = torch.zeros_like(extinction_ZYX)
    slope = sun[:2] / sun[2]
    for plane in range(len(medium.z_m) - 1):
        low, gap_m = float(medium.z_m[plane]), float(medium.z_m[plane + 1] - medium.z_m[plane])
        steps = medium.substeps(plane, gap_m * float(slope.norm()), per_cell=1.0)
        offset = medium.unit_step(slope * (gap_m / steps))
        place = medium.unit(x, y)[None]
        for step in range(steps):
            start, end = step / steps, (step + 1) / steps
            here, there = (
                torch.lerp(extinction_ZYX[plane], extinction_ZYX[plane + 1], share) for share in (start, end)
            )
            there = shifted(there[None, None], place + offset)[0, 0]
            depth = 0.5 * (here + there) * (gap_m / steps / float(sun[2]))
            height = torch.full_like(x, low + gap_m * start).ravel()
            seen = torch.exp(-sun_depth(medium, x.ravel(), y.ravel(), height, sun)).view_as(x)
            mean = seen * torch.where(depth > 1e-6, torch.expm1(depth) / depth, 1.0)
            back = shifted(mean[None, None], place - offset)[0, 0]
            share_m = gap_m / (2 * steps)
            sunlit[plane] += (mean * (1 - start) + back * (1 - end)) * (share_m / thickness_m[plane])
            sunlit[plane + 1] += (mean * start + back * end) * (share_m / thickness_m[plane + 1])
    return sunlit


def _fixed_point(function: Callable[[Tensor], Tensor], start: Tensor) -> tuple[Tensor, int]:
    """Solve x = function(x) by Anderson's acceleration; returns the solution and the number of iterations.

    Source: H. F. Walker and P. Ni, SIAM J. Numer. Anal. 49 (2011).
    """
    point, value = start, function(start)
    steps: deque[tuple[Tensor, Tensor]] = deque(maxlen=MEMORY)  # changes of the value and of the residual
    for iteration in range(1, ITERATIONS + 1):
        residual = value - point
        if residual.norm() <= TOLERANCE * value.norm():
            return value, iteration
        following = value
        if steps:
            mix = _least_squares([change for _, change in steps], residual)
            for weight, (gain, _) in zip(mix.tolist(), steps, strict=True):
                following = following - weight * gain
        new_value = function(following)
        steps.append((new_value - value, new_value - following - residual))
        point, value = following, new_value
    return value, ITERATIONS


def _least_squares(columns: list[Tensor], target: Tensor) -> Tensor:
    """(K,) weights with which columns add up best to the target.

    By the normal equations in float64, lightly damped: a general solver gives other last digits at every run,
    and a granule must come out the same each time.
    """

    def product(first: Tensor, second: Tensor) -> float:
        return float((first * second).sum(dtype=torch.float64))

    matrix = torch.tensor([[product(a, b) for b in columns] for a in columns], dtype=torch.float64)
    matrix += torch.diag(1e-9 * matrix.diagonal())
    values = torch.tensor([product(column, target) for column in columns], dtype=torch.float64)
    return torch.linalg.solve(matrix, values)
