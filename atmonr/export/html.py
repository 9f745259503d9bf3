"""One page that shows an extract: self-contained, so that it opens from a disk or a letter, offline.

The page asks the network for nothing and its own policy forbids it to. That policy also names the only two
scripts that may run, by their hash: text of a hostile file could not run even if it escaped the escaping.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterable
from datetime import UTC, datetime
from html import escape
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any

import numpy as np
from numpy.typing import NDArray

from atmonr import __version__
from atmonr.atomic import sha256, write_text
from atmonr.errors import SceneError
from atmonr.evaluate.extract_file import open_extract
from atmonr.evaluate.overview import Overview, block_means, blocks_within, read_overview
from atmonr.evaluate.volume import CLOUD_PER_M
from atmonr.json_file import flatten

FloatArray = NDArray[np.float64]

# The band of which HARP2 has most views, and which a truth is given at.
WAVELENGTH_NM = 669.0
# Sections, surfaces and maps of so many values make a page of at most some 12 MB, half of it the library.
_SECTION_CELLS = 1_000_000
_SURFACE_CELLS = 150_000
_MAP_COLUMNS = 65_536
# Beyond this the text of an attribute is cut: a page is no place for a megabyte of it.
_LONGEST = 1000
_UNKNOWN = 65_535

_PROVENANCE = {
    "source_granule": "Granule",
    "source_granules": "Granules",
    "time_coverage_start": "Observed from",
    "time_coverage_end": "Observed until",
    "source_file": "Source file",
    "source_files": "Source files",
    "source_sha256": "SHA-256 of the source",
    "scene": "Scene",
    "scenes": "Scenes",
    "scene_id": "Scene identity",
    "run_config_sha256": "SHA-256 of the configuration",
    "checkpoint": "Checkpoint",
    "checkpoint_sha256": "SHA-256 of the checkpoint",
    "grid_sha256": "SHA-256 of the grid",
    "source": "Made with",
    "history": "History",
}


def write_html(extract: Path, out: Path, score: Path | None = None) -> None:
    """Write a page with the surfaces, sections, maps, score and origin of an extract.

    Args:
        extract: File from `atmonr merge`.
        out: HTML file to make; an existing one is replaced.
        score: JSON file from `atmonr evaluate` to show as a table.

    Raises:
        SceneError: If an input is not as expected, or the score is of another extract.
        StoreError: If the page cannot be written.
    """
    file = open_extract(extract)
    digest = sha256(extract)
    scores = _read_score(score, digest) if score is not None else None
    overview = read_overview(file, WAVELENGTH_NM, _SECTION_CELLS)
    write_text(out, _page(overview, digest, scores))


def _page(overview: Overview, digest: str, scores: list[tuple[str, Any]] | None) -> str:
    from plotly.offline import get_plotlyjs

    page = files("atmonr.export") / "page"
    html, style, program = ((page / f"page.{kind}").read_text("utf-8") for kind in ("html", "css", "js"))
    library = get_plotlyjs()
    attributes = overview.file.attrs
    surface_blocks = blocks_within(overview.extinction_per_m.shape, _SURFACE_CELLS)
    map_block = blocks_within((1, *overview.optical_depth.shape), _MAP_COLUMNS)[1]
    return Template(html).substitute(
        title=_text(str(attributes.get("title", "")) or f"Cloud extinction: {overview.file.path.name}"),
        subtitle=_text(_subtitle(overview)),
        style=style,
        script_hashes=" ".join(_script_hash(script) for script in (library, program)),
        meaning="\n".join(f"<li>{line}</li>" for line in _meaning(overview)),
        volume_note=_surface_note(overview, surface_blocks),
        sections_note=_block_note("Sections show", overview.blocks),
        maps_note=_maps_note(map_block),
        score=_score_table(scores) if scores is not None else "",
        provenance=_rows(_provenance(overview, digest)),
        data=_json(_data(overview, surface_blocks, map_block)),
        library=library,
        program=program,
    )


def _meaning(overview: Overview) -> list[str]:
    """What every reader should know; the same for all extracts but for the wavelength."""
    band = f" at {overview.wavelength_nm:g} nm" if overview.wavelength_nm is not None else ""
    return [
        f"Extinction{band} in m<sup>-1</sup> is the share of light lost on each metre of a short way. Its "
        "sum over a column is the optical depth.",
        "It was fitted to how bright the cloud looks from many angles. Absolute values are right only to "
        "about a factor of two; shapes and what is thicker than what are far better known.",
        "The inside of an opaque cloud is not seen. Beyond an optical depth of about 10 from outside, what "
        "is shown is a smooth guess.",
        "Thin haze in clear air, and detail finer than a pixel, are not to be believed.",
        "Altitudes are heights above the WGS-84 ellipsoid, not above sea level; the two may differ by 100 m.",
        "Positions are kilometres east and north of the frame's centre "
        f"({overview.file.frame.latitude_deg:.3f}°, {overview.file.frame.longitude_deg:.3f}°). "
        "Clouds moved during the minutes between the first and the last view.",
        "Grey is where nothing is known; in the map of cloud tops also where there is no cloud.",
    ]


def _surface_note(overview: Overview, again: tuple[int, int, int]) -> str:
    z, y, x = (first * second for first, second in zip(overview.blocks, again, strict=True))
    return (
        "Four surfaces of equal extinction, from the chosen one up to the brightest. "
        + _block_note("They are drawn from", (z, y, x))
        + " Drag to turn, scroll or pinch to zoom."
    )


def _block_note(what: str, blocks: tuple[int, int, int]) -> str:
    if blocks == (1, 1, 1):
        return f"{what} every cell of the file."
    z, y, x = blocks
    return (
        f"{what} means over blocks of {z} x {y} x {x} cells of the file (altitude, north, east), to keep "
        "this page small; peaks are lower than in the file."
    )


def _maps_note(block: int) -> str:
    note = (
        f"The top of a column is the upper edge of its highest cell of at least {CLOUD_PER_M:g} "
        "m<sup>-1</sup>; its optical depth is the sum of extinction times thickness. "
    )
    if block == 1:
        return note + "Every column of the file is shown."
    return note + f"Means over {block} x {block} columns of the file are shown, of tops over the cloudy ones."


def _data(overview: Overview, surface_blocks: tuple[int, int, int], map_block: int) -> dict[str, Any]:
    """What the page draws, as JSON."""
    from matplotlib import colormaps

    extinction = overview.extinction_per_m
    known = np.nan_to_num(extinction)
    brightest = float(np.quantile(known[known > 0], 0.999)) if (known > 0).any() else CLOUD_PER_M
    axes = overview.altitude_m, overview.y_m, overview.x_m
    coarse_axes = [block_means(axis, [size]) for axis, size in zip(axes, surface_blocks, strict=True)]
    wide_m = max(np.ptp(overview.y_m), np.ptp(overview.x_m))
    level, row, column = (int(known.sum(axis=other).argmax()) for other in ((1, 2), (0, 2), (0, 1)))
    # Linear numbers, but a square root of colour: thin cloud shows beside thick.
    shades = np.linspace(0.0, 1.0, 17)
    colours = [
        [float(shade**2), "rgb({},{},{})".format(*colormaps["viridis"](shade, bytes=True)[:3])]
        for shade in shades
    ]
    return {
        "fine": _volume(axes, extinction),
        "coarse": _volume(coarse_axes, block_means(extinction, surface_blocks)),
        "brightest": brightest,
        "lowest": min(CLOUD_PER_M, brightest / 10),
        "colours": colours,
        "start": {
            "level": level,
            "row": row,
            "column": column,
            "stretch": max(s for s in (1, 2, 5, 20) if s == 1 or s * np.ptp(axes[0]) < 0.6 * wide_m),
        },
        "maps": _maps(overview, map_block),
    }


def _volume(axes: Iterable[FloatArray], values: FloatArray) -> dict[str, Any]:
    """Coordinates [m] and values as whole numbers of 16 bit; 65535 is unknown."""
    step = float(np.nanmax(values, initial=0.0)) / (_UNKNOWN - 1) or 1.0
    stored = np.where(np.isnan(values), _UNKNOWN, np.round(np.nan_to_num(values) / step))
    z, y, x = (axis.tolist() for axis in axes)
    return {"z": z, "y": y, "x": x, "step": step, "values": _base64(stored.astype("<u2"))}


def _maps(overview: Overview, block: int) -> dict[str, Any]:
    file = overview.file
    y, x = (block_means(axis, [block]) for axis in (file.y_m, file.x_m))
    places = np.stack([*np.meshgrid(x, y), np.zeros((y.size, x.size))], axis=-1)
    latitude, longitude, _ = file.frame.to_geodetic(places)
    depth = block_means(overview.optical_depth, (block, block))
    top = block_means(overview.cloud_top_m, (block, block))
    deepest = float(np.nanquantile(depth, 0.999)) if np.isfinite(depth).any() else 0.0
    maps = {"latitude": latitude, "longitude": longitude, "top": top, "depth": depth}
    return {
        "x": x.tolist(),
        "y": y.tolist(),
        "deepest": deepest or 1.0,
        **{name: _base64(values.astype("<f4")) for name, values in maps.items()},
    }


def _subtitle(overview: Overview) -> str:
    """Granule, time and band in a line."""
    attributes = overview.file.attrs
    parts = [attributes.get("source_granule", ""), attributes.get("time_coverage_start", "")]
    others = [
        wavelength for wavelength in overview.file.wavelengths_nm if wavelength != overview.wavelength_nm
    ]
    if overview.wavelength_nm is not None:
        parts.append(f"extinction at {overview.wavelength_nm:g} nm")
    if others:
        parts.append(f"the file also holds {', '.join(f'{w:g}' for w in others)} nm")
    return " · ".join(str(part) for part in parts if str(part))


def _provenance(overview: Overview, digest: str) -> list[tuple[str, Any]]:
    file = overview.file
    cells = f"{file.altitude_m.size} x {file.y_m.size} x {file.x_m.size} (altitude, north, east)"
    now = datetime.now(UTC).isoformat(timespec="seconds")
    told = [(label, file.attrs[name]) for name, label in _PROVENANCE.items() if name in file.attrs]
    return [
        ("Extract", file.path.name),
        ("SHA-256 of the extract", digest),
        ("Cells", cells),
        *told,
        ("This page", f"atmonr {__version__}, {now}"),
    ]


def _read_score(path: Path, digest: str) -> list[tuple[str, Any]]:
    """Names and values of a score, without those that identify the extract: they stand in the provenance."""
    try:
        score = dict(json.loads(path.read_text(encoding="utf-8")))
        rows = list(flatten(score))
    except OSError as error:
        raise SceneError(f"{path}: cannot be read: {error.strerror or error}") from error
    except (ValueError, TypeError, RecursionError) as error:
        raise SceneError(f"{path}: expected the JSON object that atmonr evaluate writes") from error
    scored = score.get("extract")
    found = scored.get("sha256") if isinstance(scored, dict) else None
    if found != digest:
        raise SceneError(f"{path}: extract.sha256 is {found!r}; expected {digest}, the score of this extract")
    return [(name, value) for name, value in rows if not name.startswith("extract.")]


def _score_table(scores: Iterable[tuple[str, Any]]) -> str:
    rows = [(name, f"{value:.4g}" if isinstance(value, float) else value) for name, value in scores]
    return (
        '\n<section aria-labelledby="score-title">\n<h2 id="score-title">Score</h2>\n'
        f'<div class="scroll"><table>\n<tbody>\n{_rows(rows)}\n</tbody>\n</table></div>\n</section>\n'
    )


def _rows(pairs: Iterable[tuple[str, Any]]) -> str:
    return "\n".join(
        f'<tr><th scope="row">{_text(name)}</th><td>{_text(value)}</td></tr>' for name, value in pairs
    )


def _text(value: Any) -> str:
    """Text for the page: escaped, and cut if it is very long."""
    text = "unknown" if value is None else str(value).encode("utf-8", "replace").decode("utf-8")
    return escape(text if len(text) <= _LONGEST else f"{text[:_LONGEST]} …")


def _json(value: Any) -> str:
    """JSON that can stand inside a script element: nothing in it can end the element."""
    return json.dumps(value, allow_nan=False).replace("<", "\\u003c")


def _base64(values: NDArray[Any]) -> str:
    return base64.b64encode(values.tobytes()).decode("ascii")


def _script_hash(script: str) -> str:
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")
    return f"'sha256-{digest}'"
