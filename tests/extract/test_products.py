"""What an extract holds beside the extinction: ground, rays, edges, origin; and what a CF checker says."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from atmonr.errors import SceneError, UsageError
from atmonr.evaluate.extract_file import open_extract
from atmonr.extract.columns import RAY_COUNT, SURFACE, describe_columns, keep_columns
from atmonr.extract.merge import merge
from atmonr.extract.parts import Parts
from atmonr.extract.support import LAYERS, Boxes
from tests.extract.grids import PIXEL_M, TOP_M, extract, make, scene_of
from tests.store.dems import write_dem

CHECK = """
import socket, sys

def refuse(*_):
    raise OSError("no network in tests")

socket.socket.connect = refuse
socket.getaddrinfo = refuse
from compliance_checker.runner import CheckSuite, ComplianceChecker

report, *files = sys.argv[1:]
CheckSuite.load_all_available_checkers()
ComplianceChecker.run_checker(
    files, ["cf:1.11"], 0, "normal", output_filename=report, output_format=["json_new"]
)
"""
GROUND = {
    "source": "a hill",
    "datum": "WGS-84 ellipsoid",
    "standard_name": "height_above_reference_ellipsoid",
    "off_ellipsoid_m": 0.0,
}


def with_columns(path: Path, kind: str, source: dict, name: str = "cloud", place=(18.0, 179.98)) -> Parts:
    """An extraction over a hill that falls from the middle of the scene, with rays that grow northwards."""
    grid = make(kind, *place)
    scene = scene_of(grid.frame)
    parts = extract(path, grid, {**source, SURFACE: GROUND, RAY_COUNT: True}, scene, name)
    columns = tuple(slice(0, n) for n in grid.shape[1:])
    distance = np.linalg.norm(grid.places_m(columns), axis=-1)
    parts.keep(SURFACE, lambda: (1_200.0 - distance / 20).astype("f4"))
    rows = np.arange(Boxes.of(scene).shape[1], dtype=np.int32)
    parts.keep(RAY_COUNT, lambda: np.broadcast_to(rows[:, None], Boxes.of(scene).shape).copy())
    return parts


SOME_SLOW = [
    "voxel",
    "curtain",
    pytest.param("l1c", marks=pytest.mark.slow),
    pytest.param("global", marks=pytest.mark.slow),
]


@pytest.mark.parametrize("kind", SOME_SLOW)
def test_cells_under_ground_are_missing_and_the_file_says_where_that_is(kind, source, tmp_path):
    parts = with_columns(tmp_path / "parts.zarr", kind, source)
    with xr.load_dataset(merge([parts.path], tmp_path / "extract.nc")) as dataset:
        block = dataset.extinction.isel(band=0)
        ground = dataset.surface_altitude
        assert ground.dims == block.dims[1:] and ground.attrs["source"] == "a hill"
        assert ground.attrs["datum"] == "WGS-84 ellipsoid"
        altitude = dataset.z.broadcast_like(block).transpose(*block.dims)
        under = (altitude < ground).transpose(*block.dims).values
        present = block.notnull().values
        assert under.any() and not present[under].any()
        inside = present.any(0) & (altitude.values <= TOP_M) & (altitude.values >= -10.0)
        assert present[~under & inside].all()
        # Rays were made to grow by one with every box northwards.
        places = parts.grid.places_m(tuple(slice(0, n) for n in parts.grid.shape[1:]))
        box = np.floor((places[..., 1] - Boxes.of(scene_of(parts.grid.frame)).corner_m[1]) / PIXEL_M)
        counts = dataset.ray_count.values
        assert np.array_equal(counts[present], np.broadcast_to(box, counts.shape)[present])
        assert {"surface_altitude", "ray_count"} == set(block.attrs["ancillary_variables"].split())
        assert f"1/{LAYERS} of the modelled atmosphere" in dataset.ray_count.attrs["comment"]


@pytest.mark.slow
def test_a_cf_checker_finds_no_error_in_the_product_of_any_grid(python, source, tmp_path):
    pytest.importorskip("compliance_checker", reason="pip install 'atmonr[dev]'")
    files = []
    for kind in ("voxel", "l1c", "curtain", "global"):
        parts = [with_columns(tmp_path / f"{kind}.zarr", kind, source)]
        files.append(merge([p.path for p in parts], tmp_path / f"{kind}.nc"))
        if kind in ("voxel", "global"):
            parts.append(with_columns(tmp_path / f"{kind}2.zarr", kind, source, "b", (18.2, -179.9)))
            files.append(merge([p.path for p in parts], tmp_path / f"{kind} mosaic.nc"))
    done = python("-c", CHECK, str(tmp_path / "report.json"), *map(str, files))
    assert (tmp_path / "report.json").exists(), done.stderr
    reports = json.loads((tmp_path / "report.json").read_text())
    assert len(reports) == len(files)
    for file, report in reports.items():
        found = report["cf:1.11"]
        assert found["high_count"] == 0, (file, [r["msgs"] for r in found["high_priorities"] if r["msgs"]])
        assert found["scored_points"] > 50


def test_a_damaged_ground_is_found_and_made_anew(source, tmp_path):
    parts = with_columns(tmp_path / "parts.zarr", "curtain", source)
    (file,) = parts.path.glob("numbers/surface.*.npy")
    content = bytearray(file.read_bytes())
    content[-3] ^= 1
    file.write_bytes(content)
    with pytest.raises(SceneError, match=r"numbers/surface\.\w+\.npy: damaged; run the same atmonr extract"):
        merge([parts.path], tmp_path / "extract.nc")
    assert not (tmp_path / "extract.nc").exists()
    parts.keep(SURFACE, lambda: np.zeros(parts.grid.shape[1:], np.float32))
    merge([parts.path], tmp_path / "extract.nc")


def test_the_places_of_a_file_are_kept_and_checked(source, tmp_path):
    parts = extract(tmp_path / "parts.zarr", make("curtain", 0.0, 20.0), source, {})
    again = Parts.open(parts.path).grid
    assert again.digest == parts.grid.digest and again.inputs() == [{"file": "source.nc", "sha256": "f" * 64}]
    (file,) = parts.path.glob("numbers/track.*.npy")
    file.unlink()
    with pytest.raises(SceneError, match=r"has no file track\.\*\.npy"):
        merge([parts.path], tmp_path / "extract.nc")
    Parts.create_or_resume(parts.path, make("curtain", 0.0, 20.0), 4, parts.plan["source"])
    merge([parts.path], tmp_path / "extract.nc")


def test_an_elevation_model_is_the_ground_above_its_own_datum(source, tmp_path):
    grid = make("curtain", 18.0, -61.5)
    dem = write_dem(tmp_path / "dem.nc")
    described = describe_columns(None, dem)
    assert described[SURFACE]["off_ellipsoid_m"] > 0 and "sea level" in described[SURFACE]["datum"]
    parts = extract(tmp_path / "parts.zarr", grid, {**source, **described}, scene_of(grid.frame))
    keep_columns(parts, None, dem)
    with xr.load_dataset(merge([parts.path], tmp_path / "extract.nc")) as dataset:
        assert dataset.surface_altitude.attrs["standard_name"] == "height_above_mean_sea_level"
        inputs = json.loads(dataset.attrs["inputs"])
    assert [entry["file"] for entry in inputs] == ["G.nc", "source.nc", "dem.nc"]


@pytest.mark.parametrize("kind", SOME_SLOW[1:])
def test_a_truth_on_voxels_cannot_be_compared_with_another_grid(kind, source, tmp_path):
    parts = extract(tmp_path / "parts.zarr", make(kind, 0.0, 20.0), source, {})
    file = merge([parts.path], tmp_path / "extract.nc")
    with pytest.raises(SceneError, match=f"is on a {kind} grid; expected voxels"):
        open_extract(file)


@pytest.mark.parametrize("kinds", [("l1c", "l1c"), ("voxel", "global")])
def test_grids_that_no_mosaic_is_made_of_are_refused(kinds, source, tmp_path):
    parts = [
        extract(tmp_path / f"{i}.zarr", make(kind, 0.0, 20.0), source, {}, name)
        for i, (kind, name) in enumerate(zip(kinds, "ab", strict=True))
    ]
    with pytest.raises(UsageError, match=r"no mosaic is made of|expected all on one kind of grid"):
        merge([p.path for p in parts], tmp_path / "extract.nc")


def test_the_image_that_made_a_product_is_told(monkeypatch, source, tmp_path):
    monkeypatch.setenv("APPTAINER_CONTAINER", "/images/atmonr.sif")
    parts = extract(tmp_path / "parts.zarr", make("curtain", 0.0, 20.0), source, {})
    with xr.open_dataset(merge([parts.path], tmp_path / "extract.nc")) as dataset:
        assert dataset.attrs["container_image"] == "atmonr.sif"
        assert dataset.attrs["code_version"]
        first, last = dataset.time_bounds.values
        assert first == dataset.time.values and (last - first) == np.timedelta64(300, "s")
