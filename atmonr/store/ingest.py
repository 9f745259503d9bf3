"""Granule to scene: mask, normalise, and write in bounded memory under a temporary name."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import closing
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import atmonr
from atmonr.atomic import atomic_folder, sha256
from atmonr.errors import GranuleError, UsageError
from atmonr.geo.frame import Frame
from atmonr.sensors.granule import QUANTITIES, Granule
from atmonr.store.block_writer import BlockWriter
from atmonr.store.extent import Extent
from atmonr.store.footprint import footprint_of, nadir_places
from atmonr.store.layout import (
    FORMAT_ATTRIBUTE,
    FORMAT_VERSION,
    create_scene,
    finish_scene,
    scene_name,
    views_at_once,
    write_vectors,
)
from atmonr.store.rays import MAX_SOLAR_ZENITH_DEG, Block, scene_block, usable_rays
from atmonr.store.read_ahead import read_ahead
from atmonr.store.survey import BoundingBox, Survey, blocks, survey

_HOLDOUT_EVERY, _HOLDOUT_FIRST = 10, 5
# Beyond these a ray is no longer nearly straight in the frame.
_STEEPEST_VIEW_DEG, _HIGHEST_TOP_M = 85.0, 50_000.0


@dataclass(frozen=True)
class _Options:
    """What the user chose; part of the scene's identity."""

    bbox: BoundingBox | None
    max_view_zenith_deg: float
    top_height_m: float
    max_view_angle_deg: float | None

    def as_dict(self) -> dict[str, Any]:
        """For the identity; without the last one where it is not used, as scenes had it before it existed."""
        values = asdict(self)
        if self.max_view_angle_deg is None:
            del values["max_view_angle_deg"]
        return values

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
        if self.max_view_angle_deg is not None and not 0.0 < self.max_view_angle_deg <= 90.0:
            limit = "above 0, up to 90 degrees"
            raise UsageError(f"max_view_angle_deg is {self.max_view_angle_deg:g}; expected {limit}")


