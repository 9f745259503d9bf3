"""Which rays a step sees: a pure function of seed and step, so that a resumed run goes on exactly."""

from __future__ import annotations

import torch
from torch import Tensor

from atmonr.errors import ConfigError


class Order:
    """Batches that visit every ray once per epoch in a random order; the remainder of an epoch is left out.

    The permutation lives on the device and is made anew at the start of an epoch: no list of indices is ever
    kept on the host and nothing about the order needs saving.
    """

    def __init__(self, rays: int, batch_rays: int, seed: int, device: torch.device) -> None:
        """
        Args:
            rays: Number of rays of the table.
            batch_rays: Rays in a global batch, at most `rays`.
            seed: Of the run.
            device: Of the table.

        Raises:
            ConfigError: The batch is larger than the table.
        """
        if batch_rays > rays:
            raise ConfigError(
                f"train.batch_rays={batch_rays} is more than the scene's {rays} rays; set it lower"
            )
        self.batches = rays // batch_rays
        self._rays, self._batch, self._seed, self._device = rays, batch_rays, seed, device
        self._epoch, self._permutation = -1, torch.empty(0, dtype=torch.int64, device=device)

    def batch(self, step: int) -> Tensor:
        """(B,) int64 positions in the table of the global batch of a step."""
        epoch, batch = divmod(step, self.batches)
        if epoch != self._epoch:
            generator = stream(self._device, self._seed, epoch, "order")
            self._permutation = torch.randperm(self._rays, generator=generator, device=self._device)
            self._epoch = epoch
        return self._permutation[batch * self._batch : (batch + 1) * self._batch]


def stream(device: torch.device, seed: int, step: int, purpose: str) -> torch.Generator:
    """An independent generator for one purpose in one step (or epoch) of a run."""
    mixed = 0
    for part in (seed, step, *purpose.encode()):
        # splitmix64 (Steele et al. 2014, doi:10.1145/2660193.2660195): neighbours give unrelated streams.
        mixed = (mixed + part + 0x9E3779B97F4A7C15) & 0xFFFFFFFFFFFFFFFF
        mixed = ((mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9) & 0xFFFFFFFFFFFFFFFF
        mixed = ((mixed ^ (mixed >> 27)) * 0x94D049BB133111EB) & 0xFFFFFFFFFFFFFFFF
        mixed ^= mixed >> 31
    return torch.Generator(device).manual_seed(mixed >> 1)
