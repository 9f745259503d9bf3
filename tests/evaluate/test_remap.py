from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from atmonr.errors import SceneError
from atmonr.evaluate.extract_file import open_extract
from atmonr.evaluate.remap import on_truth_cells
from atmonr.evaluate.truth import read_truth

PLACES = [
    (0.0, 20.0),
    (60.0, -20.0),
    (-35.0, 100.0),
    (18.0, 180.0),
    (18.0, 90.0),
    (-18.0, -90.0),
    (89.99, 0.0),
]


@pytest.mark.parametrize("latitude, longitude", PLACES)
def test_every_direction_of_the_extract_lands_where_it_belongs(
    write_truth, write_extract, latitude, longitude
):
    # What is linear has its centre's value as mean over a cell, but for the steps of the extract itself.
    extract = write_extract(
        lambda lat, lon, h, x, y: 1.0 + 3e-5 * x + 2e-5 * y + 1e-4 * h, latitude, longitude
    )
    truth = read_truth(write_truth(latitude=latitude, longitude=longitude))
    values, covered = on_truth_cells(open_extract(extract), truth)
    frame = open_extract(extract).frame
    at = frame.from_geodetic(truth.latitude_deg[..., None], truth.longitude_deg[..., None], truth.altitude_m)
    step = 3e-5 * 160.0 + 2e-5 * 160.0 + 1e-4 * 40.0
    np.testing.assert_allclose(values, 1.0 + at @ [3e-5, 2e-5, 1e-4], atol=step)
    assert (covered == 1.0).all()


def test_a_layer_is_averaged_over_the_cells_it_crosses(write_truth, write_extract):
    # Cells are 400 m high with edges at 4000, 4400 and 4800 m; the layer fills one and half of the next.
    extract = write_extract(
        lambda lat, lon, h, x, y: np.where((h > 4_000) & (h < 4_600), 0.02, 0.0), step_m=200.0
    )
    truth = read_truth(write_truth())
    values, _ = on_truth_cells(open_extract(extract), truth)
    np.testing.assert_allclose(values[7, 5], [0.0, 0.0, 0.0, 0.02, 0.01, 0.0], atol=1e-3)
    np.testing.assert_allclose(values.sum(-1) * 400.0, 0.02 * 600.0, rtol=1e-6)


def test_outside_the_extract_is_clear_and_not_covered(write_truth, write_extract):
    extract = write_extract(lambda lat, lon, h, x, y: np.ones_like(h), half_m=3_000.0, top_m=4_000.0)
    values, covered = on_truth_cells(open_extract(extract), read_truth(write_truth()))
    np.testing.assert_allclose(values, covered)
    assert (covered[..., 3:] == 0).all()
    assert 0.2 < covered[..., 0].mean() < 0.5
    assert covered[0].sum() == covered[-1].sum() == 0


def test_what_no_scene_covers_is_clear_and_not_covered(write_truth, write_extract):
    extract = write_extract(lambda lat, lon, h, x, y: np.where(x < 0, np.nan, 1.0))
    values, covered = on_truth_cells(open_extract(extract), read_truth(write_truth()))
    np.testing.assert_allclose(values, covered)
    assert 0.4 < covered.mean() < 0.6 and covered.max() == 1.0


@pytest.mark.parametrize("latitude, longitude", [(19.5, -61.5), (-18.0, 118.5)])
def test_another_place_is_refused(write_truth, write_extract, latitude, longitude):
    extract = write_extract(lambda lat, lon, h, x, y: np.ones_like(h), latitude, longitude)
    with pytest.raises(SceneError, match=r"extract\.nc: lies nowhere inside .*truth\.nc"):
        on_truth_cells(open_extract(extract), read_truth(write_truth()))


def test_the_band_nearest_to_the_truth_is_taken(write_truth, write_extract):
    path = write_extract(lambda lat, lon, h, x, y: np.ones_like(h))
    with xr.open_dataset(path) as single:
        banded = xr.concat([single.extinction * factor for factor in (1, 2, 3, 4)], "band").to_dataset()
        banded["wavelength"] = ("band", [441.0, 549.0, 669.0, 873.0])
        banded.assign_attrs(single.attrs).to_netcdf(path.with_name("banded.nc"))
    values, _ = on_truth_cells(open_extract(path.with_name("banded.nc")), read_truth(write_truth()))
    assert np.unique(values) == pytest.approx([3.0])


@pytest.mark.parametrize("bad", [-1.0, np.inf])
def test_impossible_extinction_is_refused(write_truth, write_extract, bad):
    extract = write_extract(lambda lat, lon, h, x, y: np.where(h > 4_000, bad, 1.0))
    with pytest.raises(SceneError, match="variable extinction: negative or infinite"):
        on_truth_cells(open_extract(extract), read_truth(write_truth()))
