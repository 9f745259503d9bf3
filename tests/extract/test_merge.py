from __future__ import annotations

import json
import os
import resource
import signal

import netCDF4
import numpy as np
import pytest
import torch
import xarray as xr
from pyproj import Geod

from atmonr.errors import SceneError, StoreError, UsageError
from atmonr.extract.merge import merge
from atmonr.extract.parts import Parts
from atmonr.extract.session import fill
from atmonr.geo.frame import Frame

CPU = torch.device("cpu")
PLACES = {
    "equator": (0.0, 20.0),
    "60 north": (60.0, -20.0),
    "35 south": (-35.0, 100.0),
    "dateline": (18.0, 179.98),
    "longitude 90": (18.0, 90.0),
    "longitude -90": (-18.0, -90.0),
    "north pole": (90.0, 0.0),
}
QUANTITIES = {
    # Extinction is not negative, so each is shifted up.
    "latitude": (lambda geo, p: geo[0] + 90.0, lambda d: d.latitude + 90.0, 2e-5),
    "longitude": (lambda geo, p: geo[1] + 180.0, lambda d: d.longitude + 180.0, 5e-5),
    "altitude": (lambda geo, p: p[..., 2], lambda d: d.z, 1e-2),
    "x": (lambda geo, p: p[..., 0] + 1e4, lambda d: d.x + 1e4, 1e-2),
    "y": (lambda geo, p: p[..., 1] + 1e4, lambda d: d.y + 1e4, 1e-2),
}


@pytest.mark.parametrize("place", PLACES)
def test_a_field_equal_to_a_coordinate_comes_back_equal_to_that_coordinate(
    make_grid, known_field, source, tmp_path, place
):
    grid = make_grid(*PLACES[place], top_m=500.0)
    for name, (function, coordinate, tolerance) in QUANTITIES.items():
        field = known_field(lambda p, f=function: f(grid.frame.to_geodetic(p), p))
        parts = Parts.create_or_resume(tmp_path / f"{name}.zarr", grid, 1, source)
        fill(parts, field, CPU, parts.shards)
        with xr.open_dataset(merge([parts.path], tmp_path / f"{name}.nc")) as dataset:
            expected = coordinate(dataset).broadcast_like(dataset.extinction)
            # The pole itself has every longitude.
            judged = (np.abs(dataset.latitude) < 89.999).values if name == "longitude" else np.bool_(True)
            error = np.abs(dataset.extinction - expected).transpose("z", "y", "x").values
            assert np.where(judged, error, 0.0).max() < tolerance, name


def test_the_file_is_self_describing(finished, tmp_path):
    out = merge([finished.path], tmp_path / "extract.nc")
    with xr.open_dataset(out, decode_coords="all") as dataset:
        extinction = dataset.extinction
        assert extinction.dims == ("z", "y", "x")
        assert extinction.attrs["units"] == "m-1"
        assert {"latitude", "longitude", "time", "crs"} <= set(extinction.coords)
        assert dataset.z.attrs["positive"] == "up"
        assert dataset.z.attrs["standard_name"] == "height_above_reference_ellipsoid"
        assert dataset.latitude.attrs["units"] == "degrees_north"
        assert dataset.longitude.attrs["units"] == "degrees_east"
        assert dataset.crs.attrs["grid_mapping_name"] == "latitude_longitude"
        assert dataset.attrs["Conventions"].startswith("CF-1.11")
        assert dataset.attrs["source_granule"] == "G.L1B"
        assert dataset.attrs["source_file"] == "G.nc"
        assert dataset.attrs["source_sha256"] == "g" * 64
        assert dataset.attrs["time_coverage_end"] == "2025-06-05T16:18:56+00:00"
        assert extinction.time.values == np.datetime64("2025-06-05T16:13:56")
        assert dataset.attrs["checkpoint"] == "step-00001000.pt"
        assert "steps = 1000" in dataset.attrs["config"]
        assert "merge" in dataset.attrs["history"]
        assert Frame.from_json(json.loads(dataset.attrs["frame"])) == finished.grid.frame
        assert not np.isnan(extinction.values).any()


def test_columns_of_the_file_are_a_step_apart_on_the_earth(finished, tmp_path):
    with xr.open_dataset(merge([finished.path], tmp_path / "extract.nc")) as dataset:
        lat, lon = dataset.latitude.values, dataset.longitude.values
        _, _, east = Geod(ellps="WGS84").inv(lon[:, :-1], lat[:, :-1], lon[:, 1:], lat[:, 1:])
        np.testing.assert_allclose(east, np.broadcast_to(np.diff(dataset.x.values), east.shape), rtol=1e-3)


