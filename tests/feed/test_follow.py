"""Paths made by torch, as on a GPU, against the compiled loop and against fp64 geodesy."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from atmonr.feed.follow import follow, follow_in_torch
from atmonr.geo.paths import path_points
from atmonr.geo.rays import trace
from tests.geo.test_paths import FRACTIONS, PLACES, frame_at, pixels


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("top_m", [20e3, 50e3])
def test_torch_and_the_compiled_loop_make_the_same_paths(place: tuple[float, float], top_m: float) -> None:
    frame, seen = frame_at(*place), pixels(*place, count=2000)
    sight = torch.from_numpy(np.stack(seen))
    (path, length), (plain, plain_length) = (make(frame, top_m, sight) for make in (follow, follow_in_torch))
    assert path.dtype == plain.dtype == length.dtype == torch.float32
    rays = trace(*seen, top_m)
    expected = frame.from_ecef(np.stack([rays.at(s) for s in FRACTIONS], 1))
    for made in (path, plain):
        error = np.abs(path_points(made.numpy(), FRACTIONS) - expected)
        assert error[..., 2].max() < 0.01 and error[..., :2].max() < 0.2
    torch.testing.assert_close(plain_length, length, rtol=2e-7, atol=0.0)


def test_no_rays_have_no_paths() -> None:
    for make in (follow, follow_in_torch):
        path, length = make(frame_at(0.0, 0.0), 20e3, torch.empty(5, 0))
        assert path.shape == (0, 3, 5) and length.shape == (0,)
