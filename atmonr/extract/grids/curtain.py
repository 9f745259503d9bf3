"""The curtain under a lidar: the profiles of an EarthCARE track, each at heights of its own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from atmonr.extract.grids.base import (
    ALTITUDE_ATTRIBUTES,
    TIME_ATTRIBUTES,
    Coordinate,
    FloatArray,
    Slices,
    checksum,
)
from atmonr.extract.grids.geographic import GeographicGrid, horizontal_coordinate
from atmonr.geo.frame import Frame


@dataclass(frozen=True, eq=False)
class CurtainGrid(GeographicGrid):
    """Consecutive profiles of a track.

    Attributes:
        frame: Frame of the scene.
        latitude_deg: Of the profiles, shape (profiles,), NaN where the file has none.
        longitude_deg: Likewise.
        time_s: When the lidar looked [s since 1970-01-01 UTC], likewise.
        height_m: Heights above the ellipsoid [m], shape (levels, profiles), NaN where the file has none.
        first_profile: Index of the first profile in the file.
        source: Name and checksum of the file.
    """

    frame: Frame
    latitude_deg: FloatArray
    longitude_deg: FloatArray
    time_s: FloatArray
    height_m: FloatArray
    first_profile: int
    source: dict[str, Any]

    kind: ClassVar[str] = "curtain"
    dims: ClassVar[tuple[str, ...]] = ("level", "profile")

    def __post_init__(self) -> None:
        self._refuse_too_many_cells()

    @property
    def shape(self) -> tuple[int, ...]:  # type: ignore[override]
        """Number of levels and profiles."""
        return self.height_m.shape

    def latitude_longitude(self, *columns: slice) -> tuple[FloatArray, FloatArray]:
        """Return latitude and longitude [degrees] of profiles."""
        return self.latitude_deg[columns], self.longitude_deg[columns]

    def heights_m(self, slices: Slices) -> FloatArray:
        """Return heights [m], shape (n_level, n_profile)."""
        return self.height_m[slices]

    def coordinates(self) -> list[Coordinate]:
        """Return index, place and time of the profiles and the altitude of each of their levels."""
        _, profiles = self.shape
        number = self.first_profile + np.arange(profiles, dtype=np.int32)
        return [
            Coordinate("profile", ("profile",), number, {"long_name": "index of the profile in its file"}),
            Coordinate("z", self.dims, self.height_m, ALTITUDE_ATTRIBUTES),
            horizontal_coordinate("latitude", ("profile",), self.latitude_deg),
            horizontal_coordinate("longitude", ("profile",), self.longitude_deg),
            Coordinate(
                "profile_time",
                ("profile",),
                self.time_s,
                {**TIME_ATTRIBUTES, "long_name": "when the lidar looked"},
            ),
        ]

    def attributes(self) -> dict[str, Any]:
        """Return whose profiles these are."""
        return {"grid_comment": "profiles of the lidar's file within the scene, at their own heights"}

    def inputs(self) -> list[dict[str, Any]]:
        """Return name and checksum of the lidar's file."""
        return [self.source]

    def stored(self) -> dict[str, FloatArray]:
        """Return place and time of the profiles, stacked, and their heights."""
        track = np.stack([self.latitude_deg, self.longitude_deg, self.time_s])
        return {"track": track, "heights": self.height_m}

    def to_json(self) -> dict[str, Any]:
        """Return the grid as plain JSON values, with checksums in place of the profiles."""
        return {
            "kind": self.kind,
            "frame": self.frame.to_json(),
            "first_profile": self.first_profile,
            "source": self.source,
            "stored": {name: checksum(values) for name, values in self.stored().items()},
        }

    @classmethod
    def from_json(cls, values: dict[str, Any], stored: dict[str, FloatArray]) -> CurtainGrid:
        """Rebuild a grid from what `to_json` and `stored` returned."""
        latitude, longitude, time = stored["track"]
        return cls(
            Frame.from_json(values["frame"]),
            latitude,
            longitude,
            time,
            stored["heights"],
            int(values["first_profile"]),
            values["source"],
        )
