"""Granule to scene: mask, normalise, and write in bounded memory under a temporary name."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
import zarr
from numpy.typing import NDArray
from scipy.spatial import ConvexHull, QhullError

import atmonr
from atmonr.atomic import atomic_folder, sha256
from atmonr.errors import GranuleError, UsageError
from atmonr.geo.frame import Frame
from atmonr.sensors.granule import Granule
from atmonr.store.layout import (
    FORMAT_ATTRIBUTE,
    FORMAT_VERSION,
    SHARD_LINES,
    create_scene,
    finish_scene,
    write_vectors,
)
from atmonr.store.rays import MAX_SOLAR_ZENITH_DEG, Extent, reflectances, usable_rays
from atmonr.store.survey import BoundingBox, Survey, line_blocks, survey

_HOLDOUT_EVERY, _HOLDOUT_FIRST = 10, 5
# Beyond these a ray is no longer nearly straight in the frame.
_STEEPEST_VIEW_DEG, _HIGHEST_TOP_M = 85.0, 50_000.0


@dataclass(frozen=True)
class _Options:
    """What the user chose; part of the scene's identity."""

    bbox: BoundingBox | None
    max_view_zenith_deg: float
    top_height_m: float

    def check(self) -> None:
        if self.bbox is not None:
            self.bbox.check()
        if not 0.0 < self.max_view_zenith_deg <= _STEEPEST_VIEW_DEG:
            limit = f"above 0, up to {_STEEPEST_VIEW_DEG:g} degrees"
            raise UsageError(f"max_view_zenith_deg is {self.max_view_zenith_deg:g}; expected {limit}")
        if not 100.0 <= self.top_height_m <= _HIGHEST_TOP_M:
            raise UsageError(
                f"top_height_m is {self.top_height_m:g}; expected 100 to {_HIGHEST_TOP_M:g} metres"
            )


