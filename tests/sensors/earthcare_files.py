"""A writer of small ATL_EBD_2A files as they really are, with faults on demand; it knows nothing of the
package."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import netCDF4
import numpy as np

NAME = "ECA_EXBA_ATL_EBD_2A_20250605T161400Z_20250721T105728Z_05811E.h5"
FLOAT_FILL, CODE_FILL = np.float32(9.96921e36), np.int8(-128)
PROFILES, LEVELS = 9, 12
GEOID_M = -40.0
_CURTAIN = ("along_track", "JSG_height")
_EXTINCTION = "particle_extinction_coefficient_355nm"


def make_variables(
    profiles: int = PROFILES, levels: int = LEVELS, latitude: float = 18.0, longitude: float = -61.5
) -> dict[str, np.ndarray]:
    """Values by variable, levels downwards from 1 km below the geoid on; NaN is written as fill."""
    step = np.arange(profiles)
    height = (levels - 1 - np.arange(levels)) * 100.0 - 1_000.0 + GEOID_M + step[:, None] * 3.0
    return {
        "time": 802_455_240.0 + 0.15 * step,  # 2025-06-05T16:14:00
        "latitude": latitude + 0.009 * step,
        "longitude": (longitude - 0.002 * step + 180.0) % 360.0 - 180.0,
        "height": height,
        _EXTINCTION: 1e-4 * (1 + np.arange(levels)) + 1e-3 * step[:, None],
        _EXTINCTION + "_error": np.full((profiles, levels), 1e-5),
        "quality_status": np.tile(np.arange(levels) % 4, (profiles, 1)).astype(float),
        "simple_classification": np.tile(np.arange(levels) % 4, (profiles, 1)).astype(float),
        "elevation": np.where(step < 4, GEOID_M, GEOID_M + 70.0),
        "geoid_offset": np.full(profiles, GEOID_M),
        "land_flag": (step >= 4).astype(float),
    }


def write_frame(
    path: Path,
    variables: dict[str, np.ndarray] | None = None,
    *,
    omit: Iterable[str] = (),
    file_type: str | None = "ATL_EBD_2A",
    declare_fill: bool = True,
    edit: Callable[[netCDF4.Dataset], None] | None = None,
) -> Path:
    """Write a frame; `edit` may then spoil it."""
    variables = make_variables() if variables is None else variables
    with netCDF4.Dataset(path, "w") as file:
        if file_type is not None:
            header = file.createGroup("HeaderData/FixedProductHeader")
            header.createVariable("File_Type", str)[...] = file_type
        data = file.createGroup("ScienceData")
        for name, size in zip(_CURTAIN, variables["height"].shape, strict=True):
            data.createDimension(name, size)
        for name, values in variables.items():
            if name not in set(omit):
                _write(data, name, values, declare_fill)
        if edit is not None:
            edit(file)
    return path


def _write(group: netCDF4.Group, name: str, values: np.ndarray, declare_fill: bool) -> None:
    codes = name in ("quality_status", "simple_classification", "land_flag")
    kind = "i1" if codes else "f8" if name in ("time", "latitude", "longitude") else "f4"
    fill = CODE_FILL if codes else FLOAT_FILL
    # netCDF writes an attribute as an array of one element, and text as a string of bytes.
    variable = group.createVariable(
        name, kind, _CURTAIN[: values.ndim], fill_value=fill if declare_fill else None
    )
    variable.set_auto_maskandscale(False)
    variable.setncattr("units", "m" if name == "height" else "1")
    variable[:] = np.where(np.isnan(values), fill, values).astype(kind)
