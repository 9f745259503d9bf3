"""The order of rays of which a rank holds only some."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from atmonr.errors import ConfigError

_ROUNDS = 8
_MIX = (np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB))


class ScatteredOrder:
    """Batches that visit every ray once per epoch in a random order; the remainder of an epoch is left out.

    A pure function of (seed, step) like `atmonr.feed.order.Order`, but no permutation is ever stored: memory
    would grow with the whole scene, not with the part of it that a rank holds. The permutation is a Feistel
    network on two digits (Black and Rogaway 2002, doi:10.1007/3-540-45760-7_9), repeated for the few numbers
    that fall beyond the last ray. It runs on the host, which thereby knows what the rank has to exchange
    without asking the device.
    """

    def __init__(self, rays: int, batch_rays: int, seed: int) -> None:
        """
        Args:
            rays: Number of rays of the whole scene.
            batch_rays: Rays in a global batch, at most `rays`.
            seed: Of the run.

        Raises:
            ConfigError: The batch is larger than the scene.
        """
        if batch_rays > rays:
            raise ConfigError(
                f"train.batch_rays={batch_rays} is more than the scene's {rays} rays; set it lower"
            )
        self.batches = rays // batch_rays
        self._rays, self._batch, self._seed = rays, batch_rays, seed
        first = math.isqrt(rays - 1) + 1
        self._digits = (np.uint64(first), np.uint64(-(-rays // first)))

    def batch(self, step: int) -> NDArray[np.int64]:
        """(B,) numbers, in the whole scene, of the rays of a step's global batch."""
        epoch, batch = divmod(step, self.batches)
        place = np.arange(batch * self._batch, (batch + 1) * self._batch, dtype=np.uint64)
        number = self._permute(place, epoch)
        while (beyond := number >= self._rays).any():
            number[beyond] = self._permute(number[beyond], epoch)
        return number.astype(np.int64)

    def _permute(self, place: NDArray[np.uint64], epoch: int) -> NDArray[np.uint64]:
        """A permutation of the numbers below the product of the digits."""
        high, low = place // self._digits[1], place % self._digits[1]
        for turn in range(_ROUNDS):
            key = np.uint64((self._seed << 32 ^ epoch << 4 ^ turn) & 0xFFFFFFFFFFFFFFFF)
            if turn % 2:
                low = (low + _hash(high, key) % self._digits[1]) % self._digits[1]
            else:
                high = (high + _hash(low, key) % self._digits[0]) % self._digits[0]
        return high * self._digits[1] + low


def _hash(value: NDArray[np.uint64], key: np.uint64) -> NDArray[np.uint64]:
    """splitmix64 (Steele et al. 2014, doi:10.1145/2660193.2660195) of value and key."""
    mixed = value * np.uint64(0x9E3779B97F4A7C15)
    for number in (key, np.uint64(0x9E3779B97F4A7C15)):
        mixed = mixed + number
        mixed = (mixed ^ (mixed >> np.uint64(30))) * _MIX[0]
        mixed = (mixed ^ (mixed >> np.uint64(27))) * _MIX[1]
        mixed = mixed ^ (mixed >> np.uint64(31))
    return mixed
