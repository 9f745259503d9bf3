"""Fields of the tiles of one scene: how they are built, what they share, and how they act as one."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from atmonr.config import Config
from atmonr.fields.atmosphere import AtmosphereField
from atmonr.fields.build import build_field
from atmonr.fields.hashgrid import HashGrid
from atmonr.fields.setting import Setting
from atmonr.geo.frame import Frame
from atmonr.geo.tiles import Tiling

# Half as wide as the blend of two tiles: beyond the size of what one pixel sees, far below that of a tile.
_RIM_PIXELS = 2.0
_MARGIN_PIXELS = 2.0
_KEPT = 4  # tiles in memory while a volume is extracted: more than meet at a corner are seldom of use


def tiling_of(setting: Setting, footprint_m: Sequence[float], tiles: int) -> Tiling:
    """How a scene is cut; a function of the scene and the number of tiles alone."""
    return Tiling.of(setting.frame, footprint_m, tiles, _RIM_PIXELS * setting.pixel_m)


def box_of(setting: Setting, tiling: Tiling, tile: int) -> Frame:
    """The box of a tile's field: wider than the tile and its rim, because a ray samples its pixel's width."""
    return tiling.box(tile, tiling.rim_m + _MARGIN_PIXELS * setting.pixel_m)


def tile_name(tile: int) -> str:
    """Name of a tile's part of a checkpoint."""
    return f"tile-{tile:04d}"


def build_tile(config: Config, setting: Setting, tiling: Tiling, tile: int) -> AtmosphereField:
    """A tile's untrained field, the same on whichever rank; the shared parameters are equal in all tiles."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.train.seed)
        common = shared_parameters(build_field(config, setting, box_of(setting, tiling, 0)))
        torch.manual_seed(config.train.seed + 1 + tile)
        field = build_field(config, setting, box_of(setting, tiling, tile))
    with torch.no_grad():
        for name, parameter in shared_parameters(field).items():
            parameter.copy_(common[name])
    return field


def shared_parameters(field: AtmosphereField) -> dict[str, nn.Parameter]:
    """The parameters that all tiles of a scene share, by name: all but the tables."""
    tables = {id(module.table) for module in field.modules() if isinstance(module, HashGrid)}
    return {name: value for name, value in field.named_parameters() if id(value) not in tables}


class TiledField:
    """The tiles of a trained scene as one field; loads a tile when it is asked for a point in it."""

    def __init__(self, tiling: Tiling, load: Callable[[int], AtmosphereField]) -> None:
        """
        Args:
            tiling: How the scene is cut.
            load: Tile -> its field, ready for evaluation.
        """
        self._tiling, self._load = tiling, load
        self._fields: dict[int, AtmosphereField] = {}

    def extinction(self, points_N3: Tensor) -> Tensor:
        """(N, C) true cloud extinction [m^-1] at frame coordinates [m]."""
        x, y = points_N3[:, 0], points_N3[:, 1]
        values: Tensor | None = None
        for tile in self._tiles_near(x, y):
            share = self._tiling.share(tile, x, y)
            index = share.nonzero()[:, 0]
            found = self._field(tile).extinction(points_N3[index]) * share[index, None]
            values = found.new_zeros(len(points_N3), found.shape[1]) if values is None else values
            values.index_add_(0, index, found)
        return values if values is not None else points_N3.new_empty(0, 1)

    def _tiles_near(self, x_N: Tensor, y_N: Tensor) -> list[int]:
        rim = self._tiling.rim_m
        corners = [
            self._tiling.tile_at(x_N + dx, y_N + dy).unique() for dx in (-rim, rim) for dy in (-rim, rim)
        ]
        tiles: list[int] = torch.cat(corners).unique().tolist()
        return tiles

    def _field(self, tile: int) -> AtmosphereField:
        if tile not in self._fields:
            while len(self._fields) >= _KEPT:
                del self._fields[next(iter(self._fields))]
            self._fields[tile] = self._load(tile)
        return self._fields[tile]
