"""Panels that pictures of several kinds of extract share."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Normalize, PowerNorm
from numpy.typing import NDArray

from atmonr.evaluate.volume import CLOUD_PER_M
from atmonr.quicklook.ground import Ground, draw_graticule

FloatArray = NDArray[np.float64]

CLOUD_COLOURS = "magma"
UNKNOWN = "0.75"  # grey
EXTINCTION = "extinction [m$^{-1}$]"
ALTITUDE = "km above the ellipsoid"


def draw_cloud_top(axis: Axes, ground: Ground, cloud_top_m: FloatArray) -> None:
    """Draw a map of cloud tops, shape (Y, X)."""
    finite = cloud_top_m[np.isfinite(cloud_top_m)] / 1e3
    colours = Normalize(float(finite.min()), float(finite.max())) if finite.size else Normalize(0.0, 1.0)
    _draw_map(axis, ground, cloud_top_m / 1e3, colours, "viridis", ALTITUDE)
    axis.set_title(f"cloud top: highest cell of {CLOUD_PER_M:g} m$^{{-1}}$ or more")


def draw_optical_depth(axis: Axes, ground: Ground, optical_depth: FloatArray) -> None:
    """Draw a map of optical depths, shape (Y, X)."""
    _draw_map(axis, ground, optical_depth, amounts(optical_depth), CLOUD_COLOURS, "optical depth")
    axis.set_title("optical depth")


def draw_level(
    axis: Axes, ground: Ground, extinction_per_m: FloatArray, altitude_m: float, colours: Normalize
) -> None:
    """Draw the extinction of one level, shape (Y, X)."""
    _draw_map(axis, ground, extinction_per_m, colours, CLOUD_COLOURS, EXTINCTION)
    axis.set_title(f"extinction at {altitude_m / 1e3:.2f} km")


def draw_profile(axis: Axes, mean_per_m: FloatArray, edges_m: FloatArray) -> None:
    """Draw the mean extinction of every level, shape (Z,), between edges (Z + 1,)."""
    axis.stairs(mean_per_m, edges_m / 1e3, orientation="horizontal", color="#d95f02", lw=1.6)
    axis.set(title="mean of every level", xlabel=EXTINCTION, ylabel=ALTITUDE)
    axis.set_xlim(left=0.0)
    axis.ticklabel_format(axis="x", style="sci", scilimits=(-2, 3))


def amounts(values: FloatArray) -> Normalize:
    """Colours of an amount: thin beside thick, up to a limit that a few outliers do not move."""
    positive = values[np.isfinite(values) & (values > 0)]
    return PowerNorm(0.5, 0.0, float(np.quantile(positive, 0.999)) if positive.size else 1.0)


def plain(text: str) -> str:
    """Text of a file as matplotlib shows it: a dollar starts no mathematics."""
    return text.replace("$", r"\$")


def _draw_map(
    axis: Axes, ground: Ground, values: FloatArray, colours: Normalize, cmap: str, unit: str
) -> None:
    axis.set_facecolor(UNKNOWN)
    shown = axis.imshow(values, extent=ground.edges_km, origin="lower", norm=colours, cmap=cmap)
    draw_graticule(axis, ground)
    axis.figure.colorbar(shown, ax=axis, label=unit, extend="max", aspect=25)
