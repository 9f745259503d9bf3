from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import netCDF4
import numpy as np
import pytest
import torch
import xarray as xr
from scipy.ndimage import binary_erosion

from atmonr.errors import SceneError, UsageError
from atmonr.evaluate.extract_file import open_extract
from atmonr.evaluate.session import _scene_of, evaluate
from atmonr.extract.merge import merge
from atmonr.extract.parts import Parts
from atmonr.extract.session import fill
from atmonr.geo.frame import Frame
from atmonr.run import Run

CPU = torch.device("cpu")
STEP_M = 200.0
DEGREE_M = 111_000.0
PLACES = {
    "equator": (0.0, 20.0),
    "60 north": (60.0, -20.0),
    "35 south": (-35.0, 100.0),
    "dateline": (18.0, 180.0),
    "longitude 90": (18.0, 90.0),
    "longitude -90": (-18.0, -90.0),
    "north pole": (90.0, 0.0),
    "south pole": (-90.0, 0.0),
}


@pytest.fixture
def make_scene(tmp_path: Path, make_grid, known_field, source) -> Callable[..., Parts]:
    """Extract a function of frame and frame coordinates around a place."""

    def make(name, function, latitude=18.0, longitude=-61.5, *, bands=1, scene=None, **options) -> Parts:
        grid = make_grid(latitude, longitude, **({"top_m": 500.0} | options))
        identity = {"scene": name, "scene_id": hashlib.sha256(name.encode()).hexdigest()}
        scene = {"granule": f"G.{name}", **(scene or {})}
        described = {
            **source,
            "identity": {**source["identity"], **identity},
            "scene": {**source["scene"], **scene},
        }
        parts = Parts.create_or_resume(tmp_path / f"{name}.zarr", grid, bands, described)
        field = known_field(lambda points: function(grid.frame, points), bands)
        fill(parts, field, CPU, parts.shards)
        return parts

    return make


@pytest.fixture
def mosaic(tmp_path: Path) -> Callable[..., xr.Dataset]:
    def make(*parts: Parts, **steps) -> xr.Dataset:
        out = tmp_path / f"mosaic{len(list(tmp_path.glob('*.nc')))}.nc"
        return xr.load_dataset(merge([p.path for p in parts], out, **steps))

    return make


def constant(value: float) -> Callable[[Frame, np.ndarray], np.ndarray]:
    return lambda frame, points: np.full(len(points), value)


def beside(latitude: float, longitude: float, x_m: float, y_m: float) -> tuple[float, float]:
    """The place some metres east and north of another."""
    frame = Frame(latitude, longitude, (-1.0, -1.0, 0.0), (1.0, 1.0, 1.0))
    lat, lon, _ = frame.to_geodetic(np.array([x_m, y_m, 0.0]))
    return float(lat), float(lon)


def pair(make_scene: Callable[..., Parts], apart_m: float = 6_000.0) -> list[Parts]:
    """Two scenes of 13 km, one of ones and one of twos."""
    place = beside(18.0, -61.5, apart_m, 0.0)
    return [make_scene("a", constant(1.0)), make_scene("b", constant(2.0), *place)]


def inner(dataset: xr.Dataset) -> np.ndarray:
    """Columns (y, x) away from the outer edge, where values are constant over half a cell."""
    present = (dataset.contributing_granules > 0).all("z").values
    return binary_erosion(present, np.ones((3, 3)), iterations=2)


QUANTITIES = {
    # Relative to whole degrees nearby, because single precision keeps metres of them only.
    "latitude": (lambda lat, lon, height: (lat + 91.5) % 2 + 1.0, 1 / DEGREE_M),
    "altitude": (lambda lat, lon, height: height, 1.0),
    # Longitude jumps at the dateline and means nothing at a pole; these two together do not.
    "cosine": (lambda lat, lon, height: 2 + np.cos(np.radians(lat)) * np.cos(np.radians(lon)), 1 / 6.4e6),
    "sine": (lambda lat, lon, height: 2 + np.cos(np.radians(lat)) * np.sin(np.radians(lon)), 1 / 6.4e6),
}


