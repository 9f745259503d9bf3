"""The atmosphere on the solver's grid: cloud and air at nodes, planes of nodes from the ground to space."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import grid_sample, pad

from atmonr.errors import SceneError
from atmonr.simulate import optics
from atmonr.simulate.volume import Volume

RAYLEIGH_TOP_M = 50_000.0
CLEAR_STEP_M = 1500.0


@dataclass(frozen=True)
class Medium:
    """Optical properties at nodes; planes are unevenly spaced, evenly so where there is cloud.

    All lengths are metres in the axes of the volume; arrays are (Z, Y, X), plane 0 is the ground.

    Attributes:
        x0_m, y0_m: place of the first node.
        dx_m, dy_m: horizontal spacing.
        z_m: (Z,) heights of the planes, upwards from 0.
        cloud_ZYX: cloud extinction [1/m].
        cloud_planes: first and last plane of the evenly spaced part that holds all of the cloud.
        albedo: single-scattering albedo of the cloud.
        rayleigh_depth: optical depth of the whole column of air, 0 for none.
    """

    x0_m: float
    y0_m: float
    dx_m: float
    dy_m: float
    z_m: Tensor
    cloud_ZYX: Tensor
    cloud_planes: tuple[int, int]
    albedo: float
    rayleigh_depth: float

    @property
    def cloud_scale(self) -> float:
        """Factor from true to delta-M scaled cloud extinction (1 for a pure absorber)."""
        return 1.0 - self.albedo * optics.forward_fraction()

    @property
    def rayleigh_Z(self) -> Tensor:
        """(Z,) extinction of the air [1/m]."""
        return optics.rayleigh_extinction(self.z_m, self.rayleigh_depth)

    @property
    def thickness_m(self) -> list[float]:
        """Height of the air that belongs to each plane: half the way to its neighbours."""
        gap_m = self.z_m.diff()
        return (0.5 * (pad(gap_m, (1, 0)) + pad(gap_m, (0, 1)))).tolist()

    @property
    def extinction_ZYX(self) -> Tensor:
        """Scaled extinction of cloud and air together [1/m]."""
        return self.cloud_scale * self.cloud_ZYX + self.rayleigh_Z[:, None, None]

    def node_places(self) -> tuple[Tensor, Tensor]:
        """Coordinates x and y [m] of the nodes of one plane, each (Y, X)."""
        _, rows, columns = self.cloud_ZYX.shape
        y = self.y0_m + self.dy_m * torch.arange(rows)
        x = self.x0_m + self.dx_m * torch.arange(columns)
        y_YX, x_YX = torch.meshgrid(y, x, indexing="ij")
        return x_YX, y_YX

    def unit(self, x_m: Tensor, y_m: Tensor) -> Tensor:
        """Horizontal places as the (..., 2) coordinates in -1..1 that `grid_sample` takes."""
        _, rows, columns = self.cloud_ZYX.shape
        across = (x_m - self.x0_m) * (2 / (self.dx_m * (columns - 1))) - 1
        along = (y_m - self.y0_m) * (2 / (self.dy_m * (rows - 1))) - 1
        return torch.stack([across, along], dim=-1)

    def unit_step(self, run_m: Tensor) -> Tensor:
        """(..., 2) horizontal steps [m] in the units of `unit`."""
        _, rows, columns = self.cloud_ZYX.shape
        return run_m * torch.tensor([2 / (self.dx_m * (columns - 1)), 2 / (self.dy_m * (rows - 1))])

    def substeps(self, plane: int, run_m: float, per_cell: float) -> int:
        """Steps to take between a plane and the next one above, on a line that runs `run_m` sideways.

        Only where there is cloud does the medium vary sideways, so only there are steps kept within a cell.
        """
        first, last = self.cloud_planes
        if not first <= plane < last:
            return 1
        return max(1, int(np.ceil(per_cell * run_m / min(self.dx_m, self.dy_m) - 1e-6)))


def build_medium(volume: Volume, rayleigh_depth: float = 0.0, rim: int = 1) -> Medium:
    """Put a volume on the solver's grid, with clear air around, below and above.

    Args:
        volume: the cloud.
        rayleigh_depth: optical depth of the air.
        rim: nodes of clear air to add on each side, at least one, so that the cloud ends. An endless volume
            gets none: whatever looks beyond the outermost nodes finds their values again.

    Raises:
        SceneError: if the cloud reaches the ground, or the air above it is not modelled.
    """
    dx, dy, dz = (float(axis[1] - axis[0]) for axis in (volume.x_m, volume.y_m, volume.altitude_m))
    rim = 0 if volume.endless else rim
    levels = _cloudy_levels(volume)
    altitude_m = volume.altitude_m[levels].tolist()
    base, top = altitude_m[0] - dz, altitude_m[-1] + dz
    if base < 0 or top > RAYLEIGH_TOP_M:
        raise SceneError(
            f"cloud volume: cloud from {altitude_m[0]:.0f} to {altitude_m[-1]:.0f} m, expected it to stay "
            f"one cell ({dz:.0f} m) inside 0 to {RAYLEIGH_TOP_M:.0f} m"
        )
    cloud_m = [base, *altitude_m, top]
    below = list(_spaced(0.0, base, CLEAR_STEP_M)) if base > 0 else []
    above = list(_spaced(RAYLEIGH_TOP_M, top, 2 * CLEAR_STEP_M))[::-1] if rayleigh_depth > 0 else []
    cloud = torch.from_numpy(volume.extinction_per_m[:, :, levels]).permute(2, 1, 0)
    cloud = pad(cloud, (rim, rim, rim, rim, 1 + len(below), 1 + len(above)))
    return Medium(
        x0_m=float(volume.x_m[0]) - rim * dx,
        y0_m=float(volume.y_m[0]) - rim * dy,
        dx_m=dx,
        dy_m=dy,
        z_m=torch.tensor([*below, *cloud_m, *above], dtype=torch.float32),
        cloud_ZYX=cloud.contiguous(),
        cloud_planes=(len(below), len(below) + len(cloud_m) - 1),
        albedo=volume.single_scattering_albedo,
        rayleigh_depth=rayleigh_depth,
    )


def sun_depth(medium: Medium, x_m: Tensor, y_m: Tensor, z_m: Tensor, sun: Tensor) -> Tensor:
    """Scaled optical depth between points and the sun.

    Args:
        medium: the atmosphere.
        x_m, y_m, z_m: (N,) points.
        sun: (3,) unit vector towards the sun, in the medium's axes.

    Returns:
        (N,) optical depth. The cloud is summed along the straight line in steps of half a cell; the air is
        exact.
    """
    first, last = medium.cloud_planes
    base, top = float(medium.z_m[first]), float(medium.z_m[last])
    cloud = medium.cloud_ZYX[None, None, first : last + 1]
    start, mu = z_m.clamp(base, top), float(sun[2])
    climb = top - start
    run = (top - base) * max(abs(float(sun[0])) / medium.dx_m, abs(float(sun[1])) / medium.dy_m) / mu
    steps = 2 * int(np.ceil(max(last - first, run)))
    total = torch.zeros_like(x_m)
    for step in range(steps):
        z = start + climb * ((step + 0.5) / steps)
        rise = (z - z_m) / mu
        place = medium.unit(x_m + sun[0] * rise, y_m + sun[1] * rise)
        height = (z - base) * (2 / (top - base)) - 1
        point = torch.cat([place, height[:, None]], dim=-1)[None, None, None]
        total += grid_sample(cloud, point, padding_mode="border", align_corners=True)[0, 0, 0, 0]
    air = optics.rayleigh_depth_above(z_m, medium.rayleigh_depth)
    return (medium.cloud_scale * total * climb / steps + air) / mu


def _cloudy_levels(volume: Volume) -> slice:
    """The levels from the lowest to the highest that hold cloud; two levels when none does."""
    filled = np.flatnonzero(volume.extinction_per_m.any(axis=(0, 1)))
    if filled.size == 0:
        return slice(-2, None)
    return slice(int(filled[0]), int(filled[-1]) + 1)


def _spaced(start: float, stop: float, step: float) -> Iterator[float]:
    """Evenly spaced values from start to stop, stop left out, no further apart than step."""
    count = max(1, int(np.ceil(abs(stop - start) / step)))
    return (start + (stop - start) * index / count for index in range(count))
