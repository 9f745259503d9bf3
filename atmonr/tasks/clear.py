"""A first guess of air and ground from the darkest rays, so that training does not begin by inventing cloud.

An untrained scene that is too bright is made darker fastest by a lid of dark cloud at its top, and one that
is too dark by a bright haze. Both are slow to go away.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from atmonr.feed.rays import RayTable
from atmonr.fields.atmosphere import AtmosphereField
from atmonr.tasks.view import Camera

_RAYS = 2**16
_CLEAR_SHARE = 0.05  # of the rays of a view, taken to see neither cloud nor glint
_GROUND_SHARE = 0.25  # of the rays of a band, likewise; cloud that absorbs leaves as many too bright for it


class Glance(NamedTuple):
    """What some rays of a scene measured, and would measure of air alone."""

    reflectance: Tensor  # (N,)
    sky: Tensor  # (N,)
    view: Tensor  # (N,) int64
    band: Tensor  # (N,) int64


def even_sample(rays: int, most: int = _RAYS) -> Tensor:
    """(N,) int64 evenly spread positions among a number of rays."""
    # In float32 the last of more than 2^24 rays may be rounded to one that is not there.
    return torch.linspace(0, rays - 1, min(most, rays), dtype=torch.float64).long()


@torch.no_grad()
def glance(camera: Camera, rays: RayTable, chosen: Tensor) -> Glance:
    """Looks at chosen rays of a table."""
    chosen = chosen.to(rays.view.device)
    batch = rays.take(chosen)
    return Glance(batch.reflectance, camera.sky(batch), rays.view[chosen].long(), batch.band)


def start_clear(field: AtmosphereField, seen: Glance) -> None:
    """Sets the amount of air and the brightness of the ground of an untrained field.

    Air is as much of the real one as the darkest rays allow, in whichever view and band allows least: all of
    it over a real ocean, none in a simulation without air. The ground gets what then is left of the darker
    rays.
    """
    reflectance, sky, view, band = seen
    ratios = [_quantile(reflectance[view == v], _CLEAR_SHARE) / sky[view == v].mean() for v in view.unique()]
    with torch.no_grad():
        field.air.fill_(float(torch.stack(ratios).min().clamp(0.0, 1.0)))
    left = reflectance - field.air.item() * sky
    bands = len(field.setting.wavelengths_nm)
    share = _GROUND_SHARE if field.similar_albedo > 0.5 else 1.0 - _GROUND_SHARE
    field.surface.start_from(torch.stack([_quantile(left[band == number], share) for number in range(bands)]))


def _quantile(values: Tensor, share: float) -> Tensor:
    """A quantile; 0 of nothing."""
    return values.quantile(share) if len(values) else values.new_zeros(())