def ingest(
    granule: Granule,
    out: Path | str,
    *,
    bbox: tuple[float, float, float, float] | None = None,
    max_view_zenith_deg: float = 75.0,
    top_height_m: float = 20_000.0,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Write a granule as a scene.

    Args:
        granule: an open granule.
        out: the scene's folder; it must not exist.
        bbox: west, south, east, north [degrees] to crop to; west > east crosses the dateline.
        max_view_zenith_deg: rays seen from lower are not usable.
        top_height_m: height above the ellipsoid at which rays start [m].
        progress: told the number of lines done and in all, after every block.

    Returns:
        The scene's folder.

    Raises:
        GranuleError: the granule cannot be read, holds impossible values, or has no usable ray.
        UsageError: `out` exists, or an option makes no sense.
        StoreError: the disk refuses.
    """
    out = Path(out)
    box = BoundingBox(*bbox) if bbox is not None else None
    options = _Options(box, float(max_view_zenith_deg), float(top_height_m))
    options.check()
    with atomic_folder(out) as folder:
        part = survey(granule, box, SHARD_LINES)
        shape = (granule.shape[0], part.lines.stop - part.lines.start, part.pixels.stop - part.pixels.start)
        group, arrays = create_scene(folder, shape, granule.optional)
        progress = progress or (lambda done, total: None)
        extent, nadir, rays = _write_rays(granule, arrays, part, options, progress)
        frame = extent.boxed_frame()
        vectors = _vectors(granule, part)
        write_vectors(group, vectors)
        attributes = {
            **_attributes(granule, options),
            **_footprint(granule, frame, nadir),
            "training_rays": int(rays[vectors["holdout"][1] == 0].sum()),
            "frame": json.dumps(frame.to_json()),
            "sun_direction": json.dumps(extent.sun_coefficients(frame)),
        }
        finish_scene(folder, group, attributes)
    return out


def _write_rays(
    granule: Granule,
    arrays: dict[str, zarr.Array[Any]],
    part: Survey,
    options: _Options,
    progress: Callable[[int, int], None],
) -> tuple[Extent, NDArray[np.float32], NDArray[np.int64]]:
    """Write all variables of rays, whole shards at a time.

    Returns:
        The space they cross, (2, L, P) latitude and longitude of the view nearest to nadir, and (V,) the
        number of usable rays of each view.
    """
    extent = Extent(_centred_frame(part), options.top_height_m)
    nadir: list[NDArray[np.float32]] = []
    lit = False
    rays = np.zeros(granule.shape[0], dtype=np.int64)
    for block in line_blocks(part.lines, SHARD_LINES):
        data = granule.read_lines(block).isel(pixel=part.pixels)
        nadir.append(_places(data.isel(view=part.nadir_view), options.bbox))
        valid = usable_rays(data, options.bbox, options.max_view_zenith_deg, options.top_height_m)
        values: dict[str, NDArray[Any]] = {**reflectances(granule, data, valid), "valid": valid}
        extent.add(values, valid)
        rays += valid.sum(axis=(1, 2))
        lit |= bool((values["reflectance"] > 0.0).any())
        if "time" in data:
            values["time"] = data.time.to_numpy()
        rows = slice(block.start - part.lines.start, block.stop - part.lines.start)
        for name, array in arrays.items():
            array[:, rows] = values[name]
        progress(rows.stop, part.lines.stop - part.lines.start)
        del data, valid, values  # else this block would be held while the next one is read
    if extent.empty:
        zeniths = f"{options.max_view_zenith_deg:g} and a solar zenith below {MAX_SOLAR_ZENITH_DEG:g}"
        raise GranuleError(
            f"{granule.path}: has no usable ray; expected one with a radiance, complete geometry, a view"
            f" zenith up to {zeniths} degrees"
        )
    if not lit:
        raise GranuleError(f"{granule.path}: no usable ray has a radiance above 0; expected a sunlit image")
    return extent, np.concatenate(nadir, axis=1), rays


def _centred_frame(part: Survey) -> Frame:
    return Frame(part.latitude_deg, part.longitude_deg, (-1.0, -1.0, -1.0), (1.0, 1.0, 1.0))


def _places(view: xr.Dataset, bbox: BoundingBox | None) -> NDArray[np.float32]:
    """(2, L, P) a copy of the latitude and longitude of one view, NaN outside the bounding box."""
    places = np.stack([view.latitude.to_numpy(), view.longitude.to_numpy()])
    if bbox is not None:
        places[:, ~bbox.contains(places[0], places[1])] = np.nan
    return places


def _footprint(granule: Granule, frame: Frame, nadir: NDArray[np.float32]) -> dict[str, Any]:
    """Of (2, L, P) the nadir view: median distance of neighbouring pixels, bounds and outline of all [m]."""
    places = frame.from_geodetic(nadir[0], nadir[1])[..., :2]
    steps = [np.linalg.norm(np.diff(places, axis=axis), axis=-1).ravel() for axis in (0, 1)]
    spacing = np.concatenate(steps)
    spacing = spacing[np.isfinite(spacing)]
    if spacing.size == 0 or np.median(spacing) == 0.0:
        raise GranuleError(
            f"{granule.path}: latitude and longitude of the view nearest to nadir put no two neighbouring"
            " pixels at different places; expected an image to tell the pixel size from"
        )
    bounds = [*np.nanmin(places, axis=(0, 1)).tolist(), *np.nanmax(places, axis=(0, 1)).tolist()]
    outline = _outline(places.reshape(-1, 2))
    # Attributes that every reader understands have one dimension.
    corners = [value for corner in outline for value in corner]
    return {
        "pixel_m": float(np.median(spacing)),
        "footprint_m": bounds,
        "outline_m": corners,
        "track_m": _track(places),
    }


def _track(places_m: NDArray[np.float64]) -> list[float]:
    """Start and end, x and y [m], of the middle of (L, P, 2) places from the first line to the last."""
    lines = [line[np.isfinite(line).all(-1)] for line in places_m]
    middles = [line.mean(axis=0) for line in lines if len(line)]
    return np.round(np.concatenate([middles[0], middles[-1]]), 1).tolist()


def _outline(places_m: NDArray[np.float64]) -> list[list[float]]:
    """Corners of the convex hull of (N, 2) places [m], counterclockwise; none if they lie on a line."""
    places = places_m[np.isfinite(places_m).all(-1)]
    try:
        # The swath is as good as convex; a tenth of a metre keeps rounding from making corners.
        return np.round(places[ConvexHull(np.round(places, 1)).vertices], 1).tolist()
    except QhullError:
        return []


def _vectors(granule: Granule, part: Survey) -> dict[str, tuple[str, NDArray[Any]]]:
    views = np.arange(granule.shape[0])
    holdout = (views % _HOLDOUT_EVERY == _HOLDOUT_FIRST).astype(np.uint8)
    return {
        "view_angle_deg": ("view", granule.view_angle_deg),
        "wavelength_nm": ("view", granule.wavelength_nm),
        "band": ("view", granule.band),
        "solar_irradiance": ("view", granule.solar_irradiance),
        "holdout": ("view", holdout),
        "band_wavelength_nm": ("band_index", granule.band_wavelength_nm),
        "line": ("line", np.arange(part.lines.start, part.lines.stop, dtype=np.int32)),
        "pixel": ("pixel", np.arange(part.pixels.start, part.pixels.stop, dtype=np.int32)),
    }


def _attributes(granule: Granule, options: _Options) -> dict[str, Any]:
    """Attributes of the group; structured ones are JSON text, so that netCDF can hold them too."""
    checksum = sha256(granule.path)
    content = {"format": FORMAT_VERSION, "source_sha256": checksum, **asdict(options)}
    provenance = {
        "source": granule.path.name,
        "source_sha256": checksum,
        "source_bytes": granule.path.stat().st_size,
        "atmonr_version": atmonr.__version__,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "options": asdict(options),
        "lines_reversed": granule.flipped[0],
        "pixels_reversed": granule.flipped[1],
        "sun_earth_distance": granule.sun_earth_distance,
        "notes": list(granule.notes),
    }
    end = {} if granule.time_end is None else {"time_coverage_end": granule.time_end.isoformat()}
    return {
        FORMAT_ATTRIBUTE: FORMAT_VERSION,
        "Conventions": "CF-1.11",
        "title": f"Multi-angle reflectances of {granule.name}",
        "granule": granule.name,
        "time_coverage_start": granule.time_start.isoformat(),
        **end,
        "top_height_m": options.top_height_m,
        "scene_id": hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest(),
        "provenance": json.dumps(provenance),
    }
