"""A scene on disk, opened for reading: checked at the door, read piece by piece."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import zarr
from numpy.typing import NDArray

from atmonr.errors import SceneError
from atmonr.geo.frame import Frame
from atmonr.scene_info import check_scene_info
from atmonr.store.layout import (
    FORMAT_ATTRIBUTE,
    FORMAT_VERSION,
    REQUIRED,
    VIEW_VARIABLES,
    count_shards,
)
from atmonr.store.plain_files import Place, holds_plain_images, read_plain_images

if TYPE_CHECKING:
    import xarray as xr

_ALL = slice(None)
_REMEDY = "ingest the granule again"
_WHOLE = ("valid", "band", "holdout")
# How Zarr and its codecs fail on files that are damaged or strange.
_DAMAGE = (OSError, RuntimeError, ValueError, TypeError, KeyError, AttributeError, IndexError, OverflowError)


@dataclass(frozen=True)
class Scene:
    """One scene; see `open_scene`.

    Attributes:
        path: the folder.
        group: the open Zarr group.
        frame: local frame, with the box that holds every ray.
        top_height_m: height above the ellipsoid at which rays start [m].
        pixel_m: median distance of neighbouring pixels of the view nearest to nadir [m].
        footprint_m: x0, y0, x1, y1 of that view's pixels in the frame [m].
        scene_id: SHA-256 of what determines the content; equal for equal scenes wherever they lie.
        sun_direction: coefficients for `atmonr.geo.sun.sun_direction`.
        provenance: source, its checksum and size, version of the code, options, notes.
        outline_m: x, y of the corners of a convex line around that footprint, counterclockwise [m]; may be
            empty.
    """

    path: Path
    group: zarr.Group
    frame: Frame
    top_height_m: float
    pixel_m: float
    footprint_m: tuple[float, float, float, float]
    scene_id: str
    sun_direction: list[list[float]]
    provenance: dict[str, Any]
    outline_m: list[list[float]]

    @property
    def name(self) -> str:
        """The folder's name without its suffix."""
        return self.path.stem

    @property
    def granule(self) -> str:
        """Name of the granule that the scene was made from."""
        return str(self.group.attrs["granule"])

    @cached_property
    def shape(self) -> tuple[int, int, int]:
        """Number of views, lines and pixels."""
        views, lines, pixels = self._array("valid").shape
        return views, lines, pixels

    @cached_property
    def wavelengths_nm(self) -> NDArray[np.float32]:
        """(B,) wavelengths of the bands, ascending [nm]."""
        return self.read("band_wavelength_nm")

    @cached_property
    def view_band(self) -> NDArray[np.int8]:
        """(V,) index of each view's band."""
        return self.read("band")

    @cached_property
    def view_angle_deg(self) -> NDArray[np.float32]:
        """(V,) angle of each view from nadir at the instrument, positive forward [degrees]."""
        return self.read("view_angle_deg")

    @cached_property
    def holdout(self) -> NDArray[np.bool_]:
        """(V,) whether a view is kept from training."""
        return self.read("holdout").astype(bool)

    @cached_property
    def training_rays(self) -> int:
        """Number of usable rays in the views that are not held out."""
        if "training_rays" in self.group.attrs:
            return int(str(self.group.attrs["training_rays"]))
        # Scenes of earlier versions do not tell.
        return int(np.count_nonzero(self.read("valid")[~self.holdout]))

    @cached_property
    def dataset(self) -> xr.Dataset:
        """The whole scene as a lazy xarray Dataset."""
        import xarray as xr  # takes longer to import than a scene to open, and few ask for this

        return xr.open_zarr(self.path, chunks=None)

    def has(self, name: str) -> bool:
        """Whether the scene has a variable, for those of `OPTIONAL_QUANTITIES` that not every file gives."""
        return name in self.group

    def read(self, name: str, lines: slice = _ALL, pixels: slice = _ALL, views: slice = _ALL) -> NDArray[Any]:
        """Read a variable, or a part of it; only the chunks that are needed are read.

        Args:
            name: a variable of the scene.
            lines: which lines, of variables that have them.
            pixels: which pixels, likewise.
            views: which views, likewise; one-dimensional variables are read whole.

        Returns:
            The stored values, bit for bit: (view, line, pixel), (view, line) or one-dimensional.

        Raises:
            SceneError: there is no such variable, or its file is damaged.
        """
        array = self._array(name)
        index = (views, lines, pixels)[: array.ndim] if array.ndim > 1 else _ALL
        try:
            return np.asarray(array[index])
        except _DAMAGE as error:
            raise SceneError(f"{self.path}: cannot read {name} ({error}); {_REMEDY}") from error

    def read_views(self, name: str, wanted: Mapping[int, Place]) -> None:
        """Read values of chosen views to where they are wanted.

        Args:
            name: a variable (view, line, pixel).
            wanted: by view, at least one, all of one type.

        Raises:
            SceneError: there is no such variable, or its file is damaged; the values are then undefined.
        """
        array = self._array(name)
        try:
            if holds_plain_images(array, next(iter(wanted.values())).values.dtype):
                read_plain_images(self.path / name, array, wanted)
                return
            first = min(wanted)
            images = np.asarray(array[first : max(wanted) + 1])
            for view, place in wanted.items():
                place.fill(images[view - first])
        except _DAMAGE as error:
            raise SceneError(f"{self.path}: cannot read {name} ({error}); {_REMEDY}") from error

    def views_together(self, name: str) -> int:
        """How many views of a variable lie in one chunk, and are read together."""
        return self._array(name).chunks[0]

    @cached_property
    def _arrays(self) -> dict[str, zarr.Array[Any]]:
        """Those that were asked for: to open one takes as long as to read some megabytes."""
        return {}

    def _array(self, name: str) -> zarr.Array[Any]:
        if name in self._arrays:
            return self._arrays[name]
        try:
            array = self.group.get(name)
        except _DAMAGE as error:
            raise SceneError(f"{self.path}: {name} has damaged metadata ({error}); {_REMEDY}") from error
        if not isinstance(array, zarr.Array):
            known = ", ".join(sorted(self.group.array_keys()))
            raise SceneError(f"{self.path}: has no variable {name!r}; expected one of {known}")
        self._arrays[name] = array
        return array


