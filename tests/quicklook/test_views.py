from __future__ import annotations

import numpy as np
import pytest

from atmonr.quicklook.views import granule_views, red_views, scene_views, true_colour_views
from atmonr.sensors.harp2 import open_harp2
from atmonr.store.ingest import ingest
from atmonr.store.scene import open_scene
from tests.sensors.granules import NAME, RED_DEG, write_granule


@pytest.fixture
def granule(tmp_path):
    with open_harp2(write_granule(tmp_path / NAME)) as opened:
        yield opened


@pytest.mark.slow
def test_a_scene_shows_the_reflectances_of_its_granule(granule, tmp_path):
    ingest(granule, tmp_path / "scene.zarr")
    scene = scene_views(open_scene(tmp_path / "scene.zarr"))
    views = granule_views(granule)
    assert scene.shape == views.shape
    for every in (1, 5):
        for a, b in zip(views.read([39, 4], every), scene.read([39, 4], every), strict=True):
            assert a.reflectance.shape == (-(-12 // every), -(-9 // every))
            for one, other in zip(a, b, strict=True):
                np.testing.assert_allclose(one, other, rtol=1e-5)


def test_colours_look_alike_and_red_views_go_from_fore_to_aft(granule):
    views = granule_views(granule)
    # The near-nadir triple of the instrument: 7.31, 6.18 and 8.48 degrees.
    assert true_colour_views(views) == (36, 4, 84)
    assert red_views(views) == list(range(10, 70))
    np.testing.assert_allclose(views.angle_deg[red_views(views)], RED_DEG, rtol=1e-6)
