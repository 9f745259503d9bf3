"""What rays see of one tile, and of the whole scene once the other tiles have told what they saw."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from atmonr.feed.tiles import TileBatch
from atmonr.fields.aspect import Aspect
from atmonr.render.segments import Runs, integrate_runs, join
from atmonr.tasks.view import Along, Camera, Seen, aspect_of


class Glimpse(NamedTuple):
    """What b rays meet in one tile."""

    runs: Runs
    own: Tensor  # (b, M) which runs are in this tile
    run: Tensor  # (b, S) int64, the run that each sample belongs to
    aspect: Aspect
    along: Along


def glimpse(camera: Camera, batch: TileBatch, places: Tensor) -> Glimpse:
    """Follows rays through one tile.

    Samples are where they would be without tiles, and each belongs to the run that the middle of the pixel is
    in there, so that every tile that a ray passes through knows them alike.

    Args:
        camera: Of the tile's field.
        batch: b rays.
        places: (b, samples, 3), see `Camera.look`.
    """
    rays, device = batch.rays, places.device
    aspect = aspect_of(rays, camera.field)
    features = aspect.features()
    samples, points, foot = camera.spread(rays, places)
    run = torch.searchsorted(batch.cuts, samples.position, right=True)
    own = torch.from_numpy(batch.runs == batch.tile).to(device)
    along = camera.along(rays, aspect, features, samples, points, inside=own.gather(1, run))
    runs = integrate_runs(along.optical_depth, along.source, run, batch.runs.shape[1])
    last = torch.from_numpy((batch.runs >= 0).sum(1) - 1).to(device)[:, None]
    lit = camera.field.foot(foot, aspect, features) * runs.transmittance.gather(1, last)[:, 0]
    ends_here = own.gather(1, last)
    radiance = runs.radiance.scatter_add(1, last, torch.where(ends_here, lit[:, None], 0.0))
    return Glimpse(runs._replace(radiance=radiance), own, run, aspect, along)


def complete(camera: Camera, batch: TileBatch, seen: Glimpse, others: Tensor) -> Seen:
    """What the rays show; gradients reach what lies in this tile and nothing else.

    Args:
        camera: Of the tile's field.
        batch: b rays.
        seen: What they meet in this tile.
        others: (b, M, 2) radiance and transmittance of runs in other tiles, see `Crossings.swap`.
    """
    radiance = torch.where(seen.own, seen.runs.radiance, others[..., 0])
    transmittance = torch.where(seen.own, seen.runs.transmittance, others[..., 1])
    beneath, passed = join(radiance, transmittance)
    # The air above the rays is shared: only the tile that answers for a ray learns from it.
    owned = torch.from_numpy(batch.owned).to(beneath.device)
    added, kept = (torch.where(owned, value, value.detach()) for value in camera.above(seen.aspect))
    in_front = passed.gather(1, seen.run)
    departure = ((seen.runs.weights * in_front).detach() * seen.along.departure.square()).sum(1)
    sparsity = ((seen.runs.passed * in_front).detach() * seen.along.haze).sum(1)
    return Seen(added + kept * beneath, seen.along.cloud_depth, sparsity, departure)


def owned_index(batch: TileBatch, owned: bool, device: torch.device) -> Tensor:
    """(n,) positions of the batch's rays for which this tile does, or does not, answer."""
    return torch.from_numpy(np.flatnonzero(batch.owned == owned)).to(device)
