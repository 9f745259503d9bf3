"""What a camera shows, against closed forms."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from atmonr.config import Config
from atmonr.feed.rays import RayBatch, load_rays
from atmonr.fields.build import build_field
from atmonr.fields.medium import FEATURES, Medium
from atmonr.render import molecules
from atmonr.store.scene import Scene
from atmonr.tasks.tomography import setting_of
from atmonr.tasks.view import Camera, aspect_of
from tests.feed.scenes import make_scene
from tests.fields.make import SMALL_HASH, SMALL_NERF, make_config

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    return make_scene(tmp_path_factory.mktemp("scene"))


@pytest.fixture(scope="module")
def rays(scene: Scene) -> RayBatch:
    """All kinds of views and bands."""
    table = load_rays(scene, np.arange(90), CPU)
    return table.take(torch.arange(0, len(table), 151))


class Slab(Medium):
    """A cloud of constant extinction below a height, of the similar isotropic medium."""

    def __init__(self, extinction_per_m: float, top_m: float = 1e9) -> None:
        super().__init__(3, [], 1, 1.0)
        self.depth, self.top_m = extinction_per_m * 20_000.0, top_m
        self.used = torch.nn.Parameter(torch.ones(()))

    def forward(self, unit_N3: Tensor) -> tuple[Tensor, Tensor]:
        inside = (unit_N3[:, 2:] < self.top_m / 20_002.0).float()
        return self.used * inside * self.depth, unit_N3.new_zeros(len(unit_N3), FEATURES)


def camera_of(
    scene: Scene, config: Config, *media: Medium, air: float = 0.0, ground: float = -80.0
) -> Camera:
    """A camera on known media under full light, with or without air and ground."""
    torch.manual_seed(0)
    field = build_field(config, setting_of(scene))
    if media:
        field.media = torch.nn.ModuleList(media)
    torch.nn.init.constant_(field.air, air)
    torch.nn.init.constant_(field.surface.place.bias, ground)
    return Camera(field, config)


def places(camera: Camera, rays: RayBatch, jitter: float = 0.5) -> Tensor:
    """All samples in the middle of the pixel."""
    return torch.tensor([jitter, 0.5, 0.5]).expand(len(rays), camera.samples, 3)


def anywhere(camera: Camera, rays: RayBatch) -> Tensor:
    return camera.places(len(rays), torch.Generator().manual_seed(5))


def look(camera: Camera, rays: RayBatch, jitter: float = 0.5) -> Tensor:
    with torch.no_grad():
        result: Tensor = camera.look(rays, places(camera, rays, jitter))[-1].reflectance
    return result


@pytest.mark.parametrize("sampler", ["uniform", "biased", "pdf"])
@pytest.mark.parametrize("jitter", [0.0, 0.5, 0.99])
def test_a_uniform_cloud_under_full_light_is_its_closed_form(
    scene: Scene, rays: RayBatch, sampler: str, jitter: float
) -> None:
    camera = camera_of(scene, make_config(render={"sampler": sampler}), Slab(5e-5))
    mu0 = aspect_of(rays, camera.field).sun_cosine
    expected = -torch.expm1(-5e-5 * rays.length_m) / (4 * mu0)
    torch.testing.assert_close(look(camera, rays, jitter), expected, rtol=2e-5, atol=0)


def test_the_whole_ray_counts_down_to_the_surface(scene: Scene, rays: RayBatch) -> None:
    """A fog in the last half of the last bin would be lost if the last sample were the end of the ray."""
    camera = camera_of(scene, make_config(render={"samples": 64}), Slab(1e-4, top_m=1e9))
    seen = camera.look(rays, places(camera, rays, 0.0))[-1]
    torch.testing.assert_close(seen.cloud_depth, 1e-4 * rays.length_m, rtol=1e-5, atol=0)


class Wall(Slab):
    """Opaque cloud east of a place."""

    def __init__(self, edge_unit_x: float) -> None:
        super().__init__(1e-2)
        self.edge = edge_unit_x

    def forward(self, unit_N3: Tensor) -> tuple[Tensor, Tensor]:
        depth, features = super().forward(unit_N3)
        return depth * (unit_N3[:, :1] > self.edge), features


def test_a_pixel_is_as_bright_as_the_share_of_it_that_cloud_fills(scene: Scene) -> None:
    """One ray through its middle would see all or nothing."""
    table = load_rays(scene, np.array([40]), CPU)
    lines, pixels = scene.shape[1:]
    nadir = table.take(torch.tensor([(lines // 2) * pixels + pixels // 2]))
    span = nadir.pixel[0, :, 0].abs()  # x from west to east across a pixel that may stand askew
    rays = table.take(torch.full((4000,), (lines // 2) * pixels + pixels // 2))
    shift = torch.rand(4000, 2, generator=torch.Generator().manual_seed(1)) - 0.5
    for aside in (-0.3, 0.0, 0.3):
        middle = nadir.points(torch.tensor([[0.5]]))[0, 0, 0] + aside * span.sum()
        camera = camera_of(scene, make_config(), Wall(0.0))
        wall = camera.field.media[-1]
        assert isinstance(wall, Wall)
        wall.edge = float(camera.field.unit(torch.tensor([[middle, 0.0, 0.0]]))[0, 0])
        share = ((shift @ nadir.pixel[0])[:, 0] > aside * span.sum()).double().mean()
        sheet = camera.places(4000, torch.Generator().manual_seed(2))
        sheet[:, :, 1:] = sheet[:, :1, 1:]  # each ray at one place of the pixel
        with torch.no_grad():
            seen = camera.look(rays, sheet)[-1].reflectance
        assert float((seen / seen.max()).double().mean()) == pytest.approx(float(share), abs=0.04)
        assert 0.05 < share < 0.95


def test_samples_of_a_ray_are_spread_over_its_pixel(scene: Scene, rays: RayBatch) -> None:
    camera = camera_of(scene, make_config(render={"samples": 40}), Slab(0.0))
    found = anywhere(camera, rays)
    assert found.min() >= 0.0 and found.max() < 1.0
    assert torch.equal(found, anywhere(camera, rays))
    quarter = (found[..., 1] >= 0.5).int() + 2 * (found[..., 2] >= 0.5).int()
    for start in range(0, 32):
        near = quarter[:, start : start + 9].sort(1).values
        assert all((near == k).any(1).all() for k in range(4))
    assert (found[:, 1:, 1] - found[:, :1, 1]).abs().max() > 0.4
    # Rays differ, and so do the places along them.
    assert found[:, 0, 1].std() > 0.2 and found[0, :, 0].std() > 0.2


def test_textured_ground_is_no_noise(scene: Scene, rays: RayBatch) -> None:
    """One random place of a pixel would be, and a squared error answers noise with blur and haze."""
    camera = camera_of(scene, make_config(), Slab(0.0), ground=-2.0)
    for table in camera.field.surface.grid.parameters():
        torch.nn.init.normal_(table)
    with torch.no_grad():
        seen = camera.look(rays, anywhere(camera, rays))[-1].reflectance
    assert seen.std() > 0.1 * seen.mean()
    torch.testing.assert_close(seen, look(camera, rays))


def test_haze_that_is_seen_counts_in_full_and_thick_cloud_by_its_logarithm(
    scene: Scene, rays: RayBatch
) -> None:
    """Seen is what the cloud in front of it lets through."""
    config = make_config(loss={"haze": 2.0}, render={"samples": 2048})
    for extinction in (1e-9, 1e-4, 1e-3):
        seen = camera_of(scene, config, Slab(extinction)).look(
            rays, anywhere(camera_of(scene, config), rays)
        )[-1]
        visible_m = -torch.expm1(-extinction * rays.length_m) / extinction
        expected = 1e-4 * math.log1p(extinction / 1e-4) * visible_m
        # Transmittance is that in front of each sample's bin.
        torch.testing.assert_close(seen.sparsity, expected, rtol=0.02, atol=0)


class Layers(Slab):
    """Two layers, each of an extinction of its own."""

    def __init__(self, upper_per_m: float, lower_per_m: float) -> None:
        super().__init__(1.0)
        self.extinction = torch.nn.Parameter(torch.tensor([upper_per_m, lower_per_m]))

    def forward(self, unit_N3: Tensor) -> tuple[Tensor, Tensor]:
        depth, features = super().forward(unit_N3)
        return depth * torch.where(unit_N3[:, 2:] > 0.5, *self.extinction), features


def test_nothing_clears_cloud_that_nobody_sees(scene: Scene, rays: RayBatch) -> None:
    """Otherwise the inside of thick cloud, and what lies under it, would be emptied as if it were haze."""
    slab = Layers(1.0, 1e-4)
    camera = camera_of(scene, make_config(render={"samples": 64}), slab)
    camera.look(rays, places(camera, rays, 0.5))[-1].sparsity.sum().backward()
    assert slab.extinction.grad is not None
    upper, lower = slab.extinction.grad.tolist()
    assert upper > 0
    assert lower == 0


def test_air_over_bright_cloud_is_lit_from_below_and_dark_in_its_shadow(scene: Scene, rays: RayBatch) -> None:
    """Otherwise a haze has to explain that light."""
    camera = camera_of(scene, make_config(render={"samples": 64}), Slab(0.0), air=1.0)
    sunlit = look(camera, rays)
    camera.field.light.volume[0].zero_()
    shadow = look(camera, rays)
    camera.field.light.volume[1].fill_(0.05)
    aspect = aspect_of(rays, camera.field)
    depth = torch.tensor([molecules.optical_depth(w) for w in camera.field.setting.wavelengths_nm])[rays.band]
    slant, above = depth / aspect.sensor_cosine, math.exp(-20.0 / 8.0)  # share of air above the top of rays
    seen = -torch.expm1(-slant * (1 - above)) * torch.exp(-slant * above) * math.pi * 0.05 / aspect.sun_cosine
    np.testing.assert_allclose(look(camera, rays) - shadow, seen, rtol=0.02)
    assert (shadow < 0.15 * sunlit).all()


def test_the_ground_is_seen_through_the_cloud(scene: Scene, rays: RayBatch) -> None:
    bare = camera_of(scene, make_config(), Slab(0.0), ground=0.0)
    torch.testing.assert_close(look(bare, rays), torch.full((len(rays),), math.log(2.0)), rtol=0.01, atol=0)
    cloudy = camera_of(scene, make_config(), Slab(2e-5), ground=0.0)
    dark = camera_of(scene, make_config(), Slab(2e-5))
    through = (look(cloudy, rays) - look(dark, rays)) / look(bare, rays)
    torch.testing.assert_close(through, torch.exp(-2e-5 * rays.length_m), rtol=1e-4, atol=1e-6)


def test_clear_air_is_light_scattered_once(scene: Scene, rays: RayBatch) -> None:
    """R = P / (4 (mu + mu0)) (1 - exp(-tau (1/mu + 1/mu0))), the air above the top of the rays included."""
    camera = camera_of(scene, make_config(render={"samples": 200}), Slab(0.0), air=1.0)
    aspect = aspect_of(rays, camera.field)
    mu, mu0 = aspect.sensor_cosine.double(), aspect.sun_cosine.double()
    depth = torch.tensor([molecules.optical_depth(w) for w in camera.field.setting.wavelengths_nm])
    foot = rays.points(torch.ones(len(rays), 1))[:, 0, 2]
    depth = depth[rays.band].double() * molecules.column_above(foot).double()
    phase = 0.75 * (1 + aspect.scattering_cosine.double() ** 2)
    expected = phase / (4 * (mu + mu0)) * -torch.expm1(-depth * (1 / mu + 1 / mu0))
    # The Earth is round: the slant path through air is shorter than that through plane layers.
    np.testing.assert_allclose(look(camera, rays), expected, rtol=0.02)


def test_the_sky_alone_is_nearly_light_scattered_once(scene: Scene, rays: RayBatch) -> None:
    camera = camera_of(scene, make_config(render={"samples": 200}), Slab(0.0), air=1.0)
    np.testing.assert_allclose(camera.sky(rays), look(camera, rays), rtol=0.05)


def test_air_above_the_top_of_the_rays_is_not_forgotten(tmp_path: Path, rays: RayBatch, scene: Scene) -> None:
    config = make_config(render={"samples": 100})
    pictures = []
    for top in (8_000.0, 20_000.0):
        low = make_scene(tmp_path / f"{top:.0f}", top_height_m=top)
        table = load_rays(low, np.arange(90), CPU)
        pictures.append(
            look(camera_of(low, config, Slab(0.0), air=1.0), table.take(torch.arange(0, len(table), 151)))
        )
    assert pictures[0].min() > 1e-3
    torch.testing.assert_close(*pictures, rtol=0.01, atol=0)


def test_a_simulation_without_air_is_without_air(scene: Scene, rays: RayBatch) -> None:
    """A factor below zero, where an optimizer may overshoot to, is no air either."""
    for air in (0.0, -0.3):
        assert look(camera_of(scene, make_config(), Slab(0.0), air=air), rays).max() == pytest.approx(
            0, abs=1e-9
        )


def test_the_sun_is_that_of_the_granule(scene: Scene, rays: RayBatch) -> None:
    valid = scene.read("valid").astype(bool)
    table = load_rays(scene, np.arange(90), CPU)
    aspect = aspect_of(table.take(torch.arange(len(table))), camera_of(scene, make_config()).field)
    zenith = np.radians(scene.read("solar_zenith_angle")[valid].astype(float))
    np.testing.assert_allclose(aspect.sun_cosine, np.cos(zenith), atol=2e-3)
    # Scattering angle from the granule's own zenith and azimuth angles.
    view = np.radians(scene.read("sensor_zenith_angle")[valid].astype(float))
    turn = np.radians(
        (scene.read("sensor_azimuth_angle") - scene.read("solar_azimuth_angle"))[valid].astype(float)
    )
    cosine = -np.cos(view) * np.cos(zenith) - np.sin(view) * np.sin(zenith) * np.cos(turn)
    # Up to 0.3 degrees from the foot of a ray to its middle.
    np.testing.assert_allclose(aspect.scattering_cosine, cosine, atol=6e-3)


@pytest.mark.parametrize("kind", [SMALL_HASH, SMALL_NERF])
def test_the_same_rays_and_places_give_the_same_picture_in_training(
    scene: Scene, rays: RayBatch, kind: dict[str, object]
) -> None:
    """Noise on the density would make an optical depth of ten out of clear air."""
    camera = camera_of(scene, make_config(kind))
    camera.field.train()
    jitter = anywhere(camera, rays)
    first, second = (camera.look(rays, jitter)[-1].reflectance for _ in range(2))
    assert torch.equal(first, second)


def test_each_ray_is_rendered_by_itself(scene: Scene, rays: RayBatch) -> None:
    camera = camera_of(scene, make_config(render={"sampler": "pdf"}), air=1.0, ground=-2.0)
    jitter = anywhere(camera, rays)
    together = camera.look(rays, jitter)[-1].reflectance
    part = slice(5, 17)
    some = RayBatch(**{name: values[part] for name, values in vars(rays).items()})
    alone = camera.look(some, jitter[part])[-1].reflectance
    torch.testing.assert_close(alone, together[part], rtol=1e-6, atol=1e-8)


def brightened(camera: Camera, bias: float) -> Camera:
    last = camera.field.phase[-1]
    assert isinstance(last, torch.nn.Linear)
    torch.nn.init.constant_(last.bias, bias)
    return camera


@pytest.mark.parametrize("kind", [SMALL_HASH, SMALL_NERF])
def test_any_positive_radiance_can_be_shown(scene: Scene, rays: RayBatch, kind: dict[str, object]) -> None:
    """Dark water and bright cloud alike; not only what lies between 1 and e."""
    config = make_config(kind)
    media = [Slab(1e-2)] * (2 if kind is SMALL_NERF else 1)
    for bias, low, high in ((-7.0, 1e-5, 1e-3), (7.0, 100.0, 1000.0)):
        seen = look(brightened(camera_of(scene, config, *media), bias), rays)
        assert seen.min() > low and seen.max() < high


def nerf(scene: Scene, coarse: Medium, fine: Medium, **render: object) -> Camera:
    return camera_of(scene, make_config(SMALL_NERF, render=render), coarse, fine)


def test_nerf_shows_both_of_its_networks_and_the_fine_one_last(scene: Scene, rays: RayBatch) -> None:
    camera = nerf(scene, Slab(1e-5), Slab(8e-5))
    assert camera.samples == 16 + 12
    seen = camera.look(rays, places(camera, rays))
    for each, extinction in zip(seen, (1e-5, 8e-5), strict=True):
        torch.testing.assert_close(each.cloud_depth, extinction * rays.length_m, rtol=1e-5, atol=0)


def test_the_fine_picture_teaches_the_coarse_network_nothing(scene: Scene, rays: RayBatch) -> None:
    coarse, fine = Slab(1e-5), Slab(8e-5)
    camera = nerf(scene, coarse, fine)
    jitter = anywhere(camera, rays)
    camera.look(rays, jitter)[1].reflectance.sum().backward()
    assert coarse.used.grad is None
    assert fine.used.grad is not None and fine.used.grad != 0
    camera.look(rays, jitter)[0].reflectance.sum().backward()
    assert coarse.used.grad is not None and coarse.used.grad != 0


class Recorder(Slab):
    """Clear air that remembers the heights at which it is asked."""

    def __init__(self) -> None:
        super().__init__(0.0)
        self.heights = torch.empty(0)

    def forward(self, unit_N3: Tensor) -> tuple[Tensor, Tensor]:
        self.heights = unit_N3[:, 2] * 20_000.0
        return super().forward(unit_N3)


@pytest.mark.parametrize("sampler", ["uniform", "biased"])
def test_fine_samples_lie_where_the_coarse_network_saw_cloud(
    scene: Scene, rays: RayBatch, sampler: str
) -> None:
    fine = Recorder()
    look(nerf(scene, Slab(1e-3, top_m=3000.0), fine, sampler=sampler, samples=64, pdf_floor=0.2), rays)
    # The uppermost part of the fog is what the sensor sees of it: 80 % of the samples and a little more.
    assert (fine.heights < 3300.0).float().mean() > 0.8
    assert (fine.heights > 10_000.0).float().mean() > 0.05


@pytest.mark.parametrize("sampler", ["uniform", "biased"])
def test_fine_samples_are_even_where_the_coarse_network_saw_an_even_haze(
    scene: Scene, rays: RayBatch, sampler: str
) -> None:
    """However long the coarse bins are: a long one shows more of the haze, but not more of it per metre."""
    fine = Recorder()
    look(nerf(scene, Slab(1e-8), fine, sampler=sampler, samples=64, pdf_floor=0.01), rays)
    shares = torch.histc(fine.heights, 4, 0.0, 20_000.0) / len(fine.heights)
    torch.testing.assert_close(shares, torch.full((4,), 0.25), atol=0.03, rtol=0)


def test_samples_of_a_pdf_lie_where_the_light_grid_knows_cloud(scene: Scene, rays: RayBatch) -> None:
    camera = camera_of(scene, make_config(render={"sampler": "pdf", "samples": 64}))
    grid = camera.field.light
    grid.volume[2, : grid.shape[0] // 4] = 1e-3
    samples = camera._first_samples(rays, torch.full((len(rays), 64), 0.5))
    height = rays.points(samples.position)[..., 2]
    assert (height < 6500.0).float().mean() > 0.7
    assert (height > 10_000.0).float().mean() > 0.05


def test_departures_are_weighed_by_what_each_sample_shows(scene: Scene, rays: RayBatch) -> None:
    camera = camera_of(scene, make_config(), Slab(5e-5))
    torch.nn.init.constant_(camera.field.departure.weight, 0.5)
    torch.nn.init.constant_(camera.field.place.bias, 1.0)
    torch.nn.init.zeros_(camera.field.direction.weight)
    departure = 0.3 * math.tanh(0.5 * 32 / 0.3)
    seen = camera.look(rays, places(camera, rays))[-1]
    shown = -torch.expm1(-5e-5 * rays.length_m)
    torch.testing.assert_close(seen.departure.detach(), departure**2 * shown, rtol=1e-4, atol=0)
