from __future__ import annotations

import numpy as np
import pytest
from pyproj import Geod

from atmonr.geo.frame import Frame
from atmonr.geo.track import distance_along_m, inside_box, longest_run, match_track

BOX = (-5_000.0, -8_500.0, 5_000.0, 8_500.0)


@pytest.mark.parametrize(
    ("inside", "expected"),
    [
        ("", (0, 0)),
        ("...", (0, 0)),
        ("###", (0, 3)),
        (".##.###.#", (4, 7)),
        ("##.##", (0, 2)),
        ("...#", (3, 4)),
    ],
)
def test_the_longest_run_is_found(inside, expected):
    found = longest_run([mark == "#" for mark in inside])
    assert (found.start, found.stop) == expected


@pytest.mark.parametrize(
    ("observed", "offset"), [((100.0, 400.0), 0.0), ((0.0, 50.0), 61.0), ((200.0, 300.0), -89.0)]
)
def test_time_is_counted_from_the_nearest_moment_of_the_observation(observed, offset):
    inside = np.arange(30) % 29 > 8  # profiles 9 to 28, and 0 not
    match = match_track(inside[:15], 100.0 + np.arange(15), observed)
    assert match is not None and (match.profiles.start, match.profiles.stop) == (9, 15)
    assert match.time_offset_s == offset


def test_no_overlap_is_none_and_an_unknown_time_is_nan():
    assert match_track([False] * 3, np.arange(3), (0.0, 1.0)) is None
    match = match_track([True], [5.0], None)
    assert match is not None and np.isnan(match.time_offset_s)


@pytest.mark.parametrize("centre", [(18.0, -61.5), (-50.0, 180.0), (-89.97, 90.0), (0.0, -180.0)])
def test_a_track_enters_and_leaves_a_box_anywhere_on_earth(centre):
    frame = Frame(*centre, (-1e4, -1e4, 0.0), (1e4, 1e4, 2e4))
    geod = Geod(ellps="WGS84")
    metres = np.arange(-20_000.0, 20_001.0, 1_000.0)
    # Along the meridian of the centre, over the pole if need be.
    longitude, latitude, _ = geod.fwd(
        np.full(metres.size, centre[1]), np.full(metres.size, centre[0]), np.zeros(metres.size), metres
    )
    inside = inside_box(frame, BOX, latitude, longitude)
    np.testing.assert_array_equal(metres[inside], np.arange(-8_000.0, 8_001.0, 1_000.0))
    np.testing.assert_allclose(distance_along_m(latitude, longitude), metres - metres[0], atol=2.0)


def test_a_place_that_is_missing_is_not_inside():
    frame = Frame(0.0, 0.0, (-1e4, -1e4, 0.0), (1e4, 1e4, 2e4))
    assert inside_box(frame, BOX, [0.0, np.nan], [0.0, np.nan]).tolist() == [True, False]
