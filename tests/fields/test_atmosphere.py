"""A field speaks in inverse metres, and its cloud is lit by what the light grid says."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from atmonr.config import LightConfig, SurfaceConfig
from atmonr.fields.aspect import Aspect
from atmonr.fields.atmosphere import AtmosphereField
from atmonr.fields.build import build_field
from atmonr.fields.medium import FEATURES, Medium
from atmonr.fields.setting import Setting
from atmonr.geo.frame import Frame
from tests.fields.make import SMALL_HASH, SMALL_NERF, make_config, make_setting


class Layer(Medium):
    """A cloud of known optical depth in each band: over the whole height, or 0 above 2 km."""

    def __init__(self, depths: list[float], top_m: float = 1e9) -> None:
        super().__init__(3, [], len(depths), 1.0)
        self.depths, self.top = torch.tensor(depths), top_m / 20_000.0

    def forward(self, unit_N3: Tensor) -> tuple[Tensor, Tensor]:
        inside = (unit_N3[:, 2:] < self.top).float()
        return inside * self.depths, unit_N3.new_zeros(len(unit_N3), FEATURES)


def field_of(medium: Medium, setting: Setting | None = None, **options: float) -> AtmosphereField:
    """A field of one medium; options of the light replace those of water cloud in visible light."""
    visible = {"asymmetry": 0.86, "single_scattering_albedo": 1.0, "departure_limit": 0.3, "cell_pixels": 4.0}
    light = LightConfig(**(visible | options))
    surface = SurfaceConfig(levels=2, log2_table_size=8)
    torch.manual_seed(0)
    return AtmosphereField(setting or make_setting(), [medium], light, surface)


def look(count: int, bands: list[int] | None = None) -> Aspect:
    to_sensor = torch.nn.functional.normalize(torch.randn(count, 3).abs() + 0.2, dim=1)
    to_sun = torch.tensor([[0.48, -0.36, 0.8]]).expand(count, 3)
    return Aspect(to_sensor, to_sun, torch.tensor(bands or [0] * count))


def samples(count: int, each: int = 5) -> Tensor:
    unit = torch.rand(count, each, 3, generator=torch.Generator().manual_seed(4))
    return unit * torch.tensor([60e3, 80e3, 20e3]) - torch.tensor([30e3, 40e3, 0.0])  # in metres


@pytest.mark.parametrize(
    ("asymmetry", "albedo", "factor", "similar_albedo"),
    [(0.0, 1.0, 1.0, 1.0), (0.86, 1.0, 0.14, 1.0), (0.86, 0.5, 0.57, 0.07 / 0.57), (0.86, 0.0, 1.0, 0.0)],
)
def test_true_extinction_is_in_inverse_metres_and_larger_by_the_similarity_factor(
    asymmetry: float, albedo: float, factor: float, similar_albedo: float
) -> None:
    """1 - w g of the true extinction counts, w (1 - g) of it scatters; the forward peak does nothing."""
    expected = 5.0 / 20_000 / factor
    field = field_of(Layer([5.0]), asymmetry=asymmetry, single_scattering_albedo=albedo)
    assert field.similar_albedo == pytest.approx(similar_albedo)
    points = torch.tensor([[0.0, 0.0, 100.0], [-20_000.0, 35_000.0, 19_000.0]])
    torch.testing.assert_close(field.extinction(points), torch.full((2, 1), expected))
    torch.testing.assert_close(field.similar_extinction(points), torch.full((2, 1), 5.0 / 20_000))


@pytest.mark.parametrize("centre", [(0.0, 0.0), (60.0, 180.0), (0.0, 90.0), (90.0, 0.0)])
@pytest.mark.parametrize("half_m", [(5e3, 8e3), (2e6, 1e6)])
def test_the_place_and_size_of_the_frame_change_no_unit(
    centre: tuple[float, float], half_m: tuple[float, float]
) -> None:
    """An extinction divided by the scene's extent is wrong by the extent in kilometres."""
    setting = make_setting(centre, half_m)
    field = field_of(Layer([0.7], top_m=2000.0), setting)
    height = np.arange(25.0, 20_000.0, 50.0)
    points = np.stack([np.full_like(height, 0.3 * half_m[0]), np.full_like(height, -2e3), height], -1)
    column = field.extinction(torch.from_numpy(points).float())[:, 0].sum().item() * 50.0
    assert column == pytest.approx(0.7 / 20_000 * 2000 / 0.14, rel=1e-5)


def test_a_shared_extinction_serves_all_bands_and_one_per_band_each_its_own() -> None:
    points = torch.rand(7, 3) * 1000
    assert field_of(Layer([1.0])).extinction(points).shape == (7, 1)
    field = field_of(Layer([1.0, 2.0, 3.0, 4.0]))
    assert field.extinction(points).shape == (7, 4)
    bands = [2, 0, 3]
    cloud = field.cloud(samples(3), look(3, bands), look(3, bands).features())
    expected = torch.tensor([[3.0], [1.0], [4.0]]).expand(3, 5) / 20_000
    torch.testing.assert_close(cloud.extinction, expected)
    shared = field_of(Layer([1.5])).cloud(samples(3), look(3, bands), look(3, bands).features())
    torch.testing.assert_close(shared.extinction, torch.full((3, 5), 1.5 / 20_000))


