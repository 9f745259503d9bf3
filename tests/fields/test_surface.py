"""The ground: bright where it is bright, whatever the direction."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from atmonr.config import SurfaceConfig
from atmonr.fields.aspect import Aspect
from atmonr.fields.surface import Surface
from tests.fields.make import make_setting

SMALL = SurfaceConfig(levels=3, log2_table_size=12, finest_cell_pixels=4.0)


def look(count: int, seed: int = 0, band: int = 0) -> Aspect:
    """Rays from different directions."""
    generator = torch.Generator().manual_seed(seed)
    sensor = torch.rand(count, 3, generator=generator) - torch.tensor([0.5, 0.5, -0.5])
    sun = torch.tensor([[0.48, -0.36, 0.8]]).expand(count, 3)
    return Aspect(
        torch.nn.functional.normalize(sensor, dim=1), sun, torch.full((count,), band, dtype=torch.int64)
    )


def reflectance(surface: Surface, feet: Tensor, aspect: Aspect) -> Tensor:
    result: Tensor = surface(feet, aspect, aspect.features())
    return result


def shaken(surface: Surface) -> Surface:
    torch.manual_seed(3)
    for parameter in surface.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return surface


def test_an_untrained_ground_is_the_grey_it_is_told_to_be() -> None:
    surface = Surface(make_setting(), SMALL)
    surface.start_from(torch.tensor([0.02, 0.3, 1.5, -0.01]))
    for band, expected in enumerate(
        (0.02, 0.3, 1.5, 0.003)
    ):  # the last one: not so dark that it cannot learn
        got = reflectance(surface, torch.rand(20, 3), look(20, band=band))
        torch.testing.assert_close(got, torch.full((20,), expected), rtol=0.01, atol=0)


def test_learning_north_of_the_equator_leaves_the_south_alone() -> None:
    """A ground that depends on Earth-centred x and y alone would be its own mirror image at the equator."""
    setting = make_setting(centre=(0.0, 10.0), half_m=(600_000.0, 600_000.0))
    north_south_east = setting.frame.from_geodetic([5.0, -5.0, 5.0], [10.0, 10.0, 13.0])
    feet = torch.from_numpy(setting.frame.unit(north_south_east)).float()
    surface = Surface(setting, SMALL)
    before = reflectance(surface, feet, look(3)).detach()
    optimizer = torch.optim.Adam([surface.grid.table], lr=1.0)
    for _ in range(3):
        optimizer.zero_grad()
        (-reflectance(surface, feet[:1], look(1))).sum().backward()
        optimizer.step()
    change = (reflectance(surface, feet, look(3)).detach() - before).abs()
    assert change[0] > 10 * change[1:].max()


def test_place_and_direction_do_not_mix() -> None:
    """Otherwise the ground could paint another picture for every view, and no cloud would be needed."""
    surface = shaken(Surface(make_setting(), SMALL))
    feet, aspect = torch.rand(6, 3), look(6)
    raw = torch.stack(
        [reflectance(surface, feet[k : k + 1].expand(6, 3), aspect).expm1().log() for k in range(6)]
    )
    mixed = raw - raw[:1] - raw[:, :1] + raw[0, 0]
    assert raw.std() > 0.1
    assert mixed.abs().max() < 1e-3


def test_each_ray_sees_its_own_band() -> None:
    surface = shaken(Surface(make_setting(), SMALL))
    feet, aspect = torch.rand(4, 3), look(4)
    single = [reflectance(surface, feet, aspect._replace(band=torch.full((4,), band))) for band in range(4)]
    mixed = reflectance(surface, feet, aspect._replace(band=torch.tensor([2, 0, 3, 1])))
    expected = torch.stack([single[band][ray] for ray, band in enumerate((2, 0, 3, 1))])
    assert torch.equal(mixed, expected)
    assert torch.stack(single).std(0).min() > 0


def test_reflectance_is_positive_and_has_no_upper_bound() -> None:
    surface = Surface(make_setting(), SMALL)
    for bias, low, high in ((-60.0, 0.0, 1e-20), (30.0, 29.0, 31.0)):
        torch.nn.init.constant_(surface.place.bias, bias)
        got = reflectance(surface, torch.rand(5, 3), look(5))
        assert (got >= low).all() and (got <= high).all()


def test_height_does_not_matter() -> None:
    surface = shaken(Surface(make_setting(), SMALL))
    feet = torch.rand(5, 3)
    moved = feet.clone()
    moved[:, 2] = 0.7
    assert torch.equal(reflectance(surface, feet, look(5)), reflectance(surface, moved, look(5)))


@pytest.mark.parametrize("axis", [0, 1])
def test_both_horizontal_coordinates_matter(axis: int) -> None:
    surface = shaken(Surface(make_setting(), SMALL))
    feet = torch.full((2, 3), 0.4)
    feet[1, axis] = 0.6
    direction = look(1)
    aspect = Aspect(*(values.expand(2, *values.shape[1:]) for values in direction))
    first, second = reflectance(surface, feet, aspect)
    assert abs(first - second) > 1e-3
