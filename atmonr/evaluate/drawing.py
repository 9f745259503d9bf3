"""The look that all pictures share."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from matplotlib import rc_context
from matplotlib.figure import Figure
from numpy.typing import NDArray

from atmonr.atomic import atomic_file

STYLE: Any = {
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "figure.constrained_layout.use": True,
    "figure.facecolor": "white",
    "image.interpolation": "nearest",
    "legend.frameon": False,
}
_DPI = 150


@contextmanager
def figure(
    path: Path, size: tuple[float, float], rows: int, columns: int, **options: Any
) -> Iterator[tuple[Figure, NDArray[Any]]]:
    """Yield a new figure and its axes (rows, columns); write it to `path` at the end.

    A figure of its own, not of pyplot: nothing global to leak, no display needed.
    """
    with rc_context(STYLE):
        drawn = Figure(figsize=size)
        yield drawn, drawn.subplots(rows, columns, squeeze=False, **options)
        with atomic_file(path) as temporary:
            drawn.savefig(temporary, dpi=_DPI, format="png", bbox_inches="tight")