@pytest.mark.parametrize("place", PLACES)
def test_fields_equal_to_a_coordinate_come_back_equal_to_that_coordinate(make_scene, mosaic, place):
    for name, (function, per_metre) in QUANTITIES.items():
        scenes = [
            make_scene(f"{name}{i}", lambda f, p, q=function: q(*f.to_geodetic(p)), *at, half_m=4_500.0)
            for i, at in enumerate((PLACES[place], beside(*PLACES[place], 5_300.0, -3_100.0)))
        ]
        dataset = mosaic(*scenes)
        lat, lon = (dataset[c].values[None] for c in ("latitude", "longitude"))
        expected = function(lat, lon, dataset.z.values[:, None, None])
        error_m = np.abs(dataset.extinction.values - expected) / per_metre
        present = dataset.contributing_granules.values > 0
        assert present.mean() > 0.5
        if name == "latitude":
            # Latitude has a kink at the pole itself: its curvature is one over the distance.
            present &= np.abs(lat) < 90 - 12 * STEP_M / DEGREE_M
        assert np.isfinite(dataset.extinction.values).sum() == (dataset.contributing_granules > 0).sum()
        assert error_m[present].max() < 0.75 * STEP_M, name
        assert error_m[present & inner(dataset)].max() < 0.02 * STEP_M, name


def test_scenes_on_one_lattice_are_copied_bit_for_bit(make_scene, mosaic, wave_field):
    boxes = {"west": (-61.56, 17.95, -61.49, 18.04), "east": (-61.51, 17.96, -61.45, 18.05)}
    scenes = {
        name: make_scene(name, lambda f, p: wave_field.function(p), bbox_deg=box)
        for name, box in boxes.items()
    }
    dataset = mosaic(*scenes.values())
    assert dataset.sizes["x"] > max(parts.grid.shape[2] for parts in scenes.values())
    x = dataset.x.values
    assert np.diff(x) == pytest.approx(STEP_M, abs=1e-9)
    for bit, parts in enumerate(sorted(scenes.values(), key=lambda parts: _id(parts.path.stem))):
        alone = (dataset.contributing_granules == 1 << bit).values
        own = xr.load_dataset(merge([parts.path], parts.path.with_suffix(".nc")))
        aligned = own.extinction.reindex_like(dataset, method="nearest", tolerance=1e-6).values
        assert alone.any() and np.array_equal(dataset.extinction.values[alone], aligned[alone])
    # Where both have the same value, so has the mosaic.
    both = (dataset.contributing_granules == 3).values
    own = own.extinction.reindex_like(dataset, method="nearest", tolerance=1e-6).values
    np.testing.assert_allclose(dataset.extinction.values[both], own[both], rtol=2e-7)


