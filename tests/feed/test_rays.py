"""Rays on the device against fp64 geodesy on the granule's own angles."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from atmonr.errors import SceneError
from atmonr.feed.rays import MAX_HEIGHT_ERROR_M, RayTable, load_rays
from atmonr.geo.ellipsoid import direction_to_ecef
from atmonr.geo.rays import RayLines, trace
from atmonr.geo.sun import local_directions
from atmonr.store.scene import Scene
from tests.feed.scenes import make_fields, make_scene, slanted

CPU = torch.device("cpu")
GEOMETRY = ("latitude", "longitude", "surface_altitude", "sensor_zenith_angle", "sensor_azimuth_angle")
FRACTIONS = np.linspace(0.0, 1.0, 33)


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    fields = make_fields()
    fields["i"][7, 3:5, :] = np.nan
    fields["latitude"][11] = np.nan
    return make_scene(tmp_path_factory.mktemp("scene"), fields)


@pytest.fixture(scope="module")
def slant_scene(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    """Some of its rays are too long for a parabola."""
    fields = slanted(make_fields(image=(6, 5), centre=(60.0, 179.9)), 84.0)
    return make_scene(tmp_path_factory.mktemp("slant"), fields, max_view_zenith_deg=85.0)


def geometry(scene: Scene, view: int | slice) -> list[np.ndarray]:
    """The pixels of one view (or of several, one after the other), invalid ones left out."""
    valid = scene.read("valid")[view].astype(bool)
    return [scene.read(name)[view][valid].astype(np.float64) for name in GEOMETRY]


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
    assert error[..., 2].max() <= MAX_HEIGHT_ERROR_M == 0.05
    assert error[..., :2].max() <= 0.3
    np.testing.assert_allclose(table.length_m, lines(scene, view).length_m, rtol=1e-6)


def test_rays_too_slant_for_a_parabola_are_followed_exactly(slant_scene: Scene) -> None:
    table = load_rays(slant_scene, np.arange(90), CPU)
    assert table.exact is not None
    assert 0 < len(table.exact.index) < len(table)
    expected = exact_points(slant_scene, lines(slant_scene, slice(None)))
    assert np.abs(table_points(table) - expected)[..., 2].max() <= 0.05
    # As parabolas the worst of them would miss.
    plain = RayTable(**{**vars(table), "exact": None})
    assert np.abs(table_points(plain) - expected)[..., 2].max() > 0.2


def test_exact_rays_stay_with_their_ray_in_any_batch_and_share(slant_scene: Scene) -> None:
    table = load_rays(slant_scene, np.arange(90), CPU)
    whole = table_points(table)
    chosen = torch.from_numpy(np.random.default_rng(0).permutation(len(table)))
    batch = table.take(chosen)
    where = torch.from_numpy(FRACTIONS).float()
    np.testing.assert_array_equal(batch.points(where.expand(len(batch), -1)).numpy(), whole[chosen])
    third = slice(len(batch) // 3, 2 * len(batch) // 3)
    part = batch.select(third)
    np.testing.assert_array_equal(part.points(where.expand(len(part), -1)).numpy(), whole[chosen[third]])
    assert part.exact is not None and batch.exact is not None
    none = table.take(table.exact.index[:0] if table.exact else chosen[:0])
    assert none.exact is None and none.points(where.expand(0, -1)).shape == (0, 33, 3)


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


def test_a_ray_takes_at_most_44_bytes(scene: Scene) -> None:
    assert load_rays(scene, np.arange(90), CPU).bytes_per_ray <= 44


def test_a_scene_longer_than_a_block_is_loaded_whole(tmp_path: Path) -> None:
    scene = make_scene(tmp_path, make_fields(image=(70, 3)))
    table = load_rays(scene, np.array([40]), CPU)
    expected = exact_points(scene, lines(scene, 40))
    assert len(table) == 70 * 3
    assert np.abs(table_points(table) - expected)[..., 2].max() <= 0.05


def test_loading_again_gives_the_same_bits(scene: Scene) -> None:
    first, second = (load_rays(scene, np.array([4, 70]), CPU) for _ in range(2))
    for name in ("path", "length_m", "reflectance", "view"):
        assert torch.equal(getattr(first, name), getattr(second, name))


def test_views_without_a_valid_ray_are_refused(scene: Scene) -> None:
    with pytest.raises(SceneError, match=r"scene\.zarr: no valid ray in 1 chosen views"):
        load_rays(scene, np.array([11]), CPU)
