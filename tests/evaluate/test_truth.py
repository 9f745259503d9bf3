from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from atmonr.errors import SceneError, UsageError
from atmonr.evaluate.extract_file import open_extract
from atmonr.evaluate.truth import coarsened, read_truth, with_clear_air

RICO = Path(__file__).resolve().parents[3] / "shared" / "truth" / "rico122.truth.nc"


def test_clear_air_is_added_above_and_below_the_truth(write_truth):
    truth = read_truth(write_truth())
    padded = with_clear_air(truth, 0.0, 8_000.0)
    np.testing.assert_allclose(np.diff(padded.altitude_m), 400.0)
    assert padded.edges_m[0] <= 0.0 and padded.edges_m[-1] >= 8_000.0
    inside = np.isin(padded.altitude_m, truth.altitude_m)
    assert np.array_equal(padded.extinction_per_m[..., inside], truth.extinction_per_m)
    assert (padded.extinction_per_m[..., ~inside] == 0).all()
    again = with_clear_air(truth, 5_000.0, 4_000.0)
    assert np.array_equal(again.altitude_m, truth.altitude_m)


def test_coarser_columns_keep_the_mass_and_the_place_over_the_dateline(write_truth):
    truth = read_truth(write_truth(longitude=180.0))
    coarse = coarsened(truth, 2)
    assert coarse.extinction_per_m.shape == (7, 5, 6)
    assert coarse.extinction_per_m.mean() == pytest.approx(truth.extinction_per_m.mean())
    assert coarse.extinction_per_m[0, 0] == pytest.approx(truth.extinction_per_m[:2, :2].mean((0, 1)))
    turn = np.exp(1j * np.radians(truth.longitude_deg))
    middle = turn.reshape(7, 2, 5, 2).mean((1, 3))
    np.testing.assert_allclose(np.exp(1j * np.radians(coarse.longitude_deg)), middle, atol=1e-6)
    assert np.abs(coarse.longitude_deg).min() > 179.8


@pytest.mark.parametrize("columns", [0, 6])
def test_columns_that_make_no_two_blocks_are_refused(write_truth, columns):
    with pytest.raises(UsageError, match=rf"coarsen {columns}: .*half of the 10"):
        coarsened(read_truth(write_truth()), columns)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"latitude": (("x", "y"), np.full((14, 10), 95.0))}, "variable latitude: expected degrees"),
        ({"longitude": (("x", "y"), np.full((14, 10), np.nan))}, "variable longitude: missing or non-finite"),
        (
            {"altitude": (("altitude",), np.arange(6.0)[::-1])},
            "variable altitude: expected at least 2 values, ascending",
        ),
        ({"extinction_coefficient": (("x", "y"), np.ones((14, 10)))}, "extinction_coefficient: dimensions"),
        ({"extinction_coefficient": (("x", "y", "altitude"), np.full((14, 10, 6), -1.0))}, "values >= 0"),
        ({"extinction_coefficient": (("x", "y", "altitude"), np.zeros((14, 10, 6)))}, "some of them more"),
    ],
)
def test_a_truth_that_cannot_be_one_is_refused_by_name(write_truth, change, message):
    with pytest.raises(SceneError, match=rf"bad\.nc: .*{message}"):
        read_truth(write_truth(name="bad.nc", changed=change))


def test_a_truth_without_a_variable_or_wavelength_is_refused_by_name(write_truth, tmp_path):
    with xr.open_dataset(write_truth()) as good:
        good.drop_vars("longitude").to_netcdf(tmp_path / "no_longitude.nc")
        good.assign_attrs(wavelength_nm="red").to_netcdf(tmp_path / "no_wavelength.nc")
    with pytest.raises(SceneError, match=r"no_longitude\.nc: variable longitude is missing"):
        read_truth(tmp_path / "no_longitude.nc")
    with pytest.raises(SceneError, match=r"no_wavelength\.nc: attribute wavelength_nm"):
        read_truth(tmp_path / "no_wavelength.nc")


@pytest.mark.parametrize("content", [b"", b"not netCDF", None])
def test_a_file_that_is_no_netcdf_is_refused_by_name(tmp_path, content):
    path = tmp_path / "broken.nc"
    if content is not None:
        path.write_bytes(content)
    reason = "no such file" if content is None else "cannot be read"
    for read in (read_truth, open_extract):
        with pytest.raises(SceneError, match=rf"broken\.nc: {reason}"):
            read(path)


def test_a_truth_is_not_mistaken_for_an_extract(write_truth):
    with pytest.raises(SceneError, match="extinction is missing; expected the output of atmonr merge"):
        open_extract(write_truth())


@pytest.mark.skipif(not RICO.exists(), reason="the RICO truth is not beside this checkout")
def test_an_extract_without_heights_is_refused_by_name(write_extract, tmp_path):
    with xr.open_dataset(write_extract(lambda lat, lon, height, x, y: 0 * height, half_m=800.0)) as opened:
        dataset = opened.load()
    dataset["extinction"] = dataset["extinction"].isel(z=0, drop=True)
    dataset.to_netcdf(tmp_path / "flat.nc")
    with pytest.raises(SceneError, match=r"flat\.nc: variable extinction: dimensions"):
        open_extract(tmp_path / "flat.nc")


@pytest.mark.skipif(not RICO.exists(), reason=f"{RICO} is not there")
def test_an_independent_truth_file_is_read_as_it_is():
    truth = read_truth(RICO)
    with xr.open_dataset(RICO) as plain:
        assert np.array_equal(truth.extinction_per_m, plain.extinction_coefficient.values)
    assert truth.wavelength_nm == 670.0
    assert truth.edges_m[[0, -1]].tolist() == [3680.0, 14240.0]


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"altitude": (("altitude",), np.arange(6) * 1e300)}, "altitude"),
        ({"altitude": (("altitude",), np.array(list("abcdef")))}, "altitude: type"),
        (
            {"latitude": (("x", "y"), np.full((14, 10), 18.0), {"scale_factor": "two"})},
            "latitude: cannot be read",
        ),
        ({"extinction_coefficient": (("x", "y", "altitude"), np.full((14, 10, 6), 1e30))}, "none above 1000"),
    ],
)
def test_values_that_no_atmosphere_has(write_truth, changed, says) -> None:
    with pytest.raises(SceneError, match=says):
        read_truth(write_truth(changed=changed.items()))


def test_levels_too_fine_to_be_extended(write_truth) -> None:
    truth = read_truth(write_truth(step_m=1e-5))
    with pytest.raises(SceneError, match="altitude: levels 1e-05 m apart"):
        with_clear_air(truth, 0.0, 20_000.0)
