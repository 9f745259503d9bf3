"""How well a field renders views that it was not trained on."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from atmonr.evaluate.image import psnr, ssim
from atmonr.feed.rays import RayTable, load_rays
from atmonr.store.scene import Scene
from atmonr.tasks.clear import even_sample
from atmonr.tasks.view import Camera

RAYS_AT_ONCE = 4096
QUICK_RAYS = 8192
_PICTURES = 4


# Where a pixel is looked at: in the middle of each bin, through the middle of each quarter of the pixel.
QUARTERS = [(0.5, *place) for place in itertools.product((0.25, 0.75), repeat=2)]


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
    for part in chosen.split(RAYS_AT_ONCE):
        rays = table.take(part)
        total = torch.zeros_like(rays.reflectance)
        for place in QUARTERS:
            middle = rays.length_m.new_tensor(place).expand(len(part), camera.samples, 3)
            total += camera.look(rays, middle)[-1].reflectance / len(QUARTERS)
        parts.append(total)
    return torch.cat(parts)


class QuickScore:
    """PSNR over an even sample of all held-out rays; loads them once."""

    def __init__(self, scene: Scene, device: torch.device) -> None:
        self._table = load_rays(scene, np.flatnonzero(scene.holdout), device)
        self._chosen = even_sample(len(self._table), QUICK_RAYS).to(device)
        self._peak = float(self._table.reflectance.max())

    def __call__(self, camera: Camera) -> dict[str, float]:
        """`heldout_psnr_db`, with the brightest held-out ray as peak."""
        error = render(camera, self._table, self._chosen) - self._table.reflectance[self._chosen]
        return quick_score(self._peak, float(error.double().square().mean()))


def quick_score(peak: float, mean_square: float) -> dict[str, float]:
    """The score of a sample of held-out rays."""
    return {"heldout_psnr_db": 10.0 * math.log10(peak**2 / max(mean_square, 1e-30))}


def full_scores(scene: Scene, views: Iterable[View], pictures: Path) -> dict[str, Any]:
    """PSNR and SSIM of every held-out view, by band and over all, and pictures of some views.

    The peak is the brightest valid held-out pixel of all bands. SSIM is the mean over views.

    Args:
        scene: The scene.
        views: Its held-out views.
        pictures: Existing folder to draw `heldout.png` into.
    """
    from atmonr.evaluate.pictures import rendered_views

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


def heldout_views(scene: Scene) -> list[int]:
    """Indices of the views that are kept from training."""
    return [int(index) for index in np.flatnonzero(scene.holdout)]


def seen_view(scene: Scene, camera: Camera, device: torch.device, index: int) -> View:
    """Render a view."""
    view = empty_view(scene, index)
    if (valid := valid_pixels(scene, index)).any():
        table = load_rays(scene, np.array([index]), device)
        view.target[valid] = table.reflectance.cpu().numpy()
        view.rendered[valid] = render(camera, table, torch.arange(len(table), device=device)).cpu().numpy()
    return view


def valid_pixels(scene: Scene, index: int) -> NDArray[np.bool_]:
    """(line, pixel) where a view has rays."""
    return scene.read("valid", views=slice(index, index + 1))[0].astype(bool)


def empty_view(scene: Scene, index: int) -> View:
    """A view without a valid ray yet."""
    return View(index, np.full(scene.shape[1:], np.nan), np.full(scene.shape[1:], np.nan))


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
