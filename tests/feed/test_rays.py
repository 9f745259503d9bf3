"""Rays on the device against fp64 geodesy on the granule's own angles."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from atmonr.errors import SceneError
from atmonr.feed.rays import RayTable, load_rays
from atmonr.geo.ellipsoid import direction_to_ecef
from atmonr.geo.rays import RayLines, trace
from atmonr.geo.sun import local_directions
from atmonr.store.layout import SIGHT
from atmonr.store.scene import Scene
from tests.feed.scenes import make_fields, make_scene, slanted

CPU = torch.device("cpu")
FRACTIONS = np.linspace(0.0, 1.0, 33)


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    fields = make_fields()
    fields["i"][7, 3:5, :] = np.nan
    fields["latitude"][11] = np.nan
    return make_scene(tmp_path_factory.mktemp("scene"), fields)


@pytest.fixture(scope="module")
def slant_scene(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    """Some of its rays are as slant as a scene allows."""
    fields = slanted(make_fields(image=(6, 5), centre=(60.0, 179.9)), 84.9)
    return make_scene(tmp_path_factory.mktemp("slant"), fields, max_view_zenith_deg=85.0)


def geometry(scene: Scene, view: int | slice) -> list[np.ndarray]:
    """The pixels of one view (or of several, one after the other), invalid ones left out."""
    valid = scene.read("valid")[view].astype(bool)
    return [scene.read(name)[view][valid].astype(np.float64) for name in SIGHT]


def lines(scene: Scene, view: int | slice) -> RayLines:
    latitude, longitude, altitude, zenith, azimuth = geometry(scene, view)
    return trace(latitude, longitude, altitude, zenith, azimuth, scene.top_height_m)


def exact_points(scene: Scene, rays: RayLines) -> np.ndarray:
    along = rays.length_m[:, None] * FRACTIONS
    return scene.frame.from_ecef(rays.origin_ecef[:, None] + along[..., None] * rays.direction[:, None])


def table_points(table: RayTable) -> np.ndarray:
    batch = table.take(torch.arange(len(table)))
    where = torch.from_numpy(FRACTIONS).float().expand(len(table), -1)
    return batch.points(where).double().numpy()


@pytest.mark.parametrize("view", [0, 7, 20, 44, 70, 89])
def test_points_on_rays_are_those_of_fp64_geodesy(scene: Scene, view: int) -> None:
    table = load_rays(scene, np.array([view]), CPU)
    error = np.abs(table_points(table) - exact_points(scene, lines(scene, view)))
    assert error[..., 2].max() <= 0.01
    assert error[..., :2].max() <= 0.1
    length = table.take(torch.arange(len(table))).length_m
    np.testing.assert_allclose(length, lines(scene, view).length_m, rtol=1e-6)


def test_the_most_slant_rays_are_followed_as_closely(slant_scene: Scene) -> None:
    table = load_rays(slant_scene, np.arange(90), CPU)
    expected = exact_points(slant_scene, lines(slant_scene, slice(None)))
    assert np.abs(table_points(table) - expected)[..., 2].max() <= 0.01


def test_a_ray_is_the_same_in_any_batch(slant_scene: Scene) -> None:
    table = load_rays(slant_scene, np.arange(90), CPU)
    whole = table_points(table)
    chosen = torch.from_numpy(np.random.default_rng(0).permutation(len(table)))
    batch = table.take(chosen)
    where = torch.from_numpy(FRACTIONS).float()
    np.testing.assert_array_equal(batch.points(where.expand(len(batch), -1)).numpy(), whole[chosen])
    none = table.take(chosen[:0])
    assert len(none) == 0 and none.points(where.expand(0, -1)).shape == (0, 33, 3)


def test_rays_start_at_the_top_and_end_at_the_pixel(scene: Scene) -> None:
    points = table_points(load_rays(scene, np.array([3]), CPU))
    latitude, longitude, altitude, _, _ = geometry(scene, 3)
    np.testing.assert_allclose(points[:, 0, 2], scene.top_height_m, atol=0.01)
    np.testing.assert_allclose(points[:, -1, 2], altitude, atol=0.05)
    foot = scene.frame.from_geodetic(latitude, longitude, altitude)
    np.testing.assert_allclose(points[:, -1, :2], foot[:, :2], atol=0.3)


def test_directions_to_the_sensor_are_the_granules_angles_in_the_frame(scene: Scene) -> None:
    for view in (0, 44, 89):
        latitude, longitude, altitude, zenith, azimuth = geometry(scene, view)
        towards = direction_to_ecef(latitude, longitude, zenith, azimuth)
        places = scene.frame.from_geodetic(latitude, longitude, altitude)
        expected = local_directions(scene.frame, places, towards)
        table = load_rays(scene, np.array([view]), CPU)
        got = table.take(torch.arange(len(table))).to_sensor().numpy()
        np.testing.assert_allclose(np.linalg.norm(got, axis=1), 1.0, atol=1e-6)
        # The middle of the ray and its foot differ by the turn of the vertical on the way, 0.2 degrees.
        angle = np.degrees(np.arccos(np.clip((got * expected).sum(1), -1, 1)))
        assert angle.max() < 0.25


def test_a_table_holds_the_valid_rays_of_the_chosen_views(scene: Scene) -> None:
    chosen = np.array([2, 7, 12, 50])
    table = load_rays(scene, chosen, CPU)
    valid = scene.read("valid").astype(bool)
    assert valid[7].sum() == (12 - 2) * 9
    for view in chosen:
        mine = table.view == int(view)
        expected = scene.read("reflectance")[view][valid[view]]
        np.testing.assert_array_equal(table.reflectance[mine], expected)
    assert set(table.view.tolist()) == set(chosen.tolist())


def test_rays_know_the_band_of_their_view(scene: Scene) -> None:
    table = load_rays(scene, np.arange(90), CPU)
    chosen = torch.randperm(len(table))[:200]
    batch = table.take(chosen)
    np.testing.assert_array_equal(batch.band, scene.view_band[table.view[chosen].numpy()])
    assert batch.band.dtype == torch.int64
    torch.testing.assert_close(batch.reflectance, table.reflectance[chosen])
    assert len(batch) == 200


def test_a_ray_takes_25_bytes(scene: Scene) -> None:
    assert load_rays(scene, np.arange(90), CPU).bytes_per_ray == 25


def test_a_scene_of_several_chunks_is_loaded_whole(tmp_path: Path) -> None:
    scene = make_scene(tmp_path, make_fields(image=(300, 3)))
    table = load_rays(scene, np.array([2, 40]), CPU)
    expected = np.concatenate([exact_points(scene, lines(scene, view)) for view in (2, 40)])
    assert len(table) == 2 * 300 * 3
    assert np.abs(table_points(table) - expected)[..., 2].max() <= 0.01


def test_loading_again_gives_the_same_bits(scene: Scene) -> None:
    first, second = (load_rays(scene, np.array([4, 70]), CPU) for _ in range(2))
    for name in ("sight", "reflectance", "view"):
        assert torch.equal(getattr(first, name), getattr(second, name))


def test_views_without_a_valid_ray_are_refused(scene: Scene) -> None:
    with pytest.raises(SceneError, match=r"scene\.zarr: no valid ray in 1 chosen views"):
        load_rays(scene, np.array([11]), CPU)
