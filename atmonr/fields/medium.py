"""Networks that know where cloud is: points in the unit box to optical thickness and features."""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from torch import Tensor, nn

from atmonr.config import InstantNgpConfig, NerfConfig
from atmonr.fields.hashgrid import HashGrid
from atmonr.fields.setting import Setting

FEATURES = 16

# A dead unit cannot come back, and a scene whose air cleared too fast at first would stay clear.
_LEAK = 0.1
_LARGEST_EXPONENT = 12.0


class Medium(nn.Module):
    """Something that maps (N, 3) points in the unit box to (N, C) raw values and (N, FEATURES) features."""

    def __init__(self, encoded: int, hidden: list[int], channels: int, initial_depth: float) -> None:
        """
        Args:
            encoded: Width of the encoded point.
            hidden: Widths of the hidden layers.
            channels: One, or one per band.
            initial_depth: Optical depth of the scene's whole height before training. Small, so that
                scattering cloud grows where rays ask for it.
        """
        super().__init__()
        self.channels = channels
        widths = [encoded, *hidden]
        layers: list[nn.Module] = []
        for before, after in pairwise(widths):
            layers += [nn.Linear(before, after), nn.LeakyReLU(_LEAK)]
        last = nn.Linear(widths[-1], channels + FEATURES)
        nn.init.zeros_(last.bias)
        nn.init.constant_(last.bias[:channels], math.log(initial_depth))
        self.network = nn.Sequential(*layers, last)

    def encode(self, unit_N3: Tensor) -> Tensor:
        """(N, encoded) encoding of points in the unit box."""
        raise NotImplementedError

    def forward(self, unit_N3: Tensor) -> tuple[Tensor, Tensor]:
        """(N, C) optical depth that the scene's height would have at this extinction, and (N, FEATURES)."""
        out = self.network(self.encode(unit_N3))
        return torch.exp(out[:, : self.channels].clamp_max(_LARGEST_EXPONENT)), out[:, self.channels :]


class HashMedium(Medium):
    """Instant-NGP (Mueller et al. 2022, doi:10.1145/3528223.3530127), cells sized in pixels of the scene."""

    def __init__(self, setting: Setting, config: InstantNgpConfig, channels: int) -> None:
        scales = cell_scales(
            setting,
            (config.coarsest_cell_pixels, config.coarsest_layer_pixels),
            (config.finest_cell_pixels, config.finest_layer_pixels),
            config.levels,
        )
        width = config.levels * config.features_per_level
        super().__init__(width, [config.hidden_width], channels, config.initial_optical_depth)
        self.grid = HashGrid(scales, config.log2_table_size, config.features_per_level)

    def encode(self, unit_N3: Tensor) -> Tensor:
        encoded: Tensor = self.grid(unit_N3)
        return encoded


class FourierMedium(Medium):
    """NeRF (Mildenhall et al. 2020, arXiv 2003.08934): a deep network on sines of the position."""

    frequencies: Tensor  # (F,)

    def __init__(self, config: NerfConfig, channels: int) -> None:
        hidden = [config.hidden_width] * config.depth
        super().__init__(3 + 6 * config.frequencies, hidden, channels, config.initial_optical_depth)
        frequencies = math.pi * 2.0 ** torch.arange(config.frequencies)
        self.register_buffer("frequencies", frequencies, persistent=False)

    def encode(self, unit_N3: Tensor) -> Tensor:
        centred = 2.0 * unit_N3 - 1.0
        phase = (centred[:, :, None] * self.frequencies).flatten(1)
        return torch.cat([centred, phase.sin(), phase.cos()], 1)


def cell_scales(
    setting: Setting, coarsest: tuple[float, float], finest: tuple[float, float], levels: int
) -> list[list[float]]:
    """Cells along x, y, height of each level, shrinking geometrically.

    Args:
        setting: The scene.
        coarsest: Width and height of the coarsest cells [pixels].
        finest: Width and height of the finest cells [pixels].
        levels: Number of levels.
    """
    scales = []
    for level in range(levels):
        share = level / max(levels - 1, 1)
        width, height = (
            setting.pixel_m * low * (high / low) ** share for low, high in zip(coarsest, finest, strict=True)
        )
        sizes = zip(setting.extent_m, (width, width, height), strict=True)
        scales.append([max(extent / cell, 1.0) for extent, cell in sizes])
    return scales
