"""A cloud as a box of extinction standing somewhere on the Earth, and its truth file."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from atmonr.atomic import atomic_file, netcdf_errors
from atmonr.errors import SceneError
from atmonr.geo.ellipsoid import ecef_to_geodetic, geodetic_to_ecef
from atmonr.geo.frame import Frame

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Volume:
    """Extinction on a box-shaped grid of columns; between cell centres it is trilinear, outside it is zero.

    Attributes:
        x_m: (X,) cell centres along the first horizontal axis, metres from the place below, evenly spaced.
        y_m: (Y,) along the second, 90 degrees to the left of the first when seen from above.
        altitude_m: (Z,) cell centres, metres above the ellipsoid, evenly spaced, upwards.
        extinction_per_m: (X, Y, Z) float32, the same for all wavelengths.
        latitude_deg: geodetic latitude of (x, y) = (0, 0).
        longitude_deg: longitude of (x, y) = (0, 0).
        heading_deg: azimuth of the y axis, clockwise from north; 0 puts x east and y north.
        single_scattering_albedo: share of the extinction that is scattering; 0 for a pure absorber.
        endless: the outermost columns continue for ever, so that a slab is truly plane-parallel.

    Raises:
        SceneError: if the arrays do not describe such a grid.
    """

    x_m: Floats
    y_m: Floats
    altitude_m: Floats
    extinction_per_m: NDArray[np.float32]
    latitude_deg: float
    longitude_deg: float
    heading_deg: float = 0.0
    single_scattering_albedo: float = 1.0
    endless: bool = False

    def __post_init__(self) -> None:
        axes = {"x": self.x_m, "y": self.y_m, "altitude": self.altitude_m}
        for name, axis in axes.items():
            steps = np.diff(axis)
            if steps.size == 0 or steps[0] <= 0 or not np.allclose(steps, steps[0], rtol=1e-3):
                raise SceneError(
                    f"cloud volume: {name}: expected evenly spaced, increasing cells, two or more"
                )
        shape = tuple(axis.size for axis in axes.values())
        found = self.extinction_per_m.shape
        if found != shape:
            raise SceneError(f"cloud volume: extinction: shape {found}, expected {shape}")
        if not np.isfinite(self.extinction_per_m).all() or self.extinction_per_m.min() < 0:
            raise SceneError("cloud volume: extinction: expected finite values that are not negative [m-1]")
        if self.altitude_m[0] < 0:
            raise SceneError(f"cloud volume: altitude starts at {self.altitude_m[0]} m, expected 0 or more")
        if not 0 <= self.single_scattering_albedo <= 1:
            raise SceneError(
                f"cloud volume: single_scattering_albedo {self.single_scattering_albedo}, expected 0 to 1"
            )

    @cached_property
    def frame(self) -> Frame:
        """The local frame centred on (x, y) = (0, 0)."""
        reach = float(np.hypot(np.abs(self.x_m).max(), np.abs(self.y_m).max()))
        top = float(self.altitude_m[-1])
        return Frame(self.latitude_deg, self.longitude_deg, (-reach, -reach, 0.0), (reach, reach, top))

    @cached_property
    def axes(self) -> Floats:
        """(2, 2) rows: the frame's east and north components of the x and of the y axis."""
        heading = np.radians(self.heading_deg)
        return np.array([[np.cos(heading), -np.sin(heading)], [np.sin(heading), np.cos(heading)]])

    def from_frame(self, xyh_m: Floats) -> Floats:
        """(..., 3) frame coordinates or directions, turned into the volume's axes."""
        return np.concatenate([xyh_m[..., :2] @ self.axes.T, xyh_m[..., 2:]], axis=-1)

    def column_places(self) -> tuple[Floats, Floats]:
        """Latitude and longitude [degrees] of every column, each (X, Y)."""
        x, y = np.meshgrid(self.x_m, self.y_m, indexing="ij")
        plane = np.stack([x, y], axis=-1) @ self.axes
        xyh = np.concatenate([plane, np.zeros_like(plane[..., :1])], axis=-1)
        latitude, longitude, _ = self.frame.to_geodetic(xyh)
        return latitude, longitude


