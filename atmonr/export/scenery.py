"""What is around the cloud, and how light becomes a picture: sky, sea, exposure."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import grid_sample

from atmonr.export.lighting import LitScene, phase_function
from atmonr.export.march import march

# Colours, linear sRGB, per unit of solar irradiance on a plane facing the sun.
SUN = (1.0, 0.97, 0.92)
ZENITH = (0.012, 0.030, 0.075)  # radiance of a clear sky overhead [1/sr]
HORIZON = (0.070, 0.100, 0.140)
SEA = (0.006, 0.030, 0.070)  # albedo of water seen from above
WATER_REFLECTS = 0.02  # seen from straight above
_EXPOSURE = 0.95
_DIM = 0.35  # a lower sun leaves the picture darker
_RAYS_AT_ONCE = 1 << 18


def picture(scene: LitScene, origin_m: Tensor, directions: Tensor, haze_m: float) -> Tensor:
    """Render rays from one point to 8-bit sRGB.

    Args:
        scene: What is seen.
        origin_m: (3,) the camera [m].
        directions: (H, W, 3) unit vectors.
        haze_m: Distance over which the sea fades into the horizon by a factor of e [m].

    Returns:
        (H, W, 3) uint8.
    """
    rays = directions.reshape(-1, 3)
    colours = [_radiance(scene, origin_m, part, haze_m) for part in rays.split(_RAYS_AT_ONCE)]
    return develop(torch.cat(colours), scene.sun[2]).view(directions.shape)


def _radiance(scene: LitScene, origin_m: Tensor, directions: Tensor, haze_m: float) -> Tensor:
    """(N, 3) radiance per unit of solar irradiance [1/sr]."""
    behind = background(scene, origin_m, directions, haze_m)
    if scene.volume is None:
        return behind
    phase = phase_function(directions @ directions.new_tensor(scene.sun))
    seen = march(scene.volume, origin_m[None], directions, phase)
    # The sky is half of all directions, and its mean colour is between that overhead and that at the horizon.
    sun, sky = directions.new_tensor(SUN), 0.5 * directions.new_tensor([ZENITH, HORIZON]).mean(dim=0)
    return seen.sunlight[:, None] * sun + seen.skylight[:, None] * sky + seen.transmittance[:, None] * behind


def background(scene: LitScene, origin_m: Tensor, directions: Tensor, haze_m: float) -> Tensor:
    """(N, 3) radiance of sky and sea, the cloud's shadow on it, without the cloud [1/sr]."""
    sky = _sky(directions, scene.sun)
    height = float(origin_m[2]) - scene.ground_m
    down = (-directions[:, 2]).clamp_min(1e-6)
    distance = height / down
    place = origin_m[:2] + directions[:, :2] * distance[:, None]
    lit = (1.0 - _shade(scene, place)) * scene.sun[2] / math.pi
    water = lit[:, None] * directions.new_tensor(SEA) * directions.new_tensor(SUN)
    mirror = WATER_REFLECTS + (1.0 - WATER_REFLECTS) * (1.0 - down) ** 5
    water = water + mirror[:, None] * directions.new_tensor(HORIZON)
    clear = torch.exp(-distance / haze_m)[:, None]
    sea = clear * water + (1.0 - clear) * directions.new_tensor(HORIZON)
    return torch.where(directions[:, 2:] < 0.0, sea, sky)


def _sky(directions: Tensor, sun: tuple[float, float, float]) -> Tensor:
    up = directions[:, 2:].clamp_min(0.0)
    blue = directions.new_tensor(ZENITH)
    sky = blue + (directions.new_tensor(HORIZON) - blue) * (1.0 - up) ** 6
    near = (directions @ directions.new_tensor(sun)).clamp(-1.0, 1.0)[:, None]
    return sky + 0.05 * torch.exp((near - 1.0) * 40.0) * directions.new_tensor(SUN)


def _shade(scene: LitScene, place_m: Tensor) -> Tensor:
    west, south, east, north = scene.shadow_box_m
    low, high = place_m.new_tensor([west, south]), place_m.new_tensor([east, north])
    where = (2.0 * (place_m - low) / (high - low) - 1.0)[None, None]
    return grid_sample(scene.shadow[None, None], where, align_corners=True)[0, 0, 0]


def develop(radiance: Tensor, sun_up: float) -> Tensor:
    """Expose so that a white sheet on the ground in full sun is nearly white, and encode as 8-bit sRGB."""
    light = _EXPOSURE * radiance.clamp_min(0.0) * math.pi / max(sun_up, _DIM)
    # The film curve of ACES in Narkowicz's fit (2015): deep shadows, and highlights that roll off to white.
    film = (light * (2.51 * light + 0.03) / (light * (2.43 * light + 0.59) + 0.14)).clamp(0.0, 1.0)
    encoded = torch.where(film <= 0.0031308, 12.92 * film, 1.055 * film.clamp_min(1e-6) ** (1 / 2.4) - 0.055)
    return (encoded * 255.0 + 0.5).to(torch.uint8)
