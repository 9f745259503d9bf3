from __future__ import annotations

import numpy as np
import pytest

from atmonr.evaluate import overview
from atmonr.evaluate.extract_file import open_extract
from atmonr.evaluate.overview import block_means, blocks_within, read_overview


def test_block_means_keep_a_rest_and_pass_over_what_is_unknown():
    values = np.arange(15.0).reshape(3, 5)
    values[0, 0] = values[2, 4] = np.nan
    means = block_means(values, (2, 2))
    assert means[0].tolist() == [(1 + 5 + 6) / 3, 5.0, 6.5]
    assert means[1, :2].tolist() == [10.5, 12.5] and np.isnan(means[1, 2])


@pytest.mark.parametrize("shape, cells", [((79, 650, 600), 1_000_000), ((5, 4, 3), 60), ((100, 1, 1), 10)])
def test_blocks_are_as_small_as_may_be(shape, cells):
    def count(blocks):
        return np.prod([-(-n // size) for n, size in zip(shape, blocks, strict=True)])

    high, wide, also_wide = blocks_within(shape, cells)
    assert wide == also_wide and count((high, wide, wide)) <= cells
    if (high, wide) != (1, 1):
        smaller = [(high - 1, wide, wide)] if high > 1 else []
        smaller += [(high, wide - 1, wide - 1)] if wide > 1 else []
        assert max(map(count, smaller)) > cells


def test_columns_are_those_of_the_file_and_the_volume_keeps_its_mean(write_extract, monkeypatch):
    """A layer from 2 to 5 km in the east, read in stripes."""

    def layer(lat, lon, height, x, y):
        return np.where((height > 2000) & (height < 5000) & (x > 0), 1e-3 * (1 + y / 1e5), 5e-5)

    monkeypatch.setattr(overview, "_ROWS_AT_ONCE", 8)
    file = open_extract(write_extract(layer))
    whole = file.extinction(669.0, slice(None), slice(None))
    seen = read_overview(file, 669.0, 20_000)
    assert seen.extinction_per_m.size <= 20_000 < whole.size and seen.blocks != (1, 1, 1)
    assert seen.wavelength_nm is None
    np.testing.assert_allclose(seen.optical_depth, whole.sum(0) * 80.0, rtol=1e-5)
    east = file.x_m > 0
    assert np.isnan(seen.cloud_top_m[:, ~east]).all()
    np.testing.assert_allclose(seen.cloud_top_m[:, east], 5000.0, atol=80.0)
    np.testing.assert_allclose(block_means(whole, seen.blocks), seen.extinction_per_m)
    assert seen.extinction_per_m.shape == (seen.altitude_m.size, seen.y_m.size, seen.x_m.size)
