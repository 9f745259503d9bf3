"""Pictures of an extract beside a lidar: both curtains, one above the other, and their profiles."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm
from numpy.typing import NDArray

from atmonr.evaluate.drawing import figure
from atmonr.evaluate.lidar import Curtains
from atmonr.evaluate.volume import CLOUD_PER_M
from atmonr.geo.track import distance_along_m

FloatArray = NDArray[np.float64]

_CLOUD = "magma"
_UNIT = "extinction [m$^{-1}$]"
_LIDAR_COLOUR, _EXTRACT_COLOUR = "#222222", "#d95f02"
_DECADES = 3.5  # shown below the largest extinction
_AIR_ABOVE_M = 1_500.0  # shown above the highest cloud
_PLACES = 5  # ticks with latitude and longitude
_GREY, _GREY_SHARE = 0.45, 0.5  # over what is not compared


def curtains(profiles: xr.Dataset, both: Curtains, path: Path, *, scores: Mapping[str, Any]) -> None:
    """Draw both curtains on the same colours and axes; what is not compared is shaded.

    Args:
        profiles: The matched profiles.
        both: The curtains on their cells.
        path: PNG to write.
        scores: What was scored, for the titles.
    """
    along_km = distance_along_m(profiles["latitude"].values, profiles["longitude"].values) / 1e3
    corners = _corners(along_km, both)
    largest = max(_largest(both.lidar_per_m), _largest(both.extract_per_m), CLOUD_PER_M)
    least = largest / 10**_DECADES
    colours = LogNorm(least, largest)
    mask, match = scores["cloud_mask"], scores["match"]
    names = (
        f"EarthCARE lidar, {scores['lidar_wavelength_nm']:g} nm",
        f"extract, {_wavelengths(scores['extract_wavelengths_nm'])}: intersection over union of clouds"
        f" {_number(mask['iou'])} ({mask['samples']} cells), {_offset(match['time_offset_s'])}",
    )
    with figure(path, (9.0, 6.4), 2, 1, sharex=True, sharey=True) as (drawn, axes):
        for axis, name, values in zip(axes[:, 0], names, (both.lidar_per_m, both.extract_per_m), strict=True):
            axis.pcolormesh(*corners, _shades(values, both, colours), rasterized=True)
            _draw_surface(axis, profiles, along_km)
            axis.set(title=name, ylabel="height above the ellipsoid [km]")
        axes[0, 0].set_ylim(*_limits_km(profiles, both))
        axes[1, 0].set_xlabel("along the track [km]; latitude, longitude")
        _label_places(axes[1, 0], profiles, along_km)
        drawn.colorbar(ScalarMappable(colours, _CLOUD), ax=axes[:, 0], label=_UNIT, extend="both", aspect=30)
        drawn.text(0.0, -0.02, "grey: not compared; green: surface", fontsize=8, color="0.35")


def profiles(both: Curtains, path: Path, *, scores: Mapping[str, Any]) -> None:
    """Draw the mean profile of all compared cells, and every cell of the extract against the lidar's."""
    some = both.compared
    lidar, found = both.lidar_per_m[some], both.extract_per_m[some]
    largest = 1.3 * max(lidar.max(initial=0.0), found.max(initial=0.0), CLOUD_PER_M)
    least = largest / 10**_DECADES
    with figure(path, (9.0, 4.2), 1, 2, width_ratios=(1, 1.35)) as (drawn, axes):
        left, right = axes[0]
        height_km = _usual((both.lower_m + both.upper_m) / 2) / 1e3
        counts = some.sum(axis=0)
        for values, colour, label in (
            (both.lidar_per_m, _LIDAR_COLOUR, "lidar"),
            (both.extract_per_m, _EXTRACT_COLOUR, "extract"),
        ):
            total = np.where(some, values, 0.0).sum(axis=0)
            left.plot(
                np.divide(total, counts, out=np.full(counts.shape, np.nan), where=counts > 0),
                height_km, color=colour, lw=1.5, label=label,
            )  # fmt: skip
        left.set(title=f"mean of {scores['match']['profiles']} profiles", xlabel=_UNIT)
        left.set(ylabel="height above the ellipsoid [km]", ylim=(0.0, _top_km(both)))
        left.ticklabel_format(axis="x", style="sci", scilimits=(-2, 3))
        left.legend()
        either = (lidar > least) | (found > least)
        pairs = (np.clip(values[either], least, largest) for values in (lidar, found))
        density = right.hexbin(
            *pairs, xscale="log", yscale="log", gridsize=40, norm=LogNorm(), cmap="viridis", mincnt=1,
            extent=np.log10([least, largest, least, largest]).tolist(), linewidths=0.1,
        )  # fmt: skip
        right.plot([least, largest], [least, largest], color="0.6", lw=0.8)
        for line in (right.axvline, right.axhline):
            line(CLOUD_PER_M, color="0.6", lw=0.8, ls=":")
        right.set(title=f"{int(either.sum())} cells in which either sees more than {least:.0e}")
        right.text(CLOUD_PER_M, least, " cloud", fontsize=8, color="0.5", va="bottom")
        right.set(xlabel=f"lidar's {_UNIT}", ylabel=f"extract's {_UNIT}")
        if either.any():
            drawn.colorbar(density, ax=right, label="cells", aspect=30)


