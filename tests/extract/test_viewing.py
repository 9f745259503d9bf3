from __future__ import annotations

import math

import pytest

from atmonr.extract.viewing import viewing


def test_sun_and_heading_from_a_scene():
    zenith, azimuth = math.radians(40.0), math.radians(-42.0)
    sun = math.sin(zenith) * math.sin(azimuth), math.sin(zenith) * math.cos(azimuth), math.cos(zenith)
    found = viewing({"sun": [[v] for v in sun], "track_m": [500.0, 0.0, -500.0, 1_000.0]})
    assert found == {
        "solar_zenith_deg": pytest.approx(40.0, abs=1e-3),
        "solar_azimuth_deg": pytest.approx(318.0, abs=1e-3),
        "sensor_heading_deg": pytest.approx(315.0, abs=1e-3),
    }


def test_what_a_scene_does_not_tell_is_left_out():
    assert viewing({}) == {} == viewing({"sun": None, "track_m": []})