def write_truth(volume: Volume, path: Path, granule_name: str, wavelength_nm: float) -> None:
    """Write a volume as a truth file: extinction_coefficient(x, y, altitude) with the place of every column.

    Raises:
        StoreError: if the file cannot be written.
    """
    import xarray as xr

    latitude, longitude = volume.column_places()
    dataset = xr.Dataset(
        {
            "extinction_coefficient": (
                ("x", "y", "altitude"),
                volume.extinction_per_m,
                {"units": "m-1", "long_name": "True volume extinction coefficient"},
            )
        },
        {
            "latitude": (("x", "y"), latitude, {"units": "degrees_north"}),
            "longitude": (("x", "y"), longitude, {"units": "degrees_east"}),
            "altitude": (
                "altitude",
                volume.altitude_m,
                {"units": "m", "long_name": "Height above the WGS-84 ellipsoid"},
            ),
        },
        {
            "title": f"True cloud of {granule_name}",
            "granule": granule_name,
            "wavelength_nm": wavelength_nm,
            "single_scattering_albedo": volume.single_scattering_albedo,
        },
    )
    compressed = {"zlib": True, "complevel": 4, "_FillValue": None}
    with atomic_file(path) as temporary, netcdf_errors(path):
        dataset.to_netcdf(temporary, encoding=dict.fromkeys(dataset.variables, compressed))


def read_truth(path: Path) -> Volume:
    """Read a truth file (see `write_truth`) as a volume; its grid may point in any direction.

    Raises:
        SceneError: if the file is unreadable, lacks a variable, or its columns are not a level, square grid.
    """
    import xarray as xr

    try:
        with xr.open_dataset(path, engine="netcdf4") as dataset:
            extinction = np.asarray(
                dataset["extinction_coefficient"].transpose("x", "y", "altitude"), np.float32
            )
            latitude, longitude, altitude = (
                np.asarray(dataset[name], np.float64) for name in ("latitude", "longitude", "altitude")
            )
            albedo = float(dataset.attrs.get("single_scattering_albedo", 1.0))
    except (OSError, KeyError, ValueError) as error:
        raise SceneError(
            f"{path}: expected netCDF with extinction_coefficient(x, y, altitude), latitude(x, y), "
            f"longitude(x, y) and altitude(altitude): {' '.join(str(error).split())}"
        ) from error
    if not (np.isfinite(extinction).all() and (extinction >= 0).all()):
        raise SceneError(f"{path}: extinction_coefficient: expected finite values that are not negative")
    return _place(path, extinction, latitude, longitude, altitude, albedo)


def _place(
    path: Path,
    extinction: NDArray[np.float32],
    latitude: Floats,
    longitude: Floats,
    altitude: Floats,
    albedo: float,
) -> Volume:
    """Find the heading and spacing of a grid of columns given by latitude and longitude."""
    middle = geodetic_to_ecef(latitude, longitude, 0.0).reshape(-1, 3).mean(axis=0)
    centre_latitude, centre_longitude, _ = (float(value) for value in ecef_to_geodetic(middle))
    frame = Frame(centre_latitude, centre_longitude, (-1.0, -1.0, 0.0), (1.0, 1.0, 1.0))
    columns = frame.from_geodetic(latitude, longitude)[..., :2]
    step_x, step_y = (np.diff(columns, axis=axis).mean(axis=(0, 1)) for axis in (0, 1))
    if step_x[0] * step_y[1] < step_x[1] * step_y[0]:
        extinction, columns, step_x = extinction[::-1], columns[::-1], -step_x
    heading = np.degrees(np.arctan2(step_y[0], step_y[1]))
    x_m, y_m = (
        np.linalg.norm(step) * (np.arange(size) - (size - 1) / 2)
        for step, size in ((step_x, latitude.shape[0]), (step_y, latitude.shape[1]))
    )
    volume = Volume(
        x_m,
        y_m,
        altitude,
        np.ascontiguousarray(extinction),
        centre_latitude,
        centre_longitude,
        heading_deg=float(heading),
        single_scattering_albedo=albedo,
    )
    expected = np.stack(np.meshgrid(x_m, y_m, indexing="ij"), axis=-1) @ volume.axes
    error_m = float(np.abs(columns - expected).max())
    if error_m > 0.1 * min(np.linalg.norm(step_x), np.linalg.norm(step_y)):
        raise SceneError(f"{path}: latitude, longitude: columns are {error_m:.0f} m off a rectangular grid")
    return volume
