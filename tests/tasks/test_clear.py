"""The first guess of air and ground comes from the darkest rays."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from atmonr.feed.rays import RayTable, load_rays
from atmonr.fields.build import build_field
from atmonr.store.scene import Scene
from atmonr.tasks.clear import even_sample, glance, start_clear
from atmonr.tasks.tomography import setting_of
from atmonr.tasks.view import Camera
from tests.feed.scenes import make_scene
from tests.fields.make import make_config

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    return make_scene(tmp_path_factory.mktemp("scene"))


def start(camera: Camera, table: RayTable) -> None:
    start_clear(camera.field, glance(camera, table, even_sample(len(table))))


def started(scene: Scene, air: float, ground: list[float], cloudy: float = 0.0) -> Camera:
    """A field started on rays of known air over a known grey ground, some of them brightened by cloud."""
    camera = Camera(build_field(make_config(), setting_of(scene)), make_config())
    table: RayTable = load_rays(scene, np.arange(90), CPU)
    batch = table.take(torch.arange(len(table)))
    seen: Tensor = air * camera.sky(batch) + torch.tensor(ground)[batch.band]
    cloud = torch.rand(len(table), generator=torch.Generator().manual_seed(0)) < cloudy
    start(camera, replace(table, reflectance=seen + 0.5 * cloud))
    return camera


def reflectance(camera: Camera) -> Tensor:
    return torch.nn.functional.softplus(camera.field.surface.place.bias.detach())


def test_without_air_the_ground_is_what_is_seen(scene: Scene) -> None:
    """Where it is black in one band, there can be no air."""
    camera = started(scene, 0.0, [0.0, 0.1, 0.2, 0.3])
    assert camera.field.air.item() == pytest.approx(0.0, abs=1e-6)
    torch.testing.assert_close(
        reflectance(camera), torch.tensor([0.003, 0.1, 0.2, 0.3]), rtol=1e-3, atol=1e-5
    )


@pytest.mark.parametrize("cloudy", [0.0, 0.6])
def test_over_a_dark_sea_all_the_air_is_there_under_cloud_too(scene: Scene, cloudy: float) -> None:
    camera = started(scene, 1.0, [0.02] * 4, cloudy)
    assert camera.field.air.item() == pytest.approx(1.0, abs=0.05)
    torch.testing.assert_close(reflectance(camera), torch.full((4,), 0.02), rtol=0.3, atol=0)


def test_there_is_never_more_air_than_air(scene: Scene) -> None:
    assert started(scene, 3.0, [0.1] * 4).field.air.item() == 1.0


def test_a_band_without_rays_does_no_harm(tmp_path: Path, scene: Scene) -> None:
    camera = Camera(build_field(make_config(), setting_of(scene)), make_config())
    red = load_rays(scene, np.flatnonzero(scene.view_band == 2), CPU)
    start(camera, red)
    assert torch.isfinite(camera.field.surface.place.bias).all()


def test_a_granule_of_33_million_rays_has_no_ray_too_many(scene: Scene) -> None:
    """Positions of more than 2^24 rays do not fit into float32."""
    camera = Camera(build_field(make_config(), setting_of(scene)), make_config())
    one = load_rays(scene, np.array([40]), CPU)
    first = {name: getattr(one, name)[..., :1] for name in ("sight", "reflectance", "view")}
    many = {name: values.expand(*values.shape[:-1], 2**25) for name, values in first.items()}
    start(camera, replace(one, **many))
    assert torch.isfinite(camera.field.surface.place.bias).all()
