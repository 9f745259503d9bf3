"""The local frame of a scene: metres east, metres north and height above the ellipsoid.

A point's frame coordinates are those of the foot of its vertical and its height, so a vertical column of air
is a column everywhere. The foot is seen orthographically in the tangent plane at the centre and the plane is
then stretched radially until distance from the centre is arc length (an azimuthal equidistant map with the
radius of curvature of its direction). Nothing in it is special at the poles, the dateline or longitudes of
+-90 degrees.

Only this module knows the scale and offset that take metres to a field's unit box.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike

from atmonr.geo.ellipsoid import (
    ECCENTRICITY_SQUARED,
    SEMI_MAJOR_M,
    SEMI_MINOR_M,
    Floats,
    enu_basis,
    geodetic_to_ecef,
    normal_and_height,
)

Array = TypeVar("Array")  # numpy.ndarray or torch.Tensor: `unit` serves both without importing torch
Triple = tuple[float, float, float]

_INVERSE_AXES_SQUARED = np.array([SEMI_MAJOR_M, SEMI_MAJOR_M, SEMI_MINOR_M]) ** -2.0


@dataclass(frozen=True)
class Frame:
    """A map between the Earth and scene coordinates (x_m, y_m, height_m), and the scene's box in it.

    Distances are right to 0.1 % within 400 km of the centre (radially much better; across the radius they are
    long by a sixth of the squared angle from the centre). Points more than about 85 degrees away are NaN.

    Attributes:
        latitude_deg: geodetic latitude of the centre [degrees].
        longitude_deg: longitude of the centre [degrees].
        lower_m: lower corner of the scene's box: x, y, height [m].
        upper_m: upper corner of the scene's box: x, y, height [m].

    Raises:
        ValueError: the centre is not on the Earth, or the box is empty or not finite.
    """

    latitude_deg: float
    longitude_deg: float
    lower_m: Triple
    upper_m: Triple

    def __post_init__(self) -> None:
        if not (abs(self.latitude_deg) <= 90.0 and math.isfinite(self.longitude_deg)):
            place = f"{self.latitude_deg}, {self.longitude_deg}"
            raise ValueError(f"frame centre {place}: expected a latitude in -90..90 and a finite longitude")
        finite = all(map(math.isfinite, (*self.lower_m, *self.upper_m)))
        if not finite or not all(low < up for low, up in zip(self.lower_m, self.upper_m, strict=True)):
            raise ValueError(f"frame box {self.lower_m} .. {self.upper_m}: expected finite lower < upper")

    def from_ecef(self, xyz_m: ArrayLike) -> Floats:
        """(..., 3) Earth-centred metres to (..., 3) frame coordinates x, y, height [m]."""
        xyz = np.asarray(xyz_m, dtype=np.float64)
        normal, height = normal_and_height(xyz)
        offset = xyz - height[..., None] * normal - self._centre
        east, north = offset @ self._basis[0], offset @ self._basis[1]
        # The far side of the Earth projects onto the same plane: it is no part of the frame.
        stretch = np.where(normal @ self._basis[2] > 0.0, _arcsin_ratio(self._turn(east, north)), np.nan)
        return np.stack([east * stretch, north * stretch, height], axis=-1)

    def from_geodetic(
        self, latitude_deg: ArrayLike, longitude_deg: ArrayLike, height_m: ArrayLike = 0.0
    ) -> Floats:
        """Geodetic degrees and metres to (..., 3) frame coordinates x, y, height [m]."""
        return self.from_ecef(geodetic_to_ecef(latitude_deg, longitude_deg, height_m))

    def to_ecef(self, xyh_m: ArrayLike) -> Floats:
        """(..., 3) frame coordinates x, y, height [m] to (..., 3) Earth-centred metres."""
        xyh = np.asarray(xyh_m, dtype=np.float64)
        foot, normal = self._foot(xyh)
        return foot + xyh[..., 2:] * normal

    def to_geodetic(self, xyh_m: ArrayLike) -> tuple[Floats, Floats, Floats]:
        """(..., 3) frame coordinates to latitude, longitude in [-180, 180) [degrees] and height [m]."""
        xyh = np.asarray(xyh_m, dtype=np.float64)
        _, normal = self._foot(xyh)
        latitude = np.degrees(np.arctan2(normal[..., 2], np.hypot(normal[..., 0], normal[..., 1])))
        longitude = np.degrees(np.arctan2(normal[..., 1], normal[..., 0]))
        return latitude, np.where(longitude >= 180.0, -180.0, longitude), xyh[..., 2].copy()

    def unit(self, xyh_m: Array) -> Array:
        """(..., 3) frame coordinates [m], NumPy or torch, to the unit box [0, 1]^3 in the same precision."""
        scale, offset = self.affine()
        array: Any = xyh_m
        if isinstance(array, np.ndarray):
            return array * np.asarray(scale, array.dtype) + np.asarray(offset, array.dtype)
        return array * array.new_tensor(scale) + array.new_tensor(offset)

    def affine(self) -> tuple[Triple, Triple]:
        """Scale [1/m] and offset in unit = metres * scale + offset, for callers with a device."""
        scale = [1.0 / (upper - lower) for lower, upper in zip(self.lower_m, self.upper_m, strict=True)]
        offset = [-lower * factor for lower, factor in zip(self.lower_m, scale, strict=True)]
        return (scale[0], scale[1], scale[2]), (offset[0], offset[1], offset[2])

    def to_json(self) -> dict[str, Any]:
        """A plain dictionary; `from_json` gives back an equal frame."""
        return {
            "latitude_deg": self.latitude_deg,
            "longitude_deg": self.longitude_deg,
            "lower_m": list(self.lower_m),
            "upper_m": list(self.upper_m),
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Frame:
        """A frame from what `to_json` wrote.

        Raises:
            ValueError: a value is missing or is not what a frame needs.
        """
        try:
            centre = float(values["latitude_deg"]), float(values["longitude_deg"])
            corners = [tuple(float(value) for value in values[name]) for name in ("lower_m", "upper_m")]
        except (KeyError, TypeError) as error:
            expected = "expected latitude_deg, longitude_deg, lower_m and upper_m"
            raise ValueError(f"frame: {error!r}; {expected}") from error
        if [len(corner) for corner in corners] != [3, 3]:
            raise ValueError("frame: expected three numbers in lower_m and in upper_m")
        return cls(*centre, *corners)  # type: ignore[arg-type]

    def tangent_plane(self) -> tuple[Floats, Floats, tuple[float, float]]:
        """Centre (3,) [ECEF m], rows east, north, up (3, 3), and curvatures [1/m], for `atmonr.geo.paths`."""
        return self._centre, self._basis, self._curvatures

    @cached_property
    def _centre(self) -> Floats:
        return geodetic_to_ecef(self.latitude_deg, self.longitude_deg, 0.0)

    @cached_property
    def _basis(self) -> Floats:
        return enu_basis(self.latitude_deg, self.longitude_deg)

    @cached_property
    def _curvatures(self) -> tuple[float, float]:
        """Curvatures [1/m] at the centre, eastwards (prime vertical) and northwards (meridian)."""
        shrink = 1.0 - ECCENTRICITY_SQUARED * math.sin(math.radians(self.latitude_deg)) ** 2
        eastwards = math.sqrt(shrink) / SEMI_MAJOR_M
        return eastwards, eastwards * shrink / (1.0 - ECCENTRICITY_SQUARED)

    def _turn(self, east: Floats, north: Floats) -> Floats:
        """hypot(east, north) / R, R the radius of curvature in that direction (Euler's theorem)."""
        eastwards, northwards = self._curvatures
        distance = np.hypot(east, north)
        bend = eastwards * east * east + northwards * north * north
        return bend / np.where(distance > 0.0, distance, 1.0)

    def _foot(self, xyh: Floats) -> tuple[Floats, Floats]:
        """Foot of the vertical on the ellipsoid (ECEF metres) and the unit normal there."""
        turn = self._turn(xyh[..., 0], xyh[..., 1])
        turn = np.where(turn < np.pi / 2, turn, np.nan)
        plane = (xyh[..., :2] * np.sinc(turn / np.pi)[..., None]) @ self._basis[:2]
        # Drop `down` from the tangent plane to the ellipsoid: the near root of a quadratic whose constant is
        # exact because the centre lies on the ellipsoid and the plane touches it there.
        up = self._basis[2]
        square = float(_INVERSE_AXES_SQUARED @ (up * up))
        linear = (self._centre + plane) @ (_INVERSE_AXES_SQUARED * up)
        constant = (plane * plane) @ _INVERSE_AXES_SQUARED
        with np.errstate(invalid="ignore"):
            down = constant / (linear + np.sqrt(linear * linear - square * constant))
        foot = self._centre + plane - down[..., None] * up
        gradient = foot * _INVERSE_AXES_SQUARED
        return foot, gradient / np.linalg.norm(gradient, axis=-1, keepdims=True)


def _arcsin_ratio(sine: Floats) -> Floats:
    """arcsin(s) / s, with 1 at s = 0 and NaN beyond s = 1."""
    with np.errstate(invalid="ignore"):
        return np.where(sine > 0.0, np.arcsin(sine) / np.where(sine > 0.0, sine, 1.0), 1.0)
