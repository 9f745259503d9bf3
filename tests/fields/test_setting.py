from __future__ import annotations

import json

from atmonr.fields.setting import Setting
from tests.fields.make import make_setting


def test_a_setting_survives_json_bit_for_bit_among_other_keys() -> None:
    setting = make_setting((60.0, 179.123456789), sun=(0.1, 0.2, 0.97))
    text = json.dumps({**setting.to_json(), "name": "a", "footprint_m": [0, 0, 1, 1]})
    assert Setting.from_json(json.loads(text)) == setting


def test_extent_is_the_size_of_the_box() -> None:
    assert make_setting(half_m=(100.0, 200.0)).extent_m == (200.0, 400.0, 20_000.0)
