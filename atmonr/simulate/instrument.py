"""HARP2 as an observer: its views in file order, its orbit, and where each pixel of each view looks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from atmonr.geo.ellipsoid import Floats, direction_to_ecef, enu_basis, geodetic_to_ecef
from atmonr.geo.frame import Frame

ORBIT_HEIGHT_M = 676_500.0
EARTH_RADIUS_M = 6_371_000.0
GROUND_SPEED_M_PER_S = 6800.0


class Band(NamedTuple):
    """One wavelength and the along-track angles of its views at the instrument, positive ahead."""

    wavelength_nm: float
    irradiance: float  # W m^-2 um^-1 at one astronomical unit
    rayleigh_depth: float  # optical depth of the whole column of air
    view_angle_deg: tuple[float, ...]  # in file order


GREEN = Band(549.57, 1860.0, 0.098, (56.28, 43.31, 32.60, 20.19, 6.18, -8.04, -21.95, -34.26, -44.47, -53.24))
# fmt: off
RED = Band(664.57, 1530.0, 0.044, (
    55.72, 54.42, 53.12, 51.71, 50.29, 48.72, 47.21, 45.71, 44.22, 42.51, 40.81, 39.01, 37.30, 35.40, 33.50,
    31.61, 29.60, 27.60, 25.49, 23.50, 21.29, 19.09, 16.79, 14.39, 11.96, 9.80, 7.31, 4.88, 2.57, 0.27,
    -2.23, -4.53, -6.93, -9.34, -11.74, -14.04, -16.34, -18.65, -20.84, -22.95, -25.15, -27.25, -29.36,
    -31.36, -33.26, -35.07, -36.96, -38.76, -40.47, -42.07, -43.77, -45.27, -46.75, -48.38, -49.87, -51.16,
    -52.67, -53.97, -55.28, -56.48,
))
# fmt: on
NEAR_INFRARED = Band(
    865.63, 960.0, 0.015, (55.12, 46.51, 30.60, 17.89, 3.77, -10.44, -17.44, -30.36, -46.07, -54.57)
)
BLUE = Band(440.16, 1830.0, 0.240, (53.82, 44.92, 34.40, 22.39, 8.48, -5.73, -19.75, -32.26, -42.87, -55.88))

BANDS = (GREEN, RED, NEAR_INFRARED, BLUE)  # the order of the views in a file


@dataclass(frozen=True)
class Geometry:
    """Where pixels are and in which directions sensor and sun stand; float32 as a file holds them.

    All are (V, L, P) in degrees except `seconds`, (V, L) since the first line was seen. Azimuths are
    clockwise from north, -180 to 180, from the pixel to the sensor or the sun. The ground is the ellipsoid.
    """

    latitude: NDArray[np.float32]
    longitude: NDArray[np.float32]
    sensor_zenith: NDArray[np.float32]
    sensor_azimuth: NDArray[np.float32]
    solar_zenith: NDArray[np.float32]
    solar_azimuth: NDArray[np.float32]
    seconds: Floats


def view_angles() -> Floats:
    """(V,) along-track angles of all views [degrees], in file order."""
    return np.concatenate([band.view_angle_deg for band in BANDS])


def wavelengths() -> Floats:
    """(V,) wavelength of all views [nm]."""
    return np.concatenate([np.full(len(band.view_angle_deg), band.wavelength_nm) for band in BANDS])


def irradiances() -> Floats:
    """(V,) solar irradiance of all views at one astronomical unit [W m-2 um-1]."""
    return np.concatenate([np.full(len(band.view_angle_deg), band.irradiance) for band in BANDS])


def ground_zenith(view_angle_deg: Floats) -> Floats:
    """Signed zenith angle [degrees] of views at the ground: a round Earth makes it larger."""
    sine = (1 + ORBIT_HEIGHT_M / EARTH_RADIUS_M) * np.sin(np.radians(view_angle_deg))
    return np.degrees(np.arcsin(sine))


def observe(
    frame: Frame,
    heading_deg: float,
    sun_ecef: Floats,
    lines: int,
    pixels: int,
    pixel_m: float,
    meeting_height_m: float,
) -> Geometry:
    """The geometry of all views of a scene at the centre of a frame, under the middle of the swath.

    Lines of sight of all views meet `meeting_height_m` above the ground, so a cloud there is at the same line
    and pixel of every view. On the ground the views are shifted along the track by parallax.

    Args:
        frame: frame whose centre is the middle of the scene.
        heading_deg: direction of flight at the centre, clockwise from north.
        sun_ecef: (3,) direction to the sun, the same for the whole scene.
        lines: lines along the track, in the direction of flight.
        pixels: pixels of a line, from left to right of the track.
        pixel_m: spacing of both.
        meeting_height_m: height at which the views coincide.
    """
    heading = np.radians(heading_deg)
    ahead = np.array([np.sin(heading), np.cos(heading)])
    right = np.array([np.cos(heading), -np.sin(heading)])
    zenith_V = ground_zenith(view_angles())
    along_VL = (np.arange(lines) - (lines - 1) / 2) * pixel_m
    along_VL = along_VL + meeting_height_m * np.tan(np.radians(zenith_V))[:, None]
    across_P = (np.arange(pixels) - (pixels - 1) / 2) * pixel_m
    plane = along_VL[:, :, None, None] * ahead + across_P[:, None] * right
    ground = np.concatenate([plane, np.zeros_like(plane[..., :1])], axis=-1)
    latitude, longitude, _ = frame.to_geodetic(ground)

    track_VL = along_VL[..., None] * ahead
    satellite_VL = _satellite(frame, track_VL, zenith_V[:, None], ahead)
    line_of_sight = satellite_VL[:, :, None] - geodetic_to_ecef(latitude, longitude, 0.0)
    basis = enu_basis(latitude, longitude)
    sensor = _zenith_azimuth(np.einsum("...ij,...j->...i", basis, line_of_sight))
    sun = _zenith_azimuth(basis @ sun_ecef)
    # The satellite is over the pixel's line by the arc between them before (views ahead) or after.
    arc = np.radians(zenith_V - view_angles())[:, None]
    seconds = (along_VL - EARTH_RADIUS_M * arc) / GROUND_SPEED_M_PER_S
    return Geometry(
        latitude=latitude.astype(np.float32),
        longitude=longitude.astype(np.float32),
        sensor_zenith=sensor[0].astype(np.float32),
        sensor_azimuth=sensor[1].astype(np.float32),
        solar_zenith=sun[0].astype(np.float32),
        solar_azimuth=sun[1].astype(np.float32),
        seconds=seconds - seconds.min(),
    )


def _satellite(frame: Frame, track: Floats, zenith_deg: Floats, ahead: Floats) -> Floats:
    """(..., 3) satellite as it sees (..., 2) points of its track under a signed zenith angle."""
    point = np.concatenate([track, np.zeros_like(track[..., :1])], axis=-1)
    latitude, longitude, _ = frame.to_geodetic(point)
    step = np.concatenate([ahead, [0.0]])
    forward = frame.to_ecef(point + step) - frame.to_ecef(point - step)
    east_north = np.einsum("...ij,...j->...i", enu_basis(latitude, longitude), forward)
    azimuth = np.degrees(np.arctan2(east_north[..., 0], east_north[..., 1]))
    # A view ahead sees the satellite behind: a negative zenith angle along the direction of flight.
    towards = direction_to_ecef(latitude, longitude, -zenith_deg, azimuth)
    down = EARTH_RADIUS_M * np.cos(np.radians(zenith_deg))
    square = ORBIT_HEIGHT_M * (2 * EARTH_RADIUS_M + ORBIT_HEIGHT_M)
    distance = np.sqrt(down * down + square) - down
    return frame.to_ecef(point) + distance[..., None] * towards


def _zenith_azimuth(enu: Floats) -> tuple[Floats, Floats]:
    """Zenith angle and azimuth, clockwise from north [degrees], of (..., 3) vectors east, north, up."""
    east, north, up = np.moveaxis(enu, -1, 0)
    return np.degrees(np.arctan2(np.hypot(east, north), up)), np.degrees(np.arctan2(east, north))
