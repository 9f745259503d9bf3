"""All rays of a scene, loaded once into device memory."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from atmonr.errors import SceneError
from atmonr.feed.follow import follow
from atmonr.feed.footprint import FootprintFit
from atmonr.geo.frame import Frame
from atmonr.store.scene import Scene
from atmonr.store.views import ROWS, read_rays, valid_pixels


@dataclass(frozen=True)
class RayBatch:
    """Some rays of a table."""

    path: Tensor  # (B, 3, 5) float32, see `atmonr.geo.paths.Paths`
    length_m: Tensor  # (B,) float32
    reflectance: Tensor  # (B,) float32
    band: Tensor  # (B,) int64
    pixel: Tensor  # (B, 2, 2) float32, x and y of a step to the next line and to the next pixel [m]

    def __len__(self) -> int:
        return len(self.path)

    def points(self, position_BS: Tensor, aside_BS2: Tensor | None = None) -> Tensor:
        """(B, S, 3) frame coordinates x, y, height [m] at fractions of the rays, 0 top, 1 surface.

        Args:
            position_BS: (B, S) fractions.
            aside_BS2: (B, S, 2) place in the pixel, in lines and pixels from its middle; there by default.
        """
        s, path = position_BS[:, None], self.path
        by_axis = path[..., -1:]
        for power in range(path.shape[-1] - 2, -1, -1):
            by_axis = torch.addcmul(path[..., power, None], by_axis, s)
        points = by_axis.transpose(1, 2).contiguous()
        if aside_BS2 is not None:
            points[..., :2] += aside_BS2 @ self.pixel
        return points

    def to_sensor(self) -> Tensor:
        """(B, 3) unit vectors from the middle of each ray towards the sensor, along the frame's axes."""
        return -torch.nn.functional.normalize(self.path[..., 1:].sum(-1), dim=-1)


@dataclass(frozen=True)
class RayTable:
    """Rays as a struct of arrays on one device, 25 bytes each.

    What is kept of a ray is what its granule tells of it. Its path is made anew whenever it is in a batch:
    that costs a hundredth of a step, and loading is then no more than reading.
    """

    sight: Tensor  # (5, R) float32, see `atmonr.feed.follow.follow`
    reflectance: Tensor  # (R,) float32
    view: Tensor  # (R,) uint8
    view_band: Tensor  # (V,) int64
    footprint: Tensor  # (V, 6, 4) float32, see `FootprintFit`
    frame: Frame
    top_height_m: float

    def __len__(self) -> int:
        return len(self.view)

    @property
    def bytes_per_ray(self) -> float:
        """Device memory of the per-ray tensors divided by their number."""
        tensors = (self.sight, self.reflectance, self.view)
        return sum(tensor.nbytes for tensor in tensors) / max(len(self), 1)

    def take(self, index: Tensor) -> RayBatch:
        """The rays at (B,) positions; no host synchronisation."""
        path, length = follow(self.frame, self.top_height_m, self.sight[:, index])
        view = self.view[index].long()
        return RayBatch(path, length, self.reflectance[index], self.view_band[view], self._pixel(path, view))

    def _pixel(self, path: Tensor, view: Tensor) -> Tensor:
        """(B, 2, 2) steps on the ground to the neighbours of pixels [m]; rays keep them at any height."""
        scale, offset = self.frame.affine()
        x, y = (path[:, axis].sum(-1) * scale[axis] + offset[axis] for axis in (0, 1))
        terms = torch.stack([torch.ones_like(x), x, y, x * x, x * y, y * y], 1)
        return torch.einsum("bt,btc->bc", terms, self.footprint[view]).view(-1, 2, 2)


def load_rays(scene: Scene, views: NDArray[np.integer], device: torch.device) -> RayTable:
    """Loads the valid rays of chosen views, ordered by view, line and pixel.

    Args:
        scene: An open scene.
        views: (K,) indices of the views to load, ascending.
        device: Where the table is to live.

    Raises:
        SceneError: There is no valid ray in these views.
    """
    valid = valid_pixels(scene, views)
    counts = [np.count_nonzero(mask) for mask in valid]
    if not any(counts):
        raise SceneError(f"{scene.path}: no valid ray in {len(views)} chosen views; expected at least one")
    fit = FootprintFit(scene.frame, len(scene.view_band))
    # NumPy asks for large pages, which are there four times as fast as torch's.
    rows = np.empty((len(ROWS), sum(counts)), np.float32)
    for rays in read_rays(scene, views, valid, rows):
        fit.add(rays.view, rays.valid, *rays.rows[:3])
    view = np.repeat(views.astype(np.uint8), counts)
    sight, reflectance = torch.from_numpy(rows[:-1]), torch.from_numpy(rows[-1])
    return table_of(scene, sight, reflectance, torch.from_numpy(view), fit.solve(), device)


def table_of(
    scene: Scene,
    sight: Tensor,
    reflectance: Tensor,
    view: Tensor,
    footprint: NDArray[np.float32],
    device: torch.device,
) -> RayTable:
    """A table of rays of a scene.

    Args:
        scene: The scene.
        sight, reflectance, view: See `RayTable`.
        footprint: (V, 6, 4) of a `FootprintFit`.
        device: Where the table is to live.
    """
    return RayTable(
        sight=sight.to(device),
        reflectance=reflectance.to(device),
        view=view.to(device),
        view_band=torch.from_numpy(scene.view_band.astype(np.int64)).to(device),
        footprint=torch.from_numpy(footprint).to(device),
        frame=scene.frame,
        top_height_m=scene.top_height_m,
    )
