"""Where a cloud stands, and its truth file."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyproj
import pytest
import xarray as xr

from atmonr.errors import SceneError
from atmonr.simulate.volume import Volume, read_truth, write_truth

SHARED = Path(__file__).resolve().parents[3] / "shared" / "truth" / "rico122.truth.nc"


def at(box: Volume, latitude: float, longitude: float, heading: float = 0.0) -> Volume:
    random = np.random.default_rng(0).random(box.extinction_per_m.shape).astype(np.float32)
    return replace(
        box,
        latitude_deg=latitude,
        longitude_deg=longitude,
        heading_deg=heading,
        extinction_per_m=random,
        single_scattering_albedo=0.5,
    )


@pytest.mark.parametrize("place", [(0.0, 0.0), (60.0, 90.0), (-35.0, 180.0), (90.0, 0.0)])
@pytest.mark.parametrize("heading", [0.0, 348.0, 120.0])
def test_a_truth_file_gives_the_volume_back(
    box: Volume, tmp_path: Path, place: tuple[float, float], heading: float
) -> None:
    cloud = at(box, *place, heading)
    write_truth(cloud, tmp_path / "truth.nc", "granule.nc", 670.0)
    found = read_truth(tmp_path / "truth.nc")
    np.testing.assert_array_equal(found.extinction_per_m, cloud.extinction_per_m)
    np.testing.assert_allclose(found.x_m, cloud.x_m, atol=1e-3)
    np.testing.assert_allclose(found.altitude_m, cloud.altitude_m)
    assert found.single_scattering_albedo == 0.5
    for mine, other in zip(found.column_places(), cloud.column_places(), strict=True):
        np.testing.assert_allclose((mine - other + 180) % 360 - 180, 0, atol=1e-7)


def test_columns_stand_where_geodesics_put_them(box: Volume) -> None:
    """Checked with PROJ: 950 m along the x axis, to the right of a heading of 30 degrees."""
    cloud = at(box, 45.0, 10.0, heading=30.0)
    latitude, longitude = cloud.column_places()
    end = np.array([latitude[-1, 9:11].mean(), longitude[-1, 9:11].mean()])
    expected = pyproj.Geod(ellps="WGS84").fwd(10.0, 45.0, 120.0, 950.0)
    np.testing.assert_allclose(end, [expected[1], expected[0]], atol=1e-7)


def test_a_truth_file_is_plain_netcdf_with_units(box: Volume, tmp_path: Path) -> None:
    write_truth(box, tmp_path / "truth.nc", "granule.nc", 670.0)
    with xr.open_dataset(tmp_path / "truth.nc") as file:
        assert file["extinction_coefficient"].dims == ("x", "y", "altitude")
        assert file["extinction_coefficient"].attrs["units"] == "m-1"
        assert file["altitude"].attrs["units"] == "m"
        assert file.attrs["granule"] == "granule.nc"
        assert file.attrs["wavelength_nm"] == 670.0
        np.testing.assert_array_equal(file["extinction_coefficient"], box.extinction_per_m)


def test_a_left_handed_grid_is_read_as_the_same_cloud(box: Volume, tmp_path: Path) -> None:
    cloud = at(box, 20.0, 30.0, 10.0)
    write_truth(cloud, tmp_path / "truth.nc", "granule.nc", 670.0)
    with xr.open_dataset(tmp_path / "truth.nc") as file:
        file.isel(x=slice(None, None, -1)).to_netcdf(tmp_path / "mirrored.nc")
    np.testing.assert_array_equal(
        read_truth(tmp_path / "mirrored.nc").extinction_per_m, cloud.extinction_per_m
    )


def test_columns_that_are_no_grid_are_refused(box: Volume, tmp_path: Path) -> None:
    write_truth(box, tmp_path / "truth.nc", "granule.nc", 670.0)
    with xr.open_dataset(tmp_path / "truth.nc") as file:
        file = file.load()
    file["latitude"][3] += 0.01
    file.to_netcdf(tmp_path / "bent.nc")
    with pytest.raises(SceneError, match=r"bent\.nc: latitude, longitude: columns are \d+ m off"):
        read_truth(tmp_path / "bent.nc")


def test_a_truth_file_with_gaps_is_refused_by_name(box: Volume, tmp_path: Path) -> None:
    write_truth(box, tmp_path / "t.nc", "a.nc", 670.0)
    with xr.open_dataset(tmp_path / "t.nc") as opened:
        dataset = opened.load()
    dataset["extinction_coefficient"][0, 0, 0] = np.nan
    dataset.to_netcdf(tmp_path / "gaps.nc")
    with pytest.raises(SceneError, match=r"gaps\.nc: extinction_coefficient: expected finite"):
        read_truth(tmp_path / "gaps.nc")


def test_a_file_that_is_no_truth_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty.nc").touch()
    xr.Dataset({"latitude": ("x", [1.0])}).to_netcdf(tmp_path / "other.nc")
    for name in ("empty.nc", "other.nc", "absent.nc"):
        with pytest.raises(SceneError, match=f"{name}: expected netCDF with extinction_coefficient"):
            read_truth(tmp_path / name)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x_m": np.array([0.0, 1.0, 5.0])}, "x: expected evenly spaced"),
        ({"altitude_m": np.arange(10) * 100.0 - 500.0}, "altitude starts at -500"),
        ({"extinction_per_m": np.full((20, 20, 10), -1.0, np.float32)}, "not negative"),
        ({"extinction_per_m": np.full((20, 20, 10), np.nan, np.float32)}, "finite"),
        ({"extinction_per_m": np.zeros((2, 2, 2), np.float32)}, "shape"),
        ({"single_scattering_albedo": 1.5}, "0 to 1"),
    ],
)
def test_a_volume_that_makes_no_sense_is_refused(
    box: Volume, change: dict[str, object], message: str
) -> None:
    with pytest.raises(SceneError, match=message):
        replace(box, **change)


@pytest.mark.skipif(not SHARED.exists(), reason="the independent truth file is not beside this checkout")
def test_an_independent_truth_file_is_placed_to_the_millimetre() -> None:
    cloud = read_truth(SHARED)
    with xr.open_dataset(SHARED) as file:
        latitude, longitude = file["latitude"].to_numpy(), file["longitude"].to_numpy()
    found = cloud.column_places()
    _, _, error_m = pyproj.Geod(ellps="WGS84").inv(found[1], found[0], longitude, latitude)
    assert np.max(error_m) < 1e-3
    assert cloud.x_m[1] - cloud.x_m[0] == pytest.approx(160.0, abs=0.01)
