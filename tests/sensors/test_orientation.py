"""Which way an image runs, told from some of its pixels where there are many."""

from __future__ import annotations

import numpy as np
import pytest

from atmonr.sensors import orientation
from atmonr.sensors.orientation import find_flips, sensor_behind
from tests.sensors.granules import make_fields

FIELDS = make_fields(image=(60, 40))
AHEAD, ASTERN = 0, 89  # 56 degrees forward and backward


@pytest.mark.parametrize("plenty", [11, 40, 100, 20_000])
@pytest.mark.parametrize("lines", [1, -1])
@pytest.mark.parametrize("pixels", [1, -1])
def test_some_pixels_tell_as_well_as_all(monkeypatch, plenty, lines, pixels):
    monkeypatch.setattr(orientation, "_PLENTY", plenty)
    latitude, longitude = (FIELDS[name][39][::lines, ::pixels].copy() for name in ("latitude", "longitude"))
    assert find_flips(latitude, longitude) == (lines < 0, pixels < 0)
    latitude[::2, 5:] = np.nan  # stripes
    assert find_flips(latitude, longitude) == (lines < 0, pixels < 0)


@pytest.mark.parametrize("plenty", [11, 40, 100, 20_000])
def test_the_sensor_is_behind_what_a_view_ahead_sees(monkeypatch, plenty):
    monkeypatch.setattr(orientation, "_PLENTY", plenty)
    for view, expected in ((AHEAD, 1.0), (ASTERN, -1.0)):
        place = [FIELDS[name][view] for name in ("latitude", "longitude", "sensor_azimuth_angle")]
        assert sensor_behind(*place) == pytest.approx(expected, abs=1e-3)
