from __future__ import annotations

import math

import pytest

from atmonr.scene_info import check_scene_info

GOOD = {
    "scene_id": "s",
    "pixel_m": 3000.0,
    "footprint_m": [-4000, -4000.0, 4000.0, 4000.0],
    "outline_m": [[0.0, 1.0]],
    "wavelengths_nm": [441.0, 549.0],
    "sun": [[0.5], [0.5], [0.7]],
    "time_coverage_start": "2025-06-05T16:13:56+00:00",
    "rays": 5,
}


def test_what_a_scene_has_is_accepted_and_so_is_less() -> None:
    check_scene_info(GOOD)
    check_scene_info({})


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("scene_id", 3),
        ("pixel_m", 0.0),
        ("pixel_m", math.nan),
        ("pixel_m", "3"),
        ("pixel_m", True),
        ("pixel_m", 1e-9),
        ("footprint_m", [1.0, 0.0, 1.0, 2.0]),
        ("footprint_m", [0.0, 0.0, 1.0]),
        ("outline_m", [[0.0]]),
        ("wavelengths_nm", [441.0, math.inf]),
        ("sun", [[0.5], [0.5]]),
        ("time_coverage_start", "soon"),
        ("rays", -3),
        ("provenance", []),
    ],
)
def test_what_no_scene_has_is_refused_by_name(key: str, value: object) -> None:
    with pytest.raises(ValueError, match=key):
        check_scene_info({**GOOD, key: value})