def ingest(
    granule: Granule,
    out: Path | str,
    *,
    bbox: tuple[float, float, float, float] | None = None,
    max_view_zenith_deg: float = 75.0,
    top_height_m: float = 20_000.0,
    max_view_angle_deg: float | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Write a granule as a scene.

    Args:
        granule: an open granule.
        out: the scene's folder; it must not exist.
        bbox: west, south, east, north [degrees] to crop to; west > east crosses the dateline.
        max_view_zenith_deg: rays seen from lower are not usable.
        top_height_m: height above the ellipsoid at which rays start [m].
        max_view_angle_deg: views that look farther from nadir at the instrument are left out altogether.
        progress: told the number of views done and in all, after every block.

    Returns:
        The scene's folder.

    Raises:
        GranuleError: the granule cannot be read, holds impossible values, or has no usable ray.
        UsageError: `out` exists, or an option makes no sense.
        StoreError: the disk refuses.
    """
    out = Path(out)
    box = BoundingBox(*bbox) if bbox is not None else None
    options = _Options(box, float(max_view_zenith_deg), float(top_height_m), max_view_angle_deg)
    options.check()
    if max_view_angle_deg is not None:
        granule = granule.up_to_angle(max_view_angle_deg)
    holdout = _holdout(granule)
    with ThreadPoolExecutor(1, "aside") as aside, atomic_folder(out) as folder:
        _write_scene(granule, folder, aside, options, holdout, progress)
    return out


def _write_scene(
    granule: Granule,
    folder: Path,
    aside: Executor,
    options: _Options,
    holdout: NDArray[np.uint8],
    progress: Callable[[int, int], None] | None,
) -> None:
    """Write everything into an empty folder; checksum and flushing are done aside."""
    checksum = aside.submit(sha256, granule.path)  # reads the file once more
    part = survey(granule, options.bbox, views_at_once(granule.shape))
    # Whole lines are read, whichever pixels are kept.
    together = views_at_once((granule.shape[0], part.latitude.shape[1], granule.shape[2]))
    lined = () if granule.time_per_pixel else ("time",)
    optional = {scene_name(name): 2 if name in lined else 3 for name in granule.optional}
    group, arrays = create_scene(folder, part.latitude.shape, together, optional, granule.altitude_datum.name)
    writer = BlockWriter(folder, arrays, aside)
    # Closed before anyone closes the file: the thread that reads it must have ended.
    with closing(_read_ahead(granule, part, together)) as ahead:
        extent, rays = _write_rays(granule, writer, ahead, part, options, progress)
    frame = extent.boxed_frame()
    footprint = footprint_of(granule, frame, nadir_places(part, options.bbox))
    writer.wait()
    write_vectors(group, _vectors(granule, part, holdout))
    if "quality" in arrays and granule.quality_flags:
        masks, meanings = list(granule.quality_flags), " ".join(granule.quality_flags.values())
        arrays["quality"].attrs.update({"flag_masks": masks, "flag_meanings": meanings})
    attributes = {
        **_attributes(granule, options, checksum.result()),
        **footprint,
        "training_rays": int(rays[holdout == 0].sum()),
        "frame": json.dumps(frame.to_json()),
        "sun_direction": json.dumps(extent.sun_coefficients(frame)),
    }
    finish_scene(folder, group, attributes)


def _write_rays(
    granule: Granule,
    writer: BlockWriter,
    read_ahead: Iterator[tuple[slice, Block]],
    part: Survey,
    options: _Options,
    progress: Callable[[int, int], None] | None,
) -> tuple[Extent, NDArray[np.int64]]:
    """Write all variables of rays, whole shards at a time.

    Returns:
        The space they cross, and (V,) the number of usable rays of each view.
    """
    extent = Extent(_centred_frame(part), options.top_height_m)
    lit = False
    rays = np.zeros(granule.shape[0], dtype=np.int64)
    for views, data in read_ahead:
        valid = usable_rays(data, options.bbox, options.max_view_zenith_deg, options.top_height_m)
        values = scene_block(granule, data, valid, views)
        extent.add(values, valid)
        rays[views] = valid.sum(axis=(1, 2))
        lit |= bool((values["reflectance"] > 0.0).any())
        writer.write(views, values)
        if progress is not None:
            progress(views.stop, granule.shape[0])
        del data, valid, values  # else this block would be held while the next ones are read
    if extent.empty:
        zeniths = f"{options.max_view_zenith_deg:g} and a solar zenith below {MAX_SOLAR_ZENITH_DEG:g}"
        raise GranuleError(
            f"{granule.path}: has no usable ray; expected one with a radiance, complete geometry, a view"
            f" zenith up to {zeniths} degrees"
        )
    if not lit:
        raise GranuleError(f"{granule.path}: no usable ray has a radiance above 0; expected a sunlit image")
    return extent, rays


def _read_ahead(granule: Granule, part: Survey, together: int) -> Generator[tuple[slice, Block]]:
    """Blocks of views; while one is worked on, a thread that alone uses the file reads the next."""
    names = [name for name in (*QUANTITIES, *granule.optional) if name not in ("latitude", "longitude")]

    def read(views: slice) -> Block:
        data = granule.read_lines(part.lines, names, views).isel(pixel=part.pixels)
        block = {name: data[name].to_numpy() for name in names}
        return {**block, "latitude": part.latitude[views], "longitude": part.longitude[views]}

    return read_ahead(read, list(blocks(granule.shape[0], together)))


def _centred_frame(part: Survey) -> Frame:
    return Frame(part.latitude_deg, part.longitude_deg, (-1.0, -1.0, -1.0), (1.0, 1.0, 1.0))


def _holdout(granule: Granule) -> NDArray[np.uint8]:
    """(V,) 1 for every tenth view of the file, so that the same ones are held out whichever are left out.

    Raises:
        UsageError: none is held out, or all are.
    """
    holdout = (granule.views % _HOLDOUT_EVERY == _HOLDOUT_FIRST).astype(np.uint8)
    if holdout.all() or not holdout.any():
        kind = "trained on" if holdout.all() else "held out to judge by"
        raise UsageError(
            f"{granule.path}: none of the {len(holdout)} views that are kept would be {kind}; expected a"
            " larger angle"
        )
    return holdout


def _vectors(
    granule: Granule, part: Survey, holdout: NDArray[np.uint8]
) -> dict[str, tuple[str, NDArray[Any]]]:
    return {
        "view": ("view", granule.views.astype(np.int32)),
        "view_angle_deg": ("view", granule.view_angle_deg),
        "wavelength_nm": ("view", granule.wavelength_nm),
        "band": ("view", granule.band),
        "solar_irradiance": ("view", granule.solar_irradiance),
        "holdout": ("view", holdout),
        "band_wavelength_nm": ("band_index", granule.band_wavelength_nm),
        "line": ("line", np.arange(part.lines.start, part.lines.stop, dtype=np.int32)),
        "pixel": ("pixel", np.arange(part.pixels.start, part.pixels.stop, dtype=np.int32)),
    }


def _attributes(granule: Granule, options: _Options, checksum: str) -> dict[str, Any]:
    """Attributes of the group; structured ones are JSON text, so that netCDF can hold them too."""
    content = {"format": FORMAT_VERSION, "source_sha256": checksum, **options.as_dict()}
    provenance = {
        "source": granule.path.name,
        "source_level": granule.level,
        "source_sha256": checksum,
        "source_bytes": granule.path.stat().st_size,
        "atmonr_version": atmonr.__version__,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "options": options.as_dict(),
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
