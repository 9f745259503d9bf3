"""Small clouds that several tests look at."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch

from atmonr.simulate.volume import Volume

SlabMaker = Callable[..., Volume]


@pytest.fixture(autouse=True, scope="package")
def one_thread() -> Iterator[None]:
    """Threads of tests that run side by side would wait for each other more than they work."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def slab() -> SlabMaker:
    """An endless horizontal layer of given optical depth."""

    def make(optical_depth: float, albedo: float = 1.0, levels: int = 20, place: float = 0.0) -> Volume:
        side = np.arange(3) * 500.0 - 500.0
        altitude = 1000.0 + (np.arange(levels) + 0.5) * 2000.0 / levels
        extinction = np.full((3, 3, levels), optical_depth / 2000.0, np.float32)
        return Volume(
            side,
            side.copy(),
            altitude,
            extinction,
            place,
            place,
            single_scattering_albedo=albedo,
            endless=True,
        )

    return make


@pytest.fixture
def box() -> Volume:
    """An opaque block, 1 km wide and high, in the middle of clear air."""
    side = np.arange(20) * 100.0 - 950.0
    altitude = 1050.0 + np.arange(10) * 100.0
    inside = np.abs(side) < 500.0
    extinction = np.zeros((20, 20, 10), np.float32)
    extinction[np.ix_(inside, inside, np.ones(10, bool))] = 0.05
    return Volume(side, side.copy(), altitude, extinction, 10.0, 20.0)
