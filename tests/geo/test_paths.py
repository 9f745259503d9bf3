"""The compiled loop against the plain functions that say what it does."""

from __future__ import annotations

import numpy as np
import pytest

from atmonr.geo.frame import Frame
from atmonr.geo.paths import DEGREE, parabolas, path_points, paths_of
from atmonr.geo.rays import trace

TOP_M = 20_000.0
PLACES = [(40.0, -90.0), (-89.9, 10.0), (90.0, 0.0), (-12.0, 180.0), (60.0, 20.0), (0.0, 0.0)]
FRACTIONS = np.linspace(0.0, 1.0, 17)


def pixels(latitude: float, longitude: float, count: int = 20_000) -> list[np.ndarray]:
    random = np.random.default_rng(7)
    around = np.clip(latitude + random.uniform(-8.0, 8.0, count), -90.0, 90.0)
    columns = [
        around,
        longitude + random.uniform(-8.0, 8.0, count),
        random.uniform(-400.0, 6000.0, count),
        random.uniform(0.0, 84.0, count),
        random.uniform(-180.0, 360.0, count),
    ]
    return [values.astype(np.float32) for values in columns]


def frame_at(latitude: float, longitude: float) -> Frame:
    return Frame(latitude, longitude, (-1e6, -1e6, -500.0), (1e6, 1e6, TOP_M))


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("threads", ["1", "3"])
def test_paths_are_those_of_tracing(place, threads, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", threads)
    frame, seen = frame_at(*place), pixels(*place)
    rays = trace(*seen, TOP_M)
    expected = frame.from_ecef(np.stack([rays.at(s) for s in FRACTIONS], 1))
    found = paths_of(frame, TOP_M, *seen)
    error = np.abs(path_points(found.path, FRACTIONS) - expected)
    # Of the distance, a single-precision number keeps some centimetres.
    assert error[..., 2].max() < 0.01 and error[..., :2].max() < 0.15
    assert (found.path[:, 2, 0] == TOP_M).all()
    np.testing.assert_allclose(found.length_m, rays.length_m, rtol=1e-7)


@pytest.mark.parametrize("place", PLACES)
def test_parabolas_are_off_by_decimetres(place):
    path = paths_of(frame_at(*place), TOP_M, *pixels(*place)).path
    bends = parabolas(path)
    assert bends.shape == (20_000, 3, 3) and bends.dtype == np.float32
    short = path_points(np.pad(bends, ((0, 0), (0, 0), (0, DEGREE - 2))), FRACTIONS)
    off = np.abs(short - path_points(path, FRACTIONS))
    assert 0.1 < off.max() < 4.0
    assert np.median(off.max((1, 2))) < 0.3


def test_what_sees_nothing_is_not_a_number_throughout():
    seen = pixels(10.0, 20.0, 8)
    seen[0][0] = np.nan
    seen[1][1] = np.inf
    seen[2][2] = TOP_M
    seen[2][3] = np.nan
    seen[3][4] = 90.0
    seen[4][5] = np.nan
    found = paths_of(frame_at(10.0, 20.0), TOP_M, *seen)
    for values in found:
        assert np.isnan(values[:6]).all() and np.isfinite(values[6:]).all()


def test_beyond_the_frame_only_heights_are_known():
    """As `Frame` has it: the other side of the Earth lies in the same plane."""
    seen = pixels(10.0, 20.0, 8)
    far = frame_at(-10.0, -160.0)
    found = paths_of(far, TOP_M, *seen)
    assert np.isnan(far.from_ecef(trace(*seen, TOP_M).origin_ecef)[:, :2]).all()
    assert np.isnan(found.path[:, :2]).all() and np.isfinite(found.path[:, 2]).all()


def test_no_rays_give_no_paths():
    found = paths_of(frame_at(0.0, 0.0), TOP_M, *(values[:0] for values in pixels(0.0, 0.0, 8)))
    assert [values.shape for values in found] == [(0, 3, DEGREE + 1), (0,)]
