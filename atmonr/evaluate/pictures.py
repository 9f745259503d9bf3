"""Pictures of scores: truth beside extract, rendered beside measured, the course of the loss."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm, Normalize, PowerNorm
from numpy.typing import ArrayLike, NDArray

from atmonr.evaluate.drawing import figure
from atmonr.evaluate.truth import Truth
from atmonr.evaluate.volume import optical_depth, rank_correlation

FloatArray = NDArray[np.float64]

_CLOUD = "magma"
_ERROR = "RdBu_r"
_TRUTH_COLOUR, _EXTRACT_COLOUR = "#222222", "#d95f02"
_UNIT = "extinction [m$^{-1}$]"


def truth_sections(estimate: FloatArray, truth: Truth, path: Path, *, scale: float) -> None:
    """Draw sections and optical depth of truth and extract side by side, on the same colours.

    Shown are vertical sections along x and along y and a level, each where there is most cloud, and the
    optical depth of every column.

    Args:
        estimate: Extract on the cells of the truth [m^-1], shape (X, Y, Z).
        truth: The truth.
        path: PNG to write.
        scale: Factor the extract is multiplied by, stated in the picture.
    """
    sources = [("truth: ", truth.extinction_per_m), (f"{_scaled(scale)}: ", scale * estimate)]
    _sections(truth, sources, path)


def known_cloud(truth: Truth, path: Path) -> None:
    """Draw the same of a truth alone.

    Args:
        truth: The truth.
        path: PNG to write.
    """
    _sections(truth, [("", truth.extinction_per_m)], path)


def _sections(truth: Truth, sources: Sequence[tuple[str, FloatArray]], path: Path) -> None:
    views = _views(truth)
    size = (4.75 * len(sources), 12.5)
    with figure(path, size, len(views), len(sources), height_ratios=(1, 1, 1.5, 1.5)) as (drawn, axes):
        for line, view in zip(axes, views, strict=True):
            for axis, (who, values) in zip(line, sources, strict=True):
                mesh = axis.pcolormesh(
                    view.across_km,
                    view.up_km,
                    view.cut(values).T,
                    norm=view.colours,
                    cmap=_CLOUD,
                    rasterized=True,
                )
                axis.set(title=f"{who}{view.what}", xlabel=view.across, aspect=view.aspect)
            line[0].set_ylabel(view.up)
            drawn.colorbar(mesh, ax=line, label=view.quantity, extend="max", aspect=14)
        drawn.suptitle(f"{truth.path.stem} at {truth.wavelength_nm:g} nm", fontsize=12)


@dataclass(frozen=True)
class _View:
    """One way to look at a volume (X, Y, Z): what is cut out, along which axes, in which colours."""

    what: str
    cut: Callable[[FloatArray], FloatArray]
    across: str
    across_km: FloatArray
    up: str
    up_km: FloatArray
    quantity: str
    colours: Normalize
    aspect: str


def _views(truth: Truth) -> list[_View]:
    """Where there is most cloud: a section along x, one along y, a level; and the optical depth."""
    true = truth.extinction_per_m
    row, column, level = (int(np.argmax(true.sum(axis=other))) for other in ((0, 2), (1, 2), (0, 1)))
    thickness = np.diff(truth.edges_m)
    x = "x [km]", _horizontal_km(truth, 0)
    y = "y [km]", _horizontal_km(truth, 1)
    z = "altitude [km]", truth.edges_m / 1e3
    amount = _UNIT, PowerNorm(0.5, 0.0, float(true.max()))
    depth = "optical depth", Normalize(0.0, _high(optical_depth(true, thickness)))
    at_y, at_x = _middle(y[1], row), _middle(x[1], column)
    return [
        _View(f"section at y = {at_y:.1f} km", lambda v: v[:, row], *x, *z, *amount, "auto"),
        _View(f"section at x = {at_x:.1f} km", lambda v: v[column], *y, *z, *amount, "auto"),
        _View(f"altitude {_middle(z[1], level):.1f} km", lambda v: v[:, :, level], *x, *y, *amount, "equal"),
        _View("optical depth", lambda v: optical_depth(v, thickness), *x, *y, *depth, "equal"),
    ]


def optical_depth_scatter(estimate: FloatArray, truth: Truth, path: Path, *, scale: float) -> None:
    """Draw the optical depth of the extract against the true one, cloudy and clear columns apart."""
    thickness = np.diff(truth.edges_m)
    found, true = (optical_depth(v, thickness).ravel() for v in (scale * estimate, truth.extinction_per_m))
    cloudy = true > 0
    high = 1.2 * max(true.max(), found.max())
    low = high / 1e4
    grey = {"color": "0.6", "linewidth": 0.8}
    with figure(path, (6.4, 4.6), 1, 2, width_ratios=(3.2, 1), sharey=True) as (drawn, axes):
        left, right = axes[0]
        density = left.hexbin(
            *(np.clip(v[cloudy], low, None) for v in (true, found)),
            xscale="log", yscale="log", gridsize=45, extent=np.log10([low, high, low, high]).tolist(),
            norm=LogNorm(), cmap="viridis", mincnt=1, linewidths=0.1,
        )  # fmt: skip
        left.plot([low, high], [low, high], **grey)
        rank = rank_correlation(found[cloudy], true[cloudy])
        left.set(title=f"cloudy columns, rank correlation {rank:.2f}", xlabel="true optical depth")
        left.set(ylabel=f"optical depth of the {_scaled(scale)}", xlim=(low, high), ylim=(low, high))
        drawn.colorbar(density, ax=[left, right], label="cloudy columns", aspect=30)
        right.hist(np.clip(found[~cloudy], low, high), bins=np.geomspace(low, high, 41).tolist(),
                   orientation="horizontal", color=_EXTRACT_COLOUR)  # fmt: skip
        right.set(title="clear columns", xlabel="columns")


def mean_profile(estimate: FloatArray, truth: Truth, path: Path, *, scale: float) -> None:
    """Draw the horizontal mean of extinction over altitude, truth and extract."""
    with figure(path, (4.4, 4.8), 1, 1) as (_, axes):
        axis = axes[0, 0]
        edges_km = truth.edges_m / 1e3
        for values, colour, label in (
            (truth.extinction_per_m, _TRUTH_COLOUR, "truth"),
            (scale * estimate, _EXTRACT_COLOUR, _scaled(scale)),
        ):
            mean = values.mean((0, 1))
            axis.stairs(mean, edges_km, orientation="horizontal", color=colour, lw=1.6, label=label)
        axis.set(title="mean over the scene", xlabel=_UNIT, ylabel="altitude [km]")
        axis.set_xlim(left=0)
        axis.ticklabel_format(axis="x", style="sci", scilimits=(-2, 3))
        axis.legend()


def rendered_views(
    target: ArrayLike,
    rendered: ArrayLike,
    valid: ArrayLike,
    path: Path,
    *,
    titles: Sequence[str],
    psnr_db: Sequence[float] | None = None,
) -> None:
    """Draw measured, rendered and error images of some views, one view a row.

    Args:
        target: Measured reflectance, shape (view, line, pixel).
        rendered: Rendered reflectance of the same shape.
        valid: True where measured; the rest is left grey.
        path: PNG to write.
        titles: What each view is, such as "669 nm, -32.0 degrees".
        psnr_db: Score to state beside each view.
    """
    valid = np.asarray(valid, bool)
    measured, made = (np.where(valid, np.asarray(v, np.float64), np.nan) for v in (target, rendered))
    views, lines, pixels = measured.shape
    tall = lines / pixels
    width = float(np.clip(2.8 / tall, 1.2, 3.4))
    with figure(path, (3 * width + 2.4, views * width * tall + 0.5), views, 3) as (drawn, axes):
        for view, (line, title) in enumerate(zip(axes, titles, strict=True)):
            error = made[view] - measured[view]
            bright, wrong = _high(measured[view]), _high(np.abs(error))
            score = f"\nPSNR {psnr_db[view]:.1f} dB" if psnr_db is not None else ""
            line[0].set_ylabel(title + score)
            _image(line[0], measured[view], "gray", Normalize(0.0, bright))
            shown = _image(line[1], made[view], "gray", Normalize(0.0, bright))
            drawn.colorbar(shown, ax=line[1], extend="max", aspect=25)
            shown = _image(line[2], error, _ERROR, Normalize(-wrong, wrong))
            drawn.colorbar(shown, ax=line[2], extend="both", aspect=25, label="reflectance")
        for axis, what in zip(axes[0], ("measured", "rendered", "rendered - measured"), strict=True):
            axis.set_title(what)


def loss_curve(records: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Draw the course of training.

    Args:
        records: Lines of metrics.jsonl. Every number whose name has "loss" in it is drawn against `step`, and
            every one with "psnr" in a panel of its own.
        path: PNG to write.
    """
    losses, scores = _curves(records, "loss"), _curves(records, "psnr")
    panels = [(losses, "loss", "log")] + ([(scores, "held-out PSNR [dB]", "linear")] if scores else [])
    with figure(path, (6.0, 2.6 * len(panels)), len(panels), 1, sharex=True) as (_, axes):
        for axis, (curves, label, scale) in zip(axes[:, 0], panels, strict=True):
            for name, (steps, values) in curves.items():
                marker = "o" if len(steps) < 30 else ""
                axis.plot(steps, values, lw=1.2, marker=marker, ms=3, label=name)
            axis.set(ylabel=label, yscale=scale)
            axis.grid(color="0.92")
            if len(curves) > 1:
                axis.legend(ncols=2)
        axes[-1, 0].set_xlabel("step")


