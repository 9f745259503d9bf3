"""What an extraction needs of the scene itself, beside the trained field: its ground and its rays."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from atmonr.errors import SceneError
from atmonr.extract.parts import Parts
from atmonr.extract.support import Boxes, count_rays
from atmonr.extract.surface import (
    SceneSurface,
    column_heights,
    dem_surface,
    describe_dem,
    describe_scene_surface,
)
from atmonr.store.scene import Scene, open_scene

SURFACE, RAY_COUNT = "surface", "ray_count"


def find_scene(info: dict[str, Any], store: Path | None) -> Scene | None:
    """Open the scene that a field was trained on.

    Args:
        info: What the run folder tells of it.
        store: Where it lies now; where it lay then by default.

    Returns:
        The scene; None if the run is of a version that did not note where its scenes lie.

    Raises:
        SceneError: If it is not there, or another scene is.
    """
    if store is None and "path" not in info:
        return None
    path = Path(info["path"]) if store is None else store
    try:
        scene = open_scene(path)
    except SceneError as error:
        raise SceneError(
            f"{error}; the extract needs the ground and the rays of the scene: say with --scene-store where "
            "it lies now"
        ) from error
    if scene.scene_id != info["scene_id"]:
        raise SceneError(
            f"{path}: is scene {scene.scene_id[:12]}, the run was trained on {info['scene_id'][:12]}; "
            "say with --scene-store where that lies"
        )
    return scene


def describe_columns(scene: Scene | None, dem: Path | None) -> dict[str, Any]:
    """Return JSON data that says which ground and which rays an extraction is going to have."""
    described: dict[str, Any] = {}
    if dem is not None:
        described[SURFACE] = describe_dem(dem)
    elif scene is not None:
        described[SURFACE] = describe_scene_surface(scene)
    if scene is not None:
        described[RAY_COUNT] = True
    return described


def keep_columns(parts: Parts, scene: Scene | None, dem: Path | None) -> None:
    """Write the ground under an extraction's columns and the ray counts, unless they are there.

    Raises:
        GranuleError: If the elevation model cannot be read.
        SceneError: If the scene cannot be read.
        StoreError: If the extraction cannot be written.
    """
    if dem is not None:
        with dem_surface(dem) as ground:
            parts.keep(SURFACE, lambda: column_heights(parts.grid, ground))
    elif scene is not None:
        parts.keep(SURFACE, lambda: column_heights(parts.grid, SceneSurface.of(scene)))
    if scene is not None:
        boxes = Boxes.of(parts.plan["source"]["scene"])
        parts.keep(RAY_COUNT, lambda: count_rays(scene, boxes))


def column_numbers(parts: Parts) -> tuple[NDArray[np.float32] | None, NDArray[np.int32] | None]:
    """Return the ground under an extraction's columns [m] and its ray counts, each None if it has none.

    Raises:
        SceneError: If one is missing or damaged.
    """
    source = parts.plan["source"]
    surface, counts = (parts.numbers(name) if name in source else None for name in (SURFACE, RAY_COUNT))
    expected = {SURFACE: parts.grid.shape[1:], RAY_COUNT: ()}
    if counts is not None:
        expected[RAY_COUNT] = Boxes.of(source["scene"]).shape
    for name, found in ((SURFACE, surface), (RAY_COUNT, counts)):
        if found is not None and (found.shape != expected[name] or found.dtype.kind not in "if"):
            raise SceneError(f"{parts.path}: numbers/{name} has the shape {found.shape}; extract again")
    return surface, counts


def inputs_of(parts: Parts) -> list[dict[str, Any]]:
    """Return name and checksum of every file that an extraction comes from, the granule first."""
    source = parts.plan["source"]
    provenance = source["scene"].get("provenance", {})
    granule = {"file": provenance.get("source"), "sha256": provenance.get("source_sha256")}
    surface = source.get(SURFACE, {})
    dem = [{key: surface[key] for key in ("file", "sha256")}] if "file" in surface else []
    return [granule, *parts.grid.inputs(), *dem]
