"""All rays of a scene, loaded once into device memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from atmonr.errors import SceneError
from atmonr.feed.footprint import FootprintFit
from atmonr.geo.frame import Frame
from atmonr.geo.paths import paths_of
from atmonr.geo.rays import RayLines, trace
from atmonr.store.scene import Scene

MAX_HEIGHT_ERROR_M = 0.05  # of the float32 path; rays that miss it are followed in fp64
_LINES_AT_ONCE = 64
_NOTHING = np.empty(0, np.float32)
_GEOMETRY = (
    "latitude",
    "longitude",
    "surface_altitude",
    "sensor_zenith_angle",
    "sensor_azimuth_angle",
)


@dataclass(frozen=True)
class ExactRays:
    """Rays too slant for a parabola: their straight lines in fp64 (rare; none below 72 degrees and 20 km)."""

    index: Tensor  # (E,) int64, ascending positions in the table
    lines: RayLines  # (E, ...) NumPy, Earth-centred


@dataclass(frozen=True)
class RayBatch:
    """Some rays of a table."""

    path: Tensor  # (B, 8) float32, see `RayTable`
    length_m: Tensor  # (B,) float32
    reflectance: Tensor  # (B,) float32
    band: Tensor  # (B,) int64
    pixel: Tensor  # (B, 2, 2) float32, x and y of a step to the next line and to the next pixel [m]
    frame: Frame
    top_height_m: float
    exact: ExactRays | None = None  # with `index` into this batch

    def __len__(self) -> int:
        return len(self.path)

    def points(self, position_BS: Tensor, aside_BS2: Tensor | None = None) -> Tensor:
        """(B, S, 3) frame coordinates x, y, height [m] at fractions of the rays, 0 top, 1 surface.

        Args:
            position_BS: (B, S) fractions.
            aside_BS2: (B, S, 2) place in the pixel, in lines and pixels from its middle; there by default.
        """
        s, p = position_BS, self.path[:, :, None]
        x = p[:, 0] + s * (p[:, 1] + s * p[:, 2])
        y = p[:, 3] + s * (p[:, 4] + s * p[:, 5])
        height = self.top_height_m + s * (p[:, 6] + s * p[:, 7])
        points = torch.stack([x, y, height], -1)
        if self.exact is not None:
            rays = RayLines(*(array[:, None] for array in self.exact.lines))
            along = position_BS[self.exact.index].double().cpu().numpy()
            xyz = rays.origin_ecef + (rays.length_m * along)[..., None] * rays.direction
            points[self.exact.index] = torch.from_numpy(self.frame.from_ecef(xyz)).to(points)
        if aside_BS2 is not None:
            points[..., :2] += aside_BS2 @ self.pixel
        return points

    def to_sensor(self) -> Tensor:
        """(B, 3) unit vectors from the middle of each ray towards the sensor, along the frame's axes."""
        p = self.path
        down = torch.stack([p[:, 1] + p[:, 2], p[:, 4] + p[:, 5], p[:, 6] + p[:, 7]], -1)
        return -torch.nn.functional.normalize(down, dim=-1)

    def select(self, part: slice) -> RayBatch:
        """A run of the batch's rays."""
        chosen = {
            name: getattr(self, name)[part] for name in ("path", "length_m", "reflectance", "band", "pixel")
        }
        exact = None
        if self.exact is not None:
            start, stop, _ = part.indices(len(self))
            inside = (self.exact.index >= start) & (self.exact.index < stop)
            exact = _some(self.exact, inside, self.exact.index[inside] - start)
        return replace(self, **chosen, exact=exact)


@dataclass(frozen=True)
class RayTable:
    """Rays as a struct of arrays on one device, 41 bytes each.

    A path is p0..p7 of `atmonr.geo.rays.fit_paths`: x = p0 + p1 s + p2 s^2, y = p3 + p4 s + p5 s^2,
    height = top + p6 s + p7 s^2 in metres, s from 0 at the top to 1 at the surface.
    """

    path: Tensor  # (R, 8) float32
    length_m: Tensor  # (R,) float32
    reflectance: Tensor  # (R,) float32
    view: Tensor  # (R,) uint8
    view_band: Tensor  # (V,) int64
    footprint: Tensor  # (V, 6, 4) float32, see `FootprintFit`
    frame: Frame
    top_height_m: float
    exact: ExactRays | None

    def __len__(self) -> int:
        return len(self.path)

    @property
    def bytes_per_ray(self) -> float:
        """Device memory of the per-ray tensors divided by their number."""
        tensors = [getattr(self, field.name) for field in fields(self)[:4]]
        return sum(tensor.nbytes for tensor in tensors) / max(len(self), 1)

    def take(self, index: Tensor) -> RayBatch:
        """The rays at (B,) positions; no host synchronisation unless the table has exact rays."""
        exact = None
        if self.exact is not None:
            slot = torch.searchsorted(self.exact.index, index).clamp_max(len(self.exact.index) - 1)
            hit = self.exact.index[slot] == index
            exact = _some(self.exact, slot[hit], torch.nonzero(hit).flatten())
        path, view = self.path[index], self.view[index].long()
        return RayBatch(
            path,
            self.length_m[index],
            self.reflectance[index],
            self.view_band[view],
            self._pixel(path, view),
            self.frame,
            self.top_height_m,
            exact,
        )

    def _pixel(self, path: Tensor, view: Tensor) -> Tensor:
        """(B, 2, 2) steps on the ground to the neighbours of pixels [m]; rays keep them at any height."""
        scale, offset = self.frame.affine()
        x = (path[:, 0] + path[:, 1] + path[:, 2]) * scale[0] + offset[0]
        y = (path[:, 3] + path[:, 4] + path[:, 5]) * scale[1] + offset[1]
        terms = torch.stack([torch.ones_like(x), x, y, x * x, x * y, y * y], 1)
        return torch.einsum("bt,btc->bc", terms, self.footprint[view]).view(-1, 2, 2)


