"""How rays look at the scene: directions to sensor and sun, encoded once per ray."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

SCATTERING_ORDERS = 8
FEATURES = SCATTERING_ORDERS + 4
_WIDTH = 32


class Aspect(NamedTuple):
    """Directions of B rays. All vectors are along the frame's axes, the third one up."""

    to_sensor: Tensor  # (B, 3) unit
    to_sun: Tensor  # (B, 3) unit
    band: Tensor  # (B,) int64

    @property
    def scattering_cosine(self) -> Tensor:
        """(B,) cosine of the angle by which sunlight is turned towards the sensor, 1 forward."""
        return -(self.to_sensor * self.to_sun).sum(1)

    @property
    def sensor_cosine(self) -> Tensor:
        """(B,) cosine of the view zenith angle."""
        return self.to_sensor[:, 2]

    @property
    def sun_cosine(self) -> Tensor:
        """(B,) cosine of the solar zenith angle."""
        return self.to_sun[:, 2]

    def features(self) -> Tensor:
        """(B, FEATURES) numbers of order one: cosines of multiples of the scattering angle, the obliqueness
        of view and sun, and the tilt that a facet of water needs to reflect the sun, which is what glint
        depends on."""
        angle = self.scattering_cosine.clamp(-1.0, 1.0).acos()
        orders = torch.arange(1, SCATTERING_ORDERS + 1, dtype=angle.dtype, device=angle.device)
        half = torch.nn.functional.normalize(self.to_sensor + self.to_sun, dim=1)[:, 2]
        tilt = half.clamp_min(0.1).pow(-2) - 1.0  # tan^2 (Cox & Munk 1954, doi:10.1364/JOSA.44.000838)
        others = [self.sensor_cosine, self.sun_cosine, torch.exp(-tilt / 0.03), torch.exp(-tilt / 0.15)]
        return torch.cat([torch.cos(angle[:, None] * orders), torch.stack(others, 1)], 1)


def direction_network(outputs: int) -> nn.Sequential:
    """A small network of `Aspect.features` that gives zeros before training."""
    hidden, last = nn.Linear(FEATURES, _WIDTH), nn.Linear(_WIDTH, outputs)
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)
    return nn.Sequential(hidden, nn.ReLU(), last)
