"""Which part of a granule is kept, and where its centre is."""

from __future__ import annotations

import numpy as np
import pytest

from atmonr.errors import GranuleError, UsageError
from atmonr.sensors.harp2 import open_harp2
from atmonr.store.survey import BoundingBox, blocks, survey
from tests.sensors.granules import NAME, make_fields, write_granule


@pytest.mark.parametrize("centre", [(18.0, -61.5), (10.0, 180.0), (0.0, 90.0), (89.9, 30.0), (-89.9, 0.0)])
def test_the_centre_is_the_middle_of_the_pixels_anywhere_on_earth(tmp_path, centre):
    with open_harp2(write_granule(tmp_path / NAME, make_fields(centre=centre))) as granule:
        part = survey(granule, None, 5)
    longitude = (part.longitude_deg - centre[1] + 180.0) % 360.0 - 180.0
    assert part.latitude_deg == pytest.approx(centre[0], abs=1e-3)
    assert longitude * np.cos(np.radians(centre[0])) == pytest.approx(0.0, abs=1e-3)
    assert -180.0 <= part.longitude_deg < 180.0
    assert (part.lines, part.pixels) == (slice(0, 12), slice(0, 9))
    assert part.nadir_view == 39


def test_a_view_without_geolocation_is_not_the_nadir_view(tmp_path):
    fields = make_fields()
    fields["latitude"][39] = np.nan
    with open_harp2(write_granule(tmp_path / NAME, fields)) as granule:
        assert survey(granule, None, 100).nadir_view == 40


def test_a_box_keeps_the_lines_and_pixels_that_it_meets(tmp_path):
    fields = make_fields()
    lat, lon = fields["latitude"][0], fields["longitude"][0]
    box = BoundingBox(lon[6, 2] - 1e-3, lat[3, 4] - 1e-3, lon[6, 5] + 1e-3, lat[8, 4] + 1e-3)
    with open_harp2(write_granule(tmp_path / NAME, fields)) as granule:
        part = survey(granule, box, 5)
    assert (part.lines, part.pixels) == (slice(3, 9), slice(2, 6))
    np.testing.assert_array_equal(part.latitude, fields["latitude"][:, 3:9, 2:6])
    np.testing.assert_array_equal(part.longitude, fields["longitude"][:, 3:9, 2:6])


def test_a_box_may_cross_the_dateline():
    box = BoundingBox(179.0, -10.0, -178.0, 10.0)
    lon = np.array([178.9, 179.5, 180.0, -180.0, -178.5, -177.9, 0.0, np.nan], np.float32)
    expected = [False, True, True, True, True, False, False, False]
    np.testing.assert_array_equal(box.contains(np.zeros(8, np.float32), lon), expected)
    np.testing.assert_array_equal(BoundingBox(-180.0, -90.0, 180.0, 90.0).contains(lon * 0, lon)[:7], True)


@pytest.mark.parametrize("box", [(0, 10, 5, -10), (0, -91, 5, 10), (-200, 0, 5, 10), (5, 0, 5, 10)])
def test_a_box_that_is_none_is_refused(box):
    with pytest.raises(UsageError, match="west,south,east,north"):
        BoundingBox(*box).check()


def test_a_box_beside_the_granule_and_a_granule_without_places_are_refused(tmp_path):
    fields = make_fields()
    with (
        open_harp2(write_granule(tmp_path / NAME, fields)) as granule,
        pytest.raises(UsageError, match="box"),
    ):
        survey(granule, BoundingBox(0.0, 0.0, 10.0, 10.0), 5)
    fields["latitude"][:] = np.nan
    path = write_granule(tmp_path / "b.nc", fields)
    with open_harp2(path) as granule, pytest.raises(GranuleError, match="no pixel has a latitude"):
        survey(granule, None, 5)


def test_blocks_cover_everything_once():
    assert list(blocks(11, 5)) == [slice(0, 5), slice(5, 10), slice(10, 11)]
