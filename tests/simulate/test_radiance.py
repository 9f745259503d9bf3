"""What pixels see, against closed forms and invariances."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

from atmonr.simulate.clouds import PRESETS, build
from atmonr.simulate.instrument import BANDS, Band, Geometry
from atmonr.simulate.optics import cloud_phase
from atmonr.simulate.picture import Picture, illuminate, observe_cloud
from atmonr.simulate.radiance import view_reflectance
from atmonr.simulate.surface import Black, Land, Ocean, Surface
from atmonr.simulate.volume import Volume
from tests.simulate.conftest import SlabMaker

RED, BLUE = BANDS[1], BANDS[3]
SUN_DEG = (40.0, -42.0)
MU0 = float(np.cos(np.radians(SUN_DEG[0])))
SOME_RED_VIEWS = (10, 25, 39, 50, 69)
PLACES = [(0.0, 180.0), (60.0, 10.0), (-5.0, 90.0), (90.0, 0.0), (-90.0, 45.0)]


def see(
    picture: Picture, views: tuple[int, ...], surface: Surface, rayleigh: bool = False, band: Band = RED
) -> tuple[Geometry, np.ndarray]:
    scene = illuminate(picture, band, SUN_DEG, surface, rayleigh)
    geometry = picture.geometry(scene.sun_ecef)
    return geometry, np.stack([view_reflectance(scene, picture.cloud, geometry, view) for view in views])


def of_slab(cloud: Volume) -> Picture:
    return Picture(cloud, 4, 3, 320.0, 348.0)


def small_cumulus(place: tuple[float, float] = (18.0, -61.5), heading: float = 348.0) -> Picture:
    coarse = replace(PRESETS["cumulus"], vertical_step_m=240.0)
    cloud = build(coarse, 12, 10, 320.0, *place, heading, 1)
    return Picture(cloud, 12, 10, 320.0, heading)


def scattering_cosine(geometry: Geometry, views: tuple[int, ...]) -> np.ndarray:
    zenith = np.radians(geometry.sensor_zenith[list(views)].astype(float))
    azimuth = np.radians(geometry.sensor_azimuth[list(views)].astype(float) - SUN_DEG[1])
    return -(np.cos(zenith) * MU0 + np.sin(zenith) * np.sin(np.radians(SUN_DEG[0])) * np.cos(azimuth))


@pytest.mark.parametrize("optical_depth", [0.3, 1.0])
def test_an_absorber_dims_the_ground_by_the_slant_depths_of_sun_and_view(
    slab: SlabMaker, optical_depth: float
) -> None:
    land = Land(960.0, 3)
    geometry, clear = see(of_slab(slab(0.0, albedo=0.0)), SOME_RED_VIEWS, land)
    _, dimmed = see(of_slab(slab(optical_depth, albedo=0.0)), SOME_RED_VIEWS, land)
    mu = np.cos(np.radians(geometry.sensor_zenith[list(SOME_RED_VIEWS)].astype(float)))
    assert clear.std() > 0.02
    np.testing.assert_allclose(dimmed / clear, np.exp(-optical_depth * (1 / mu + 1 / MU0)), rtol=0.005)


def test_the_ground_alone_reflects_its_albedo(slab: SlabMaker) -> None:
    land = Land(960.0, 3)
    picture = of_slab(slab(0.0))
    geometry, seen = see(picture, (39,), land)
    ground = picture.cloud.from_frame(
        picture.cloud.frame.from_geodetic(geometry.latitude[39], geometry.longitude[39])
    )
    albedo = land.albedo(*torch.from_numpy(ground[..., :2]).float().unbind(-1), RED.wavelength_nm)
    np.testing.assert_allclose(seen[0], albedo.numpy(), rtol=1e-4)


def test_a_thin_layer_scatters_once(slab: SlabMaker) -> None:
    depth = 0.005
    geometry, seen = see(of_slab(slab(depth)), SOME_RED_VIEWS, Black())
    mu = np.cos(np.radians(geometry.sensor_zenith[list(SOME_RED_VIEWS)].astype(float)))
    phase = cloud_phase(torch.from_numpy(scattering_cosine(geometry, SOME_RED_VIEWS))).numpy()
    np.testing.assert_allclose(seen, phase * depth / (4 * MU0 * mu), rtol=0.02)


def test_a_thin_layer_that_also_absorbs_scatters_its_share(slab: SlabMaker) -> None:
    _, whole = see(of_slab(slab(0.005)), SOME_RED_VIEWS, Black())
    _, half = see(of_slab(slab(0.005, albedo=0.5)), SOME_RED_VIEWS, Black())
    np.testing.assert_allclose(half, 0.5 * whole, rtol=0.02)


@pytest.mark.slow
def test_a_thick_layer_reflects_its_albedo_on_average(slab: SlabMaker) -> None:
    """The mean over directions of the reflectance is the flux albedo of the same solution."""
    picture = of_slab(slab(10.0, levels=40))
    scene = illuminate(picture, RED, SUN_DEG, Black(), False)
    geometry = picture.geometry(scene.sun_ecef)
    nodes, weights = np.polynomial.legendre.leggauss(6)
    total = 0.0
    for node, weight in zip(nodes, weights, strict=True):
        mu = (node + 1) / 2
        for azimuth in np.arange(0.0, 360.0, 30.0):
            turned = replace(
                geometry,
                sensor_zenith=np.full_like(geometry.sensor_zenith, np.degrees(np.arccos(mu))),
                sensor_azimuth=np.full_like(geometry.sensor_azimuth, azimuth),
            )
            total += weight * mu * view_reflectance(scene, picture.cloud, turned, 39).mean() / 12
    assert total == pytest.approx(float(scene.light.up_YX.mean()) / MU0, rel=0.03)


@pytest.mark.parametrize(("surface", "low", "high"), [(Black(), 0.085, 0.115), (Ocean(), 0.11, 0.155)])
def test_blue_sky_is_as_bright_as_air_makes_it(
    slab: SlabMaker, surface: Surface, low: float, high: float
) -> None:
    geometry, seen = see(of_slab(slab(0.0)), (84, 85), surface, rayleigh=True, band=BLUE)
    assert low < seen.mean() < high
    if isinstance(surface, Black):
        # More than single scattering, by a third.
        mu = np.cos(np.radians(geometry.sensor_zenith[84:86].astype(float)))
        phase = 0.75 * (1 + scattering_cosine(geometry, (84, 85)) ** 2)
        path = 1 / mu + 1 / MU0
        once = phase / (4 * (mu + MU0)) * (1 - np.exp(-BLUE.rayleigh_depth * path))
        np.testing.assert_allclose(seen / once, 1.3, atol=0.07)


def test_thin_air_scatters_once(slab: SlabMaker) -> None:
    """At 866 nm the air is so thin that its reflectance is a formula."""
    geometry, seen = see(of_slab(slab(0.0)), (70, 73, 79), Black(), rayleigh=True, band=BANDS[2])
    views = (70, 73, 79)
    mu = np.cos(np.radians(geometry.sensor_zenith[list(views)].astype(float)))
    phase = 0.75 * (1 + scattering_cosine(geometry, views) ** 2)
    np.testing.assert_allclose(seen, phase * BANDS[2].rayleigh_depth / (4 * MU0 * mu), rtol=0.05)


def test_shadows_stay_on_the_ground_when_the_view_changes(box: Volume) -> None:
    """The ground is dark where the block's shadow falls and only there, for views from both sides."""
    absorber = Picture(replace(box, single_scattering_albedo=0.0), 60, 40, 100.0, 0.0)
    nothing = replace(absorber, cloud=replace(box, extinction_per_m=np.zeros_like(box.extinction_per_m)))
    views = (30, 50)
    geometry, seen = see(absorber, views, Ocean())
    _, clear = see(nothing, views, Ocean())
    away = -np.array([np.sin(np.radians(SUN_DEG[1])), np.cos(np.radians(SUN_DEG[1]))])
    shade = 1500.0 * np.tan(np.radians(SUN_DEG[0])) * away
    for view, share in zip(views, seen / clear, strict=True):
        ground = box.frame.from_geodetic(geometry.latitude[view], geometry.longitude[view])[..., :2]
        shaded = np.abs(ground - shade).max(axis=-1) < 200.0
        # Off the line from the block along the sun's azimuth nothing shades, nothing hides the ground.
        aside = np.abs(ground @ np.array([away[1], -away[0]])) > 1200.0
        assert shaded.sum() > 5 and aside.sum() > 100
        assert share[shaded].max() < 0.3
        assert share[aside & (np.abs(ground[..., 0]) > 800.0)].min() > 0.95


