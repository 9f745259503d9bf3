"""Where the sun stands, against published values."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from atmonr.geo.ephemeris import solar_angles


def test_the_worked_example_of_the_solar_position_algorithm():
    """Reda and Andreas 2004 (doi:10.1016/j.solener.2003.12.003), appendix A.5, without refraction."""
    moment = datetime(2003, 10, 17, 12, 30, 30, tzinfo=timezone(timedelta(hours=-7)))
    zenith, azimuth = solar_angles(moment, 39.742476, -105.1786)
    assert zenith == pytest.approx(90.0 - 39.872046, abs=0.02)
    assert azimuth == pytest.approx(194.340241, abs=0.03)


@pytest.mark.parametrize(
    ("moment", "latitude", "expected"),
    [
        (datetime(2025, 6, 21, 2, 42), 90.0, 66.56),  # June solstice, seen from the pole
        (datetime(2025, 12, 21, 15, 3), -90.0, 66.56),  # December solstice
        (datetime(2025, 3, 20, 9, 1), 90.0, 90.0),  # equinox
    ],
)
def test_seasons(moment, latitude, expected):
    assert solar_angles(moment, latitude, 0.0)[0] == pytest.approx(expected, abs=0.02)


def test_morning_is_in_the_east_and_time_without_zone_is_utc():
    morning = datetime(2025, 6, 5, 12, 0)
    zenith, azimuth = solar_angles(morning, 18.0, -61.5)
    assert 0 < azimuth < 90 and 0 < zenith < 90
    assert solar_angles(morning.replace(tzinfo=UTC), 18.0, -61.5) == (zenith, azimuth)
