"""What the ground reflects: a map of places, and one law of direction for the whole scene."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from atmonr.config import SurfaceConfig
from atmonr.fields.aspect import Aspect, direction_network
from atmonr.fields.hashgrid import HashGrid
from atmonr.fields.medium import cell_scales
from atmonr.fields.setting import Setting

_DARKEST = 0.003  # reflectance to start from at least: where softplus still has a slope


class Surface(nn.Module):
    """Reflectance softplus(a(place) + g(direction)) per band.

    Place and direction do not mix, so that the ground cannot paint another picture for every view, which is
    the task of clouds; a bright place is bright from everywhere, and glint is where the sun's image is.
    """

    def __init__(self, setting: Setting, config: SurfaceConfig) -> None:
        super().__init__()
        bands = len(setting.wavelengths_nm)
        coarse, fine = config.coarsest_cell_pixels, config.finest_cell_pixels
        scales = [level[:2] for level in cell_scales(setting, (coarse, 1.0), (fine, 1.0), config.levels)]
        self.grid = HashGrid(scales, config.log2_table_size, features=2)
        self.place = nn.Linear(self.grid.width, bands)
        self.direction = direction_network(bands)

    @torch.no_grad()
    def start_from(self, reflectance_B: Tensor) -> None:
        """Makes the untrained ground an even grey per band, so that no cloud has to explain its brightness.

        Args:
            reflectance_B: One value per band, such as a low quantile of what was measured.
        """
        self.place.bias.copy_(reflectance_B.clamp_min(_DARKEST).expm1().log())

    def forward(self, unit_B3: Tensor, aspect: Aspect, features_BF: Tensor) -> Tensor:
        """(B,) reflectance at the foot of rays, of their own band.

        Args:
            unit_B3: Foot of each ray in the unit box.
            aspect: Directions and bands of the rays.
            features_BF: `aspect.features()`.
        """
        raw = self.place(self.grid(unit_B3[:, :2])) + self.direction(features_BF)
        return softplus(raw.gather(1, aspect.band[:, None])[:, 0])
