"""What a field must know of its scene."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from atmonr.geo.frame import Frame


@dataclass(frozen=True)
class Setting:
    """The place and scale of a field; JSON data, so that a run folder can rebuild a field without its scene.

    Attributes:
        frame: Local frame with the box that holds every ray.
        top_height_m: Height at which rays start [m].
        pixel_m: Ground spacing of pixels, the unit of the field's resolution [m].
        wavelengths_nm: One per band, ascending.
        sun: Coefficients for `atmonr.geo.sun.sun_direction`.
    """

    frame: Frame
    top_height_m: float
    pixel_m: float
    wavelengths_nm: tuple[float, ...]
    sun: list[list[float]]

    @property
    def extent_m(self) -> tuple[float, float, float]:
        """Size of the box [m]."""
        x, y, z = (up - low for low, up in zip(self.frame.lower_m, self.frame.upper_m, strict=True))
        return x, y, z

    def within(self, box: Frame) -> Setting:
        """The setting of a part of the scene, with the same resolution."""
        return replace(self, frame=box)

    def to_json(self) -> dict[str, Any]:
        """A plain dictionary; `from_json` gives back an equal setting."""
        return {
            "frame": self.frame.to_json(),
            "top_height_m": self.top_height_m,
            "pixel_m": self.pixel_m,
            "wavelengths_nm": list(self.wavelengths_nm),
            "sun": self.sun,
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Setting:
        """A setting from what `to_json` wrote; further keys are ignored."""
        return cls(
            frame=Frame.from_json(values["frame"]),
            top_height_m=float(values["top_height_m"]),
            pixel_m=float(values["pixel_m"]),
            wavelengths_nm=tuple(float(value) for value in values["wavelengths_nm"]),
            sun=values["sun"],
        )