@pytest.fixture(scope="module")
def cumulus_images() -> np.ndarray:
    return see(small_cumulus(), SOME_RED_VIEWS, Black())[1]


@pytest.mark.parametrize("place", PLACES)
def test_the_same_scene_looks_the_same_everywhere_on_earth(
    cumulus_images: np.ndarray, place: tuple[float, float]
) -> None:
    """But for the single precision of longitudes: metres, near 180 degrees, where pixels are 320 m."""
    _, there = see(small_cumulus(place), SOME_RED_VIEWS, Black())
    assert cumulus_images.max() > 0.2
    difference = np.abs(there - cumulus_images)
    assert difference.mean() < 0.003 * cumulus_images.mean()
    assert difference.max() < 0.02 * cumulus_images.max()


@pytest.mark.slow
def test_turning_cloud_sun_and_flight_together_changes_nothing() -> None:
    picture = small_cumulus(heading=0.0)
    turned = Picture(replace(picture.cloud, heading_deg=90.0), 12, 10, 320.0, 90.0)
    scenes = (
        illuminate(picture, RED, (40.0, 10.0), Black(), False),
        illuminate(turned, RED, (40.0, 100.0), Black(), False),
    )
    images = [
        view_reflectance(scene, each.cloud, each.geometry(scene.sun_ecef), 25)
        for scene, each in zip(scenes, (picture, turned), strict=True)
    ]
    np.testing.assert_allclose(images[1], images[0], atol=0.005 * images[0].max())


