"""Paths of the rays of a batch, made on the device that holds them."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from atmonr.geo.ellipsoid import ECCENTRICITY_SQUARED, SEMI_MAJOR_M, SEMI_MINOR_M
from atmonr.geo.frame import Frame
from atmonr.geo.paths import COEFFICIENTS, NODES, paths_of
from atmonr.geo.rays import NEWTON_STEPS


def follow(frame: Frame, top_height_m: float, sight_5B: Tensor) -> tuple[Tensor, Tensor]:
    """Paths of rays through a frame; no host synchronisation.

    Args:
        frame: The scene's frame.
        top_height_m: Height above the ellipsoid at which rays start [m].
        sight_5B: (5, B) float32 latitude, longitude [degrees] and altitude [m] of pixels, zenith and azimuth
            of the sensor there [degrees]; finite.

    Returns:
        (B, 3, DEGREE + 1) and (B,) float32 path and length, as of `atmonr.geo.paths.Paths`.
    """
    if sight_5B.device.type != "cpu":
        return follow_in_torch(frame, top_height_m, sight_5B)
    path, length = paths_of(frame, top_height_m, *sight_5B.numpy())
    return torch.from_numpy(path), torch.from_numpy(length)


def follow_in_torch(frame: Frame, top_height_m: float, sight_5B: Tensor) -> tuple[Tensor, Tensor]:
    """`follow` in plain torch, in fp64: the formulas of `atmonr.geo.rays.trace` and of the frame."""
    centre, basis, curvatures, nodes, coefficients = _constants(frame, sight_5B.device)
    foot, upwards = _foot_and_direction(sight_5B.double())
    climb = top_height_m - sight_5B[2].double()
    radius, rise = foot.norm(dim=1), sight_5B[3].double().deg2rad().cos()
    square = climb * (2.0 * radius + climb)
    length = square / (radius * rise + torch.sqrt((radius * rise).square() + square))
    for _ in range(NEWTON_STEPS):
        normal, height = _normal_and_height(foot + length[:, None] * upwards)
        length = length + (top_height_m - height) / (normal * upwards).sum(1)
    left = length[:, None] * (1.0 - nodes)
    points = foot[:, None] + left[..., None] * upwards[:, None]  # (B, DEGREE + 1, 3)
    normal, height = _normal_and_height(points)
    east, north = ((points - height[..., None] * normal - centre) @ basis.T).unbind(-1)
    distance = torch.hypot(east, north)
    bend = curvatures[0] * east * east + curvatures[1] * north * north
    turn = bend / torch.where(distance > 0.0, distance, 1.0)
    stretch = torch.where(turn > 0.0, torch.asin(turn) / torch.where(turn > 0.0, turn, 1.0), 1.0)
    height[:, 0] = top_height_m
    values = torch.stack([east * stretch, north * stretch, height], 1)  # (B, 3, DEGREE + 1)
    bends = (values[..., 1:] - values[..., :1]) @ coefficients.T
    return torch.cat([values[..., :1], bends], -1).float(), length.float()


@lru_cache(maxsize=16)
def _constants(
    frame: Frame, device: torch.device
) -> tuple[Tensor, Tensor, tuple[float, float], Tensor, Tensor]:
    """Centre, axes east and north, curvatures, nodes and coefficients, on a device."""
    centre, basis, curvatures = frame.tangent_plane()

    def there(values: object) -> Tensor:
        return torch.as_tensor(values, dtype=torch.float64, device=device)

    return there(centre), there(basis[:2]), curvatures, there(NODES), there(COEFFICIENTS)


def _foot_and_direction(sight_5B: Tensor) -> tuple[Tensor, Tensor]:
    """(B, 3) Earth-centred places of pixels [m], and unit vectors from there towards the sensor."""
    latitude, longitude, zenith, azimuth = sight_5B[[0, 1, 3, 4]].deg2rad()
    altitude = sight_5B[2]
    (sin_lat, cos_lat), (sin_lon, cos_lon) = ((a.sin(), a.cos()) for a in (latitude, longitude))
    curvature = SEMI_MAJOR_M / torch.sqrt(1.0 - ECCENTRICITY_SQUARED * sin_lat.square())
    around = (curvature + altitude) * cos_lat
    z = (curvature * (1.0 - ECCENTRICITY_SQUARED) + altitude) * sin_lat
    foot = torch.stack([around * cos_lon, around * sin_lon, z], 1)
    across, rise = zenith.sin(), zenith.cos()
    east, north = across * azimuth.sin(), across * azimuth.cos()
    outward = cos_lat * rise - sin_lat * north
    upwards = [cos_lon * outward - sin_lon * east, sin_lon * outward + cos_lon * east]
    return foot, torch.stack([*upwards, sin_lat * rise + cos_lat * north], 1)


def _normal_and_height(points: Tensor) -> tuple[Tensor, Tensor]:
    """`atmonr.geo.ellipsoid.normal_and_height` in torch."""
    x, y, z = points.unbind(-1)
    axis = torch.sqrt(x * x + y * y)
    sine, cosine = _normalised(z * SEMI_MAJOR_M, axis * SEMI_MINOR_M)
    rise = ECCENTRICITY_SQUARED / (1.0 - ECCENTRICITY_SQUARED) * SEMI_MINOR_M
    sine, cosine = _normalised(z + rise * sine**3, axis - ECCENTRICITY_SQUARED * SEMI_MAJOR_M * cosine**3)
    height = axis * cosine + z * sine - SEMI_MAJOR_M * torch.sqrt(1.0 - ECCENTRICITY_SQUARED * sine * sine)
    outward = cosine / torch.where(axis > 0.0, axis, 1.0)
    return torch.stack([x * outward, y * outward, sine], -1), height


def _normalised(sine: Tensor, cosine: Tensor) -> tuple[Tensor, Tensor]:
    scale = torch.rsqrt(sine * sine + cosine * cosine)
    return sine * scale, cosine * scale
