"""`atmonr merge`: check every shard and write one CF netCDF-4 file."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import netCDF4
import numpy as np

from atmonr.atomic import atomic_file, netcdf_errors
from atmonr.errors import SceneError, UsageError
from atmonr.extract.columns import RAY_COUNT, SURFACE, column_numbers, inputs_of
from atmonr.extract.global_mosaic import write_global_mosaic
from atmonr.extract.granules import refuse_unlike
from atmonr.extract.mosaic import members_of, write_mosaic
from atmonr.extract.netcdf import MISSING, Product, define
from atmonr.extract.parts import Parts
from atmonr.extract.presence import Presence
from atmonr.extract.support import Boxes, describe
from atmonr.extract.viewing import viewing

_NAMED = 8


def merge(
    parts: Sequence[Path],
    out: Path,
    *,
    horizontal_step_m: float | None = None,
    vertical_step_m: float | None = None,
) -> Path:
    """Write finished extractions as one netCDF file, a few shards in memory at a time.

    One extraction is copied; several, of different scenes, become a mosaic.

    Args:
        parts: What `atmonr extract` wrote.
        out: File to make.
        horizontal_step_m: Cell size of a mosaic along x and y; the finest of the scenes by default.
        vertical_step_m: Cell size of a mosaic along altitude; likewise.

    Returns:
        `out`.

    Raises:
        UsageError: If `out` exists, or the extractions do not fit together.
        SceneError: If a shard is missing, damaged, or of another extraction; names them.
        StoreError: If `out` cannot be written.
    """
    if not parts:
        raise UsageError("merge got nothing; expected at least one output of atmonr extract")
    if len(parts) == 1 and (horizontal_step_m, vertical_step_m) != (None, None):
        raise UsageError("a step is for a mosaic of several scenes; extract this one with that step instead")
    if out.exists():
        raise UsageError(f"{out}: exists already; choose another name or remove it first")
    sources = [open_complete(path) for path in parts]
    wavelengths = band_wavelengths(sources[0])
    kind = _common_kind(sources)
    if len(sources) > 1:
        # Found now rather than after hours of work.
        for source in sources:
            for shard in source.shards:
                source.verify(shard)
    with (
        atomic_file(out) as temporary,
        netcdf_errors(out),
        netCDF4.Dataset(temporary, "w", format="NETCDF4") as dataset,
    ):
        if len(sources) == 1:
            _copy(sources[0], define(dataset, _product(sources[0], wavelengths)), dataset)
        elif kind == "global":
            write_global_mosaic(dataset, sources, wavelengths)
        else:
            write_mosaic(
                dataset,
                members_of(sources),
                wavelengths,
                horizontal_step_m=horizontal_step_m,
                vertical_step_m=vertical_step_m,
            )
    return out


def open_complete(path: Path) -> Parts:
    """Open an extraction that is the whole of its grid and nothing else.

    Raises:
        SceneError: Otherwise; names the shards that are missing or too many.
    """
    parts = Parts.open(path)
    _refuse_holes(parts)
    return parts


def band_wavelengths(parts: Parts) -> tuple[float, ...]:
    """Return the wavelengths of an extraction's bands [nm], none if they share one extinction.

    Raises:
        SceneError: If there are more or fewer than bands.
    """
    if parts.bands == 1:
        return ()
    wavelengths = tuple(float(v) for v in parts.plan["source"]["scene"].get("wavelengths_nm", []))
    if len(wavelengths) != parts.bands:
        raise SceneError(
            f"{parts.path}: {len(wavelengths)} wavelengths for {parts.bands} bands, expected as many"
        )
    return wavelengths


def _common_kind(sources: Sequence[Parts]) -> str:
    """Return the kind of grid of extractions that may become one file.

    Raises:
        UsageError: If they may not.
    """
    kinds = sorted({source.grid.kind for source in sources})
    if len(kinds) > 1:
        raise UsageError(f"extractions on {' and '.join(kinds)} grids; expected all on one kind of grid")
    if len(sources) > 1:
        if kinds[0] not in ("voxel", "global"):
            raise UsageError(
                f"{len(sources)} extractions on {kinds[0]} grids, which no mosaic is made of; merge each to "
                "a file of its own"
            )
        refuse_unlike(sources)
    return kinds[0]


def _product(parts: Parts, wavelengths_nm: tuple[float, ...]) -> Product:
    source = parts.plan["source"]
    scene = source["scene"]
    return Product(
        parts.grid,
        wavelengths_nm,
        scene.get("time_coverage_start"),
        scene.get("time_coverage_end"),
        source.get(SURFACE),
        describe(Boxes.of(scene)) if RAY_COUNT in source else None,
        _attributes(parts),
    )


def _attributes(parts: Parts) -> dict[str, Any]:
    """What the file tells of its origin."""
    source = parts.plan["source"]
    identity, scene = source["identity"], source["scene"]
    provenance = scene.get("provenance", {})
    granule = scene.get("granule", identity["scene"])
    return {
        "title": f"Three-dimensional cloud extinction retrieved from {granule}",
        "source": f"multi-angle satellite imagery; neural field of atmonr {source['atmonr_version']}",
        "time_coverage_start": scene.get("time_coverage_start", ""),
        "time_coverage_end": scene.get("time_coverage_end", ""),
        "wavelengths_nm": scene.get("wavelengths_nm", []),
        "source_granule": granule,
        "source_file": str(provenance.get("source", "")),
        "source_sha256": str(provenance.get("source_sha256", "")),
        "inputs": json.dumps(inputs_of(parts)),
        "scene": identity["scene"],
        "scene_id": identity["scene_id"],
        "run_config_sha256": identity["config_sha256"],
        "checkpoint": identity["checkpoint"],
        "checkpoint_sha256": identity["checkpoint_sha256"],
        "grid_sha256": parts.grid.digest,
        "training_code": json.dumps(source.get("training_code", {})),
        "config": source["config_toml"],
        **viewing(scene),
    }


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


def _copy(parts: Parts, variable: netCDF4.Variable, dataset: netCDF4.Dataset) -> None:
    """Copy every shard, a few rows at a time, so that memory holds one compressed shard and little more."""
    surface, counts = column_numbers(parts)
    scene = parts.plan["source"]["scene"]
    presence = Presence.of(parts.grid, scene, surface)
    if surface is not None:
        dataset["surface_altitude"][:] = np.where(np.isnan(surface), MISSING, surface)
    step = parts.grid.chunk_shape[1]
    for shard in parts.shards:
        array = parts.load(shard)
        levels, rows, *across = shard.slices
        for row in range(rows.start, rows.stop, step):
            where = (levels, slice(row, min(row + step, rows.stop)), *across)
            values = parts.cells(array, shard, where)
            values[:, ~presence.cells(parts.grid, where)] = MISSING
            np.copyto(values, MISSING, where=np.isnan(values))
            # An extinction shared by all bands has no band dimension in the file.
            if parts.bands == 1:
                variable[where] = values[0]
            else:
                variable[(slice(None), *where)] = values
            if counts is not None:
                places, heights = parts.grid.places_m(where[1:]), parts.grid.heights_m(where)
                dataset["ray_count"][where] = Boxes.of(scene).look_up(counts, places, heights)
