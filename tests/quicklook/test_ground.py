"""Maps are right everywhere on the Earth."""

from __future__ import annotations

import re

import numpy as np
import pytest
from matplotlib.figure import Figure

from atmonr.quicklook.ground import Ground, draw_graticule
from tests.sensors.granules import make_fields

PLACES = [(18.0, -61.5), (0.0, 180.0), (-33.0, 90.0), (90.0, 0.0), (-89.95, 45.0)]


def nadir(centre, image=(30, 24)):
    fields = make_fields(image, centre)
    return fields["latitude"][39], fields["longitude"][39]


@pytest.mark.parametrize("centre", PLACES)
def test_a_cell_shows_the_pixel_that_lies_there(centre):
    latitude, longitude = nadir(centre)
    ground = Ground.around(latitude, longitude, 800)
    assert ground.x_m.size in (24, 25, 26) and ground.y_m.size in (30, 31, 32)
    places = np.stack(
        [*np.meshgrid(ground.x_m, ground.y_m), np.zeros((ground.y_m.size, ground.x_m.size))], -1
    )
    shown = [ground.show(values, latitude, longitude) for values in (latitude, longitude)]
    assert np.isfinite(shown).all()
    distance = np.linalg.norm(ground.frame.from_geodetic(*shown)[..., :2] - places[..., :2], axis=-1)
    assert distance.max() < 3000.0


def test_what_is_unknown_or_far_from_any_pixel_is_not_made_up():
    latitude, longitude = nadir((18.0, -61.5))
    ground = Ground.around(latitude, longitude, 800)
    values = np.ones_like(latitude)
    values[:, :10] = np.nan
    shown = ground.show(values, latitude, longitude)
    assert np.isnan(shown[:, :10]).all() and (shown[:, 10:] == 1.0).all()
    alone = ground.show(np.ones((3, 3)), latitude[:3, :3], longitude[:3, :3])
    assert np.isfinite(alone).sum() == np.isfinite(alone[:4, :4]).sum() and np.isfinite(alone[:3, :3]).all()


@pytest.mark.parametrize("centre", PLACES)
def test_names_of_the_graticule_stand_on_their_lines(centre):
    ground = Ground.around(*nadir(centre), 800)
    axis = Figure().subplots()
    draw_graticule(axis, ground)
    kinds = set()
    for text in axis.texts:
        value, side = re.fullmatch(r"([\d.]+)°([NSEW])", text.get_text()).groups()
        told = float(value) * (-1 if side in "SW" else 1)
        x, y = text.get_position()
        latitude, longitude, _ = ground.frame.to_geodetic([1e3 * x, 1e3 * y, 0.0])
        if side in "NS":
            assert abs(latitude - told) < 1e-3
        else:
            assert abs((longitude - told + 180.0) % 360.0 - 180.0) < 1e-3
        kinds.add(side in "NS")
    assert kinds == {True, False}
    assert len(axis.texts) >= 5
