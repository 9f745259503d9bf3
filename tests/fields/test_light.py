"""The grid of light: where its points are and what is read between them."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from atmonr.config import LightConfig
from atmonr.fields.light import LightGrid
from atmonr.render.transport import Light, dark
from tests.fields.make import make_setting


@pytest.fixture
def grid() -> LightGrid:
    """Another number of points along each axis, so that no two can be confused."""
    return LightGrid(make_setting(), LightConfig(cell_pixels=4.0))


def random_points(count: int = 50) -> torch.Tensor:
    return torch.rand(count, 3, generator=torch.Generator().manual_seed(0))


def test_before_the_first_solution_everything_is_lit_and_nothing_scatters(grid: LightGrid) -> None:
    direct, diffuse = grid.at(random_points())
    torch.testing.assert_close(direct, torch.ones(50))
    assert (diffuse == 0).all()
    torch.testing.assert_close(grid.on_ground(random_points()), torch.ones(50))
    assert (grid.thickness(random_points()) == 0).all()


def test_cells_are_as_wide_as_asked_and_fill_the_box(grid: LightGrid) -> None:
    assert grid.shape == (17, 8, 6)  # of 20, 80, 60 km
    assert grid.spacing_m == pytest.approx((12_000.0, 80_000.0 / 7, 1_250.0))


def test_a_large_scene_gets_coarser_light_and_not_more_memory() -> None:
    setting = make_setting(half_m=(1_000_000.0, 1_500_000.0))
    grid = LightGrid(setting, LightConfig(layer_pixels=0.2, max_points=20_000))
    layers, rows, columns = grid.shape
    assert layers * rows * columns < 1.2 * 20_000
    assert grid.spacing_m[0] == pytest.approx(grid.spacing_m[1], rel=0.1)


def test_a_scene_smaller_than_a_cell_still_has_a_grid() -> None:
    assert LightGrid(make_setting(half_m=(100.0, 100.0)), LightConfig()).shape == (17, 3, 3)


def test_what_is_stored_at_a_point_is_found_there(grid: LightGrid) -> None:
    torch.manual_seed(0)
    grid.volume.uniform_()
    direct, diffuse = grid.at(grid.points())
    torch.testing.assert_close(direct, grid.volume[0].flatten(), atol=1e-5, rtol=0)
    torch.testing.assert_close(diffuse, grid.volume[1].flatten(), atol=1e-5, rtol=0)


def test_light_is_linear_between_points_along_each_axis(grid: LightGrid) -> None:
    slopes = torch.tensor([[0.1, 0.5, -0.3], [0.7, -0.2, 0.05]])
    values = grid.points() @ slopes.T
    grid.volume[:2] = values.T.view(2, *grid.shape)
    where = random_points()
    torch.testing.assert_close(torch.stack(grid.at(where)), slopes @ where.T, atol=1e-5, rtol=0)


def test_ground_is_linear_along_x_and_y(grid: LightGrid) -> None:
    ground = grid.points().view(*grid.shape, 3)[0] @ torch.tensor([0.3, -0.8, 0.0])
    grid.ground.copy_(ground)
    where = random_points()
    torch.testing.assert_close(
        grid.on_ground(where), where @ torch.tensor([0.3, -0.8, 0.0]), atol=1e-5, rtol=0
    )


def test_outside_the_box_light_is_that_of_its_face(grid: LightGrid) -> None:
    torch.manual_seed(0)
    grid.volume.uniform_()
    outside = torch.tensor([[1.3, 0.4, 0.5], [0.2, -0.1, 1.1]])
    assert torch.equal(grid.at(outside)[0], grid.at(outside.clamp(0, 1))[0])


def test_thickness_shows_cloud_in_the_next_cell_too(grid: LightGrid) -> None:
    """Where a ray is looked at closely must not depend on which side of a grid point a cloud's edge is."""
    extinction = torch.zeros(grid.shape)
    extinction[9, 4, 2] = 0.5
    grid.keep(dark(grid.shape, torch.device("cpu")), extinction)
    spot = grid.points().view(*grid.shape, 3)[9, 4, 2]
    cell = torch.tensor([1 / 5, 1 / 7, 1 / 16])
    for step in ((0, 0, 0), (1, 0, 0), (0, -1, 0), (0, 0, 1), (1, 1, -1)):
        near = spot + cell * torch.tensor(step)
        assert grid.thickness(near[None]).item() == pytest.approx(0.5, abs=1e-4)
    assert grid.thickness((spot + cell * torch.tensor([2.0, 0, 0]))[None]).item() < 1e-4


def test_a_solution_is_kept_for_those_who_look(grid: LightGrid) -> None:
    torch.manual_seed(0)
    light = Light(torch.rand(grid.shape), torch.rand(grid.shape), torch.rand(grid.shape[1:]))
    grid.keep(light, torch.zeros(grid.shape))
    direct, diffuse = grid.at(grid.points())
    torch.testing.assert_close(direct, light.direct.flatten(), atol=1e-5, rtol=0)
    torch.testing.assert_close(diffuse, light.diffuse.flatten(), atol=1e-5, rtol=0)
    lowest = grid.points().view(*grid.shape, 3)[0].view(-1, 3)
    torch.testing.assert_close(grid.on_ground(lowest), light.ground.flatten(), atol=1e-5, rtol=0)


def test_the_sun_stands_where_the_scene_says_over_each_column() -> None:
    # Component = constant + slope * (2 x - 1) + slope * (2 y - 1), see atmonr.geo.sun.
    tilted = [[0.5, 0.01, 0, 0, 0, 0], [-0.3, 0, 0.02, 0, 0, 0], [0.8, 0, 0, 0, 0, 0]]
    grid = LightGrid(replace(make_setting(), sun=tilted), LightConfig(cell_pixels=4.0))
    sun = grid.sun()
    assert sun.shape == (3, 8, 6)
    expected = torch.tensor([0.5 + 0.01, -0.3 - 0.02, 0.8])  # at x = 1, y = 0
    torch.testing.assert_close(sun[:, 0, -1], expected / expected.norm())


def test_light_is_saved_with_the_model_and_is_no_parameter(grid: LightGrid) -> None:
    assert set(grid.state_dict()) == {"volume", "ground"}
    assert list(grid.parameters()) == []
