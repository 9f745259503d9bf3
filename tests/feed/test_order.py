"""Every ray once per epoch, in an order that is a function of seed and step alone."""

from __future__ import annotations

import pytest
import torch

from atmonr.errors import ConfigError
from atmonr.feed.order import Order, stream

CPU = torch.device("cpu")


def epoch(order: Order, number: int = 0) -> torch.Tensor:
    return torch.cat([order.batch(number * order.batches + k) for k in range(order.batches)])


def test_an_epoch_visits_every_ray_once() -> None:
    for number in (0, 1, 7):
        assert torch.equal(epoch(Order(120, 8, 3, CPU), number).sort().values, torch.arange(120))


def test_the_remainder_of_an_epoch_is_left_out_and_another_one_each_time() -> None:
    order = Order(100, 8, 3, CPU)
    assert order.batches == 12
    first, second = epoch(order, 0), epoch(order, 1)
    assert len(first.unique()) == 96
    assert set(first.tolist()) != set(second.tolist())


def test_a_resumed_run_sees_the_batches_that_the_killed_one_would_have_seen() -> None:
    """Also in the middle of an epoch, at its last batch and at the first of the next."""
    running = Order(100, 8, 3, CPU)
    batches = [running.batch(step) for step in range(40)]
    for step in (0, 5, 11, 12, 13, 23, 24, 39):
        assert torch.equal(Order(100, 8, 3, CPU).batch(step), batches[step])


def test_going_back_gives_the_same_batch_again() -> None:
    order = Order(100, 8, 3, CPU)
    before = order.batch(1)
    order.batch(30)
    assert torch.equal(order.batch(1), before)


def test_epochs_and_seeds_have_different_orders() -> None:
    orders = [epoch(Order(64, 8, seed, CPU), number) for seed in (0, 1, 2**32 - 1) for number in (0, 1, 2)]
    assert len({tuple(order.tolist()) for order in orders}) == 9


def test_the_order_is_shuffled() -> None:
    order = epoch(Order(4096, 64, 0, CPU)).float()
    natural = torch.arange(4096.0)
    assert abs(torch.corrcoef(torch.stack([order, natural]))[0, 1]) < 0.06


def test_a_batch_of_the_whole_table_is_the_largest() -> None:
    assert len(Order(16, 16, 0, CPU).batch(3)) == 16
    with pytest.raises(ConfigError, match=r"train\.batch_rays=17 is more than the scene's 16 rays"):
        Order(16, 17, 0, CPU)


def test_streams_of_other_steps_seeds_and_purposes_are_unrelated() -> None:
    keys = [(seed, step, purpose) for seed in (0, 1) for step in (0, 1, 2) for purpose in ("order", "jitter")]
    numbers = torch.stack([torch.rand(2000, generator=stream(CPU, *key)) for key in keys])
    correlation = torch.corrcoef(numbers) - torch.eye(len(keys))
    assert correlation.abs().max() < 0.1
    assert torch.equal(torch.rand(5, generator=stream(CPU, 1, 2, "jitter")), numbers[11, :5])
