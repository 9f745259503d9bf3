"""An extract on a voxel grid: where its cloud tops are, how thick it is, and what it looks like inside."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from atmonr.evaluate.drawing import figure
from atmonr.evaluate.overview import Overview
from atmonr.evaluate.truth import cell_edges
from atmonr.quicklook.ground import Ground
from atmonr.quicklook.panels import (
    ALTITUDE,
    CLOUD_COLOURS,
    EXTINCTION,
    UNKNOWN,
    amounts,
    draw_cloud_top,
    draw_level,
    draw_optical_depth,
    draw_profile,
    plain,
)


def draw_extract(overview: Overview, path: Path) -> None:
    """Draw maps of cloud top and optical depth, and a level and two sections where there is most cloud.

    Args:
        overview: Of the extract.
        path: PNG to write.
    """
    file, extinction = overview.file, overview.extinction_per_m
    whole = Ground(file.frame, file.x_m, file.y_m)
    blocks = Ground(file.frame, overview.x_m, overview.y_m)
    known = np.nan_to_num(extinction)
    level, row, column = (int(known.sum(axis=other).argmax()) for other in ((1, 2), (0, 2), (0, 1)))
    colours = amounts(extinction)
    edges_m = cell_edges(overview.altitude_m)
    count = np.isfinite(extinction).sum(axis=(1, 2))
    mean = np.divide(known.sum(axis=(1, 2)), count, out=np.full(count.shape, np.nan), where=count > 0)
    sections = (
        (extinction[:, row], overview.x_m, "east", f"{overview.y_m[row] / 1e3:.1f} km north"),
        (extinction[:, :, column], overview.y_m, "north", f"{overview.x_m[column] / 1e3:.1f} km east"),
    )
    with figure(path, (10.0, 12.0), 3, 2, height_ratios=(1.3, 1.3, 1)) as (drawn, axes):
        draw_cloud_top(axes[0, 0], whole, overview.cloud_top_m)
        draw_optical_depth(axes[0, 1], whole, overview.optical_depth)
        draw_level(axes[1, 0], blocks, extinction[level], float(overview.altitude_m[level]), colours)
        draw_profile(axes[1, 1], mean, edges_m)
        for axis, (values, along_m, along, where) in zip(axes[2], sections, strict=True):
            axis.set_facecolor(UNKNOWN)
            edges_km = cell_edges(along_m) / 1e3, edges_m / 1e3
            mesh = axis.pcolormesh(*edges_km, values, norm=colours, cmap=CLOUD_COLOURS, rasterized=True)
            axis.set(title=f"extinction at {where}", xlabel=f"km {along}", ylabel=ALTITUDE)
            drawn.colorbar(mesh, ax=axis, label=EXTINCTION, extend="max", aspect=25)
        drawn.suptitle(_title(overview), fontsize=10)


def _title(overview: Overview) -> str:
    band = f", {overview.wavelength_nm:g} nm" if overview.wavelength_nm is not None else ""
    lines = [f"{overview.file.path.name}{band}; grey: nothing known, or no cloud top"]
    if overview.blocks != (1, 1, 1):
        z, y, x = overview.blocks
        lines.append(f"level and sections: means of {z} x {y} x {x} cells (altitude, north, east)")
    return plain("\n".join(lines))
