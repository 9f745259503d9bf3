"""Several scenes as one product: a common grid, weights, and a record of what came from where."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Sequence
from itertools import combinations
from typing import Any

import netCDF4
import numpy as np
from numpy.typing import NDArray

from atmonr.errors import UsageError
from atmonr.extract.member import Member, ShardCache, Values
from atmonr.extract.mosaic_grid import common_grid
from atmonr.extract.netcdf import MISSING, Product, create_cells, define
from atmonr.extract.overlap import Overlap
from atmonr.extract.parts import Parts
from atmonr.extract.shards import shards

MOST_SCENES = 64  # one bit each
# Bounds what is interpolated at a time.
_CELLS_AT_ONCE = 1 << 22
_SMALLEST_EDGE = 32
_SAME_WAVELENGTH_NM = 1.0
_WEIGHTS = (
    "Where granules overlap, a cell is their mean, each weighted by the square of its column's horizontal "
    "distance to the edge of the granule's extract; a granule fades to nothing at its edge."
)
_RESAMPLING = (
    "linear between cell centres of the granules along altitude, y and x; cells that coincide with those of "
    "the only granule there are copied"
)


def members_of(parts: Sequence[Parts]) -> list[Member]:
    """Return the scenes of a mosaic in the order of their time, so that the order of arguments is no matter.

    Raises:
        UsageError: If they cannot be one product; says which and why.
    """
    if len(parts) > MOST_SCENES:
        raise UsageError(f"{len(parts)} scenes: expected at most {MOST_SCENES}; merge fewer at a time")
    _refuse_a_scene_twice(parts)
    for other in parts[1:]:
        _refuse_other_bands(parts[0], other)
    cache = ShardCache()
    ordered = sorted(parts, key=lambda p: (_scene(p).get("time_coverage_start", ""), _scene_id(p)))
    return [Member(p, name, cache) for p, name in zip(ordered, _names(ordered), strict=True)]


def write_mosaic(
    dataset: netCDF4.Dataset,
    members: Sequence[Member],
    wavelengths_nm: tuple[float, ...],
    *,
    horizontal_step_m: float | None,
    vertical_step_m: float | None,
) -> None:
    """Write a mosaic into a new file, some columns at a time.

    Args:
        dataset: Open for writing, empty.
        members: The scenes.
        wavelengths_nm: Of the bands; none if they share one extinction.
        horizontal_step_m: Cell size along x and y; the finest of the scenes by default.
        vertical_step_m: Cell size along altitude; likewise.

    Raises:
        UsageError: If there is no grid for these scenes.
        SceneError: If a shard is damaged.
    """
    grid = common_grid([member.grid for member in members], horizontal_step_m, vertical_step_m)
    product = Product(grid, wavelengths_nm, None, _attributes(members))
    extinction = define(dataset, product)
    flags = _define_flags(dataset, product, members)
    extinction.ancillary_variables = flags.name
    overlaps = {pair: Overlap() for pair in combinations(range(len(members)), 2)}
    for rows, columns in _blocks(product, members):
        values, seen = compose(members, product, rows, columns, overlaps)
        flags[:, rows, columns] = seen
        if wavelengths_nm:
            extinction[:, :, rows, columns] = values
        else:
            extinction[:, rows, columns] = values[0]
    found = [
        {"granules": [members[a].name, members[b].name], **overlap.summary()}
        for (a, b), overlap in overlaps.items()
        if overlap.columns
    ]
    dataset.setncattr("overlaps", json.dumps(found))


def compose(
    members: Sequence[Member],
    product: Product,
    rows: slice,
    columns: slice,
    overlaps: dict[tuple[int, int], Overlap],
) -> tuple[Values, NDArray[Any]]:
    """Return a block of the mosaic and which scenes are in it.

    Returns:
        The extinction [m^-1], shape (band, altitude, y, x), missing where there is no scene, and the bits of
        the scenes that contribute, shape (altitude, y, x).
    """
    grid = product.grid
    bands = len(product.band_wavelengths_nm) or 1
    shape = (grid.shape[0], rows.stop - rows.start, columns.stop - columns.start)
    mean, weight = np.zeros((bands, *shape), np.float32), np.zeros(shape, np.float32)
    seen = np.zeros(shape, _flag_type(len(members)))
    present: dict[int, tuple[NDArray[np.bool_], Values]] = {}
    for bit, member in enumerate(members):
        distance = member.columns(grid, rows, columns).distance_m
        inside, levels = distance > 0, member.levels(grid.altitude_m)
        if not inside.any():
            continue
        values = member.average(grid, rows, columns)
        own = np.where(inside, distance, 0.0).astype(np.float32) ** 2 * levels[:, None, None]
        weight += own
        # A running mean: a cell with one scene gets exactly that scene's value.
        mean += (values - mean) * np.divide(own, weight, out=np.zeros_like(own), where=own > 0)
        seen[own > 0] |= seen.dtype.type(1 << bit)
        present[bit] = inside, values.mean(0)
    _compare(members, product, rows, columns, present, overlaps)
    mean[:, weight == 0] = MISSING
    return mean, seen


def _compare(
    members: Sequence[Member],
    product: Product,
    rows: slice,
    columns: slice,
    present: dict[int, tuple[NDArray[np.bool_], Values]],
    overlaps: dict[tuple[int, int], Overlap],
) -> None:
    """Note the optical depths of columns that two scenes share, over the heights that both have."""
    grid = product.grid
    width = grid.shape[2]
    number = np.arange(rows.start, rows.stop)[:, None] * width + np.arange(columns.start, columns.stop)
    for (a, (inside_a, values_a)), (b, (inside_b, values_b)) in combinations(present.items(), 2):
        both = inside_a & inside_b
        levels = members[a].levels(grid.altitude_m) & members[b].levels(grid.altitude_m)
        depths = (values[levels].sum(0)[both] * grid.step_m[0] for values in (values_a, values_b))
        overlaps[a, b].add(number[both], *depths)


def _blocks(product: Product, members: Sequence[Member]) -> Iterator[tuple[slice, slice]]:
    """Yield rows and columns of the mosaic, neighbours after one another so that shards are read once."""
    cells = (len(product.band_wavelengths_nm) or 1) * product.grid.shape[0]
    # Where a scene is finer than the mosaic its cells are what takes memory.
    finer = max(math.ceil(product.grid.step_m[1] / member.grid.step_m[1] - 1e-6) for member in members)
    edge = int(math.sqrt(_CELLS_AT_ONCE / cells) / finer) // _SMALLEST_EDGE * _SMALLEST_EDGE
    edge = max(edge, _SMALLEST_EDGE)
    for shard in shards(product.grid):
        _, rows, columns = shard.slices
        for row in range(rows.start, rows.stop, edge):
            for column in range(columns.start, columns.stop, edge):
                yield slice(row, min(row + edge, rows.stop)), slice(column, min(column + edge, columns.stop))


def _define_flags(dataset: netCDF4.Dataset, product: Product, members: Sequence[Member]) -> netCDF4.Variable:
    kind = _flag_type(len(members))
    variable = create_cells(dataset, product, "contributing_granules", kind.str[1:], product.grid.dims)
    variable.setncatts(
        {
            "long_name": "granules that contribute to the cell",
            "flag_masks": np.array([1 << bit for bit in range(len(members))], kind),
            "flag_meanings": " ".join(member.name for member in members),
            "coordinates": "latitude longitude",
            "grid_mapping": "crs: latitude longitude",
        }
    )
    return variable


def _flag_type(count: int) -> np.dtype[Any]:
    return np.dtype(next(kind for kind in ("u1", "u2", "u4", "u8") if count <= 8 * np.dtype(kind).itemsize))


def _attributes(members: Sequence[Member]) -> dict[str, Any]:
    """What the file tells of its origin."""
    scenes = [_scene(member.parts) for member in members]
    starts = [scene["time_coverage_start"] for scene in scenes if scene.get("time_coverage_start")]
    ends = [scene["time_coverage_end"] for scene in scenes if scene.get("time_coverage_end")]
    versions = sorted({str(member.parts.plan["source"]["atmonr_version"]) for member in members})
    return {
        "title": f"Three-dimensional cloud extinction, mosaic of {len(members)} granules",
        "source": f"multi-angle satellite imagery; neural fields of atmonr {', '.join(versions)}",
        "time_coverage_start": min(starts, default=""),
        "time_coverage_end": max(ends, default=""),
        "wavelengths_nm": scenes[0].get("wavelengths_nm", []),
        "source_granules": " ".join(member.name for member in members),
        "mosaic_weights": _WEIGHTS,
        "mosaic_resampling": _RESAMPLING,
        "inputs": json.dumps([_input(member) for member in members]),
    }


def _input(member: Member) -> dict[str, Any]:
    source = member.parts.plan["source"]
    scene, provenance = source["scene"], source["scene"].get("provenance", {})
    return {
        "name": member.name,
        "granule": scene.get("granule"),
        "source_file": provenance.get("source"),
        "source_sha256": provenance.get("source_sha256"),
        **source["identity"],
        "grid": member.grid.to_json(),
        "config": source["config_toml"],
    }


def _names(parts: Sequence[Parts]) -> list[str]:
    """Names of the granules, each once, in characters that CF admits in flag meanings."""
    granules = [_scene(p).get("granule") or p.plan["source"]["identity"]["scene"] for p in parts]
    plain = [re.sub(r"[^A-Za-z0-9_.+@-]", "_", str(granule)) for granule in granules]
    # Two scenes of one granule are told apart by the beginning of their identity.
    return [
        name if plain.count(name) == 1 else f"{name}.{_scene_id(p)[:8]}"
        for name, p in zip(plain, parts, strict=True)
    ]


def _refuse_a_scene_twice(parts: Sequence[Parts]) -> None:
    for a, b in combinations(parts, 2):
        if _scene_id(a) == _scene_id(b):
            raise UsageError(
                f"{a.path} and {b.path} are both of scene '{a.plan['source']['identity']['scene']}' "
                f"({_scene_id(a)[:12]}); a mosaic is of different scenes: leave one out"
            )


def _refuse_other_bands(one: Parts, other: Parts) -> None:
    if one.bands != other.bands:
        a, b = (f"in {p.bands} bands" if p.bands > 1 else "shared by all bands" for p in (one, other))
        raise UsageError(
            f"{one.path} has an extinction {a}, {other.path} one {b}; expected the same kind of field"
        )
    had, has = (np.asarray(_scene(p).get("wavelengths_nm", []), float) for p in (one, other))
    if had.shape != has.shape or (np.abs(had - has) > _SAME_WAVELENGTH_NM).any():
        raise UsageError(
            f"{one.path} has bands at {_listed(had)} nm, {other.path} at {_listed(has)} nm; expected the same"
        )


def _listed(values: NDArray[np.float64]) -> str:
    return ", ".join(f"{value:g}" for value in values) or "unknown"


def _scene(parts: Parts) -> dict[str, Any]:
    return dict(parts.plan["source"]["scene"])


def _scene_id(parts: Parts) -> str:
    return str(parts.plan["source"]["identity"]["scene_id"])
