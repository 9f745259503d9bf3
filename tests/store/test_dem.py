"""Heights from a global elevation model, wherever its rows begin."""

from __future__ import annotations

import netCDF4
import numpy as np
import pytest

from atmonr.errors import GranuleError
from atmonr.store.dem import Dem
from tests.store.dems import write_dem


def plane_m(latitude, longitude):
    """Linear in both, so bilinear interpolation gives it back exactly (away from the seam)."""
    return 2000.0 + 10.0 * latitude + 5.0 * longitude


def everywhere_m(latitude, longitude):
    """Continuous over poles and dateline: linear in the Cartesian coordinates of the sphere."""
    lat, lon = np.radians(latitude), np.radians(longitude)
    return np.round(3000.0 + 2000.0 * np.cos(lat) * np.cos(lon) + 500.0 * np.sin(lat))


@pytest.mark.parametrize("north_first", [False, True])
@pytest.mark.parametrize("cells", [False, True])
@pytest.mark.parametrize("with_latitudes", [False, True])
def test_heights_are_right_in_both_orders_of_rows(tmp_path, north_first, cells, with_latitudes):
    path = write_dem(tmp_path / "dem.nc", north_first=north_first, cells=cells, with_latitudes=with_latitudes)
    with Dem.open(path) as dem:
        height = dem.height_m([28.0, -28.0, 18.0, -18.0, 18.0], [87.0, 87.0, -61.0, -61.0, 299.0])
    np.testing.assert_allclose(height, [6000.0, 0.0, 900.0, 0.0, 900.0])


@pytest.mark.parametrize("north_first", [False, True])
@pytest.mark.parametrize("cells", [False, True])
def test_heights_between_nodes_are_bilinear(tmp_path, north_first, cells):
    path = write_dem(
        tmp_path / "dem.nc", north_first=north_first, cells=cells, with_latitudes=True, height_m=plane_m
    )
    random = np.random.default_rng(1)
    latitude, longitude = random.uniform(-80, 80, (30, 20)), random.uniform(-170, 170, (30, 20))
    with Dem.open(path) as dem:
        height = dem.height_m(latitude, longitude)
    assert height.shape == (30, 20) and height.dtype == np.float64
    np.testing.assert_allclose(height, plane_m(latitude, longitude), atol=1e-6)


@pytest.mark.parametrize("cells", [False, True])
@pytest.mark.parametrize("west_deg", [-180.0, 0.0])
def test_dateline_and_poles_are_ordinary_places(tmp_path, cells, west_deg):
    path = write_dem(
        tmp_path / "dem.nc", cells=cells, with_latitudes=True, west_deg=west_deg, height_m=everywhere_m
    )
    longitude = np.array([-180.0, 180.0, 179.5, -179.5, 540.0, 0.0, 359.5, -0.5])
    with Dem.open(path) as dem:
        for latitude in (-90.0, -89.5, 0.3, 89.5, 90.0):
            got = dem.height_m(latitude, longitude)
            np.testing.assert_allclose(got, everywhere_m(latitude, longitude), atol=3.0)
        for pole in (-90.0, 90.0):
            assert np.ptp(dem.height_m(pole, np.arange(0.0, 360.0, 7.0))) <= 1.0


def test_only_the_neighbourhood_of_the_places_is_read(tmp_path, monkeypatch):
    path = write_dem(tmp_path / "dem.nc", step_deg=0.25)
    monkeypatch.setattr("atmonr.store.dem._TILE", 64)
    with Dem.open(path) as dem:
        read, sizes = dem._file.read, []

        def counting(name, index):
            sizes.append(read(name, index).size)
            return read(name, index)

        monkeypatch.setattr(dem._file, "read", counting)
        assert dem.height_m(np.linspace(16, 20, 50), np.linspace(-63, -59, 50)).shape == (50,)
    assert max(sizes) <= 64 * 64 and sum(sizes) <= 8 * 64 * 64


def test_missing_heights_and_places_give_nan_and_nothing_else_does(tmp_path):
    def with_a_gap(latitude, longitude):
        return np.where((latitude == 10.0) & (longitude == 20.0), np.nan, 100.0 + 0.0 * latitude)

    path = write_dem(tmp_path / "dem.nc", with_latitudes=True, height_m=with_a_gap)
    with Dem.open(path) as dem:
        height = dem.height_m([10.0, 11.0, 12.0, np.nan, 95.0], [20.0, 20.0, 20.0, 20.0, 20.0])
    np.testing.assert_array_equal(height, [np.nan, np.nan, 100.0, np.nan, np.nan])


def test_without_a_surface_of_water_the_sea_is_at_zero(tmp_path):
    with Dem.open(write_dem(tmp_path / "dem.nc", with_water=False)) as dem:
        np.testing.assert_array_equal(dem.height_m([0.0, 28.0], [0.0, 87.0]), [0.0, 6000.0])


def test_the_datum_is_told(tmp_path):
    with Dem.open(write_dem(tmp_path / "dem.nc")) as dem:
        assert "sea level" in dem.datum.name and dem.datum.off_ellipsoid_m > 100.0
        assert dem.datum.standard_name == "height_above_mean_sea_level"


def no_mountain(latitude, longitude):
    return -10.0 + 0.0 * (latitude + longitude)


def two_mountains(latitude, longitude):
    return 6000.0 + 0.0 * (latitude + longitude)


@pytest.mark.parametrize("height_m", [no_mountain, two_mountains])
def test_a_model_that_does_not_tell_its_order_is_refused(tmp_path, height_m):
    path = write_dem(tmp_path / "dem.nc", height_m=height_m)
    with pytest.raises(GranuleError, match=r"dem.nc: cannot tell the order of rows.*expected"):
        Dem.open(path)


def test_what_is_no_global_model_is_refused(tmp_path):
    with pytest.raises(GranuleError, match="no such file; expected a global elevation model"):
        Dem.open(tmp_path / "none.nc")
    path = tmp_path / "regional.nc"
    with netCDF4.Dataset(path, "w") as file:
        file.createDimension("lat", 10)
        file.createDimension("lon", 30)
        file.createVariable("height", "i2", ("lat", "lon"))
    with pytest.raises(GranuleError, match=r"height has the shape \(10, 30\); expected"):
        Dem.open(path)
    with netCDF4.Dataset(tmp_path / "other.nc", "w"):
        pass
    with pytest.raises(GranuleError, match="has no variable height"):
        Dem.open(tmp_path / "other.nc")
    path = write_dem(tmp_path / "empty.nc")
    with netCDF4.Dataset(path, "a") as file:
        file.createDimension("none", None)
        file.createVariable("lon", "f8", ("none",))
    with pytest.raises(GranuleError, match="lon is empty"):
        Dem.open(path)
    path = write_dem(tmp_path / "shifted.nc", west_deg=-90.0)
    with pytest.raises(GranuleError, match="first longitude is -90"):
        Dem.open(path)


def test_a_missing_value_written_as_text_is_no_reason_to_stumble(tmp_path):
    path = write_dem(tmp_path / "dem.nc")
    with netCDF4.Dataset(path, "a") as file:
        file["height"].setncattr_string("missing_value", "-32767")  # seen in an issue of the real file
    with Dem.open(path) as dem:
        assert dem.height_m(28.0, 87.0) == 6000.0