def _curves(records: Sequence[Mapping[str, Any]], kind: str) -> dict[str, tuple[list[float], list[float]]]:
    curves: dict[str, tuple[list[float], list[float]]] = {}
    for record in records:
        for name, value in record.items():
            if kind in name and isinstance(value, int | float) and isinstance(record.get("step"), int):
                steps, values = curves.setdefault(name, ([], []))
                steps.append(record["step"])
                values.append(value)
    return curves


def _image(axis: Axes, image: FloatArray, colours: str, norm: Normalize) -> Any:
    axis.set_facecolor("0.75")
    axis.set(xticks=[], yticks=[])
    axis.spines[:].set_visible(False)
    return axis.imshow(image, cmap=colours, norm=norm)


def _high(values: FloatArray) -> float:
    """An upper colour limit that a few outliers do not move; 1 for an image of nothing."""
    finite = values[np.isfinite(values)]
    return (float(np.quantile(finite, 0.999)) if finite.size else 0.0) or 1.0


def _horizontal_km(truth: Truth, axis: int) -> FloatArray:
    """Edges of the truth's cells along one horizontal index [km], from its middle."""
    latitude, longitude = np.radians(truth.latitude_deg), np.radians(truth.longitude_deg)
    xyz = np.stack(
        [np.cos(latitude) * np.cos(longitude), np.cos(latitude) * np.sin(longitude), np.sin(latitude)], -1
    )
    step_km = 6371.0 * float(np.median(np.linalg.norm(np.diff(xyz, axis=axis), axis=-1)))
    cells = truth.latitude_deg.shape[axis]
    return step_km * (np.arange(cells + 1) - cells / 2)


def _scaled(scale: float) -> str:
    return rf"extract $\times$ {scale:.3g}"


def _middle(edges: FloatArray, index: int) -> float:
    return float(edges[index] + edges[index + 1]) / 2
