"""A writer of small HARP2 Level-1C files in every layout that a reader may meet.

Like the one of Level 1B it knows nothing of the package, and takes the same fields (view, row, column); all
views are on one grid, so places are those of the first view.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import netCDF4
import numpy as np

from tests.sensors.granules import ANGLES, FILL, IRRADIANCES, VIEW_ANGLES_DEG, WAVELENGTHS_NM

NAME_L1C = "PACE_HARP2.20250605T161356.L1C.V3.5km.nc"
SCALES = {**dict.fromkeys(ANGLES, 0.01), "i": 0.05, "q": 0.05, "u": 0.05, "i_stdev": 0.05}
STDEVS = {"i_stdev": 1.5, "q_stdev": 0.5, "u_stdev": 0.25}


@dataclass(frozen=True)
class LayoutL1C:
    """How a file stores what it stores.

    Attributes:
        packed: angles and radiances as scaled 16-bit integers.
        early: views first in all variables and, after a 1, in the table of views; no bands in images.
        scale_attribute_wrong: angles in degrees with a scale factor that must not be applied.
        minimal: no polarisation, times, counts, flags, deviations, irradiances, or distance of the sun.
        offsets_from_nadir: whether view_time_offsets are later minus nadir, or the other way around.
        omit: names of variables that are left out.
    """

    packed: bool = False
    early: bool = False
    scale_attribute_wrong: bool = False
    minimal: bool = False
    offsets_from_nadir: bool = False
    omit: tuple[str, ...] = ()


def view_seconds(rows: int) -> np.ndarray:
    """(90, R) seconds since the begin of the granule: views that look ahead come first."""
    return 100.0 + 0.75 * np.arange(rows) - 2.0 * VIEW_ANGLES_DEG[:, None]


def quality(image: tuple[int, int]) -> np.ndarray:
    """(90, R, C) flags: the first pixel of each view is saturated, those of the last row are missing."""
    flags = np.zeros((90, *image))
    flags[:, 0, 0], flags[:, -1] = 1.0, np.nan
    return flags


def write_l1c(path: Path, fields: dict[str, np.ndarray], layout: LayoutL1C = LayoutL1C()) -> Path:
    """Write a granule; NaN stands for missing."""
    image = fields["latitude"].shape[1:]
    with netCDF4.Dataset(path, "w") as file:
        file.title, file.instrument = "PACE HARP2 Level-1C Data", "HARP2"
        file.processing_level, file.product_name = "L1C", path.name
        file.time_coverage_start, file.time_coverage_end = "2025-06-05T16:13:56Z", "2025-06-05T16:18:55Z"
        if not layout.minimal:
            file.sun_earth_distance = np.float32(1.0146)
        sizes = {"number_of_views": 90, "bins_along_track": image[0], "bins_across_track": image[1]}
        for name, size in {**sizes, "intensity_bands_per_view": 1, "polarization_bands_per_view": 1}.items():
            file.createDimension(name, size)
        _write_table(file.createGroup("sensor_views_bands"), layout)
        _write_geolocation(file.createGroup("geolocation_data"), fields, layout)
        _write_observations(file.createGroup("observation_data"), fields, layout)
        if not layout.minimal:
            _write_times(file.createGroup("bin_attributes"), image, layout)
    return path


def _write_table(group: netCDF4.Group, layout: LayoutL1C) -> None:
    group.createVariable("sensor_view_angle", "f4", ("number_of_views",))[:] = VIEW_ANGLES_DEG
    dimensions = ["number_of_views", "intensity_bands_per_view"][:: -1 if layout.early else 1]
    names = {"intensity_wavelength": WAVELENGTHS_NM, "intensity_f0": IRRADIANCES}
    for name, values in names.items():
        if name not in layout.omit and not (layout.minimal and name == "intensity_f0"):
            variable = group.createVariable(name, "f4", dimensions, fill_value=FILL)
            variable[:] = values.reshape(variable.shape)


def _write_geolocation(group: netCDF4.Group, fields: dict[str, np.ndarray], layout: LayoutL1C) -> None:
    for name in ("latitude", "longitude", "height"):
        if name not in layout.omit:
            values = fields["surface_altitude" if name == "height" else name][0]
            kind = "i2" if layout.packed and name == "height" else "f4"
            variable = group.createVariable(
                name, kind, ("bins_along_track", "bins_across_track"), fill_value=FILL
            )
            variable[:] = np.where(np.isnan(values), FILL, values)
    for name in ANGLES:
        _write_images(group, name, fields[name], layout)


def _write_observations(group: netCDF4.Group, fields: dict[str, np.ndarray], layout: LayoutL1C) -> None:
    _write_images(group, "i", fields["i"], layout, band="intensity_bands_per_view")
    if layout.minimal:
        return
    for name in ("q", "u"):
        _write_images(group, name, fields[name], layout, band="polarization_bands_per_view")
    for name, value in STDEVS.items():
        _write_images(group, name, np.full_like(fields["i"], value), layout, "intensity_bands_per_view")
    counts = np.broadcast_to(np.arange(90.0)[:, None, None], fields["i"].shape)
    _write_images(group, "number_of_observations", counts, layout, kind="i2")
    flags = quality(fields["i"].shape[1:])
    _write_images(group, "qc", flags, layout, "intensity_bands_per_view", kind="u1", fill=255)
    group["qc"].flag_masks, group["qc"].flag_meanings = np.uint8(1), "saturation"


def _write_times(group: netCDF4.Group, image: tuple[int, int], layout: LayoutL1C) -> None:
    if "nadir_view_time" not in layout.omit:
        nadir = group.createVariable("nadir_view_time", "f8", ("bins_along_track",), fill_value=FILL)
        nadir.units = "seconds since 2025-06-05"
        nadir[:] = 58436.0 + 100.0 + 0.75 * np.arange(image[0])
    if "view_time_offsets" not in layout.omit:
        later = np.broadcast_to(-2.0 * VIEW_ANGLES_DEG[:, None, None], (90, *image))
        offsets = later if layout.offsets_from_nadir else -later
        _write_images(group, "view_time_offsets", offsets, layout, kind="f8")


def _write_images(
    group: netCDF4.Group,
    name: str,
    values: np.ndarray,
    layout: LayoutL1C,
    band: str | None = None,
    kind: str = "f4",
    fill: int = FILL,
) -> None:
    if name in layout.omit:
        return
    dimensions = ["bins_along_track", "bins_across_track", "number_of_views"]
    if layout.early:
        dimensions = ["number_of_views", *dimensions[:2]]
    else:
        values = np.moveaxis(values, 0, 2)
        if band is not None:
            dimensions, values = [*dimensions, band], values[..., None]
    packed = layout.packed and name in SCALES
    variable = group.createVariable(name, "i2" if packed else kind, dimensions, fill_value=fill)
    if packed or (layout.scale_attribute_wrong and name in ANGLES):
        variable.scale_factor, variable.add_offset = np.float32(SCALES[name]), np.float32(0)
    variable.set_auto_maskandscale(False)
    stored = np.round(values.astype(float) / SCALES[name]) if packed else values
    variable[:] = np.where(np.isnan(values), fill, stored).astype(variable.dtype)
