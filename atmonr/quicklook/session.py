"""`atmonr quicklook`: finds out what a file is, and draws what is worth a look."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import netCDF4

from atmonr.errors import ResumeError, SceneError, UsageError
from atmonr.evaluate.extract_file import open_extract
from atmonr.evaluate.overview import read_overview
from atmonr.evaluate.pictures import known_cloud, loss_curve
from atmonr.evaluate.truth import read_truth
from atmonr.quicklook.columns import draw_columns
from atmonr.quicklook.curtain import draw_curtain
from atmonr.quicklook.granule import true_colour, view_angles
from atmonr.quicklook.views import Views, granule_views, scene_views
from atmonr.quicklook.volume import draw_extract
from atmonr.run import Run
from atmonr.sensors.harp2 import open_harp2
from atmonr.store.scene import open_scene

# The band of which HARP2 has most views.
WAVELENGTH_NM = 669.0
FILMS = (".gif", ".mp4")
# Sections of so many cells show all that a picture of this size can.
_CELLS = 8_000_000
_EXPECTED = "a HARP2 granule, a scene, a run, or an extract, curtain or truth file"

Progress = Callable[[int, int], None]


def quicklook(path: Path, out: Path, progress: Progress | None = None) -> None:
    """Draw one picture of a file, or a film if `out` is named like one.

    Args:
        path: HARP2 granule, scene folder, run folder, extract, curtain or truth file.
        out: PNG to make; of a granule or scene also GIF or MP4, which then shows the angles of view.
        progress: Called with the number of finished frames of a film and of all.

    Raises:
        UsageError: If `out` exists, is of another kind, or is a film of something that has no views.
        SceneError: If the file is of no known kind, or not as its kind should be.
        GranuleError: If a granule cannot be read.
        StoreError: If the picture cannot be written.
    """
    if out.exists():
        raise UsageError(f"{out}: exists already; choose another name or remove it first")
    film = out.suffix.lower() in FILMS
    if not film and out.suffix.lower() != ".png":
        raise UsageError(f"{out}: expected a name that ends in .png, {' or '.join(FILMS)}")
    kind = kind_of(path)
    if film and kind not in ("granule", "scene"):
        raise UsageError(
            f"{path}: this kind of file ({kind}) has no views to show one by one; expected a .png"
        )
    if kind == "granule":
        with open_harp2(path) as granule:
            _draw_views(granule_views(granule), out, film, progress)
    elif kind == "scene":
        _draw_views(scene_views(open_scene(path)), out, film, progress)
    elif kind == "run":
        _draw_run(path, out)
    elif kind == "extract":
        draw_extract(read_overview(open_extract(path), WAVELENGTH_NM, _CELLS), out)
    elif kind == "columns":
        draw_columns(path, out, WAVELENGTH_NM)
    elif kind == "curtain":
        draw_curtain(path, out, WAVELENGTH_NM)
    else:
        known_cloud(read_truth(path), out)


def kind_of(path: Path) -> str:
    """Return what a file or folder says it is: granule, scene, run, extract, columns, curtain or truth.

    Columns are an extract on latitude and longitude or on the bins of a Level-1C file.

    Raises:
        SceneError: If it is none of them.
    """
    if path.is_dir():
        return "scene" if (path / "zarr.json").is_file() else "run"
    if not path.is_file():
        raise SceneError(f"{path}: no such file; expected {_EXPECTED}")
    try:
        with netCDF4.Dataset(path) as dataset:
            return _kind_of_netcdf(path, dataset)
    except (OSError, RuntimeError) as error:
        raise SceneError(f"{path}: not readable as netCDF-4; expected {_EXPECTED}") from error


def _kind_of_netcdf(path: Path, dataset: netCDF4.Dataset) -> str:
    title, instrument = (str(getattr(dataset, name, "")) for name in ("title", "instrument"))
    if "harp2 level-1" in title.lower() or instrument.upper() == "HARP2":
        return "granule"
    if "extinction_coefficient" in dataset.variables:
        return "truth"
    if "extinction" in dataset.variables:
        dims = set(dataset["extinction"].dimensions)
        if dims >= {"z", "y", "x"}:
            return "extract"
        if dims >= {"level", "profile"}:
            return "curtain"
        if "z" in dims and len(dims - {"band"}) == 3:
            return "columns"
        raise SceneError(
            f"{path}: variable extinction: dimensions {tuple(sorted(dims))}; expected z and two"
            " horizontal ones, or those of a curtain (level, profile)"
        )
    raise SceneError(
        f"{path}: title is {title[:80]!r} and there is no variable extinction; expected {_EXPECTED}"
    )


def _draw_views(source: Views, out: Path, film: bool, progress: Progress | None) -> None:
    if film:
        view_angles(source, out, progress)
    else:
        true_colour(source, out)


def _draw_run(path: Path, out: Path) -> None:
    """The course of the loss of a run's only scene."""
    try:
        run = Run.open(path)
    except ResumeError as error:
        raise SceneError(
            f"{path}: is a folder, but neither a scene nor a run; expected {_EXPECTED}"
        ) from error
    scenes = run.scene_names
    if len(scenes) != 1:
        raise SceneError(f"{path}: is a run of {len(scenes)} scenes; expected one: see `atmonr evaluate`")
    records = run.read_metrics(scenes[0])
    if not records:
        raise SceneError(f"{path}: nothing has been trained yet; expected metrics of scene {scenes[0]}")
    loss_curve(records, out)
