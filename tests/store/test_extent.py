"""The box of a scene is that of all rays, although most are only estimated."""

from __future__ import annotations

import numpy as np
import pytest

from atmonr.geo.frame import Frame
from atmonr.geo.rays import trace
from atmonr.store.extent import _MARGIN_M, Estimate, Extent
from atmonr.store.layout import GEOMETRY
from tests.sensors.granules import make_fields

CENTRES = [(45.0, 180.0), (-60.0, 90.0), (90.0, 10.0)]


def some_rays(frame: Frame, count: int, largest_zenith_deg: float, reach_m: float = 1.5e6):
    """Places and angles all around a centre, as a file holds them."""
    random = np.random.default_rng(3)
    plane = random.uniform(-reach_m, reach_m, (count, 2))
    latitude, longitude, _ = frame.to_geodetic(np.concatenate([plane, np.zeros((count, 1))], 1))
    columns = (
        latitude,
        longitude,
        random.uniform(-400.0, 8000.0, count),
        random.uniform(0.0, largest_zenith_deg, count),
        random.uniform(-180.0, 180.0, count),
    )
    return [column.astype(np.float32) for column in columns]


def exact_ends(frame: Frame, rays, top_m: float) -> np.ndarray:
    lines = trace(*(column.astype(float) for column in rays), top_m)
    return np.stack([frame.from_ecef(lines.at(fraction)) for fraction in (1.0, 0.0)])


@pytest.mark.parametrize("centre", CENTRES)
@pytest.mark.parametrize(("zenith", "top_m"), [(75.0, 20_000.0), (85.0, 50_000.0)])
def test_estimates_are_well_within_their_margin(centre, zenith, top_m):
    frame = Frame(*centre, (-1.0, -1.0, -1.0), (1.0, 1.0, 1.0))
    rays = some_rays(frame, 4000, zenith)
    exact = exact_ends(frame, rays, top_m)
    error = Estimate(frame, top_m)(*rays) - np.moveaxis(exact[..., :2], 2, 1)
    assert np.abs(error).max() < _MARGIN_M / 2


def test_an_estimate_too_far_away_says_so():
    frame = Frame(0.0, 0.0, (-1.0, -1.0, -1.0), (1.0, 1.0, 1.0))
    places = [np.array([value], np.float32) for value in (0.0, 40.0, 0.0, 0.0, 0.0)]
    assert np.isinf(Estimate(frame, 1e4)(*places)).all()


@pytest.mark.parametrize("centre", CENTRES)
@pytest.mark.parametrize("reach_m", [2e3, 1.5e6, 4e6])
def test_the_box_is_that_of_all_rays(centre, reach_m):
    frame = Frame(*centre, (-1.0, -1.0, -1.0), (1.0, 1.0, 1.0))
    rays = some_rays(frame, 4000, 70.0, reach_m)
    usable = np.random.default_rng(4).random((1, 40, 100)) < 0.7
    sun = [np.full(4000, 40.0, np.float32), np.full(4000, 10.0, np.float32)]
    block = {
        name: np.where(usable, column.reshape(1, 40, 100), np.float32(np.nan))
        for name, column in zip(GEOMETRY, [*rays, *sun], strict=True)
    }
    extent = Extent(frame, 20_000.0)
    extent.add(block, usable)
    ends = exact_ends(frame, [column[usable.ravel()] for column in rays], 20_000.0).reshape(-1, 3)
    box = extent.boxed_frame()
    padding = [250.0, 250.0, 1.0]
    np.testing.assert_allclose(box.lower_m, ends.min(axis=0) - padding, atol=1e-6, rtol=0)
    np.testing.assert_allclose(box.upper_m, ends.max(axis=0) + padding, atol=1e-6, rtol=0)


@pytest.mark.parametrize("centre", CENTRES)
@pytest.mark.parametrize("spacing_m", [3000.0, 20_000.0])
def test_the_box_of_a_swath_is_found_from_tiles_near_its_rim(centre, spacing_m):
    fields = make_fields(image=(70, 45), centre=centre, spacing_m=spacing_m)
    block = {name: fields[name][::9].copy() for name in GEOMETRY}
    usable = np.ones(block["latitude"].shape, dtype=bool)
    usable[:, :3] = usable[:, :, 40:] = usable[2, 20:60, 30:] = False  # the rim is not that of the image
    for values in block.values():
        values[~usable] = np.nan
    frame = Frame(*centre, (-1.0, -1.0, -1.0), (1.0, 1.0, 1.0))
    extent = Extent(frame, 20_000.0)
    extent.add(block, usable)
    ends = exact_ends(frame, [block[name][usable] for name in GEOMETRY[:5]], 20_000.0).reshape(-1, 3)
    box, padding = extent.boxed_frame(), np.array([250.0, 250.0, 1.0])
    np.testing.assert_allclose(box.lower_m, ends.min(axis=0) - padding, atol=1e-5, rtol=0)
    np.testing.assert_allclose(box.upper_m, ends.max(axis=0) + padding, atol=1e-5, rtol=0)
