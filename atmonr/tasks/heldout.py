"""How well a field renders views that it was not trained on."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from atmonr.evaluate.image import psnr, ssim
from atmonr.feed.rays import RayTable, load_rays
from atmonr.store.scene import Scene
from atmonr.tasks.view import Camera

_RAYS_AT_ONCE = 4096
_QUICK_RAYS = 8192
_PICTURES = 4


@dataclass(frozen=True)
class View:
    """One held-out view."""

    index: int
    target: NDArray[np.float64]  # (line, pixel) reflectance, NaN where there is no valid ray
    rendered: NDArray[np.float64]  # likewise

    @property
    def valid(self) -> NDArray[np.bool_]:
        """(line, pixel) whether there is a valid ray."""
        return np.isfinite(self.target)


@torch.no_grad()
def render(camera: Camera, table: RayTable, chosen: torch.Tensor) -> torch.Tensor:
    """(N,) reflectance of chosen rays of a table, every sample in the middle of its bin.

    A pixel is the mean of rays through the middles of its quarters.
    """
    parts = []
    for part in chosen.split(_RAYS_AT_ONCE):
        rays = table.take(part)
        total = torch.zeros_like(rays.reflectance)
        for place in itertools.product((0.25, 0.75), repeat=2):
            middle = table.length_m.new_tensor([0.5, *place]).expand(len(part), camera.samples, 3)
            total += camera.look(rays, middle)[-1].reflectance / 4
        parts.append(total)
    return torch.cat(parts)


class QuickScore:
    """PSNR over an even sample of all held-out rays; loads them once."""

    def __init__(self, scene: Scene, device: torch.device) -> None:
        self._table = load_rays(scene, np.flatnonzero(scene.holdout), device)
        rays = len(self._table)
        even = torch.linspace(0, rays - 1, min(_QUICK_RAYS, rays), dtype=torch.float64)
        self._chosen = even.long().to(device)
        self._peak = float(self._table.reflectance.max())

    def __call__(self, camera: Camera) -> dict[str, float]:
        """`heldout_psnr_db`, with the brightest held-out ray as peak."""
        error = render(camera, self._table, self._chosen) - self._table.reflectance[self._chosen]
        mean_square = float(error.double().square().mean())
        return {"heldout_psnr_db": 10.0 * math.log10(self._peak**2 / max(mean_square, 1e-30))}


def full_scores(scene: Scene, camera: Camera, device: torch.device, pictures: Path) -> dict[str, Any]:
    """PSNR and SSIM of every held-out view, by band and over all, and pictures of some views.

    The peak is the brightest valid held-out pixel of all bands. SSIM is the mean over views.

    Args:
        scene: The scene.
        camera: Renders it.
        device: Where the field is.
        pictures: Existing folder to draw `heldout.png` into.
    """
    from atmonr.evaluate.pictures import rendered_views

    views = [_render_view(scene, camera, device, int(index)) for index in np.flatnonzero(scene.holdout)]
    views = [view for view in views if view.valid.any()]
    peak = max(float(np.nanmax(view.target)) for view in views)
    band = scene.view_band
    names = [f"{wavelength:.0f} nm" for wavelength in scene.wavelengths_nm]
    by_band = {
        name: _scores([view for view in views if band[view.index] == number], peak)
        for number, name in enumerate(names)
    }
    shown = [views[k] for k in np.linspace(0, len(views) - 1, min(_PICTURES, len(views))).astype(int)]
    rendered_views(
        np.stack([view.target for view in shown]),
        np.stack([view.rendered for view in shown]),
        np.stack([view.valid for view in shown]),
        pictures / "heldout.png",
        titles=[f"{names[band[view.index]]}, {scene.view_angle_deg[view.index]:+.0f}°" for view in shown],
        psnr_db=[psnr(view.target, view.rendered, view.valid, peak=peak).value for view in shown],
    )
    scored = {name: score for name, score in by_band.items() if score}
    return {"peak_reflectance": peak, "bands": scored, "all": _scores(views, peak)}


def _render_view(scene: Scene, camera: Camera, device: torch.device, index: int) -> View:
    valid = scene.read("valid", views=slice(index, index + 1))[0].astype(bool)
    target, rendered = np.full(valid.shape, np.nan), np.full(valid.shape, np.nan)
    if valid.any():
        table = load_rays(scene, np.array([index]), device)
        target[valid] = table.reflectance.cpu().numpy()
        rendered[valid] = render(camera, table, torch.arange(len(table), device=device)).cpu().numpy()
    return View(index, target, rendered)


def _scores(views: list[View], peak: float) -> dict[str, float | int]:
    if not views:
        return {}
    target, rendered, valid = (
        np.stack([getattr(view, name) for view in views]) for name in ("target", "rendered", "valid")
    )
    overall = psnr(target, rendered, valid, peak=peak)
    structure = [ssim(view.target, view.rendered, view.valid, peak=peak) for view in views]
    return {
        "psnr_db": overall.value,
        "ssim": float(np.mean([score.value for score in structure])),
        "n": overall.pixels,
        "views": len(views),
    }
