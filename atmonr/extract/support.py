"""How many rays of the training images cross each part of a scene: a first measure of what is known there.

Rays are counted in boxes a pixel wide and a 32nd of the modelled atmosphere high, whatever the grid of the
extract: a ray counts in the one box of each layer in which it crosses the layer's middle. So the count of a
cell says how well its surroundings were seen, and means the same on every grid.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from atmonr.extract.grids.base import FloatArray
from atmonr.geo.paths import parabolas, paths_of
from atmonr.store.scene import Scene
from atmonr.store.views import valid_pixels, view_rays

LAYERS = 32

Counts = NDArray[np.int32]


@dataclass(frozen=True)
class Boxes:
    """Equal boxes that fill a scene's footprint up to the modelled top.

    Attributes:
        corner_m: Lower corner along height, y and x [m].
        step_m: Size along height, y and x [m].
        shape: Number along height, y and x.
    """

    corner_m: tuple[float, float, float]
    step_m: tuple[float, float, float]
    shape: tuple[int, int, int]

    @classmethod
    def of(cls, scene: dict[str, Any]) -> Boxes:
        """Return the boxes of a scene, from what the run folder tells of it."""
        west, south, east, north = (float(value) for value in scene["footprint_m"])
        pixel, top = float(scene["pixel_m"]), float(scene["top_height_m"])
        ny, nx = (math.ceil(extent / pixel) + 1 for extent in (north - south, east - west))
        corner = (0.0, south - pixel / 2, west - pixel / 2)
        return cls(corner, (top / LAYERS, pixel, pixel), (LAYERS, ny, nx))

    def index(self, y_m: FloatArray, x_m: FloatArray) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
        """Return the position of places among the boxes of a layer, and which places are in any of them."""
        with np.errstate(invalid="ignore"):
            row = np.floor((y_m - self.corner_m[1]) / self.step_m[1])
            column = np.floor((x_m - self.corner_m[2]) / self.step_m[2])
            inside = (row >= 0) & (row < self.shape[1]) & (column >= 0) & (column < self.shape[2])
        flat = np.where(inside, row * self.shape[2] + column, 0)
        return flat.astype(np.intp), inside

    def look_up(self, counts: Counts, places_m: FloatArray, heights_m: FloatArray) -> Counts:
        """Return the counts at cells.

        Args:
            counts: Of all boxes, shape `shape`.
            places_m: x and y of columns [m], shape (*columns, 2).
            heights_m: Of the cells [m], what broadcasts to (levels, *columns).

        Returns:
            The counts, shape (levels, *columns); 0 outside all boxes.
        """
        flat, inside = self.index(places_m[..., 1], places_m[..., 0])
        with np.errstate(invalid="ignore"):
            layer = np.floor((heights_m - self.corner_m[0]) / self.step_m[0])
            within = (layer >= 0) & (layer < self.shape[0])
        layer = np.where(within, layer, 0).astype(np.intp)
        found = counts.reshape(self.shape[0], -1)[layer, flat[None]]
        return np.where(within & inside, found, 0).astype(np.int32)


def describe(boxes: Boxes) -> str:
    """Return what the counts are, in words for users."""
    height, width, _ = boxes.step_m
    return (
        "Number of training rays (usable rays of views that are not held out) that cross the middle plane "
        f"of the box that holds the cell's centre; boxes are {width:.6g} m wide along x and y of the scene's "
        f"frame (a pixel) and {height:.6g} m high (1/{LAYERS} of the modelled atmosphere), whatever the "
        "cell's size."
    )


def count_rays(scene: Scene, boxes: Boxes) -> Counts:
    """Follow all training rays of a scene through the boxes, some views and lines at a time.

    Returns:
        The number of rays in each box, shape `boxes.shape`.
    """
    counts = np.zeros((boxes.shape[0], boxes.shape[1] * boxes.shape[2]), np.int32)
    middles = boxes.corner_m[0] + (np.arange(boxes.shape[0]) + 0.5) * boxes.step_m[0]
    views = np.flatnonzero(~scene.holdout)
    for rays in view_rays(scene, views, valid_pixels(scene, views)):
        path = paths_of(scene.frame, scene.top_height_m, *rays.rows[:-1]).path
        columns = np.ascontiguousarray(parabolas(path).reshape(-1, 9).T)
        for layer, middle in enumerate(middles):
            flat = _crossings(columns, np.float32(middle - scene.top_height_m), boxes)
            counts[layer] += np.bincount(flat, minlength=counts.shape[1]).astype(np.int32)
    return counts.reshape(boxes.shape)


def _crossings(path: NDArray[np.float32], drop_m: np.float32, boxes: Boxes) -> NDArray[np.int32]:
    """Return the positions, among the boxes of a layer, of parabolas (9, N) a drop below the top."""
    x0, x1, x2, y0, y1, y2, _, down, bend = path
    # The height of a path is all but straight: one step corrects it to metres along the steepest ray.
    s = drop_m / (down + bend * (drop_m / down))
    _, south, west = (np.float32(value) for value in boxes.corner_m)
    _, height, width = (np.float32(1.0 / value) for value in boxes.step_m)
    column = (x0 - west + s * (x1 + s * x2)) * width
    row = (y0 - south + s * (y1 + s * y2)) * height
    # What is beyond the ray's end is under ground.
    inside = (s <= 1) & (row >= 0) & (row < boxes.shape[1]) & (column >= 0) & (column < boxes.shape[2])
    return row[inside].astype(np.int32) * np.int32(boxes.shape[2]) + column[inside].astype(np.int32)
