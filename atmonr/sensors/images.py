"""Variables of a file as images (view, line, pixel), whichever way the file stores them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from atmonr.errors import GranuleError
from atmonr.sensors.netcdf import NetcdfFile

Shape = tuple[int, int, int]

_VIEW_DIMENSIONS = ("views", "number_of_views")


class Axes(NamedTuple):
    """Which dimension of a variable is which; those after the third have one element."""

    view: int | None  # None: the same for all views
    line: int
    pixel: int


VIEW_FIRST, VIEW_LAST, NO_VIEW = Axes(0, 1, 2), Axes(2, 0, 1), Axes(None, 0, 1)


def find_axes(file: NetcdfFile, name: str, shape: Shape, allowed: tuple[Axes, ...]) -> Axes:
    """How a variable lies in its file.

    Args:
        file: the file.
        name: "group/variable".
        shape: number of views, lines and pixels.
        allowed: what may be; where sizes fit several, the name of a dimension decides, then the order here.

    Raises:
        GranuleError: the variable is missing, not numeric, or of none of these shapes.
    """
    found, dimensions = file.shape(name), file.dimensions(name)
    named = [place for place, dimension in enumerate(dimensions) if dimension.lower() in _VIEW_DIMENSIONS]
    fitting = []
    for axes in allowed:
        sizes = _sizes(axes, shape)
        if found[: len(sizes)] == sizes and set(found[len(sizes) :]) <= {1}:
            fitting.append(axes)
    best = [axes for axes in fitting if named == [axes.view]] or fitting
    if not best:
        expected = " or ".join(str(_sizes(axes, shape)) for axes in allowed)
        raise GranuleError(f"{file.path}: {name} has the shape {found}; expected {expected}")
    return best[0]


class Images:
    """Reads images by views and by lines counted northwards, pixels eastwards.

    Args:
        file: the file.
        places: for every canonical name its "group/variable" and axes.
        shape: number of views, lines and pixels.

    Attributes:
        flipped: whether the file's order of lines, of pixels, is reversed.
        unscaled: canonical names of variables whose scale must not be applied.
    """

    def __init__(self, file: NetcdfFile, places: dict[str, tuple[str, Axes]], shape: Shape) -> None:
        self.file, self.places, self.shape = file, places, shape
        self.flipped = (False, False)
        self.unscaled: tuple[str, ...] = ()

    def read(
        self, name: str, views: NDArray[np.integer], lines: slice, *, stored: bool = False
    ) -> NDArray[np.float32]:
        """(v, l, P) a new array of a variable's values, NaN where missing; `stored` leaves them packed."""
        path, axes = self.places[name]
        unpack = not stored and name not in self.unscaled
        flip_lines, flip_pixels = self.flipped
        part = self.stored_lines(lines)
        if axes.view is None:
            image = self.file.read(path, (part, slice(None)), unpack=unpack)
            values = np.repeat(image.reshape(1, *image.shape[:2]), len(views), axis=0)
        else:
            pieces = []
            for run in _runs(views):
                index = [run if place == axes.view else slice(None) for place in range(3)]
                index[axes.line] = part
                piece = self.file.read(path, tuple(index), unpack=unpack)
                piece = piece.reshape(piece.shape[:3])  # without the one band of each view
                pieces.append(np.ascontiguousarray(piece.transpose(axes.view, axes.line, axes.pixel)))
            values = pieces[0] if len(pieces) == 1 else np.concatenate(pieces)
        return values[:, :: -1 if flip_lines else 1, :: -1 if flip_pixels else 1]

    def read_view(self, name: str, view: int, *, stored: bool = False) -> NDArray[np.float32]:
        """(L, P) values of one view."""
        return self.read(name, np.array([view]), slice(0, self.shape[1]), stored=stored)[0]

    def stored_lines(self, lines: slice) -> slice:
        """The same lines in the order of the file."""
        if not self.flipped[0]:
            return lines
        return slice(self.shape[1] - lines.stop, self.shape[1] - lines.start)


def _sizes(axes: Axes, shape: Shape) -> tuple[int, ...]:
    """The shape of a variable with these axes."""
    placed = [(place, size) for place, size in zip(axes, shape, strict=True) if place is not None]
    return tuple(size for _, size in sorted(placed))


def _runs(views: NDArray[np.integer]) -> Iterator[slice]:
    """Slices that together are ascending indices: the library reads a slice much faster than a list."""
    ends = np.flatnonzero(np.diff(views, append=views[-1] + 2) != 1)
    start = 0
    for end in ends:
        yield slice(int(views[start]), int(views[end]) + 1)
        start = int(end) + 1
