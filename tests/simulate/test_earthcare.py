"""The lidar frame of a cloud holds that cloud where the lidar saw it, and looks like a real file."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import netCDF4
import numpy as np
import pytest
import xarray as xr

from atmonr.errors import UsageError
from atmonr.geo.frame import Frame
from atmonr.sensors.earthcare import NO_CODE, read_profiles
from atmonr.simulate.earthcare import heights, simulate_frame, track_across
from atmonr.simulate.native import START
from atmonr.simulate.volume import Volume, write_truth

SIDE_M = np.arange(60) * 200.0 - 5_900.0
# Cloud 12 km wide, 1050 to 1950 m high, of optical depth 1.
LAYER = Volume(
    SIDE_M, SIDE_M, 1050.0 + np.arange(10) * 100.0, np.full((60, 60, 10), 1e-3, np.float32), -50.0, 180.0
)


def write_frame(cloud: Volume, folder: Path, **options: float) -> Path:
    folder.mkdir(exist_ok=True)
    write_truth(cloud, folder / "truth.nc", "granule.nc", 670.0)
    return simulate_frame(folder / "truth.nc", folder, **options)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_frame(LAYER, tmp_path_factory.mktemp("frame"))


@pytest.fixture(scope="module")
def found(path: Path) -> xr.Dataset:
    return read_profiles(path)


def check_place(found: xr.Dataset, latitude: float, longitude: float) -> None:
    place = (found[name].to_numpy()[:, None] for name in ("latitude", "longitude"))
    frame = Frame(latitude, longitude, (-1.0, -1.0, 0.0), (1.0, 1.0, 1.0))
    xyh = frame.from_geodetic(*place, found["height"].to_numpy())
    aside, above = np.abs(xyh[..., :2]).max(-1), np.abs(xyh[..., 2] - 1_500.0)
    # Cells are a kilometre long and 103 m high.
    within, outside = (aside < 5_300.0) & (above < 390.0), (aside > 6_600.0) | (above > 600.0)
    extinction = found["extinction_per_m"].to_numpy()
    assert within.sum() > 60
    np.testing.assert_allclose(extinction[within], 1e-3, rtol=1e-5)
    assert np.nanmax(extinction[outside]) == 0.0
    assert (found["simple_classification"].to_numpy()[within] == 1).all()


def test_the_reader_finds_the_cloud_where_it_stands(found: xr.Dataset) -> None:
    check_place(found, -50.0, 180.0)


@pytest.mark.slow
@pytest.mark.parametrize("place", [(18.0, -61.5), (-75.0, 90.0), (85.0, 0.0)])
def test_the_cloud_may_stand_anywhere(tmp_path: Path, place: tuple[float, float]) -> None:
    cloud = replace(LAYER, latitude_deg=place[0], longitude_deg=place[1])
    check_place(read_profiles(write_frame(cloud, tmp_path)), *place)


def test_the_frame_passes_while_the_granule_is_measured(found: xr.Dataset) -> None:
    seconds = found["time"].to_numpy() - START.timestamp()
    assert seconds.min() > 0
    assert seconds.max() < 200
    assert found.sizes["level"] == 242


def test_gaps_are_per_profile_and_below_ground(found: xr.Dataset) -> None:
    assert found["height"].isnull().sum("level")[:4].values.tolist() == [2, 0, 0, 2]
    below = (found["height"] < 0).to_numpy()
    assert np.isnan(found["extinction_per_m"].to_numpy()[below]).all()
    assert (found["quality_status"].to_numpy()[below] == NO_CODE).all()


def test_the_file_is_laid_out_as_real_ones_are(path: Path) -> None:
    assert path.name.startswith("ECA_") and "_ATL_EBD_2A_" in path.name
    with netCDF4.Dataset(path) as file:
        assert file["HeaderData/FixedProductHeader/File_Type"][...] == "ATL_EBD_2A"
        height = file["ScienceData/height"]
        assert height.dimensions == ("along_track", "JSG_height")
        assert float(height[1, 0]) > float(height[1, -1])  # downwards
        assert height[0].mask.sum() == 2


def test_an_existing_frame_is_kept(path: Path) -> None:
    before = path.read_bytes()
    with pytest.raises(UsageError, match="exists already"):
        simulate_frame(path.with_name("truth.nc"), path.parent)
    assert path.read_bytes() == before


def test_the_track_crosses_the_thickest_column() -> None:
    extinction = np.zeros_like(LAYER.extinction_per_m)
    extinction[3, 15] = 1.0
    turned = replace(LAYER, extinction_per_m=extinction, heading_deg=30.0)
    column = np.array([turned.x_m[3], turned.y_m[15]]) @ turned.axes
    assert np.linalg.norm(track_across(turned).xy_m - column, axis=1).min() < 1e-6
    assert (np.diff(heights(2)[0]) < 0).all()


@pytest.mark.slow
def test_what_lies_below_a_thick_cloud_is_flagged_and_too_small(tmp_path: Path) -> None:
    found = read_profiles(
        write_frame(replace(LAYER, extinction_per_m=LAYER.extinction_per_m * 20.0), tmp_path)
    )
    middle = found.isel(profile=found.sizes["profile"] // 2)
    hidden = (middle["simple_classification"] == -1).to_numpy()
    cloud = (middle["height"] > 1_100.0) & (middle["height"] < 1_900.0)
    assert (middle["quality_status"].to_numpy()[hidden] == 3).all()
    assert float(middle["height"][hidden].max()) < 1_900.0
    # The cloud's extinction is 0.02 per metre throughout.
    assert float(middle["extinction_per_m"].where(cloud & hidden).min()) < 1e-3


@pytest.mark.slow
def test_noise_is_as_large_as_its_error_says(found: xr.Dataset, tmp_path: Path) -> None:
    noisy = read_profiles(write_frame(LAYER, tmp_path, noise=0.1))
    error = noisy["extinction_error_per_m"]
    ratio = ((noisy["extinction_per_m"] - found["extinction_per_m"]) / error).to_numpy()
    assert np.nanstd(ratio) == pytest.approx(1.0, abs=0.03)