def _shades(values: FloatArray, both: Curtains, colours: LogNorm) -> FloatArray:
    """Colours of the cells (P, L, 4): black for nothing and for what is missing, greyed if not compared."""
    shown = np.clip(np.nan_to_num(values), colours.vmin, None)
    shades = np.asarray(colormaps[_CLOUD](colours(shown)))
    hidden = ~both.compared
    shades[hidden, :3] = (1 - _GREY_SHARE) * shades[hidden, :3] + _GREY_SHARE * _GREY
    return shades


def _corners(along_km: FloatArray, both: Curtains) -> tuple[FloatArray, FloatArray]:
    """Corners of the cells for drawing, each (P + 1, L + 1): km along the track, km of height."""
    lower, upper = (_without_gaps(edges) for edges in (both.lower_m, both.upper_m))
    edges = np.concatenate([lower[:, :1], (lower[:, 1:] + upper[:, :-1]) / 2, upper[:, -1:]], axis=1)
    padded = np.concatenate([edges[:1], edges, edges[-1:]])
    half = np.diff(along_km) / 2 if along_km.size > 1 else np.array([0.5])
    across = np.concatenate([[along_km[0] - half[0]], along_km[:-1] + half[: along_km.size - 1]])
    across = np.concatenate([across, [along_km[-1] + half[-1]]])
    height = (padded[1:] + padded[:-1]) / 2e3
    return np.broadcast_to(across[:, None], height.shape), height


def _without_gaps(edges_m: FloatArray) -> FloatArray:
    """Edges with missing ones as they are in other profiles, or beside; nothing is drawn there."""
    usual = _usual(edges_m)
    known = np.flatnonzero(np.isfinite(usual))
    usual = np.interp(np.arange(usual.size), known, usual[known])
    return np.where(np.isfinite(edges_m), edges_m, usual)


def _usual(heights_m: FloatArray) -> FloatArray:
    """Median over the profiles (L,), NaN at a level that all of them lack."""
    median = np.ma.median(np.ma.masked_invalid(heights_m), axis=0)
    return np.asarray(np.ma.filled(median, np.nan), np.float64)


def _draw_surface(axis: Axes, profiles: xr.Dataset, along_km: FloatArray) -> None:
    if "surface_height" in profiles:
        axis.plot(along_km, profiles["surface_height"].values / 1e3, color="#2ca25f", lw=1.5)


def _label_places(axis: Axes, profiles: xr.Dataset, along_km: FloatArray) -> None:
    """Ticks that tell kilometres, latitude and longitude."""
    ticks = np.unique(np.linspace(0, along_km.size - 1, _PLACES).round().astype(int))
    latitude, longitude = profiles["latitude"].values, profiles["longitude"].values
    labels = [
        f"{along_km[i]:.0f}\n{_degrees(latitude[i], 'NS')}\n{_degrees(longitude[i], 'EW')}" for i in ticks
    ]
    axis.set_xticks(along_km[ticks], labels)


def _degrees(value: float, sides: str) -> str:
    return f"{abs(value):.2f}°{sides[int(value < 0)]}"


def _limits_km(profiles: xr.Dataset, both: Curtains) -> tuple[float, float]:
    surface = profiles["surface_height"].values if "surface_height" in profiles else np.zeros(1)
    lowest = float(np.nanmin(surface)) if np.isfinite(surface).any() else 0.0
    return lowest / 1e3 - 0.3, _top_km(both)


def _top_km(both: Curtains) -> float:
    cloud = (both.lidar_cloud | both.extract_cloud) & np.isfinite(both.upper_m)
    if not cloud.any():
        cloud = np.isfinite(both.extract_per_m) & np.isfinite(both.upper_m)
    top = float(both.upper_m[cloud].max()) if cloud.any() else 10_000.0
    return (top + _AIR_ABOVE_M) / 1e3


def _largest(values: FloatArray) -> float:
    finite = values[np.isfinite(values)]
    return float(np.quantile(finite, 0.999)) if finite.size else 0.0


def _wavelengths(values_nm: list[float]) -> str:
    if not values_nm:
        return "wavelength unknown"
    return (
        f"{min(values_nm):.0f} nm" if len(values_nm) == 1 else f"{min(values_nm):.0f}-{max(values_nm):.0f} nm"
    )


def _number(value: float) -> str:
    return f"{value:.2f}" if np.isfinite(value) else "undefined"


def _offset(seconds: float) -> str:
    if not np.isfinite(seconds):
        return "time of observation unknown"
    if seconds == 0:
        return "seen at the same time"
    return f"lidar {abs(seconds):.0f} s {'later' if seconds > 0 else 'earlier'}"