def _id(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()


def test_one_scene_fades_into_the_other_without_a_seam(make_scene, mosaic):
    scenes = [
        make_scene("a", constant(1.0)),
        make_scene("b", constant(2.0), *beside(18.0, -61.5, 6_000.0, 0.0)),
    ]
    dataset = mosaic(*scenes)
    middle = dataset.extinction.isel(z=0, y=dataset.sizes["y"] // 2).values
    middle = middle[np.isfinite(middle)]
    overlap_m = 13_000.0 - 6_000.0
    assert middle[3] == 1.0 and middle[-4] == 2.0
    assert (np.diff(middle) >= -1e-6).all()
    # The weight d^2 / (d^2 + (w - d)^2) is never steeper than 2 / w.
    assert np.diff(middle).max() < 2.05 * STEP_M / overlap_m
    # At the edge of a scene, in the middle of the other, it begins and ends flat.
    inside = np.flatnonzero((middle > 1) & (middle < 2))
    assert middle[inside[0]] - 1 < 2e-3 and 2 - middle[inside[-1]] < 2e-3
    assert middle[(inside[0] + inside[-1]) // 2] == pytest.approx(1.5, abs=0.03)


def test_a_scene_counts_only_where_its_images_looked(make_scene, mosaic):
    """A swath that crosses the axes: the corners of its box are outside."""
    swath = {"outline_m": [[-6e3, -3e3], [3e3, -6e3], [6e3, 3e3], [-3e3, 6e3]], "pixel_m": 1.0}
    scenes = [make_scene("swath", constant(1.0), scene=swath), pair(make_scene)[1]]
    dataset = mosaic(*scenes)
    frame = scenes[0].grid.frame
    x, y, _ = np.moveaxis(frame.from_geodetic(dataset.latitude.values, dataset.longitude.values), -1, 0)
    bit = dataset.contributing_granules.attrs["flag_meanings"].split().index("G.swath")
    counted = (dataset.contributing_granules.isel(z=0).values >> bit) & 1
    assert not counted[(np.abs(x) > 5_900) & (np.abs(y) > 3_200)].any()
    assert counted[(np.abs(x) < 3_000) & (np.abs(y) < 3_000)].all()
    area_m2 = counted.sum() * STEP_M**2
    assert area_m2 == pytest.approx(90e6, rel=0.02)


def test_every_cell_tells_its_granules(make_scene, mosaic):
    scenes = [
        make_scene("a b", constant(1.0), top_m=400.0),
        make_scene("c", constant(2.0), *beside(18.0, -61.5, 6_000.0, 0.0)),
    ]
    dataset = mosaic(*scenes)
    flags = dataset.contributing_granules
    assert flags.dtype == np.uint8 and flags.dims == ("z", "y", "x")
    names = flags.attrs["flag_meanings"].split()
    assert sorted(names) == ["G.a_b", "G.c"]
    bits = dict(zip(names, flags.attrs["flag_masks"].tolist(), strict=True))
    assert sorted(bits.values()) == [1, 2]
    row = flags.isel(z=0, y=flags.sizes["y"] // 2).values
    assert row[2] == bits["G.a_b"] and row[-3] == bits["G.c"] and row[len(row) // 2] == 3
    # Above the top of one there is only the other.
    assert not (flags.sel(z=slice(400.0, None)).values & bits["G.a_b"]).any()
    missing = dataset.extinction.isnull().values
    assert missing.any() and np.array_equal(missing, flags.values == 0)
    assert dataset.extinction.attrs["ancillary_variables"] == "contributing_granules"


def test_the_file_says_how_it_was_made_and_where_scenes_disagree(make_scene, mosaic):
    def rising(f, p):
        return 0.01 + 1e-6 * (f.to_geodetic(p)[0] - 17.0) * DEGREE_M

    scenes = [
        make_scene("a", rising, scene={"time_coverage_start": "2025-06-05T16:00:00+00:00"}),
        make_scene("b", lambda f, p: 2 * rising(f, p), *beside(18.0, -61.5, 6_000.0, 0.0)),
    ]
    dataset = mosaic(*scenes)
    (overlap,) = json.loads(dataset.attrs["overlaps"])
    assert overlap["granules"] == ["G.a", "G.b"]
    assert overlap["ratio"] == pytest.approx(0.5, rel=1e-5)
    assert overlap["rank_correlation"] == pytest.approx(1.0, abs=1e-3)
    assert overlap["columns"] == int((dataset.contributing_granules == 3).isel(z=0).sum())
    assert "square of its column's horizontal distance to the edge" in dataset.attrs["mosaic_weights"]
    assert dataset.attrs["time_coverage_start"] == "2025-06-05T16:00:00+00:00"
    inputs = json.loads(dataset.attrs["inputs"])
    assert [entry["granule"] for entry in inputs] == ["G.a", "G.b"]
    assert inputs[0]["checkpoint_sha256"] == "k" * 64 and "steps = 1000" in inputs[0]["config"]
    assert dataset.attrs["Conventions"].startswith("CF-1.11")


def test_the_order_of_arguments_does_not_matter(make_scene, mosaic, wave_field):
    scenes = [
        make_scene(name, lambda f, p, s=scale: s * wave_field.function(p), *beside(18.0, -61.5, x, x / 3))
        for name, scale, x in (("a", 1.0, 0.0), ("b", 1.5, 5_000.0), ("c", 2.0, 9_000.0))
    ]
    one, other = mosaic(*scenes), mosaic(*reversed(scenes))
    assert one.drop_attrs().identical(other.drop_attrs())
    assert one.attrs["overlaps"] == other.attrs["overlaps"]


@pytest.mark.parametrize("steps", [(200.0, 400.0), (400.0, 200.0), (200.0, 130.0)])
def test_scenes_of_other_steps_are_brought_to_the_finest(make_scene, mosaic, steps):
    def tilted(f, p):
        return 1.0 + 1e-4 * (f.to_geodetic(p)[0] - 17.0) * DEGREE_M + 1e-3 * p[..., 2]

    places = (18.0, -61.5), beside(18.0, -61.5, 6_000.0, 500.0)
    scenes = [
        make_scene(f"{i}", tilted, *at, step_m=step)
        for i, (at, step) in enumerate(zip(places, steps, strict=True))
    ]
    dataset = mosaic(*scenes)
    assert dataset.attrs["horizontal_spacing_m"] == min(steps)
    assert dataset.attrs["vertical_spacing_m"] == min(steps) / 2
    expected = 1.0 + 1e-4 * (dataset.latitude - 17.0) * DEGREE_M + 1e-3 * dataset.z
    error = np.abs(dataset.extinction - expected).transpose("z", "y", "x").values
    inside = binary_erosion(dataset.contributing_granules.values > 0, np.ones((3, 3, 3)), iterations=2)
    assert error[inside].max() < 2e-4


def test_a_coarser_mosaic_keeps_the_mean_and_steps_over_no_cloud(make_scene, mosaic):
    def spots(f, p):
        return ((np.rint(p[..., 0] / STEP_M) % 4 == 1) & (np.rint(p[..., 1] / STEP_M) % 4 == 1)) * 16.0

    scenes = [make_scene("a", spots, half_m=10_100.0), make_scene("b", spots, 18.3, -61.5)]
    dataset = mosaic(*scenes, horizontal_step_m=1_600.0, vertical_step_m=200.0)
    assert dataset.attrs["horizontal_spacing_m"] == 1_600.0
    inside = dataset.extinction.values[:, inner(dataset)]
    assert np.nanmean(inside) == pytest.approx(1.0, rel=0.02)
    assert np.nanmax(np.abs(inside - 1)) < 0.25


def test_scenes_that_do_not_touch_leave_a_gap(make_scene, mosaic):
    scenes = [
        make_scene("a", constant(1.0)),
        make_scene("b", constant(2.0), *beside(18.0, -61.5, 30_000.0, 0.0)),
    ]
    dataset = mosaic(*scenes)
    assert json.loads(dataset.attrs["overlaps"]) == []
    assert sorted(np.unique(dataset.extinction)[:2]) == [1.0, 2.0]
    assert dataset.extinction.isel(x=dataset.sizes["x"] // 2).isnull().all()


def test_bands_keep_their_order(make_scene, mosaic):
    scenes = [
        make_scene("a", constant(1.0), bands=4),
        make_scene("b", constant(1.0), *beside(18.0, -61.5, 6_000.0, 0.0), bands=4),
    ]
    dataset = mosaic(*scenes)
    assert dataset.extinction.dims == ("band", "z", "y", "x")
    assert dataset.wavelength.values.tolist() == [441.0, 549.0, 669.0, 873.0]
    for band in range(4):
        values = dataset.extinction.isel(band=band).values
        assert (values[np.isfinite(values)] == band + 1).all()


def test_nine_granules_need_two_bytes_of_flags(make_scene, mosaic):
    scenes = [
        make_scene(f"s{i}", constant(1.0), *beside(18.0, -61.5, 2_000.0 * i, 0.0), half_m=2_000.0)
        for i in range(9)
    ]
    flags = mosaic(*scenes).contributing_granules
    assert flags.dtype == np.uint16 and flags.attrs["flag_masks"].dtype == np.uint16
    assert len(flags.attrs["flag_meanings"].split()) == 9


def refused(parts: list[Parts], message: str, error: type[Exception] = UsageError, **steps) -> None:
    out = parts[0].path.parent / "mosaic.nc"
    with pytest.raises(error, match=message) as caught:
        merge([p.path for p in parts], out, **steps)
    assert "\n" not in str(caught.value)
    assert not list(out.parent.glob("*.nc")) and not list(out.parent.glob(".*.nc"))


def test_one_scene_twice_is_refused(finished):
    refused([finished, finished], r"are both of scene 'cloud' \(ssssssssssss\)")


def test_more_than_64_scenes_are_refused(finished):
    refused([finished] * 65, "65 scenes: expected at most 64")


def test_scenes_on_opposite_sides_of_the_earth_are_refused(make_scene):
    scenes = [make_scene("a", constant(1.0)), make_scene("b", constant(1.0), -18.0, 118.5)]
    refused(scenes, "more than 5000 km from their common centre")


def test_a_shared_extinction_and_one_per_band_are_refused(make_scene):
    scenes = [make_scene("a", constant(1.0)), make_scene("b", constant(1.0), bands=4)]
    refused(scenes, "shared by all bands, .* in 4 bands")


def test_other_wavelengths_are_refused(make_scene):
    scenes = [
        make_scene("a", constant(1.0)),
        make_scene("b", constant(1.0), scene={"wavelengths_nm": [441.0, 870.0]}),
    ]
    refused(scenes, "bands at 441, 549, 669, 873 nm, .* at 441, 870 nm")


def test_impossible_steps_are_refused(make_scene, finished):
    refused([make_scene("a", constant(1.0)), make_scene("b", constant(1.0))], "step", horizontal_step_m=-5.0)
    refused([finished], "extract this one with that step", vertical_step_m=5.0)


def test_a_damaged_scene_is_refused_before_anything_is_written(make_scene):
    scenes = [
        make_scene("a", constant(1.0)),
        make_scene("b", constant(1.0), *beside(18.0, -61.5, 6_000.0, 0.0)),
    ]
    file = scenes[1].path / "extinction/c/0/0/1/1"
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 4
    file.write_bytes(content)
    refused(scenes, r"b\.zarr/extinction/c/0/0/1/1: shard 0-1-1 is damaged", SceneError)


def test_a_mosaic_is_evaluated_like_an_extract(make_scene, tmp_path):
    """Against a truth as long as both scenes, which are each too short for it."""
    scenes = pair(make_scene, apart_m=9_000.0)
    file = merge([p.path for p in scenes], tmp_path / "mosaic.nc")
    frame = Frame(18.0, -61.5, (-1.0, -1.0, 0.0), (1.0, 1.0, 1.0))
    x, y = np.meshgrid(
        np.arange(-6_000.0, 15_100.0, 500.0), np.arange(-5_000.0, 5_100.0, 500.0), indexing="ij"
    )
    lat, lon, _ = frame.to_geodetic(np.stack([x, y, np.zeros_like(x)], -1))
    truth = np.where(x < 4_500.0, 1.0, 2.0)[..., None].repeat(5, -1)
    xr.Dataset(
        {
            "latitude": (("x", "y"), lat),
            "longitude": (("x", "y"), lon),
            "altitude": ("altitude", np.arange(50.0, 550.0, 100.0)),
            "extinction_coefficient": (("x", "y", "altitude"), truth.astype("f4")),
        },
        attrs={"wavelength_nm": 670.0},
    ).to_netcdf(tmp_path / "truth.nc")
    score = evaluate(file, truth=tmp_path / "truth.nc", run=None, out=tmp_path / "score.json", pictures=None)
    assert score["volume"]["covered_fraction_of_true_mass"] > 0.99
    assert score["volume"]["epsilon"] < 0.1
    with pytest.raises(UsageError, match="is a mosaic of several scenes"):
        _scene_of(Run(tmp_path), open_extract(file))


def test_plain_netcdf_readers_see_a_cf_file(make_scene, tmp_path):
    scenes = [
        make_scene("a", constant(1.0)),
        make_scene("b", constant(2.0), *beside(18.0, -61.5, 6_000.0, 0.0)),
    ]
    with netCDF4.Dataset(merge([p.path for p in scenes], tmp_path / "mosaic.nc")) as dataset:
        assert dataset["contributing_granules"].flag_masks.dtype == dataset["contributing_granules"].dtype
        assert dataset["extinction"].filters()["zlib"] and dataset["extinction"].units == "m-1"
        assert "_FillValue" in dataset["extinction"].ncattrs()
        assert dataset["crs"].grid_mapping_name == "latitude_longitude"
