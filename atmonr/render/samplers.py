"""Where along a ray the field is looked at.

Positions are fractions s of the ray, 0 at the top of the atmosphere and 1 at the surface. Every sampler
divides the whole of [0, 1] into bins and puts one sample into each, so that no part of the ray is left out of
the quadrature.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

BIAS_POWER = 2.0  # bins shrink linearly towards the surface, where the air and most clouds are


class Samples(NamedTuple):
    """One sample in each of S bins that cover the ray."""

    position: Tensor  # (B, S) in [0, 1]
    width: Tensor  # (B, S), sums to 1 along each ray


def uniform(jitter_BS: Tensor) -> Samples:
    """Stratified samples in bins of equal length.

    Args:
        jitter_BS: Place of each sample in its bin, in [0, 1); 0.5 gives the midpoint rule.
    """
    bins = jitter_BS.shape[1]
    start = torch.arange(bins, dtype=jitter_BS.dtype, device=jitter_BS.device)
    return Samples((start + jitter_BS) / bins, torch.full_like(jitter_BS, 1.0 / bins))


def biased(jitter_BS: Tensor) -> Samples:
    """Stratified samples in bins that shrink towards the surface: edges at 1 - (1 - k/S)^2."""
    bins = jitter_BS.shape[1]
    fraction = torch.linspace(0.0, 1.0, bins + 1, dtype=jitter_BS.dtype, device=jitter_BS.device)
    edges = 1.0 - (1.0 - fraction) ** BIAS_POWER
    return _in_bins(edges.expand(len(jitter_BS), -1), jitter_BS)


@torch.no_grad()
def pdf(weights_BP: Tensor, jitter_BS: Tensor, floor: float) -> Samples:
    """Stratified samples in bins that hold equal shares of a piecewise constant density.

    Args:
        weights_BP: (B, P) non-negative weights of P equal parts of each ray; need not be normalised.
        jitter_BS: Place of each sample in its bin, in [0, 1).
        floor: Share in (0, 1] of the samples spread evenly over the ray, so that nothing stays unseen.
    """
    parts = weights_BP.shape[1]
    total = weights_BP.sum(1, keepdim=True)
    share = torch.where(total > 0, weights_BP / total.clamp_min(torch.finfo(total.dtype).tiny), 1.0 / parts)
    share = floor / parts + (1.0 - floor) * share
    cumulative = torch.nn.functional.pad(share.cumsum(1), (1, 0))
    cumulative = cumulative / cumulative[:, -1:]
    target = torch.linspace(0.0, 1.0, jitter_BS.shape[1] + 1, dtype=share.dtype, device=share.device)
    target = target.expand(len(share), -1).contiguous()
    part = (torch.searchsorted(cumulative, target, right=True) - 1).clamp(0, parts - 1)
    below, above = cumulative.gather(1, part), cumulative.gather(1, part + 1)
    edges = (part + ((target - below) / (above - below)).clamp(0.0, 1.0)) / parts
    edges[:, 0], edges[:, -1] = 0.0, 1.0
    return _in_bins(edges, jitter_BS)


@torch.no_grad()
def even_parts(samples: Samples, weights_BS: Tensor, parts: int) -> Tensor:
    """(B, P) density of weights, given for the bins of samples, in P equal parts of each ray; for `pdf`."""
    density = weights_BS / samples.width
    ends = samples.width.cumsum(1)
    middle = (torch.arange(parts, dtype=ends.dtype, device=ends.device) + 0.5) / parts
    place = torch.searchsorted(ends, middle.expand(len(ends), -1).contiguous())
    return density.gather(1, place.clamp_max(ends.shape[1] - 1))


def _in_bins(edges: Tensor, jitter: Tensor) -> Samples:
    width = edges.diff(dim=1)
    return Samples(edges[:, :-1] + jitter * width, width)
