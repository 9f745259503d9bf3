"""`atmonr merge`: check every shard and write one CF netCDF-4 file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import netCDF4

from atmonr.atomic import atomic_file, netcdf_errors
from atmonr.errors import SceneError, UsageError
from atmonr.extract.netcdf import define
from atmonr.extract.parts import Parts

_NAMED = 8


def merge(parts: Sequence[Path], out: Path) -> Path:
    """Write a finished extraction as one netCDF file, one shard in memory at a time.

    Args:
        parts: The output of `atmonr extract`; one for now.
        out: File to make.

    Returns:
        `out`.

    Raises:
        UsageError: If `out` exists or more than one extraction is given.
        SceneError: If a shard is missing, damaged, or of another extraction; names them.
        StoreError: If `out` cannot be written.
    """
    if len(parts) != 1:
        raise UsageError(
            f"merge got {len(parts)} inputs: mosaics are not supported yet, expected one parts.zarr"
        )
    if out.exists():
        raise UsageError(f"{out}: exists already; choose another name or remove it first")
    source = Parts.open(parts[0])
    _refuse_holes(source)
    with (
        atomic_file(out) as temporary,
        netcdf_errors(out),
        netCDF4.Dataset(temporary, "w", format="NETCDF4") as dataset,
    ):
        define(dataset, source)
        _copy(source, dataset.variables["extinction"])
    return out


def _refuse_holes(parts: Parts) -> None:
    missing = [shard.name for shard in parts.missing()]
    if missing:
        named = ", ".join(missing[:_NAMED]) + (", ..." if len(missing) > _NAMED else "")
        raise SceneError(
            f"{parts.path}: {len(missing)} of {len(parts.shards)} shards are missing ({named}); "
            "run the same atmonr extract again to complete it"
        )


def _copy(parts: Parts, variable: netCDF4.Variable) -> None:
    for shard in parts.shards:
        parts.verify(shard)
        values = parts.read(shard)
        # An extinction shared by all bands has no band dimension in the file.
        where = shard.slices if variable.ndim == 3 else (slice(None), *shard.slices)
        variable[where] = values[0] if variable.ndim == 3 else values
