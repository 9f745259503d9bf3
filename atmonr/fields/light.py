"""The light that a cloud stands in, kept on a coarse grid between updates."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import grid_sample

from atmonr.config import LightConfig
from atmonr.fields.setting import Setting
from atmonr.geo.sun import sun_direction
from atmonr.render.transport import Light, illuminate

_FEWEST_LAYERS = 16


class LightGrid(nn.Module):
    """Direct sun, multiply scattered light and extinction at the points of a grid over the scene's box.

    They are state, not parameters: whoever trains the field solves for them now and then and no gradient
    passes. They are saved with the model, so that a resumed run finds the light that the killed one had.
    """

    volume: Tensor  # (3, Z, Y, X): direct, diffuse, largest extinction of the neighbourhood [m^-1]
    ground: Tensor  # (Y, X)

    def __init__(self, setting: Setting, config: LightConfig) -> None:
        super().__init__()
        x, y, z = setting.extent_m
        layers = max(round(z / (config.layer_pixels * setting.pixel_m)), _FEWEST_LAYERS)
        # Larger scenes get coarser light, not more memory.
        cell = max(config.cell_pixels * setting.pixel_m, math.sqrt(x * y * layers / config.max_points))
        columns, rows = (max(round(side / cell), 2) + 1 for side in (x, y))
        self.shape = (layers + 1, rows, columns)
        self.spacing_m = (x / (columns - 1), y / (rows - 1), z / layers)
        self._sun = setting.sun
        self._frame = setting.frame
        volume = torch.zeros(3, *self.shape)
        volume[0] = 1.0
        self.register_buffer("volume", volume)
        self.register_buffer("ground", torch.ones(rows, columns))

    def sun(self) -> Tensor:
        """(3, Y, X) direction to the sun over each column."""
        _, rows, columns = self.shape
        axes = (torch.linspace(0.0, 1.0, count, device=self.volume.device) for count in (rows, columns))
        unit_y, unit_x = torch.meshgrid(*axes, indexing="ij")
        return torch.stack(sun_direction(self._sun, unit_x, unit_y))

    def points(self) -> Tensor:
        """(Z Y X, 3) grid points in the unit box."""
        axes = (torch.linspace(0.0, 1.0, count, device=self.volume.device) for count in self.shape)
        z, y, x = torch.meshgrid(*axes, indexing="ij")
        return torch.stack([x, y, z], -1).view(-1, 3)

    def points_m(self) -> Tensor:
        """(Z Y X, 3) grid points in the frame [m]."""
        lower, upper = (
            self.volume.new_tensor(corner) for corner in (self._frame.lower_m, self._frame.upper_m)
        )
        return lower + self.points() * (upper - lower)

    @torch.no_grad()
    def solve(self, extinction_N: Tensor, albedo: float, orders: int) -> None:
        """Solves for the light and keeps it; starts from the last solution.

        Args:
            extinction_N: Of the similar isotropic medium at `points` [m^-1].
            albedo: Of single scattering in that medium.
            orders: Orders of scattering to add.
        """
        extinction = extinction_N.view(self.shape)
        before = Light(self.volume[0], self.volume[1], self.ground)
        self.keep(illuminate(extinction, albedo, self.spacing_m, self.sun(), before, orders), extinction)

    @torch.no_grad()
    def keep(self, light: Light, extinction_ZYX: Tensor) -> None:
        """Takes over a solution and the extinction [m^-1] it is for, of the similar isotropic medium."""
        near = torch.nn.functional.max_pool3d(extinction_ZYX[None], 3, stride=1, padding=1)[0]
        self.volume.copy_(torch.stack([light.direct, light.diffuse, near]))
        self.ground.copy_(light.ground)

    @torch.no_grad()
    def at(self, unit_N3: Tensor) -> tuple[Tensor, Tensor]:
        """(N,) direct transmittance and (N,) mean diffuse intensity [1/sr] at points of the unit box."""
        direct, diffuse = self._lookup(self.volume[:2], unit_N3)
        return direct, diffuse

    @torch.no_grad()
    def thickness(self, unit_N3: Tensor) -> Tensor:
        """(N,) largest extinction [m^-1] within a cell of points of the unit box: where to look closely."""
        return self._lookup(self.volume[2:], unit_N3)[0]

    @torch.no_grad()
    def on_ground(self, unit_N3: Tensor) -> Tensor:
        """(N,) light that reaches the ground under points of the unit box; 1 without cloud."""
        place = (2.0 * unit_N3[:, :2] - 1.0)[None, :, None]
        return grid_sample(self.ground[None, None], place, align_corners=True, padding_mode="border").view(-1)

    def _lookup(self, volume_CZYX: Tensor, unit_N3: Tensor) -> Tensor:
        place = (2.0 * unit_N3 - 1.0)[None, :, None, None]
        found = grid_sample(volume_CZYX[None], place, align_corners=True, padding_mode="border")
        return found.view(len(volume_CZYX), -1)