def open_scene(path: Path | str) -> Scene:
    """Open a scene that `atmonr.store.ingest.ingest` wrote.

    Raises:
        SceneError: the folder is not a scene, is of another format version, or is incomplete.
    """
    path = Path(path)
    if not (path / "zarr.json").is_file():
        raise SceneError(
            f"{path}: is not a scene (no zarr.json); expected a folder written by 'atmonr ingest'"
        )
    try:
        group = zarr.open_group(path, mode="r", zarr_format=3)
        version = group.attrs.get(FORMAT_ATTRIBUTE)
    except _DAMAGE as error:
        raise SceneError(f"{path}: not readable as Zarr v3 ({error}); {_REMEDY}") from error
    if version != FORMAT_VERSION:
        raise SceneError(
            f"{path}: {FORMAT_ATTRIBUTE} is {version!r}; expected {FORMAT_VERSION}, a scene of this version:"
            f" {_REMEDY}"
        )
    try:
        scene = _from_attributes(path, group)
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise SceneError(f"{path}: attributes are damaged ({error}); {_REMEDY}") from error
    _check_arrays(scene)
    return scene


def _from_attributes(path: Path, group: zarr.Group) -> Scene:
    attributes: dict[str, Any] = dict(group.attrs)
    x0, y0, x1, y1 = (float(value) for value in attributes["footprint_m"])
    sun, provenance = json.loads(attributes["sun_direction"]), json.loads(attributes["provenance"])
    rays = {"rays": attributes["training_rays"]} if "training_rays" in attributes else {}
    outline = np.reshape(attributes.get("outline_m", []), (-1, 2)).astype(float).tolist()
    told = {**attributes, **rays, "sun": sun, "provenance": provenance, "outline_m": outline}
    check_scene_info({**told, "granule": attributes["granule"]})
    return Scene(
        path=path,
        group=group,
        frame=Frame.from_json(json.loads(attributes["frame"])),
        top_height_m=float(attributes["top_height_m"]),
        pixel_m=float(attributes["pixel_m"]),
        footprint_m=(x0, y0, x1, y1),
        scene_id=str(attributes["scene_id"]),
        sun_direction=sun,
        provenance=provenance,
        outline_m=outline,
    )


def _check_arrays(scene: Scene) -> None:
    """Every variable is there with the right shape and all its files (Zarr reads a lost one as fill)."""
    if len(scene._array("valid").shape) != 3:
        raise SceneError(f"{scene.path}: valid has no shape of (view, line, pixel); {_REMEDY}")
    bands = scene._array("band_wavelength_nm").shape[:1]
    for name in REQUIRED:
        array = scene._array(name)
        expected: tuple[int, ...] = scene.shape[:1] if name in VIEW_VARIABLES else scene.shape
        expected = bands if name == "band_wavelength_nm" else expected
        if array.shape != expected:
            raise SceneError(
                f"{scene.path}: {name} has the shape {array.shape}; expected {expected}: {_REMEDY}"
            )
        if array.dtype.kind not in ("biu" if name in _WHOLE else "f"):
            raise SceneError(f"{scene.path}: {name} has the type {array.dtype}; expected another: {_REMEDY}")
        files = sum(file.is_file() for file in (scene.path / name / "c").rglob("*"))
        if files != count_shards(array):
            raise SceneError(
                f"{scene.path}: {name} has {files} of its {count_shards(array)} files; expected a complete"
                f" scene: {_REMEDY}"
            )
    wavelengths, band = scene.wavelengths_nm, scene.view_band
    if (
        not (np.isfinite(wavelengths) & (wavelengths > 0.0)).all()
        or not np.isfinite(scene.view_angle_deg).all()
    ):
        raise SceneError(f"{scene.path}: a band or view has no wavelength or angle; {_REMEDY}")
    if not ((band >= 0) & (band < len(wavelengths))).all():
        raise SceneError(f"{scene.path}: band has values that name no band; {_REMEDY}")
