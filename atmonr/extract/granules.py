"""The granules that a mosaic is made of: which may be together, what they are called, what the file tells."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from itertools import combinations
from typing import Any, NamedTuple

import netCDF4
import numpy as np
from numpy.typing import NDArray

from atmonr.errors import UsageError
from atmonr.extract.blend import WEIGHTS, flag_type
from atmonr.extract.columns import SURFACE, inputs_of
from atmonr.extract.netcdf import Product, create_cells, of_columns
from atmonr.extract.parts import Parts

MOST_SCENES = 64  # one bit each
_SAME_WAVELENGTH_NM = 1.0


class Named(NamedTuple):
    """An extraction and what a mosaic calls its granule."""

    parts: Parts
    name: str


def refuse_unlike(parts: Sequence[Parts]) -> None:
    """Refuse what cannot be one product.

    Raises:
        UsageError: Says which and why.
    """
    if len(parts) > MOST_SCENES:
        raise UsageError(f"{len(parts)} scenes: expected at most {MOST_SCENES}; merge fewer at a time")
    _refuse_a_scene_twice(parts)
    for other in parts[1:]:
        _refuse_other_bands(parts[0], other)
        _refuse_other_ground(parts[0], other)


def in_order(parts: Sequence[Parts]) -> list[Named]:
    """Return extractions in the order of their time, so that the order of arguments is no matter."""
    ordered = sorted(parts, key=lambda p: (_scene(p).get("time_coverage_start", ""), _scene_id(p)))
    return [Named(p, name) for p, name in zip(ordered, _names(ordered), strict=True)]


def coverage(granules: Sequence[Named]) -> tuple[str, str]:
    """Return when the first granule began and the last one ended, in ISO 8601, "" if unknown."""
    scenes = [_scene(granule.parts) for granule in granules]
    starts, ends = (
        [scene[key] for scene in scenes if scene.get(key)]
        for key in ("time_coverage_start", "time_coverage_end")
    )
    return min(starts, default=""), max(ends, default="")


def attributes_of(granules: Sequence[Named]) -> dict[str, Any]:
    """What the file tells of its origin."""
    scenes = [_scene(granule.parts) for granule in granules]
    start, end = coverage(granules)
    versions = sorted({str(granule.parts.plan["source"]["atmonr_version"]) for granule in granules})
    return {
        "title": f"Three-dimensional cloud extinction, mosaic of {len(granules)} granules",
        "source": f"multi-angle satellite imagery; neural fields of atmonr {', '.join(versions)}",
        "time_coverage_start": start,
        "time_coverage_end": end,
        "wavelengths_nm": scenes[0].get("wavelengths_nm", []),
        "source_granules": " ".join(granule.name for granule in granules),
        "mosaic_weights": WEIGHTS,
        "inputs": json.dumps([_input(granule) for granule in granules]),
    }


def _input(granule: Named) -> dict[str, Any]:
    source = granule.parts.plan["source"]
    scene, provenance = source["scene"], source["scene"].get("provenance", {})
    return {
        "name": granule.name,
        "granule": scene.get("granule"),
        "source_file": provenance.get("source"),
        "source_sha256": provenance.get("source_sha256"),
        "files": inputs_of(granule.parts),
        **source["identity"],
        "grid": granule.parts.grid.to_json(),
        "config": source["config_toml"],
    }


def define_flags(dataset: netCDF4.Dataset, product: Product, names: Sequence[str]) -> netCDF4.Variable:
    """Create the variable that says, bit by bit, which granules are in a cell."""
    kind = flag_type(len(names))
    variable = create_cells(dataset, product, "contributing_granules", kind.str[1:], product.grid.dims)
    variable.setncatts(
        {
            "long_name": "granules that contribute to the cell",
            "flag_masks": np.array([1 << bit for bit in range(len(names))], kind),
            "flag_meanings": " ".join(names),
            **of_columns(dataset, product.grid.dims),
        }
    )
    return variable


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


def _refuse_other_ground(one: Parts, other: Parts) -> None:
    a, b = (p.plan["source"].get(SURFACE, {"source": "unknown"}) for p in (one, other))
    if a != b:
        raise UsageError(
            f"{one.path} has its ground from: {a['source']}; {other.path} from: {b['source']}; expected the "
            "same: extract them alike"
        )


def _listed(values: NDArray[np.float64]) -> str:
    return ", ".join(f"{value:g}" for value in values) or "unknown"


def _scene(parts: Parts) -> dict[str, Any]:
    return dict(parts.plan["source"]["scene"])


def _scene_id(parts: Parts) -> str:
    return str(parts.plan["source"]["identity"]["scene_id"])
