"""A lidar frame of a known cloud: what EarthCARE would have measured on a track across it, as ATL_EBD_2A."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates

from atmonr.atomic import atomic_file, netcdf_errors
from atmonr.errors import UsageError
from atmonr.geo.ellipsoid import Floats
from atmonr.simulate.native import START
from atmonr.simulate.volume import Volume, read_truth

if TYPE_CHECKING:
    import netCDF4

# A minute and a half after the granule began, which is within it.
PASSES = START + timedelta(seconds=90)
FRAME_NAME = f"ECA_EXAA_ATL_EBD_2A_{PASSES:%Y%m%dT%H%M%S}Z_{PASSES:%Y%m%dT%H%M%S}Z_00001A.h5"
HEADING_DEG = 192.0  # on the descending half of its orbit, in the afternoon
PROFILE_M = 1_000.0  # distance of profiles, and length that each is the mean of
GROUND_SPEED_M_PER_S = 7_100.0
REACH_M = 60_000.0  # the track begins and ends this far outside the cloud's box
OPAQUE_DEPTH = 3.0  # a lidar sees no deeper into cloud

_LOW_STEPS, _LOW_STEP_M, _HIGH_STEPS, _HIGH_STEP_M = 207, 103.0, 34, 500.0
_LOWEST_M = -1_000.0
_ALONG, _UP = 5, 4  # points that a value is the mean of
_FLOAT_FILL, _CODE_FILL = np.float32(9.96921e36), np.int8(-128)
_ATTENUATED, _SUBSURFACE, _LIQUID, _ICE = -1, -2, 1, 2
_FREEZING_M = 5_000.0
_PARTICLES_PER_M = 1e-6  # less than this is clear to the classification
_NOISE_FLOOR_PER_M = 1e-6
_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
_CURTAIN = ("along_track", "JSG_height")


class Track(NamedTuple):
    """Where and when profiles are measured: (N,) degrees and datetimes' seconds after `PASSES`."""

    latitude_deg: Floats
    longitude_deg: Floats
    seconds: NDArray[np.floating]
    xy_m: Floats  # (N, 2) in the frame of the volume


def simulate_frame(truth: Path, out: Path, *, noise: float = 0.0, seed: int = 0) -> Path:
    """Write the lidar frame of a cloud.

    The track crosses the cloud's thickest column. Every profile is the mean over its kilometre; what lies
    below an optical depth of 3 is flagged as attenuated, of bad quality, and too small. The ground is the
    ellipsoid; values below it are missing, and the lowest heights of some profiles too.

    Args:
        truth: truth file of the cloud.
        out: folder for the frame.
        noise: relative standard deviation of each extinction; clear air then has noise too.
        seed: of the noise.

    Returns:
        Path of the frame.

    Raises:
        UsageError: the frame exists already.
        SceneError: `truth` is no truth file.
        StoreError: the file cannot be written.
    """
    path = Path(out) / FRAME_NAME
    if path.exists():
        raise UsageError(f"{path}: exists already; choose another folder or remove it first")
    cloud = read_truth(truth)
    track = track_across(cloud)
    height = heights(track.seconds.size)
    values = _measured(curtain(cloud, track.xy_m, height), height, noise, np.random.default_rng([seed, 3]))
    values |= {
        "time": (PASSES - _EPOCH).total_seconds() + track.seconds,
        "latitude": track.latitude_deg,
        "longitude": track.longitude_deg,
        "height": np.where(_torn(height), np.nan, height),
        **{name: np.zeros(track.seconds.size) for name in ("elevation", "geoid_offset", "land_flag")},
    }
    with atomic_file(path) as temporary, netcdf_errors(path):
        _write(temporary, path.stem, values)
    return path


def track_across(cloud: Volume) -> Track:
    """The track over the thickest column of a cloud."""
    x, y = np.unravel_index(
        int(np.argmax(cloud.extinction_per_m.sum(axis=2))), cloud.extinction_per_m.shape[:2]
    )
    thickest = np.array([cloud.x_m[x], cloud.y_m[y]]) @ cloud.axes
    reach = REACH_M + float(np.hypot(np.ptp(cloud.x_m), np.ptp(cloud.y_m)))
    count = round(reach / PROFILE_M)
    along = np.arange(-count, count + 1) * PROFILE_M
    heading = np.radians(HEADING_DEG)
    xy = thickest + along[:, None] * np.array([np.sin(heading), np.cos(heading)])
    latitude, longitude, _ = cloud.frame.to_geodetic(np.concatenate([xy, np.zeros((along.size, 1))], axis=1))
    return Track(latitude, longitude, along / GROUND_SPEED_M_PER_S, xy)


def heights(profiles: int) -> Floats:
    """(N, 242) heights above the ellipsoid [m], downwards; they drift from profile to profile."""
    steps = np.repeat([_LOW_STEP_M, _HIGH_STEP_M], [_LOW_STEPS, _HIGH_STEPS])
    up = _LOWEST_M + np.concatenate([[0.0], np.cumsum(steps)])
    return up[::-1] + 20.0 * np.sin(np.arange(profiles)[:, None] / 9.0)


