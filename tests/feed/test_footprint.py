"""The size of pixels, from the places of their neighbours."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from atmonr.feed.footprint import FootprintFit
from atmonr.feed.rays import load_rays
from atmonr.geo.frame import Frame
from atmonr.store.scene import Scene
from tests.feed.scenes import make_fields, make_scene

CPU = torch.device("cpu")
FRAME = Frame(18.0, -61.5, (-5e4, -4e4, 0.0), (5e4, 4e4, 2e4))


def evaluate(coefficients: np.ndarray, frame: Frame, place_m: np.ndarray) -> np.ndarray:
    """(N, 2, 2) steps at places (N, 2)."""
    x, y = frame.unit(np.pad(place_m, ((0, 0), (0, 1))))[:, :2].T
    terms = np.stack([np.ones_like(x), x, y, x * x, x * y, y * y], -1)
    return (terms @ coefficients).reshape(-1, 2, 2)


def swath(lines: int, pixels: int) -> np.ndarray:
    """(L, P, 2) ground places of a turned swath whose pixels widen towards its edges."""
    line, pixel = np.meshgrid(np.arange(lines) - lines / 2, np.arange(pixels) - pixels / 2, indexing="ij")
    across = 800.0 * pixel * (1.0 + (pixel / pixels) ** 2)
    along = 1200.0 * line
    return np.stack([0.8 * across - 0.6 * along, 0.6 * across + 0.8 * along], -1)


def fitted(place_LP2: np.ndarray) -> np.ndarray:
    """Coefficients of one view with these ground places, of which NaN are not valid."""
    fit = FootprintFit(FRAME, 1)
    ground = np.pad(place_LP2, ((0, 0), (0, 0), (0, 1)))
    valid = np.isfinite(place_LP2[..., 0])
    fit.add(0, valid, *FRAME.to_geodetic(ground[valid]))
    return fit.solve()[0]


def test_pixels_that_widen_towards_the_edge_of_the_swath_are_followed() -> None:
    place = swath(30, 40)
    found = evaluate(fitted(place), FRAME, place[5, 1:-1])
    true = (place[5, 2:] - place[5, :-2]) / 2
    assert np.linalg.norm(true[-1]) > 1.4 * np.linalg.norm(true[19])
    assert np.abs(found[:, 1] - true).max() < 30.0
    np.testing.assert_allclose(found[:, 0], np.broadcast_to([-720.0, 960.0], true.shape), atol=0.1)


def test_of_a_large_image_some_pixels_are_enough() -> None:
    large = swath(200, 300)
    some, many = (evaluate(fitted(place), FRAME, large[50, 10:-10:20]) for place in (large, swath(20, 300)))
    np.testing.assert_allclose(some, many, atol=6.0)  # of 800 m and more


def test_missing_pixels_and_a_single_line_are_no_obstacle() -> None:
    place = swath(1, 40)
    place[:, 3:30:4] = np.nan
    steps = evaluate(fitted(place), FRAME, place[0, 31:33])
    assert (steps[:, 0] == 0.0).all()  # nothing is known of the next line
    np.testing.assert_allclose(steps[:, 1], np.diff(place[0, 31:34], axis=0), rtol=0.05)


def test_neighbours_are_found_among_many_missing_pixels() -> None:
    line, pixel = np.meshgrid(np.arange(200.0), np.arange(150.0), indexing="ij")
    place = np.stack([700.0 * pixel - 300.0 * line, 250.0 * pixel + 900.0 * line], -1) - 50e3
    place[np.random.default_rng(0).random(line.shape) < 0.7] = np.nan
    place[60:90] = np.nan
    steps = evaluate(fitted(place), FRAME, np.array([[0.0, 0.0], [3e4, 2e4]]))
    np.testing.assert_allclose(steps, np.broadcast_to([[-300.0, 900.0], [700.0, 250.0]], (2, 2, 2)), atol=0.2)


def test_a_view_of_lonely_pixels_has_points() -> None:
    place = swath(9, 9)
    place[1::2], place[:, 1::2] = np.nan, np.nan
    assert (fitted(place) == 0.0).all()


@pytest.fixture(scope="module", params=[(18.0, -61.5), (60.0, 179.99)], ids=["tropics", "dateline"])
def scene(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Scene:
    return make_scene(tmp_path_factory.mktemp("scene"), make_fields(centre=request.param))


@pytest.mark.parametrize("view", [0, 40, 85])
def test_half_a_step_aside_is_half_way_to_the_neighbour_at_any_height(scene: Scene, view: int) -> None:
    lines, pixels = scene.shape[1:]
    table = load_rays(scene, np.array([view]), CPU)
    assert len(table) == lines * pixels
    rays = table.take(torch.arange(len(table)))
    along = torch.tensor([0.3, 0.7, 1.0]).expand(len(table), -1)
    middle = rays.points(along).view(lines, pixels, 3, 3)
    for axis, aside in ((0, (0.5, 0.0)), (1, (0.0, 0.5))):
        moved = rays.points(along, torch.tensor(aside).expand(len(table), 3, 2)).view(lines, pixels, 3, 3)
        this, following = (middle.narrow(axis, k, middle.shape[axis] - 1) for k in (0, 1))
        error = moved.narrow(axis, 0, middle.shape[axis] - 1) - (this + following) / 2
        assert error[..., :2].norm(dim=-1).max() < 0.02 * 3000.0
        assert torch.equal(moved[..., 2], middle[..., 2])


def test_the_size_of_pixels_takes_no_memory_per_ray(scene: Scene) -> None:
    table = load_rays(scene, np.arange(90), CPU)
    assert table.bytes_per_ray == 25.0
    assert table.footprint.nbytes < 10_000


def test_the_size_of_pixels_does_not_depend_on_which_views_are_loaded(scene: Scene) -> None:
    """Views that are not loaded have no pixels; those that are have the same ones."""
    some = load_rays(scene, np.array([40, 85]), CPU).footprint
    every = load_rays(scene, np.arange(90), CPU).footprint
    assert torch.equal(some[[40, 85]], every[[40, 85]])
    assert (some[0] == 0.0).all()
