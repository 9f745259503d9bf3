"""The equation of transfer along rays, by quadrature in fp32."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Rendered(NamedTuple):
    """What rays collect."""

    radiance: Tensor  # (B,) in the units of the source function
    transmittance: Tensor  # (B,) of the whole ray
    weights: Tensor  # (B, S) share of each bin; with the transmittance they sum to 1
    passed: Tensor  # (B, S) transmittance in front of each bin


def integrate(optical_depth_BS: Tensor, source_BS: Tensor) -> Rendered:
    """Radiance that leaves the first bin towards the observer, with nothing behind the last.

    I = sum_i T_i (1 - exp(-tau_i)) J_i, T_i = exp(-sum_{j<i} tau_j): exact for extinction and source function
    that are constant within each bin (Chandrasekhar 1960, ch. I, eq. 48; Max 1995, doi:10.1109/2945.468400).

    Args:
        optical_depth_BS: (B, S) optical depth of each bin, ordered from the observer; any floating type.
        source_BS: (B, S) source function.
    """
    with torch.autocast(optical_depth_BS.device.type, enabled=False):
        depth = optical_depth_BS.float()
        passed = torch.exp(-torch.nn.functional.pad(depth.cumsum(1), (1, 0)))
        # expm1 keeps the relative precision of thin bins, which a difference of transmittances loses.
        weights = passed[:, :-1] * -torch.expm1(-depth)
        return Rendered((weights * source_BS.float()).sum(1), passed[:, -1], weights, passed[:, :-1])