def curtain(cloud: Volume, xy_m: Floats, height_m: Floats) -> Floats:
    """Mean extinction [1/m] of a volume over the cells of a curtain.

    Args:
        cloud: trilinear between its cell centres, zero outside.
        xy_m: (N, 2) places of evenly spaced profiles in the volume's frame; each stands for the way to half
            of the distance to its neighbours.
        height_m: (N, L) heights of the cells' centres, downwards.
    """
    forward = xy_m[1] - xy_m[0]
    thickness = -np.gradient(height_m, axis=1)
    mean = np.zeros(height_m.shape)
    for u, v in product(_offsets(_ALONG), _offsets(_UP)):
        mean += _sample(cloud, xy_m + u * forward, height_m + v * thickness)
    return mean / (_ALONG * _UP)


def _sample(cloud: Volume, xy_m: Floats, height_m: Floats) -> Floats:
    points = np.empty((*height_m.shape, 3))
    points[..., :2], points[..., 2] = xy_m[:, None], height_m
    points = cloud.from_frame(points)
    axes = (cloud.x_m, cloud.y_m, cloud.altitude_m)
    cells = [(points[..., i] - axis[0]) / (axis[1] - axis[0]) for i, axis in enumerate(axes)]
    return np.asarray(map_coordinates(cloud.extinction_per_m.astype(np.float64), cells, order=1))


def _offsets(count: int) -> Floats:
    return (np.arange(count) + 0.5) / count - 0.5


def _torn(height_m: Floats) -> NDArray[np.bool_]:
    """Where a height is missing: the lowest two levels of every third profile."""
    torn = np.zeros(height_m.shape, bool)
    torn[::3, -2:] = True
    return torn


def _measured(
    true: Floats, height_m: Floats, noise: float, random: np.random.Generator
) -> dict[str, NDArray[np.floating]]:
    """What the retrieval makes of a true extinction [1/m]: values with gaps, their errors and flags."""
    thickness = -np.gradient(height_m, axis=1)
    above = np.cumsum(true * thickness, axis=1) - true * thickness
    hidden, below = above > OPAQUE_DEPTH, height_m < 0.0
    error = noise * true + (_NOISE_FLOOR_PER_M if noise else 0.0)
    found = true * np.exp(-np.clip(above - OPAQUE_DEPTH, 0.0, None)) + error * random.standard_normal(
        true.shape
    )
    kind = np.where(true > _PARTICLES_PER_M, np.where(height_m > _FREEZING_M, _ICE, _LIQUID), 0)
    kind = np.select([below, hidden], [_SUBSURFACE, _ATTENUATED], kind)
    name = "particle_extinction_coefficient_355nm"
    return {
        name: np.where(below, np.nan, found),
        f"{name}_error": np.where(below, np.nan, error),
        "simple_classification": kind.astype(np.float64),
        "quality_status": np.select([below, hidden], [np.nan, 3.0], 0.0),
    }


def _write(path: Path, name: str, values: dict[str, NDArray[np.floating]]) -> None:
    import netCDF4

    with netCDF4.Dataset(path, "w") as file:
        header = file.createGroup("HeaderData/FixedProductHeader")
        for entry, text in (("File_Name", name), ("File_Type", "ATL_EBD_2A"), ("File_Class", "SIMU")):
            header.createVariable(entry, str)[...] = text
        data = file.createGroup("ScienceData")
        for dimension, size in zip(_CURTAIN, values["height"].shape, strict=True):
            data.createDimension(dimension, size)
        for entry, array in values.items():
            _write_variable(data, entry, array)


_UNITS = {
    "time": "seconds since 2000-01-01 00:00:00.0",
    "latitude": "degree_north",
    "longitude": "degree_east",
    "height": "m",
    "elevation": "m",
    "geoid_offset": "m",
    "particle_extinction_coefficient_355nm": "m-1",
    "particle_extinction_coefficient_355nm_error": "m-1",
}
_CODES = ("quality_status", "simple_classification", "land_flag")


def _write_variable(group: netCDF4.Group, name: str, values: NDArray[np.floating]) -> None:
    """A variable with fill for NaN. Its attributes are, as in real files, bytes and arrays of one element."""
    kind = "i1" if name in _CODES else "f8" if name in ("time", "latitude", "longitude") else "f4"
    fill = _CODE_FILL if kind == "i1" else _FLOAT_FILL
    variable = group.createVariable(
        name, kind, _CURTAIN[: values.ndim], zlib=True, shuffle=True, fill_value=fill
    )
    variable.set_auto_maskandscale(False)
    variable.setncattr("units", _UNITS.get(name, "1"))
    variable[:] = np.where(np.isnan(values), fill, values).astype(kind)
