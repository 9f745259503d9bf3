"""Every kind of grid: what the file says of a cell's place is where the field was asked."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from atmonr.extract.footprint import Footprint
from atmonr.extract.merge import merge
from tests.extract.grids import DEGREE_M, PLACES, TOP_M, bands_of, extract, make, scene_of

KINDS = ("voxel", "l1c", "curtain", "global")
# One place of each kind in the quick tests.
QUICK = {("l1c", "dateline"), ("curtain", "35 south"), ("global", "dateline")}
CASES = [
    pytest.param(kind, place, marks=[] if (kind, place) in QUICK else pytest.mark.slow)
    for kind in KINDS
    for place in PLACES
]
PER_METRE = np.array([1 / DEGREE_M, 1 / 6.4e6, 1 / 6.4e6, 1.0])


@pytest.mark.parametrize("kind, place", CASES)
def test_a_field_equal_to_a_coordinate_comes_back_equal_to_that_coordinate(kind, place, source, tmp_path):
    grid = make(kind, *PLACES[place])
    scene = scene_of(grid.frame)
    parts = extract(tmp_path / "parts.zarr", grid, source, scene)
    with xr.load_dataset(merge([parts.path], tmp_path / "extract.nc")) as dataset:
        assert dataset.attrs["grid"] == kind
        block = dataset.extinction.isel(band=0, drop=True)
        lat, lon, altitude = (
            dataset[name].broadcast_like(block).transpose(*block.dims).values
            for name in ("latitude", "longitude", "z")
        )
        expected = np.moveaxis(bands_of(lat, lon, altitude), -1, 0)
        per_metre = PER_METRE.reshape(-1, *(1,) * block.ndim)
        error_m = np.abs(dataset.extinction.values - expected) / per_metre
        present = np.isfinite(block.values)
        # Fields tell tenths of a metre in single precision; latitude turns round at a pole.
        smooth = present & (np.abs(lat) < 89.99)
        assert 0.2 < present.mean() < 0.95
        assert error_m[:, smooth].max() < 4.0
        # What is missing is what no image looked at, or is above the top.
        places = grid.frame.from_geodetic(lat, lon)[..., :2]
        inside = Footprint.of(scene).holds(places) & (altitude <= TOP_M) & (altitude >= -10.0)
        assert np.array_equal(present, inside)