def test_the_file_is_compressed_and_chunked_for_levels_and_columns(finished, tmp_path):
    with netCDF4.Dataset(merge([finished.path], tmp_path / "extract.nc")) as dataset:
        filters = dataset["extinction"].filters()
        assert filters["zlib"] and filters["shuffle"]
        assert dataset["extinction"].chunking() == [32, 32, 32]


def test_bands_keep_their_wavelengths(make_grid, known_field, source, tmp_path):
    parts = Parts.create_or_resume(tmp_path / "parts.zarr", make_grid(step_m=1_000.0), 4, source)
    fill(parts, known_field(lambda p: np.ones(len(p)), bands=4), CPU, parts.shards)
    with xr.open_dataset(merge([parts.path], tmp_path / "extract.nc")) as dataset:
        assert dataset.extinction.dims == ("band", "z", "y", "x")
        assert dataset.wavelength.values.tolist() == [441.0, 549.0, 669.0, 873.0]
        assert dataset.wavelength.attrs["units"] == "nm"
        assert dataset.wavelength.attrs["standard_name"] == "sensor_band_central_radiation_wavelength"
        red = dataset.extinction.swap_dims(band="wavelength").sel(wavelength=669.0)
        assert (red == 3.0).all()


def test_bands_without_wavelengths_are_refused(make_grid, known_field, source, tmp_path):
    parts = Parts.create_or_resume(tmp_path / "parts.zarr", make_grid(step_m=1_000.0), 3, source)
    fill(parts, known_field(lambda p: np.ones(len(p)), bands=3), CPU, parts.shards)
    with pytest.raises(SceneError, match="4 wavelengths for 3 bands"):
        merge([parts.path], tmp_path / "extract.nc")


def receipt_of(parts: Parts, name: str):
    (receipt,) = (parts.path / "receipts").glob(f"{name}.*.json")
    return receipt


def refused(parts: Parts, message: str) -> None:
    out = parts.path.parent / "extract.nc"
    with pytest.raises(SceneError, match=message):
        merge([parts.path], out)
    assert sorted(p.name for p in out.parent.iterdir()) == ["parts.zarr"]


def test_holes_are_refused_and_named(finished):
    for name in ("0-0-2", "0-1-1"):
        receipt_of(finished, name).unlink()
    refused(finished, r"2 of 9 shards are missing \(0-0-2, 0-1-1\)")


def test_a_missing_shard_is_refused(finished):
    (finished.path / "extinction/c/0/0/2/0").unlink()
    refused(finished, "shard 0-2-0 is missing")


def test_a_flipped_byte_is_refused_and_leaves_nothing(finished):
    file = finished.path / "extinction/c/0/0/2/2"
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    refused(finished, "shard 0-2-2 is damaged")


def test_a_receipt_of_another_extraction_is_refused(finished):
    path = receipt_of(finished, "0-1-0")
    receipt = json.loads(path.read_text())
    path.write_text(json.dumps({**receipt, "source": {**receipt["source"], "scene_id": "another"}}))
    refused(finished, "of another extraction")


def test_lost_array_metadata_is_refused(finished):
    (finished.path / "extinction/zarr.json").unlink()
    refused(finished, "damaged Zarr array")


def test_an_existing_output_is_refused_and_kept(finished, tmp_path):
    out = tmp_path / "extract.nc"
    out.write_text("precious")
    with pytest.raises(UsageError, match=r"extract\.nc: exists already"):
        merge([finished.path], out)
    assert out.read_text() == "precious"


def test_nothing_to_merge_is_refused(tmp_path):
    with pytest.raises(UsageError, match="expected at least one output of atmonr extract"):
        merge([], tmp_path / "extract.nc")


def test_a_full_disk_is_a_store_error_and_leaves_nothing(make_grid, known_field, source, tmp_path):
    parts = Parts.create_or_resume(tmp_path / "parts.zarr", make_grid(), 1, source)
    noise = np.random.default_rng(0)
    fill(parts, known_field(lambda p: noise.random(len(p))), CPU, parts.shards)
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limit[1]))
    try:
        with pytest.raises(StoreError, match=r"extract\.nc: cannot write"):
            merge([parts.path], tmp_path / "extract.nc")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
        signal.signal(signal.SIGXFSZ, ignored)
    assert os.listdir(tmp_path) == ["parts.zarr"]
