"""Rays in pieces: each run of a ray is integrated where its field is, and the pieces are put together.

The equation of transfer is linear in what lies behind: a run enters with the radiance that leaves it and its
transmittance, two numbers whatever happens inside. So a ray through the fields of several ranks comes out as
if one rank had them all (Li et al. 2024, NeRF-XL, arXiv 2404.16221).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from atmonr.render.integrate import integrate


class Runs(NamedTuple):
    """What the runs of rays contribute; a run that is somewhere else contributes nothing: 0 and 1."""

    radiance: Tensor  # (B, M) that leaves each run towards the observer
    transmittance: Tensor  # (B, M) of each run
    weights: Tensor  # (B, S) share of each bin in the radiance of its run
    passed: Tensor  # (B, S) transmittance in front of each bin within its run


def integrate_runs(optical_depth_BS: Tensor, source_BS: Tensor, run_BS: Tensor, runs: int) -> Runs:
    """Integrates each run by itself; arguments as of `atmonr.render.integrate.integrate`.

    Args:
        optical_depth_BS: Zero in bins whose field is somewhere else.
        source_BS: Source function.
        run_BS: (B, S) int64, which run each bin belongs to, not decreasing along the ray.
        runs: Number M of runs.
    """
    parts, passed = [], torch.zeros_like(optical_depth_BS)
    for run in range(runs):
        inside = run_BS == run
        parts.append(integrate(optical_depth_BS * inside, source_BS))
        passed = torch.where(inside, parts[-1].passed, passed)
    radiance = torch.stack([part.radiance for part in parts], 1)
    transmittance = torch.stack([part.transmittance for part in parts], 1)
    return Runs(radiance, transmittance, torch.stack([part.weights for part in parts]).sum(0), passed)


def join(radiance_BM: Tensor, transmittance_BM: Tensor) -> tuple[Tensor, Tensor]:
    """Puts runs together.

    Args:
        radiance_BM: That leaves each run, ordered from the observer.
        transmittance_BM: Of each run.

    Returns:
        (B,) radiance that leaves the ray, and (B, M) transmittance from each run to the observer.
    """
    before = [torch.ones_like(transmittance_BM[:, 0])]
    for run in range(transmittance_BM.shape[1] - 1):
        before.append(before[-1] * transmittance_BM[:, run])
    passed = torch.stack(before, 1)
    return (passed * radiance_BM).sum(1), passed
