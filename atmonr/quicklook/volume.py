"""An extract: where its cloud tops are, how thick it is, and what it looks like inside."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Normalize, PowerNorm
from numpy.typing import NDArray

from atmonr.evaluate.drawing import figure
from atmonr.evaluate.overview import Overview
from atmonr.evaluate.session import FIXED_THRESHOLD_PER_M
from atmonr.evaluate.truth import cell_edges
from atmonr.quicklook.ground import Ground, draw_graticule

FloatArray = NDArray[np.float64]

_CLOUD, _HEIGHT = "magma", "viridis"
_UNKNOWN = "0.75"
_UNIT = "extinction [m$^{-1}$]"


def draw_extract(overview: Overview, path: Path) -> None:
    """Draw maps of cloud top and optical depth, and a level and two sections where there is most cloud.

    Args:
        overview: Of the extract.
        path: PNG to write.
    """
    file = overview.file
    whole = Ground(file.frame, file.x_m, file.y_m)
    blocks = Ground(file.frame, overview.x_m, overview.y_m)
    known = np.nan_to_num(overview.extinction_per_m)
    level, row, column = (int(known.sum(axis=other).argmax()) for other in ((1, 2), (0, 2), (0, 1)))
    amount = PowerNorm(0.5, 0.0, _high(overview.extinction_per_m))
    edges = cell_edges(overview.altitude_m) / 1e3
    with figure(path, (10.0, 12.0), 3, 2, height_ratios=(1.3, 1.3, 1)) as (drawn, axes):
        top = Normalize(*_range(overview.cloud_top_m / 1e3))
        _map(axes[0, 0], whole, overview.cloud_top_m / 1e3, top, _HEIGHT,
             f"cloud top: highest cell of {FIXED_THRESHOLD_PER_M:g} m$^{{-1}}$ or more",
             "km above the ellipsoid")  # fmt: skip
        depth = PowerNorm(0.5, 0.0, _high(overview.optical_depth))
        _map(axes[0, 1], whole, overview.optical_depth, depth, _CLOUD, "optical depth", "optical depth")
        at_km = overview.altitude_m[level] / 1e3
        _map(axes[1, 0], blocks, overview.extinction_per_m[level], amount, _CLOUD,
             f"extinction at {at_km:.2f} km", _UNIT)  # fmt: skip
        _profile(axes[1, 1], overview, edges)
        for axis, values, middles_m, along, across, at_m in (
            (axes[2, 0], overview.extinction_per_m[:, row], overview.x_m, "east", "north", overview.y_m[row]),
            (axes[2, 1], overview.extinction_per_m[:, :, column], overview.y_m, "north", "east",
             overview.x_m[column]),
        ):  # fmt: skip
            axis.set_facecolor(_UNKNOWN)
            mesh = axis.pcolormesh(
                cell_edges(middles_m) / 1e3, edges, values, norm=amount, cmap=_CLOUD, rasterized=True
            )
            axis.set(title=f"extinction at {at_m / 1e3:.1f} km {across}", xlabel=f"km {along}")
            axis.set_ylabel("km above the ellipsoid")
            drawn.colorbar(mesh, ax=axis, label=_UNIT, extend="max", aspect=25)
        drawn.suptitle(_title(overview), fontsize=10)


def _map(
    axis: Axes, ground: Ground, values: FloatArray, colours: Normalize, cmap: str, title: str, unit: str
) -> None:
    axis.set_facecolor(_UNKNOWN)
    shown = axis.imshow(values, extent=ground.edges_km, origin="lower", norm=colours, cmap=cmap)
    draw_graticule(axis, ground)
    axis.set_title(title)
    axis.figure.colorbar(shown, ax=axis, label=unit, extend="max", aspect=25)


def _profile(axis: Axes, overview: Overview, edges_km: FloatArray) -> None:
    values = overview.extinction_per_m.reshape(overview.altitude_m.size, -1)
    count = np.isfinite(values).sum(axis=1)
    mean = np.divide(np.nansum(values, axis=1), count, out=np.full(count.shape, np.nan), where=count > 0)
    axis.stairs(mean, edges_km, orientation="horizontal", color="#d95f02", lw=1.6)
    axis.set(title="mean of every level", xlabel=_UNIT, ylabel="km above the ellipsoid")
    axis.set_xlim(left=0.0)
    axis.ticklabel_format(axis="x", style="sci", scilimits=(-2, 3))


def _title(overview: Overview) -> str:
    band = f", {overview.wavelength_nm:g} nm" if overview.wavelength_nm is not None else ""
    lines = [f"{overview.file.path.name}{band}; grey: nothing known, or no cloud top"]
    if overview.blocks != (1, 1, 1):
        z, y, x = overview.blocks
        lines.append(f"level and sections: means of {z} x {y} x {x} cells (altitude, north, east)")
    # Text of a file is no mathematics.
    return "\n".join(lines).replace("$", r"\$")


def _high(values: FloatArray) -> float:
    """An upper limit of colour that a few outliers do not move."""
    positive = values[np.isfinite(values) & (values > 0)]
    return float(np.quantile(positive, 0.999)) if positive.size else 1.0


def _range(values: FloatArray) -> tuple[float, float]:
    finite = values[np.isfinite(values)]
    return (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
