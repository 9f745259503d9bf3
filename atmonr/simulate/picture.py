"""Looking at a cloud: light is solved band by band, then every view gathers it along lines of sight."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from atmonr.geo.ellipsoid import Floats, direction_to_ecef
from atmonr.simulate.instrument import BANDS, Band, Geometry, observe, wavelengths
from atmonr.simulate.medium import build_medium
from atmonr.simulate.radiance import Illumination, view_reflectance
from atmonr.simulate.surface import Surface
from atmonr.simulate.transport import Light, solve
from atmonr.simulate.volume import Volume

# Called with the number of finished steps, the number of all steps, and what is being done.
Progress = Callable[[int, int, str], None]

# Stray light on the ground is solved for this many cells outside the cloud's box. Shadows need no such rim:
# they are found at each pixel.
STRAY_CELLS = 6


@dataclass(frozen=True)
class Picture:
    """What is looked at and how: a cloud, a number of pixels and the direction of flight.

    Views coincide in the middle of the cloud, or on the ground if they are to share one grid there.
    """

    cloud: Volume
    lines: int
    pixels: int
    pixel_m: float
    heading_deg: float
    on_ground: bool = False

    def geometry(self, sun_ecef: Floats, subpixels: int = 1) -> Geometry:
        """Geometry of all views, or of the parts of their pixels."""
        middle_m = float(self.cloud.altitude_m[0] + self.cloud.altitude_m[-1]) / 2
        return observe(
            self.cloud.frame,
            self.heading_deg,
            sun_ecef,
            self.lines * subpixels,
            self.pixels * subpixels,
            self.pixel_m / subpixels,
            0.0 if self.on_ground else middle_m,
        )


def observe_cloud(
    picture: Picture,
    sun_deg: tuple[float, float],
    surface: Surface,
    rayleigh: bool = False,
    subpixels: int = 1,
    progress: Progress | None = None,
) -> tuple[Geometry, Floats]:
    """All views of a picture, without noise.

    Args:
        picture: what is seen.
        sun_deg: zenith angle and azimuth of the sun at the middle of the scene.
        surface: the ground.
        rayleigh: whether the air scatters too.
        subpixels: lines of sight per pixel, along and across.
        progress: called after each view.

    Returns:
        The geometry and (V, L, P) reflectances pi I d^2 / (mu0 F0), mu0 being that of the scene's middle.
    """
    cloud = picture.cloud
    sun_ecef = direction_to_ecef(cloud.latitude_deg, cloud.longitude_deg, *sun_deg)
    geometry = picture.geometry(sun_ecef)
    parts = picture.geometry(sun_ecef, subpixels) if subpixels > 1 else geometry
    views, lines, pixels = geometry.latitude.shape
    reflectance = np.empty((views, lines, pixels))
    scene: Illumination | None = None
    for view, wavelength in enumerate(wavelengths()):
        if scene is None or (scene.band.wavelength_nm != wavelength and not (surface.black and not rayleigh)):
            band = next(band for band in BANDS if band.wavelength_nm == wavelength)
            guess = scene.light if scene is not None else None
            scene = illuminate(picture, band, sun_deg, surface, rayleigh, guess)
        seen = view_reflectance(scene, cloud, parts, view)
        reflectance[view] = seen.reshape(lines, subpixels, pixels, subpixels).mean(axis=(1, 3))
        if progress is not None:
            progress(view + 1, views, f"view {view + 1} of {views}, {wavelength:.0f} nm")
    return geometry, reflectance


def illuminate(
    picture: Picture,
    band: Band,
    sun_deg: tuple[float, float],
    surface: Surface,
    rayleigh: bool,
    guess: Light | None = None,
) -> Illumination:
    """Solve for the light in one band, starting from that of another if there is one."""
    cloud = picture.cloud
    zenith, azimuth = np.radians(sun_deg)
    enu = np.array([np.sin(zenith) * np.sin(azimuth), np.sin(zenith) * np.cos(azimuth), np.cos(zenith)])
    sun = torch.from_numpy(cloud.from_frame(enu)).float()
    rim = 1 if surface.black and not rayleigh else STRAY_CELLS
    medium = build_medium(cloud, band.rayleigh_depth if rayleigh else 0.0, rim)
    light = solve(medium, sun, surface.albedo(*medium.node_places(), band.wavelength_nm), guess)
    sun_ecef = direction_to_ecef(cloud.latitude_deg, cloud.longitude_deg, *sun_deg)
    return Illumination(band, medium, light, surface, sun, sun_ecef)