def test_every_view_of_every_band_is_filled_and_progress_reaches_the_end() -> None:
    calls: list[tuple[int, int, str]] = []
    picture = small_cumulus()
    geometry, seen = observe_cloud(
        picture, SUN_DEG, Black(), progress=lambda done, total, what: calls.append((done, total, what))
    )
    assert seen.shape == geometry.latitude.shape == (90, 12, 10)
    assert np.isfinite(seen).all() and (seen >= 0).all()
    assert [done for done, _, _ in calls] == list(range(1, 91))
    assert calls[-1][:2] == (90, 90) and "nm" in calls[-1][2]
    # Without air and ground a cloud is white: bands differ only by their angles.
    assert spearmanr(seen[39].ravel(), seen[84].ravel())[0] > 0.9


@pytest.mark.slow
def test_parts_of_pixels_average_to_a_smoother_picture() -> None:
    picture = replace(small_cumulus(), lines=6, pixels=5, pixel_m=640.0)
    geometry, coarse = observe_cloud(picture, SUN_DEG, Black(), subpixels=2)
    assert geometry.latitude.shape == coarse.shape == (90, 6, 5)
    _, fine = see(small_cumulus(), SOME_RED_VIEWS, Black())
    expected = fine.reshape(-1, 6, 2, 5, 2).mean(axis=(2, 4))
    np.testing.assert_allclose(coarse[list(SOME_RED_VIEWS)], expected, atol=1e-6)
