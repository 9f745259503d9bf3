"""What a pixel sees: the light of ground, air and cloud gathered along its line of sight."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from atmonr.geo.ellipsoid import Floats
from atmonr.geo.rays import trace
from atmonr.simulate import optics
from atmonr.simulate.characteristics import cross, shifted
from atmonr.simulate.instrument import Band, Geometry
from atmonr.simulate.medium import Medium, sun_depth
from atmonr.simulate.surface import Surface
from atmonr.simulate.transport import Light
from atmonr.simulate.volume import Volume

# Heights, as shares of the top, through which a quartic in height is laid: it follows to millimetres a line
# of sight that is straight in space but bent in a frame whose columns are vertical.
_NODES = (0.0, 0.15, 0.5, 0.85, 1.0)

# The source scattered more than once is smooth in direction: pixels within this angle share it.
_SHARED_DIRECTION_DEG = 3.0

# These bound the memory that a picture of any size takes.
_LEVELS_TOGETHER = 32
_PIXELS_TOGETHER = 20_000


@dataclass(frozen=True)
class Illumination:
    """One band's atmosphere and ground, and the light in it.

    Attributes:
        band: the wavelength.
        medium: the atmosphere.
        light: its radiation field.
        surface: the ground.
        sun: (3,) unit vector towards the sun, in the axes of the medium.
        sun_ecef: the same direction in Earth-centred axes.
    """

    band: Band
    medium: Medium
    light: Light
    surface: Surface
    sun: Tensor
    sun_ecef: Floats


@dataclass(frozen=True)
class Sight:
    """Lines of sight as polynomials in height, from the ground to the top of a medium.

    Attributes:
        coefficients: (5, 3, N) float64, powers of height / top_m for x, y and distance from the ground [m].
        top_m: height at which they end.
        cos_scattering: (N,) cosine of the angle by which sunlight turns to follow the line to the sensor.
    """

    coefficients: Floats
    top_m: float
    cos_scattering: Tensor

    def at(self, height_m: Floats) -> tuple[Tensor, Tensor, Tensor]:
        """x, y and distance from the ground [m] at (S,) heights, each (S, N)."""
        powers = np.vander(height_m / self.top_m, len(_NODES), increasing=True)
        x, y, distance = torch.from_numpy(np.tensordot(powers, self.coefficients, 1)).float().unbind(dim=1)
        return x, y, distance

    def direction(self) -> Tensor:
        """(N, 3) unit vectors to the sensor at the ground."""
        slope = self.coefficients[1, :2] / self.top_m
        vector = np.concatenate([slope, np.ones_like(slope[:1])]).T
        return torch.from_numpy(vector / np.linalg.norm(vector, axis=-1, keepdims=True)).float()


def view_reflectance(scene: Illumination, volume: Volume, geometry: Geometry, view: int) -> Floats:
    """Reflectance pi I / (mu0 F0) of one view, mu0 being that of the centre of the scene.

    Returns:
        (L, P).
    """
    lines, pixels = geometry.latitude.shape[1:]
    zenith = geometry.sensor_zenith[view].astype(np.float64)
    azimuth = np.radians(geometry.sensor_azimuth[view].astype(np.float64))
    horizontal = np.stack([np.sin(azimuth), np.cos(azimuth)]) * np.sin(np.radians(zenith))
    spread_deg = np.degrees(np.ptp(horizontal, axis=(1, 2)).max() / np.cos(np.radians(zenith.max())))
    wanted = max(spread_deg / (2 * _SHARED_DIRECTION_DEG), lines * pixels / _PIXELS_TOGETHER)
    blocks = min(pixels, max(1, math.ceil(wanted)))
    reflectance = np.empty((lines, pixels))
    for columns in np.array_split(np.arange(pixels), blocks):
        part = slice(int(columns[0]), int(columns[-1]) + 1)
        sight = _sight(scene, volume, geometry, (view, slice(None), part))
        reflectance[:, part] = (_gather(scene, sight) * (math.pi / scene.sun[2])).reshape(lines, -1).numpy()
    return reflectance


def _sight(scene: Illumination, volume: Volume, geometry: Geometry, part: tuple[int, slice, slice]) -> Sight:
    """Follow the lines of sight of some pixels of one view."""
    latitude, longitude, zenith, azimuth = (
        array[part].ravel().astype(np.float64)
        for array in (
            geometry.latitude,
            geometry.longitude,
            geometry.sensor_zenith,
            geometry.sensor_azimuth,
        )
    )
    top = float(scene.medium.z_m[-1])
    ground = volume.from_frame(volume.frame.from_geodetic(latitude, longitude))
    points = [np.concatenate([ground[:, :2], np.zeros_like(ground[:, :1])], axis=-1)]
    for node in _NODES[1:]:
        rays = trace(latitude, longitude, 0.0, zenith, azimuth, node * top)
        place = volume.from_frame(volume.frame.from_ecef(rays.origin_ecef))
        points.append(np.concatenate([place[:, :2], rays.length_m[:, None]], axis=-1))
    powers = np.vander(_NODES, increasing=True)
    coefficients = np.linalg.solve(powers, np.stack(points).reshape(len(_NODES), -1))
    return Sight(
        coefficients.reshape(len(_NODES), -1, 3).swapaxes(1, 2),
        top,
        torch.from_numpy(rays.direction @ scene.sun_ecef).float(),
    )


def _gather(scene: Illumination, sight: Sight) -> Tensor:
    """(N,) radiance at the top for a sun of unit irradiance, summed from the ground upwards."""
    direction = sight.direction()
    fields_CZYX = _fields(scene, direction.mean(dim=0))
    slope = float((direction[:, :2].norm(dim=-1) / direction[:, 2]).max())
    radiance = _ground(scene, sight, direction)
    levels = _levels(scene.medium, slope)
    for first in range(0, len(levels) - 1, _LEVELS_TOGETHER):
        part = levels[first : first + _LEVELS_TOGETHER + 1]
        extinction, emission, distance_m = _sample(scene.medium, sight, fields_CZYX, part)
        start, end = (extinction[:-1], emission[:-1]), (extinction[1:], emission[1:])
        crossing = cross(start, end, distance_m.diff(dim=0))
        # What leaves a segment is dimmed by all segments above it.
        passed = (1 - crossing.absorbed).flip(0).cumprod(dim=0).flip(0)
        above = torch.cat([passed[1:], torch.ones_like(passed[:1])])
        radiance = radiance * passed[0] + (crossing.source * crossing.absorbed * above).sum(dim=0)
    return radiance


def _levels(medium: Medium, slope: float) -> list[float]:
    """Heights to sample, counted in planes: twice per cell that a line of this slope crosses in cloud."""
    first, last = medium.cloud_planes if medium.rayleigh_depth == 0 else (0, len(medium.z_m) - 1)
    levels: list[float] = []
    for plane in range(first, last):
        gap_m = float(medium.z_m[plane + 1] - medium.z_m[plane])
        steps = medium.substeps(plane, gap_m * slope, per_cell=2.0)
        levels += [plane + step / steps for step in range(steps)]
    return [*levels, float(last)]


def _sample(
    medium: Medium, sight: Sight, fields_CZYX: Tensor, levels: list[float]
) -> tuple[Tensor, Tensor, Tensor]:
    """Extinction, emission and distance from the ground at some levels of all lines of sight, each (S, N)."""
    below = torch.tensor(levels).long().clamp_max(len(medium.z_m) - 2)
    share = torch.tensor(levels) - below
    height_m = torch.lerp(medium.z_m[below].double(), medium.z_m[below + 1].double(), share.double())
    x, y, distance_m = sight.at(height_m.numpy())
    planes = torch.lerp(fields_CZYX[:, below], fields_CZYX[:, below + 1], share[:, None, None])
    places = medium.unit(x, y)[:, None]
    extinction, cloud, air, diffuse = shifted(planes.transpose(0, 1), places)[:, :, 0].unbind(dim=1)
    cosine = sight.cos_scattering
    emission = optics.cloud_phase(cosine) * cloud + optics.rayleigh_phase(cosine) * air + diffuse
    return extinction, emission, distance_m


def _fields(scene: Illumination, direction: Tensor) -> Tensor:
    """What a line of sight needs at the nodes: (4, Z, Y, X).

    Extinction; sunlight that cloud and that air scatter first, to be multiplied by the phase function of each
    pixel; emission by light scattered before, towards one direction. The first scattering uses the whole
    phase function although extinction is scaled (T. Nakajima and M. Tanaka, JQSRT 40, 1988).
    """
    medium, light = scene.medium, scene.light
    sunlit = light.sunlit_ZYX / (4 * math.pi)
    diffuse = torch.tensordot(optics.harmonics(direction), light.source_MZYX, 1)
    return torch.stack(
        [
            medium.extinction_ZYX,
            medium.albedo * medium.cloud_ZYX * sunlit,
            medium.rayleigh_Z[:, None, None] * sunlit,
            diffuse,
        ]
    )


def _ground(scene: Illumination, sight: Sight, direction: Tensor) -> Tensor:
    """(N,) radiance that leaves the ground towards the sensor."""
    x, y, _ = (field[0] for field in sight.at(np.zeros(1)))
    if scene.surface.black:
        return torch.zeros_like(x)
    direct = scene.sun[2] * torch.exp(-sun_depth(scene.medium, x, y, torch.zeros_like(x), scene.sun))
    diffuse = shifted(scene.light.down_YX[None, None], scene.medium.unit(x, y)[None, None])[0, 0, 0]
    albedo = scene.surface.albedo(x, y, scene.band.wavelength_nm)
    glint = scene.surface.glint(direction, scene.sun)
    return (albedo * (direct + diffuse) + glint * direct) / math.pi
