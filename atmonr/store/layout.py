"""How a scene lies on disk: one Zarr v3 group, sharded, that plain xarray opens.

A shard gathers small chunks into one file and is the unit that one writer owns. A shard of a large scene
holds a part of the views, whole, because that is how a granule is read: satellite files keep the image of a
view together, and taking some lines of all views would decompress every image again and again. What every
training reads is not cut into chunks within a file, so that images are read straight to where they are to
stay.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.codecs import BloscCodec, Crc32cCodec

from atmonr.sensors.granule import OPTIONAL_QUANTITIES, QUANTITIES

FORMAT_VERSION = 1
FORMAT_ATTRIBUTE = "atmonr_scene_format"

RAY_DIMENSIONS = ("view", "line", "pixel")
_CHUNK_VIEWS = 15
_CHUNK_LINES = 256
_SHARD_LINES, _SHARD_PIXELS = 1024, 704  # a whole swath, as a rule
MISSING_QUALITY = 255
_RAYS_AT_ONCE = _CHUNK_VIEWS * _SHARD_PIXELS * 800  # bounds the memory of an ingest

# What tells where a line of sight is.
SIGHT = ("latitude", "longitude", "surface_altitude", "sensor_zenith_angle", "sensor_azimuth_angle")
GEOMETRY = tuple(name for name in QUANTITIES if name != "radiance")
VIEW_VARIABLES = ("view_angle_deg", "wavelength_nm", "band", "solar_irradiance", "holdout")
REQUIRED = ("reflectance", *GEOMETRY, "valid", *VIEW_VARIABLES, "band_wavelength_nm")

_COORDINATES = "latitude longitude view_angle_deg wavelength_nm"
_REFLECTANCE = {
    "units": "1",
    "standard_name": "toa_bidirectional_reflectance",
    "long_name": "pi L d^2 / (F0 cos(solar zenith angle))",
    "coordinates": _COORDINATES,
}
_VALID = {
    "long_name": "whether the ray is usable",
    "flag_values": [0, 1],
    "flag_meanings": "unusable usable",
    "coordinates": _COORDINATES,
}
# What an optional variable is in a scene, for those that are not normalised like reflectance.
_OPTIONAL_ATTRIBUTES: dict[str, dict[str, Any]] = {
    "observations": {
        "units": "1",
        "standard_name": "number_of_observations",
        "long_name": "number of measurements that the pixel is the mean of, usable or not",
        "coordinates": _COORDINATES,
    },
    "quality": {
        "standard_name": "quality_flag",
        "long_name": f"flags of the source, 0 good, {MISSING_QUALITY} missing; of unusable rays too",
        "coordinates": _COORDINATES,
    },
    "time": {"units": OPTIONAL_QUANTITIES["time"].units, "standard_name": "time"},
}
_NORMALISED = {
    "q": "Stokes component q",
    "u": "Stokes component u",
    "reflectance_stdev": "random standard deviation of reflectance",
    "q_stdev": "random standard deviation of q",
    "u_stdev": "random standard deviation of u",
}
_VIEW_ATTRIBUTES: dict[str, dict[str, Any]] = {
    "view_angle_deg": {
        "units": "degree",
        "long_name": "angle from nadir at the instrument, positive forward",
    },
    "wavelength_nm": {"units": "nm", "standard_name": "radiation_wavelength"},
    "band": {"long_name": "index of the view's band in band_wavelength_nm"},
    "solar_irradiance": {"units": "W m-2 um-1", "long_name": "solar irradiance F0 at one astronomical unit"},
    "holdout": {
        "long_name": "whether the view is kept from training",
        "flag_values": [0, 1],
        "flag_meanings": "training held_out",
    },
    "band_wavelength_nm": {"units": "nm", "standard_name": "radiation_wavelength"},
    "view": {"long_name": "view of the granule, counted in the order of its file"},
    "line": {"long_name": "line of the granule, counted northwards"},
    "pixel": {"long_name": "pixel of the granule, counted eastwards"},
}

# Files of these are images one after the other and a checksum, for `atmonr.store.plain_files`. Compressed,
# they would be half as large and left to Zarr, which is slower, with a GPU waiting.
_EVERY_TRAINING_READS = ("reflectance", "valid", *SIGHT)
# At level 5, five times as fast to write as zstd, twice as fast to read, for a tenth more space; at level 1 a
# whole ingest is a tenth faster still.
_COMPRESSOR = BloscCodec(cname="lz4", clevel=1, shuffle="shuffle")


def views_at_once(shape: tuple[int, int, int]) -> int:
    """How many views are worked on together and make a shard: whole chunks, some millions of rays."""
    fitting = _RAYS_AT_ONCE // (shape[1] * shape[2])
    return min(shape[0], max(1, fitting // _CHUNK_VIEWS) * _CHUNK_VIEWS)


def scene_name(name: str) -> str:
    """What a canonical variable of a granule is called in a scene, where radiances are reflectances."""
    return name.replace("radiance", "reflectance")


def create_scene(
    folder: Path,
    shape: tuple[int, int, int],
    shard_views: int,
    optional: Mapping[str, int],
    altitude_datum: str,
) -> tuple[zarr.Group, dict[str, zarr.Array[Any]]]:
    """Make the empty group and the arrays that are filled block by block.

    Args:
        folder: where to; it may exist but must be empty.
        shape: number of views, lines and pixels.
        shard_views: views of a shard, see `views_at_once`.
        optional: names of `OPTIONAL_QUANTITIES` to make room for, and their number of dimensions.
        altitude_datum: what altitudes are measured from.

    Returns:
        The open group, and its arrays (view, line, pixel) and (view, line) by name.
    """
    group = zarr.create_group(folder, zarr_format=3)
    arrays = {
        "reflectance": _create_rays(group, "reflectance", shape, shard_views, _REFLECTANCE),
        "valid": _create_rays(group, "valid", shape, shard_views, _VALID, dtype="uint8"),
    }
    for name in GEOMETRY:
        attributes = {"units": QUANTITIES[name].units, "standard_name": QUANTITIES[name].standard_name}
        if name == "surface_altitude":
            attributes["vertical_datum"] = altitude_datum
        arrays[name] = _create_rays(group, name, shape, shard_views, attributes)
    for name, dimensions in optional.items():
        attributes = _OPTIONAL_ATTRIBUTES.get(name) or {
            "units": "1",
            "long_name": f"{_NORMALISED[name]}, normalised like reflectance",
            "coordinates": _COORDINATES,
        }
        if dimensions == 2:
            arrays[name] = _create(group, name, np.full(shape[:2], np.nan), ("view", "line"), attributes)
        else:
            dtype = {"quality": "uint8", "time": "float64"}.get(name, "float32")
            arrays[name] = _create_rays(group, name, shape, shard_views, attributes, dtype)
    return group, arrays


def write_vectors(group: zarr.Group, vectors: Mapping[str, tuple[str, NDArray[Any]]]) -> None:
    """Write the one-dimensional variables, given as name -> (dimension, values)."""
    for name, (dimension, values) in vectors.items():
        _create(group, name, values, (dimension,), _VIEW_ATTRIBUTES[name])


def finish_scene(folder: Path, group: zarr.Group, attributes: Mapping[str, Any]) -> None:
    """Write the group's attributes, and a copy of all metadata so that readers open one file, not thirty."""
    group.attrs.update(attributes)
    with warnings.catch_warnings():
        # The copy is a convention of zarr-python and xarray, which the format's specification does not know.
        warnings.filterwarnings("ignore", message="Consolidated metadata", category=UserWarning)
        zarr.consolidate_metadata(folder)