@pytest.mark.parametrize("kind", [SMALL_HASH, SMALL_NERF])
@pytest.mark.parametrize(("extinction", "channels"), [("shared", 1), ("per_band", 4)])
def test_a_config_says_how_many_extinctions_there_are(
    kind: dict[str, object], extinction: str, channels: int
) -> None:
    field = build_field(make_config({**kind, "extinction": extinction}), make_setting())
    assert field.extinction(torch.rand(3, 3)).shape == (3, channels)


def test_an_untrained_cloud_scatters_the_solved_light_alike_in_all_directions() -> None:
    """pi J / (mu0 F0) with J = direct / (4 pi) + diffuse."""
    field = field_of(Layer([1.0]))
    field.light.volume[0], field.light.volume[1] = 0.6, 0.05
    aspect = look(4, [0, 1, 2, 3])
    cloud = field.cloud(samples(4), aspect, aspect.features())
    expected = math.pi * (0.6 / (4 * math.pi) + 0.05) / 0.8
    torch.testing.assert_close(cloud.source, torch.full((4, 5), expected))
    assert (cloud.departure == 0).all()


def test_learned_light_departs_from_the_solution_only_so_far() -> None:
    torch.manual_seed(1)
    field = field_of(build_field(make_config(), make_setting()).media[0])  # type: ignore[arg-type]
    for parameter in field.departure.parameters():
        torch.nn.init.normal_(parameter, std=100.0)
    aspect = look(6)
    cloud = field.cloud(samples(6), aspect, aspect.features())
    assert cloud.departure.abs().max() <= 0.3
    assert cloud.departure.abs().max() > 0.29
    solved = 1 / 4 / 0.8
    assert cloud.source.min() >= solved * math.exp(-0.301) and cloud.source.max() <= solved * math.exp(0.301)


def test_without_a_departure_the_light_is_the_solution() -> None:
    field = field_of(Layer([1.0]), departure_limit=0.0)
    torch.nn.init.normal_(field.departure.weight)
    aspect = look(3)
    assert (field.cloud(samples(3), aspect, aspect.features()).departure == 0).all()


def test_brightness_has_no_bounds() -> None:
    """Not those of a squashed network: bright cloud is a hundred times as bright as dark ocean."""
    field = field_of(Layer([1.0]))
    last = field.phase[-1]
    assert isinstance(last, torch.nn.Linear)
    aspect = look(2)
    seen = []
    for bias in (-8.0, 8.0):
        torch.nn.init.constant_(last.bias, bias)
        seen.append(field.cloud(samples(2), aspect, aspect.features()).source.mean().item())
    assert seen == pytest.approx([math.exp(-8) / 3.2, math.exp(8) / 3.2], rel=1e-4)


def test_direction_changes_the_light_of_each_band_by_itself() -> None:
    field = field_of(Layer([1.0]))
    for parameter in field.phase.parameters():
        torch.nn.init.normal_(parameter)
    aspect = look(4, [0, 1, 2, 3])
    turned = aspect._replace(band=aspect.band.flip(0))
    sources = [field.cloud(samples(4), a, a.features()).source for a in (aspect, turned)]
    assert (sources[0] / sources[1] - 1).abs().min() > 1e-3


def test_ground_lies_in_the_shadow_of_cloud() -> None:
    field = field_of(Layer([1.0]))
    aspect, feet = look(3), torch.rand(3, 3)
    lit = field.foot(feet, aspect, aspect.features())
    field.light.ground.fill_(0.25)
    torch.testing.assert_close(field.foot(feet, aspect, aspect.features()), lit / 4)


def test_a_part_of_a_scene_has_its_own_lattice_and_the_light_of_the_whole() -> None:
    setting = make_setting()
    box = Frame(18.0, -61.5, (0.0, -40e3, 0.0), (30e3, 40e3, 20e3))
    part = build_field(make_config(), setting, box)
    whole = build_field(make_config(), setting)
    east = torch.tensor([[30e3, 40e3, 20e3]])
    assert part.own_unit(east).tolist() == [[1.0, 1.0, 1.0]]
    assert part.own_unit(torch.tensor([[0.0, -40e3, 0.0]])).tolist() == [[0.0, 0.0, 0.0]]
    torch.testing.assert_close(part.unit(east), whole.unit(east))
    # The same cells in metres, so half as many of them along x.
    torch.testing.assert_close(
        part.media[0].grid.scale, whole.media[0].grid.scale * torch.tensor([0.5, 1.0, 1.0])
    )
    assert part.light.shape == whole.light.shape


def test_samples_that_are_elsewhere_hold_no_cloud_and_change_nothing_for_the_others() -> None:
    torch.manual_seed(3)
    field = build_field(make_config(), make_setting())
    torch.nn.init.normal_(field.departure.weight)
    aspect = look(4, [0, 1, 2, 3])
    inside = torch.rand(4, 5) > 0.4
    whole = field.cloud(samples(4), aspect, aspect.features())
    part = field.cloud(samples(4), aspect, aspect.features(), inside_BS=inside)
    assert (part.extinction[~inside] == 0).all()
    for one, other in zip(part, whole, strict=True):
        torch.testing.assert_close(one[inside], other[inside])
