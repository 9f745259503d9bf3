"""The compiled loop against the plain functions that say what it does."""

from __future__ import annotations

import numpy as np
import pytest

from atmonr.geo.frame import Frame
from atmonr.geo.paths import paths_of
from atmonr.geo.rays import fit_paths, trace

TOP_M = 20_000.0
PLACES = [(40.0, -90.0), (-89.9, 10.0), (90.0, 0.0), (-12.0, 180.0), (60.0, 20.0), (0.0, 0.0)]


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
def test_paths_are_those_of_tracing_and_fitting(place, threads, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", threads)
    frame, seen = frame_at(*place), pixels(*place)
    rays = trace(*seen, TOP_M)
    expected, residual = fit_paths(frame, rays, TOP_M)
    found = paths_of(frame, TOP_M, *seen)
    # Of the distance, a single-precision number keeps some millimetres.
    np.testing.assert_allclose(found.path, expected, atol=5e-3, rtol=2e-7)
    np.testing.assert_allclose(found.length_m, rays.length_m, rtol=1e-7)
    np.testing.assert_allclose(found.residual_m, residual, atol=5e-3)
    assert found.residual_m.max() > 0.05 > found.residual_m[seen[3] < 60.0].max()


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
    expected, _ = fit_paths(far, trace(*seen, TOP_M), TOP_M)
    found = paths_of(far, TOP_M, *seen)
    assert np.isnan(found.path[:, :6]).all() and np.isfinite(found.path[:, 6:]).all()
    np.testing.assert_allclose(found.path, expected, atol=5e-3, rtol=2e-7)


def test_no_rays_give_no_paths():
    found = paths_of(frame_at(0.0, 0.0), TOP_M, *(values[:0] for values in pixels(0.0, 0.0, 8)))
    assert [values.shape for values in found] == [(0, 8), (0,), (0,)]
