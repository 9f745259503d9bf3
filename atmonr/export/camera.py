"""Where the camera stands in every frame, and the rays through its pixels."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Path = Literal["turntable", "flyover"]
Vector = NDArray[np.float64]

# Of the shorter side of the picture.
FIELD_OF_VIEW_DEG = 35.0
_TURNTABLE_ELEVATION_DEG = 22.0


@dataclass(frozen=True)
class Box:
    """The box that is looked at: lower and upper corner, x, y, z [m]."""

    lower_m: Vector
    upper_m: Vector

    @property
    def middle_m(self) -> Vector:
        """Its centre."""
        return (self.lower_m + self.upper_m) / 2.0

    @property
    def half_m(self) -> Vector:
        """Half its size."""
        return (self.upper_m - self.lower_m) / 2.0


@dataclass(frozen=True)
class Camera:
    """A place and what it looks at, x, y, z [m]."""

    place_m: Vector
    target_m: Vector

    def rays(self, width: int, height: int, device: torch.device) -> tuple[Tensor, Tensor]:
        """Origin (3,) [m] and unit directions (height, width, 3) through the middle of every pixel."""
        ahead = self.target_m - self.place_m
        ahead /= np.linalg.norm(ahead)
        right = np.cross(ahead, (0.0, 0.0, 1.0))
        right /= np.linalg.norm(right)
        above = np.cross(right, ahead)
        pixel = 2.0 * math.tan(math.radians(FIELD_OF_VIEW_DEG) / 2.0) / min(width, height)
        x = torch.as_tensor((np.arange(width) + 0.5 - width / 2.0) * pixel)[:, None]
        y = torch.as_tensor((height / 2.0 - np.arange(height) - 0.5) * pixel)[:, None, None]
        directions = torch.as_tensor(ahead) + x * torch.as_tensor(right) + y * torch.as_tensor(above)
        directions = directions / directions.norm(dim=-1, keepdim=True)
        return tuple(v.to(device, torch.float32) for v in (torch.as_tensor(self.place_m), directions))  # type: ignore[return-value]


def cameras(path: Path, box: Box, frames: int, aspect: float, heading_deg: float) -> Iterator[Camera]:
    """Yield the camera of every frame.

    Args:
        path: `turntable` goes once around the box, so that the last frame leads to the first; `flyover`
            follows the sensor's track over it.
        box: What is looked at.
        frames: Number of frames.
        aspect: Width of the picture over its height.
        heading_deg: Direction of flight, clockwise from the y axis.
    """
    for frame in range(frames):
        if path == "turntable":
            yield _around(box, frame / frames, aspect, heading_deg)
        else:
            yield _over(box, (frame + 0.5) / frames, heading_deg)


def _around(box: Box, share: float, aspect: float, heading_deg: float) -> Camera:
    """Begin behind, where the sensor comes from."""
    azimuth = math.radians(heading_deg + 180.0 + 360.0 * share)
    elevation = math.radians(_TURNTABLE_ELEVATION_DEG)
    level = math.cos(elevation)
    direction = np.array([math.sin(azimuth) * level, math.cos(azimuth) * level, math.sin(elevation)])
    return Camera(box.middle_m + _distance_m(box, elevation, aspect) * direction, box.middle_m)


def _distance_m(box: Box, elevation: float, aspect: float) -> float:
    """From how far all of the upright cylinder around a box is in the picture."""
    half = math.tan(math.radians(FIELD_OF_VIEW_DEG) / 2.0)
    wide, high = half * max(aspect, 1.0), half * max(1.0 / aspect, 1.0)
    turn, z = np.meshgrid(np.radians(np.arange(360.0)), np.array([-1.0, 1.0]) * box.half_m[2])
    radius = float(np.hypot(*box.half_m[:2]))
    nearer, aside = radius * np.cos(turn), radius * np.sin(turn)
    above = z * math.cos(elevation) - nearer * math.sin(elevation)
    closer = nearer * math.cos(elevation) + z * math.sin(elevation)
    return float((closer + np.maximum(np.abs(aside) / wide, np.abs(above) / high)).max())


def _over(box: Box, share: float, heading_deg: float) -> Camera:
    heading = math.radians(heading_deg)
    along = np.array([math.sin(heading), math.cos(heading), 0.0])
    reach = float(np.abs(along) @ box.half_m)
    depth = 2.0 * float(box.half_m[2])
    up = np.array([0.0, 0.0, float(box.half_m[2]) + 0.5 * depth + 0.15 * reach])
    # From well before the box to its middle, looking ahead and down.
    place = box.middle_m + along * reach * (-2.3 + 1.9 * share) + up
    return Camera(place, place + along * 1.6 * reach - 1.1 * up)
