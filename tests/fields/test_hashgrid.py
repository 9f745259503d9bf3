"""The encoding against the published indexing, written out with Python's own integers."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from torch import Tensor

from atmonr.fields.hashgrid import HashGrid

PRIMES = (1, 2654435761, 805459861)  # Mueller et al. 2022, doi:10.1145/3528223.3530127, section 3

# A dense level, one with fractional cells, and two hashed ones; the atmosphere is thin, so the axes differ.
LEVELS_3D = [[5.0, 4.0, 3.0], [8.3, 6.7, 4.2], [60.0, 50.0, 40.0], [3001.5, 2999.0, 800.0]]
LEVELS_2D = [[5.0, 4.0], [20.5, 18.25], [4000.0, 3000.0]]
LEVELS = pytest.mark.parametrize("scales", [LEVELS_3D, LEVELS_2D], ids=["3d", "2d"])
LOG2, FEATURES = 10, 3


def make_grid(scales: list[list[float]]) -> HashGrid:
    torch.manual_seed(1)
    grid = HashGrid(scales, LOG2, FEATURES)
    torch.nn.init.normal_(grid.table)
    return grid


def points(count: int, axes: int) -> Tensor:
    """Random points, and the corners of the box."""
    corners = torch.tensor(list(itertools.product((0.0, 1.0), repeat=axes)))
    inner = torch.rand(count, axes, generator=torch.Generator().manual_seed(2))
    return torch.cat([corners, inner])


def published_row(corner: tuple[int, ...], shape: list[int]) -> tuple[int, int]:
    """Entry of a lattice point and number of entries of its level."""
    if math.prod(shape) <= 2**LOG2:
        strides = [math.prod(shape[:axis]) for axis in range(len(shape))]
        return sum(c * stride for c, stride in zip(corner, strides, strict=True)), math.prod(shape)
    mixed = 0
    for c, prime in zip(corner, PRIMES, strict=False):
        mixed ^= (c * prime) & 0xFFFFFFFF
    return mixed % 2**LOG2, 2**LOG2


def published_rows(point: np.ndarray, scales: list[list[float]]) -> list[list[tuple[int, float]]]:
    """Per level, (row of the table, weight) of the corners around a point."""
    result, offset = [], 0
    for scale in scales:
        # In float32, as the product of two float32 numbers is.
        position = point.astype(np.float32) * np.asarray(scale, np.float32) + np.float32(0.5)
        cell = np.floor(position)
        shape = [math.ceil(cells) + 2 for cells in scale]
        level = []
        for bits in itertools.product((0, 1), repeat=len(scale)):
            corner = tuple(int(c) + bit for c, bit in zip(cell, bits, strict=True))
            fraction = [
                float(p - c) if bit else 1 - float(p - c)
                for p, c, bit in zip(position, cell, bits, strict=True)
            ]
            row, entries = published_row(corner, shape)
            level.append((offset + row, math.prod(fraction)))
        result.append(level)
        offset += entries
    return result


@LEVELS
def test_features_are_those_of_the_published_indexing(scales: list[list[float]]) -> None:
    grid = make_grid(scales)
    where = points(40, len(scales[0]))
    table = grid.table.detach().double().numpy()
    expected = [
        np.concatenate([sum(weight * table[row] for row, weight in level) for level in levels])
        for levels in (published_rows(point, scales) for point in where.numpy())
    ]
    assert grid.dense_levels == 2
    np.testing.assert_allclose(grid(where).detach(), expected, atol=3e-6)


@LEVELS
def test_corners_lie_in_their_level_and_weights_sum_to_one(scales: list[list[float]]) -> None:
    grid = make_grid(scales)
    index, weight = grid.corners(points(100, len(scales[0])))
    assert index.min() >= 0 and index.max() < len(grid.table)
    torch.testing.assert_close(weight.sum(1), torch.ones(len(weight)), atol=1e-5, rtol=0)
    assert (weight >= 0).all()


@pytest.mark.parametrize("scale", [[7.0, 5.0, 3.0], [7.4, 4.5, 2.9], [30.0, 21.5]])
def test_a_function_linear_in_the_lattice_is_reproduced_up_to_the_faces(scale: list[float]) -> None:
    grid = HashGrid([scale], LOG2, 1)
    shape = [math.ceil(cells) + 2 for cells in scale]
    lattice = torch.tensor(list(itertools.product(*(range(n) for n in reversed(shape))))).flip(1).float()
    slopes = torch.tensor([0.3, -1.7, 0.9])[: len(scale)]
    with torch.no_grad():
        grid.table.copy_((lattice @ slopes)[:, None])
    where = points(200, len(scale))
    expected = (where * torch.tensor(scale) + 0.5) @ slopes
    torch.testing.assert_close(grid(where).detach()[:, 0], expected, atol=3e-5, rtol=1e-5)


@pytest.mark.parametrize("scale", [[4.0, 4.0, 4.0], [5.7, 5.2, 3.4], [9.0, 6.0]])
def test_opposite_faces_of_the_box_share_no_entry(scale: list[float]) -> None:
    """Learning at one edge of a scene must not paint the other."""
    grid = HashGrid([scale], LOG2, 1)
    inner = points(100, len(scale))
    for axis in range(len(scale)):
        touched = []
        for face in (0.0, 1.0):
            where = inner.clone()
            where[:, axis] = face
            grid.zero_grad()
            grid(where).sum().backward()
            assert grid.table.grad is not None
            touched.append(grid.table.grad[:, 0] != 0)
        assert touched[0].any() and touched[1].any()
        assert not (touched[0] & touched[1]).any()


@LEVELS
def test_gradient_is_that_of_plain_indexing(scales: list[list[float]]) -> None:
    grid = make_grid(scales)
    where = points(60, len(scales[0]))
    downstream = torch.randn(len(where), grid.width, generator=torch.Generator().manual_seed(3))
    grid(where).backward(downstream)
    plain = grid.table.detach().double().clone().requires_grad_()
    rows = [published_rows(point, scales) for point in where.numpy()]
    for point, wanted in zip(rows, downstream.double(), strict=True):
        for level, slot in zip(point, wanted.view(len(scales), FEATURES), strict=True):
            for row, weight in level:
                ((plain[row] * weight) @ slot).backward()
    assert grid.table.grad is not None and plain.grad is not None
    torch.testing.assert_close(grid.table.grad.double(), plain.grad, atol=1e-5, rtol=1e-5)


def test_the_same_input_gives_the_same_bits() -> None:
    grid = make_grid(LEVELS_3D)
    where = points(3000, 3)
    outputs, gradients = [], []
    for _ in range(2):
        grid.zero_grad()
        encoded = grid(where)
        encoded.square().sum().backward()
        assert grid.table.grad is not None
        outputs.append(encoded.detach().clone())
        gradients.append(grid.table.grad.clone())
    assert torch.equal(*outputs) and torch.equal(*gradients)


def test_each_point_is_encoded_by_itself() -> None:
    """Features come back in the order of the points, level after level."""
    grid = make_grid(LEVELS_3D)
    where = points(9, 3)
    together = grid(where).detach()
    assert together.shape == (17, grid.width) == (17, 4 * FEATURES)
    for k, point in enumerate(where):
        torch.testing.assert_close(grid(point[None])[0], together[k], atol=1e-6, rtol=0)


def test_points_outside_see_what_is_at_the_face() -> None:
    grid = make_grid(LEVELS_3D)
    outside = torch.tensor([[-0.5, 0.3, 1.7], [2.0, 1.0, 0.5]])
    assert torch.equal(grid(outside), grid(outside.clamp(0, 1)))


def test_levels_from_fine_to_coarse_are_refused() -> None:
    with pytest.raises(ValueError, match="coarse to fine"):
        HashGrid(LEVELS_3D[::-1], LOG2, 2)


@LEVELS
@pytest.mark.parametrize("features", [1, 2, 3])
def test_compiled_and_plain_look_ups_agree_gradients_included(
    scales: list[list[float]], features: int
) -> None:
    torch.manual_seed(1)
    grid = HashGrid(scales, LOG2, features)
    torch.nn.init.normal_(grid.table)
    where = points(5000, len(scales[0])) * 1.2 - 0.1
    downstream = torch.randn(len(where), grid.width, generator=torch.Generator().manual_seed(3))
    results = []
    for encode in (grid, grid.reference):
        grid.zero_grad()
        encoded = encode(where)
        encoded.backward(downstream)
        assert grid.table.grad is not None
        results.append((encoded.detach(), grid.table.grad.clone()))
    (compiled, gradient), (plain, plain_gradient) = results
    torch.testing.assert_close(compiled, plain, atol=3e-6, rtol=0)
    torch.testing.assert_close(gradient, plain_gradient, atol=1e-4, rtol=1e-5)


def test_any_number_of_threads_gives_the_same_bits() -> None:
    grid = make_grid(LEVELS_3D)
    where = points(3000, 3)
    results, before = [], torch.get_num_threads()
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            grid.zero_grad()
            encoded = grid(where)
            encoded.square().sum().backward()
            assert grid.table.grad is not None
            results.append((encoded.detach(), grid.table.grad.clone()))
    finally:
        torch.set_num_threads(before)
    assert torch.equal(results[0][0], results[1][0]) and torch.equal(results[0][1], results[1][1])


def test_a_place_that_is_no_number_gives_features_that_are_none() -> None:
    """And reads nothing outside the table; the loss then says that training has diverged."""
    grid = make_grid(LEVELS_3D)
    where = points(3, 3)
    where[4, 1] = math.nan
    encoded = grid(where).detach()
    assert encoded[4].isnan().all() and not encoded[:4].isnan().any() and not encoded[5:].isnan().any()
    assert grid(where[:0]).shape == (0, grid.width)
