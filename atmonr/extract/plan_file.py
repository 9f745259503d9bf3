"""The plan of an extraction: written once, checkable byte for byte; all other files follow from it."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from atmonr.atomic import atomic_file
from atmonr.errors import SceneError, UsageError
from atmonr.extract.grids.base import Grid
from atmonr.extract.receipts import Receipts
from atmonr.extract.shard_file import array_metadata
from atmonr.scene_info import check_scene_info

FORMAT = 3
_KEYS = {"format", "grid", "bands", "source", "array"}
_SOURCE = {"identity": dict, "scene": dict, "config_toml": str, "atmonr_version": str, "surface": dict}
_MOST_BANDS = 64


def make(grid: Grid, bands: int, source: dict[str, Any]) -> dict[str, Any]:
    """Return a plan.

    Args:
        grid: Where the field is sampled.
        bands: 1 for an extinction shared by all bands, or the number of bands.
        source: JSON data that says what is extracted: run, scene, checkpoint, code version.
    """
    plan = {
        "format": FORMAT,
        "grid": grid.to_json(),
        "bands": bands,
        "source": source,
        "array": array_metadata(grid, bands),
    }
    return dict(json.loads(json.dumps(plan)))


def digest(plan: dict[str, Any]) -> str:
    """SHA-256 of a plan's content."""
    return hashlib.sha256(json.dumps(plan, sort_keys=True).encode()).hexdigest()


def same_request(a: dict[str, Any], b: dict[str, Any]) -> bool:
    """Whether two plans extract the same thing, perhaps with another version of Zarr."""
    return {**a, "array": None} == {**b, "array": None}


def write(path: Path, plan: dict[str, Any]) -> None:
    """Write plan.json."""
    with atomic_file(path) as temporary:
        temporary.write_text(_text(plan), encoding="utf-8")


def read(path: Path) -> dict[str, Any]:
    """Read plan.json.

    Raises:
        SceneError: If it is not there, of another format, or differs in any byte from what was written.
    """
    expected = "expected the output of atmonr extract"
    try:
        text = path.read_bytes().decode("utf-8")
        plan = dict(json.loads(text))
    except OSError as error:
        raise SceneError(f"{path}: {error.strerror or error}; {expected}") from error
    except (ValueError, TypeError, RecursionError) as error:
        raise SceneError(f"{path}: not a JSON object ({error}); {expected}") from error
    if plan.get("format") != FORMAT and "sha256" not in plan:
        raise SceneError(f"{path}: format {plan.get('format')}, this version reads {FORMAT}; extract again")
    plan.pop("sha256", None)
    if text != _text(plan) or plan.keys() != _KEYS:
        raise SceneError(
            f"{path}: damaged: its content does not fit its checksum; "
            "run the same atmonr extract again to repair it"
        )
    if plan["format"] != FORMAT:
        raise SceneError(f"{path}: format {plan['format']}, this version reads {FORMAT}; extract again")
    try:
        _check(plan)
    except ValueError as error:
        raise SceneError(f"{path}: {error}; extract again") from error
    return plan


def _check(plan: dict[str, Any]) -> None:
    """Refuse what `make` never returns, be its checksum right or not.

    Raises:
        ValueError: Says what is wrong.
    """
    bands, source = plan["bands"], plan["source"]
    if not isinstance(bands, int) or not 1 <= bands <= _MOST_BANDS:
        raise ValueError(f"bands is {bands!r}; expected 1 to {_MOST_BANDS}")
    for name, value in (("grid", plan["grid"]), ("array", plan["array"]), ("source", source)):
        if not isinstance(value, dict):
            raise ValueError(f"{name} is no JSON object")
    for key, kind in _SOURCE.items():
        if key in source and not isinstance(source[key], kind):
            raise ValueError(f"source.{key} is {str(source[key])[:40]!r}; expected another type")
    for key, value in source.get("identity", {}).items():
        if not isinstance(value, str):
            raise ValueError(f"source.identity.{key} is {str(value)[:40]!r}; expected text")
    check_scene_info(source.get("scene", {}))


def _text(plan: dict[str, Any]) -> str:
    return json.dumps({**plan, "sha256": digest(plan)}, indent=2) + "\n"


def mended(path: Path, asked: dict[str, Any], receipts: Receipts) -> dict[str, Any]:
    """Return the plan in a file; one that is damaged is written anew if the shards there follow it.

    Args:
        path: The file.
        asked: The plan that is asked for now.
        receipts: Of the shards beside it.

    Raises:
        UsageError: If it is damaged and the shards are of something else.
    """
    try:
        return read(path)
    except SceneError as error:
        if receipts.names() and not receipts.of_extraction(digest(asked)):
            raise UsageError(
                f"{error}: the shards in {path.parent} are not of what is asked for now; "
                "ask for the same again, or choose another name"
            ) from error
    write(path, asked)
    return asked
