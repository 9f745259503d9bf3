"""Every reader under attack: tiny valid inputs, and what the command that reads them calls.

To add one, write a function that makes inputs and one that reads them, and add a row to `READERS`. An input
is a folder, whether its reader takes one file or many.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import netCDF4
import numpy as np
import torch
import xarray as xr

from atmonr.config import Config, load
from atmonr.evaluate.session import evaluate
from atmonr.extract.grids.choose import GridRequest
from atmonr.extract.grids.voxel import VoxelGrid
from atmonr.extract.merge import merge
from atmonr.extract.parts import Parts
from atmonr.extract.session import extract
from atmonr.feed.rays import load_rays
from atmonr.fields.build import build_field
from atmonr.fields.setting import Setting
from atmonr.geo.frame import Frame
from atmonr.run import Run
from atmonr.sensors.harp2 import open_harp2
from atmonr.store.dem import Dem
from atmonr.store.ingest import ingest
from atmonr.store.scene import open_scene
from atmonr.tasks.recipe import describe
from atmonr.train.plan import survey
from tests.sensors.earthcare_files import NAME as PROFILES_NAME
from tests.sensors.earthcare_files import make_variables, write_frame
from tests.sensors.granules import NAME, Layout, make_fields, write_granule
from tests.store.dems import write_dem

Make = Callable[[Path], None]
Read = Callable[[Path, Path], None]


@dataclass(frozen=True)
class Reader:
    """A row.

    Attributes:
        cases: Its share of the suite.
        cost_ms: About what a case takes; those that take longest together are begun first.
        make: Writes valid inputs, each in a folder of its own, into a folder.
        read: Reads the input in the first folder as commands do; may write into the second.
    """

    cases: int
    cost_ms: float
    make: Make
    read: Read


FRAME = Frame(18.0, -61.5, (-9000.0, -9000.0, 0.0), (9000.0, 9000.0, 20_000.0))
SCENE, SCENE_ID = "cloud", "5" * 64
IDENTITY = {
    "config_sha256": "c" * 64,
    "scene": SCENE,
    "scene_id": SCENE_ID,
    "checkpoint": "step-00000002.pt",
    "checkpoint_sha256": "k" * 64,
}
INFO = {
    "name": SCENE,
    "scene_id": SCENE_ID,
    "granule": "G",
    "frame": FRAME.to_json(),
    "footprint_m": [-4000.0, -4000.0, 4000.0, 4000.0],
    "outline_m": [],
    "top_height_m": 20_000.0,
    "pixel_m": 4000.0,
    "wavelengths_nm": [441.0, 549.0, 669.0, 873.0],
    "sun": [[0.5], [0.5], [0.7]],
    "rays": 100,
    "time_coverage_start": "2025-06-05T16:13:56+00:00",
    "time_coverage_end": "2025-06-05T16:18:56+00:00",
    "provenance": {"source": "G.nc", "source_sha256": "g" * 64},
}
SMALL = {
    "field": {
        "method": "instant_ngp",
        "levels": 1,
        "log2_table_size": 8,
        "hidden_width": 4,
        "coarsest_cell_pixels": 2.0,
    },
    "surface": {"levels": 1, "log2_table_size": 8},
}


# -- HARP2 granules ----------------------------------------------------------------------------------------


def make_granules(folder: Path) -> None:
    layouts = {"plain": Layout(), "packed": Layout(packed=True), "early": Layout(early=True)}
    for name, layout in layouts.items():
        (folder / name).mkdir()
        whole = write_granule(folder / "whole.nc", make_fields((4, 3)), layout)
        thin(whole, folder / name / NAME)
        whole.unlink()


def thin(source: Path, target: Path) -> None:
    """Copy a granule with eight of its views, two of each band."""
    some = [4, 5, 25, 40, 73, 75, 84, 85]
    with netCDF4.Dataset(source) as old, netCDF4.Dataset(target, "w") as new:
        new.setncatts(old.__dict__)
        for name, dimension in old.dimensions.items():
            new.createDimension(name, len(some) if name == "views" else len(dimension))
        for group in old.groups.values():
            for variable in group.variables.values():
                attributes = dict(variable.__dict__)
                fill = attributes.pop("_FillValue", None)
                path = f"{group.name}/{variable.name}"
                copy = new.createVariable(path, variable.dtype, variable.dimensions, fill_value=fill)
                copy.setncatts(attributes)
                for either in (variable, copy):
                    either.set_auto_maskandscale(False)
                copy[:] = variable[:][some] if variable.dimensions[0] == "views" else variable[:]


def read_granule(case: Path, out: Path) -> None:
    with open_harp2(case / NAME) as granule:
        granule.read_lines(slice(0, granule.shape[1]))


def ingest_granule(case: Path, out: Path) -> None:
    with open_harp2(case / NAME) as granule:
        ingest(granule, out / "scene.zarr")


# -- elevation models and lidar profiles -------------------------------------------------------------------


def make_dems(folder: Path) -> None:
    for name, options in (("nodes", {}), ("cells", {"cells": True, "with_latitudes": True})):
        (folder / name).mkdir()
        write_dem(folder / name / "dem.nc", step_deg=10.0, **options)


def read_dem(case: Path, out: Path) -> None:
    with Dem.open(case / "dem.nc") as dem:
        dem.height_m(np.array([[-90.0, -12.3], [18.0, 90.0]]), np.array([[-180.0, 179.9], [0.0, 360.0]]))


def make_frames(folder: Path) -> None:
    variables = make_variables(5, 6, latitude=17.98)
    for name, options in (("whole", {}), ("bare", {"omit": ("elevation", "land_flag"), "file_type": None})):
        (folder / name).mkdir()
        write_frame(folder / name / PROFILES_NAME, variables, **options)
        make_extract(folder / name / "extract.nc")


def read_frame(case: Path, out: Path) -> None:
    frame = case / PROFILES_NAME
    evaluate(
        case / "extract.nc", truth=None, run=None, earthcare=frame, out=out / "score.json", pictures=None
    )


# -- scenes ------------------------------------------------------------------------------------------------


def make_scenes(folder: Path) -> None:
    make_granules(folder)
    for name in ("plain", "packed", "early"):
        granule = folder / name / NAME
        with open_harp2(granule) as opened:
            ingest(opened, folder / name / "cloud.zarr")
        granule.unlink()


def read_scene(case: Path, out: Path) -> None:
    path = case / "cloud.zarr"
    Setting.from_json(describe(path))
    scene = open_scene(path)
    load_rays(scene, np.flatnonzero(~scene.holdout), torch.device("cpu"))
    for name in ("q", "u", "time"):
        if scene.has(name):
            scene.read(name)


# -- truth and extract -------------------------------------------------------------------------------------


def make_truth(path: Path) -> None:
    columns = np.meshgrid((np.arange(3) - 1) * 2000.0, (np.arange(4) - 1.5) * 2000.0, indexing="ij")
    latitude, longitude, _ = FRAME.to_geodetic(np.stack([*columns, 0.0 * columns[0]], -1))
    extinction = np.zeros((3, 4, 2), np.float32)
    extinction[1, 1:3] = 0.01
    variables = {
        "latitude": (("x", "y"), latitude),
        "longitude": (("x", "y"), longitude),
        "altitude": (("altitude",), np.array([1000.0, 3000.0])),
        "extinction_coefficient": (("x", "y", "altitude"), extinction),
    }
    xr.Dataset(variables, attrs={"wavelength_nm": 670.0}).to_netcdf(path)


def make_extract(path: Path, bands: int = 1) -> None:
    parts = path.with_name("parts")
    make_extraction(parts, bands)
    merge([parts], path)
    shutil.rmtree(parts)


def make_pairs(folder: Path) -> None:
    for name, bands in (("shared", 1), ("per_band", 4)):
        (folder / name).mkdir()
        make_extract(folder / name / "extract.nc", bands)
        make_truth(folder / name / "truth.nc")


def read_pair(case: Path, out: Path) -> None:
    evaluate(case / "extract.nc", truth=case / "truth.nc", run=None, out=out / "score.json", pictures=None)


# -- an extraction -----------------------------------------------------------------------------------------


def make_extraction(path: Path, bands: int = 1, columns: int = 4) -> None:
    """Write finished parts of a grid of 3 levels."""
    grid = VoxelGrid(FRAME, (1000.0, -3000.0, -3000.0), (2000.0,) * 3, (3, 4, columns))
    source = {
        "identity": IDENTITY,
        "scene": INFO,
        "config_toml": Config.model_validate(SMALL).toml(),
        "atmonr_version": "0.1.0",
    }
    parts = Parts.create_or_resume(path, grid, bands, source)
    for shard in parts.shards:
        shape = [stop - start for start, stop in zip(shard.start, shard.stop, strict=True)]
        parts.write(shard, np.full((bands, *shape), 0.01, np.float32))


def make_extractions(folder: Path) -> None:
    for name, bands, columns in (("shared", 1, 4), ("per_band", 4, 4), ("two_shards", 1, 40)):
        make_extraction(folder / name / "parts.zarr", bands, columns)


def read_extraction(case: Path, out: Path) -> None:
    merge([case / "parts.zarr"], out / "extract.nc")


# -- a run folder ------------------------------------------------------------------------------------------


def make_runs(folder: Path) -> None:
    config = Config.model_validate(SMALL)
    case = folder / "trained"
    run = Run.create(case / "run", config, {SCENE: INFO}, {"atmonr": "0.1.0"})
    field = build_field(config, Setting.from_json(INFO))
    torch.save({"module": field.state_dict(), "step": 2}, run.checkpoint(SCENE, 2))
    run.latest(SCENE).write_text("step-00000002.pt\n")
    for step in (1, 2):
        run.append_metrics(SCENE, {"step": step, "loss": 1.0 / step, "wall_s": 2.0 * step})
    run.heldout(SCENE).write_text(json.dumps({"psnr": 30.0}))
    run.mark_done(SCENE, {"steps": 2, "wall_s": 4.0})
    run.mark_failed(SCENE, {"error": "DivergedError", "step": 1})
    make_extract(case / "extract.nc")


def read_run(case: Path, out: Path) -> None:
    run = Run.open(case / "run")
    assert isinstance(run.provenance, dict)
    survey(run.config, [Path(SCENE)], [INFO], run)
    evaluate(case / "extract.nc", truth=None, run=run.path, out=out / "score.json", pictures=None)
    (out / "score.json").unlink()
    extract(run.path, out / "parts.zarr", grid=GridRequest(max_height_m=2000.0), quiet=True)


# -- configs -----------------------------------------------------------------------------------------------


def make_configs(folder: Path) -> None:
    for source in sorted((Path(__file__).parents[2] / "configs").glob("*.toml")):
        case = folder / source.stem
        case.mkdir()
        (case / "config.toml").write_bytes(source.read_bytes())
        (case / "set.txt").write_text('train.steps=7\nfield.hidden_width = 16\ntrack.uri="off"\n')


def read_config(case: Path, out: Path) -> None:
    file = case / "set.txt"
    text = file.read_text(encoding="utf-8", errors="surrogateescape") if file.is_file() else ""
    overrides = text.split("\n")
    config = load(case / "config.toml", [text for text in overrides if text])
    assert isinstance(config.digest, str)
    (out / "run.toml").write_text(config.toml(), encoding="utf-8")
    assert load(out / "run.toml") == config


READERS = {
    "harp2": Reader(600, 15.0, make_granules, read_granule),
    "harp2_ingest": Reader(40, 60.0, make_granules, ingest_granule),
    "dem": Reader(3000, 5.0, make_dems, read_dem),
    "earthcare": Reader(250, 35.0, make_frames, read_frame),
    "scene": Reader(100, 45.0, make_scenes, read_scene),
    "truth_and_extract": Reader(300, 25.0, make_pairs, read_pair),
    "extraction": Reader(500, 12.0, make_extractions, read_extraction),
    "run": Reader(200, 25.0, make_runs, read_run),
    "config": Reader(5100, 3.0, make_configs, read_config),
}
