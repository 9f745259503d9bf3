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
    """Refuse an extraction that is not the whole of its grid, or more than that."""
    missing = [shard.name for shard in parts.missing()]
    if missing:
        raise SceneError(
            f"{parts.path}: {len(missing)} of {len(parts.shards)} shards are missing ({_named(missing)}); "
            "run the same atmonr extract again to complete it"
        )
    strangers = parts.strangers()
    if strangers:
        raise SceneError(
            f"{parts.path}/receipts: {_named(strangers)}: of no shard of this grid; expected the receipts of "
            "one extraction; remove those that do not belong here"
        )


def _named(names: Sequence[str]) -> str:
    return ", ".join(names[:_NAMED]) + (", ..." if len(names) > _NAMED else "")


def _copy(parts: Parts, variable: netCDF4.Variable) -> None:
    """Copy every shard, a few rows at a time, so that memory holds one compressed shard and little more."""
    step = parts.grid.chunk_shape[1]
    for shard in parts.shards:
        array = parts.load(shard)
        levels, rows, columns = shard.slices
        for row in range(rows.start, rows.stop, step):
            where = (levels, slice(row, min(row + step, rows.stop)), columns)
            # An extinction shared by all bands has no band dimension in the file.
            if variable.ndim == 3:
                variable[where] = array[(0, *where)]
            else:
                variable[(slice(None), *where)] = array[(slice(None), *where)]
