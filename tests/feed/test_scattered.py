"""The order of scattered rays is a permutation that nobody has to store."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atmonr.errors import ConfigError
from atmonr.feed.scattered import ScatteredOrder


def epoch(order: ScatteredOrder) -> np.ndarray:
    return np.concatenate([order.batch(k) for k in range(order.batches)])


@settings(deadline=None)
@given(rays=st.integers(1, 3000), seed=st.integers(0, 2**32 - 1), number=st.integers(0, 10**6))
def test_every_ray_is_seen_once_in_an_epoch(rays: int, seed: int, number: int) -> None:
    assert sorted(ScatteredOrder(rays, rays, seed).batch(number)) == list(range(rays))


def test_the_remainder_of_an_epoch_is_left_out() -> None:
    order = ScatteredOrder(1000, 300, 0)
    assert order.batches == 3
    assert len(set(epoch(order).tolist())) == 900


def test_a_batch_is_a_function_of_seed_and_step_alone() -> None:
    first, second = ScatteredOrder(5000, 64, 7), ScatteredOrder(5000, 64, 7)
    steps = [0, 500, 3, 77]
    for step in steps:
        second.batch(step + 1)
        assert (first.batch(step) == second.batch(step)).all()
    assert (first.batch(0) != ScatteredOrder(5000, 64, 8).batch(0)).any()
    assert (first.batch(0) != first.batch(first.batches)).any()  # another epoch


def test_rays_of_a_batch_come_from_everywhere() -> None:
    """Neighbours in the file see the same cloud: a batch of them would teach little."""
    order = ScatteredOrder(100_000, 1000, 1)
    counts = np.stack([np.histogram(order.batch(k), 10, (0, 100_000))[0] for k in range(100)])
    assert counts.min() > 55 and counts.max() < 150  # 100 expected, 9.5 standard deviation
    numbers = epoch(order)
    assert abs(np.corrcoef(numbers[:-1], numbers[1:])[0, 1]) < 0.015


def test_a_batch_of_a_whole_granule_needs_no_memory_for_the_others() -> None:
    numbers = ScatteredOrder(42_000_000_000, 8192, 3).batch(12345)
    assert len(np.unique(numbers)) == 8192
    assert numbers.max() > 2**35


def test_a_batch_larger_than_the_scene_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"train.batch_rays=11 is more than the scene's 10 rays"):
        ScatteredOrder(10, 11, 0)