def _some(exact: ExactRays, chosen: Tensor, index: Tensor) -> ExactRays | None:
    keep = chosen.cpu().numpy()
    return ExactRays(index, RayLines(*(array[keep] for array in exact.lines))) if len(index) else None


def load_rays(scene: Scene, views: NDArray[np.integer], device: torch.device) -> RayTable:
    """Loads the valid rays of chosen views.

    Args:
        scene: An open scene.
        views: (K,) indices of the views to load. The rays of a single view come in the order of its pixels.
        device: Where the table is to live.

    Raises:
        SceneError: There is no valid ray in these views.
    """
    fit = FootprintFit(scene.frame, len(scene.view_band))
    blocks = []
    for block in ray_blocks(scene, views):
        fit.add(views, block.foot)
        if len(block.length_m):
            blocks.append(replace(block, foot=_NOTHING))  # large, and of no further use
    if not blocks:
        raise SceneError(f"{scene.path}: no valid ray in {len(views)} chosen views; expected at least one")
    return table_of(scene, blocks, fit.solve(), device)


def table_of(
    scene: Scene, blocks: Sequence[RayBlock], footprint: NDArray[np.float32], device: torch.device
) -> RayTable:
    """The rays of one or more blocks of a scene, in order, as a table on a device.

    Args:
        scene: The scene.
        blocks: The rays.
        footprint: (V, 6, 4) of a `FootprintFit` over the whole scene.
        device: Where the table is to live.
    """

    def gather(name: str) -> Tensor:
        return torch.from_numpy(np.concatenate([getattr(block, name) for block in blocks])).to(device)

    return RayTable(
        path=gather("path"),
        length_m=gather("length_m"),
        reflectance=gather("reflectance"),
        view=gather("view"),
        view_band=torch.from_numpy(scene.view_band.astype(np.int64)).to(device),
        footprint=torch.from_numpy(footprint).to(device),
        frame=scene.frame,
        top_height_m=scene.top_height_m,
        exact=_gather_exact(blocks, device),
    )


@dataclass(frozen=True)
class RayBlock:
    """Rays of some lines of a scene."""

    path: NDArray[np.float32]
    length_m: NDArray[np.float32]
    reflectance: NDArray[np.float32]
    view: NDArray[np.uint8]
    foot: NDArray[np.float32]  # (V, L, P, 2) x, y on the ground [m] of all pixels, NaN if not valid
    slant: NDArray[np.int64]  # positions of the rays that need fp64
    lines: RayLines  # of those rays

    def some(self, chosen: NDArray[np.int64]) -> RayBlock:
        """The rays at ascending positions."""
        _, slot, place = np.intersect1d(self.slant, chosen, assume_unique=True, return_indices=True)
        return RayBlock(
            self.path[chosen],
            self.length_m[chosen],
            self.reflectance[chosen],
            self.view[chosen],
            _NOTHING,  # large, and of no further use
            place,
            RayLines(*(array[slot] for array in self.lines)),
        )


def ray_blocks(
    scene: Scene, views: NDArray[np.integer], follow_above_m: float = MAX_HEIGHT_ERROR_M
) -> Iterator[RayBlock]:
    """Yields the valid rays of chosen views, some lines at a time.

    Args:
        scene: An open scene.
        views: (K,) indices of the views.
        follow_above_m: Height error of its parabola above which a ray's straight line is kept.
    """
    first, last = int(views.min()), int(views.max()) + 1
    left_out = np.ones(last - first, dtype=bool)
    left_out[views - first] = False
    for start in range(0, scene.shape[1], _LINES_AT_ONCE):
        lines = slice(start, start + _LINES_AT_ONCE)

        def read(name: str, lines: slice = lines) -> NDArray[Any]:
            return scene.read(name, lines=lines, views=slice(first, last))

        valid = read("valid").astype(bool)
        valid[left_out] = False
        geometry = [read(name)[valid].astype(np.float32, copy=False) for name in _GEOMETRY]
        rays = paths_of(scene.frame, scene.top_height_m, *geometry)
        slant = np.flatnonzero(rays.residual_m > follow_above_m)
        latitude, longitude, altitude, zenith, azimuth = (values[slant] for values in geometry)
        foot = np.full((*valid.shape, 2), np.nan, np.float32)
        foot[valid] = rays.path[:, [0, 3]] + rays.path[:, [1, 4]] + rays.path[:, [2, 5]]
        yield RayBlock(
            rays.path,
            rays.length_m,
            read("reflectance")[valid].astype(np.float32, copy=False),
            np.repeat(np.arange(first, last, dtype=np.uint8), valid.sum(axis=(1, 2))),
            foot[~left_out],
            slant,
            trace(latitude, longitude, altitude, zenith, azimuth, scene.top_height_m),
        )


def _gather_exact(blocks: Sequence[RayBlock], device: torch.device) -> ExactRays | None:
    offsets = np.cumsum([0, *(len(block.length_m) for block in blocks[:-1])])
    index = np.concatenate([block.slant + offset for block, offset in zip(blocks, offsets, strict=True)])
    if not index.size:
        return None
    parts = zip(*(block.lines for block in blocks), strict=True)
    lines = RayLines(*(np.concatenate(arrays) for arrays in parts))
    return ExactRays(torch.from_numpy(index).to(device), lines)