def count_shards(array: zarr.Array[Any]) -> int:
    """How many shard files an array has when it is complete."""
    shard = array.shards or array.chunks
    return math.prod(-(-size // part) for size, part in zip(array.shape, shard, strict=True))


def _create_rays(
    group: zarr.Group,
    name: str,
    shape: tuple[int, int, int],
    shard_views: int,
    attributes: dict[str, Any],
    dtype: str = "float32",
) -> zarr.Array[Any]:
    views, lines, pixels = shape
    chunks = (min(views, _CHUNK_VIEWS), _even(lines, _CHUNK_LINES), _even(pixels, _SHARD_PIXELS))
    # A shard is a whole number of chunks.
    limits = (shard_views, min(lines, _SHARD_LINES), chunks[2])
    shards = tuple(-(-limit // chunk) * chunk for limit, chunk in zip(limits, chunks, strict=True))
    plain = name in _EVERY_TRAINING_READS
    if plain:
        chunks = (shard_views, _even(lines, _SHARD_LINES), chunks[2])
    return group.create_array(
        name,
        shape=shape,
        dtype=dtype,
        chunks=chunks,
        shards=None if plain else shards,
        compressors=(Crc32cCodec(),) if plain else (_COMPRESSOR, Crc32cCodec()),
        fill_value=np.nan if dtype.startswith("float") else MISSING_QUALITY if name == "quality" else 0,
        dimension_names=RAY_DIMENSIONS,
        attributes=attributes,
        # A shard without valid rays is written too: then a missing file always means damage.
        config={"write_empty_chunks": True},
    )


def _even(size: int, most: int) -> int:
    """The largest part when a size is cut into as few even parts as `most` allows."""
    return math.ceil(size / math.ceil(size / most))


def _create(
    group: zarr.Group,
    name: str,
    values: NDArray[Any],
    dimensions: tuple[str, ...],
    attributes: dict[str, Any],
) -> zarr.Array[Any]:
    array = group.create_array(
        name,
        shape=values.shape,
        dtype=values.dtype,
        chunks=values.shape,
        dimension_names=dimensions,
        attributes=attributes,
        config={"write_empty_chunks": True},
    )
    array[...] = values
    return array
