"""The look-ups of a hash grid (`HashGrid` says what they are) compiled for processors, gradients too.

They do in one pass over points what the plain-torch reference does in some thirty over arrays of corners, and
keep nothing for the way back but the points.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from atmonr.compiled import compiled, in_parts

# Plain Python numbers would make float64 of everything.
_NONE, _HALF, _ONE = np.float32(0.0), np.float32(0.5), np.float32(1.0)
# Indices without sign: no check whether they count from the end, which would double the time.
_index = np.uint64


class Layout(NamedTuple):
    """Where the entries of a grid of three axes lie; the third of a plane is empty."""

    scale: NDArray[np.float32]  # (levels, 3)
    stride: NDArray[np.uint32]  # (levels, 3)
    offset: NDArray[np.int32]  # (levels,)
    dense_levels: int
    mask: np.uint32


def layout(scale: Tensor, stride: Tensor, offset: Tensor, dense_levels: int, mask: int) -> Layout:
    """The layout that the buffers of a `HashGrid` describe, padded to three axes."""
    pad = 3 - scale.shape[1]
    scales, strides = (torch.nn.functional.pad(values, (0, pad)).numpy() for values in (scale, stride))
    return Layout(scales, strides.view(np.uint32), offset.numpy(), dense_levels, np.uint32(mask))


class Interpolate(torch.autograd.Function):
    """(N, 3) points in the unit box and a table to (N, levels x features); a gradient for the table alone."""

    @staticmethod
    def forward(ctx: Any, table: Tensor, unit_N3: Tensor, where: Layout) -> Tensor:
        ctx.save_for_backward(unit_N3)
        ctx.shape, ctx.where = table.shape, where
        encoded = table.new_empty(len(unit_N3), len(where.offset) * table.shape[1])
        gather, _ = _kernels(table.shape[1])
        arrays = (unit_N3.numpy(), table.detach().numpy(), *where, encoded.numpy())
        in_parts(len(unit_N3), torch.get_num_threads(), lambda first, last: gather(*arrays, first, last))
        return encoded

    @staticmethod
    def backward(ctx: Any, *grad: Tensor) -> tuple[Tensor, None, None]:
        (unit_N3,) = ctx.saved_tensors
        total = grad[0].new_zeros(ctx.shape)
        _, scatter = _kernels(ctx.shape[1])
        arrays = (unit_N3.numpy(), grad[0].contiguous().numpy(), *ctx.where, total.numpy())
        # Levels share no entry: each is added up by one thread, in the order of points.
        in_parts(
            len(ctx.where.offset), torch.get_num_threads(), lambda first, last: scatter(*arrays, first, last)
        )
        return total, None, None


@compiled
def _cell(place: Any, scale: Any) -> Any:
    """Number of the cell along an axis, and how far into it; where the place is NaN, only the latter is."""
    position = min(max(place, _NONE), _ONE) * scale + _HALF
    cell = np.uint32(position) if position >= _NONE else np.uint32(0)
    return cell, position - np.float32(cell)


@compiled
def _corners(x: Any, y: Any, z: Any, stride: Any, dense: Any, mask: Any) -> Any:
    """Entries of the eight corners of a cell in its level, the first axis varying slowest."""
    x0, y0, z0 = np.uint32(x * stride[0]), np.uint32(y * stride[1]), np.uint32(z * stride[2])
    x1, y1, z1 = np.uint32(x0 + stride[0]), np.uint32(y0 + stride[1]), np.uint32(z0 + stride[2])
    if dense:
        a, b, c, d = x0 + y0, x0 + y1, x1 + y0, x1 + y1
        return a + z0, a + z1, b + z0, b + z1, c + z0, c + z1, d + z0, d + z1
    a, b, c, d = (x0 ^ y0) & mask, (x0 ^ y1) & mask, (x1 ^ y0) & mask, (x1 ^ y1) & mask
    z0, z1 = z0 & mask, z1 & mask
    return a ^ z0, a ^ z1, b ^ z0, b ^ z1, c ^ z0, c ^ z1, d ^ z0, d ^ z1


@compiled
def _weights(x: Any, y: Any, z: Any) -> Any:
    """Of the corners, from how far into the cell a point is."""
    a, b, c, d = (_ONE - x) * (_ONE - y), (_ONE - x) * y, x * (_ONE - y), x * y
    w = _ONE - z
    return a * w, a * z, b * w, b * z, c * w, c * z, d * w, d * z


@cache
def _kernels(features: int) -> tuple[Callable[..., None], Callable[..., None]]:
    """The loops over points, forwards and backwards.

    A loop whose length the compiler knows takes half the time, so there is a pair for every length.
    """

    def gather(unit, table, scale, stride, offset, dense_levels, mask, encoded, first, last):  # type: ignore
        for level in range(len(offset)):
            start, column = _index(offset[level]), _index(level * features)
            for n in range(_index(first), _index(last)):
                x, right = _cell(unit[n, 0], scale[level, 0])
                y, far = _cell(unit[n, 1], scale[level, 1])
                z, up = _cell(unit[n, 2], scale[level, 2])
                e0, e1, e2, e3, e4, e5, e6, e7 = _corners(x, y, z, stride[level], level < dense_levels, mask)
                w0, w1, w2, w3, w4, w5, w6, w7 = _weights(right, far, up)
                for f in range(_index(features)):
                    encoded[n, column + f] = (
                        table[start + e0, f] * w0
                        + table[start + e1, f] * w1
                        + table[start + e2, f] * w2
                        + table[start + e3, f] * w3
                        + table[start + e4, f] * w4
                        + table[start + e5, f] * w5
                        + table[start + e6, f] * w6
                        + table[start + e7, f] * w7
                    )

    def scatter(unit, grad, scale, stride, offset, dense_levels, mask, total, first, last):  # type: ignore
        for level in range(first, last):
            start, column = _index(offset[level]), _index(level * features)
            for n in range(_index(len(unit))):
                x, right = _cell(unit[n, 0], scale[level, 0])
                y, far = _cell(unit[n, 1], scale[level, 1])
                z, up = _cell(unit[n, 2], scale[level, 2])
                e0, e1, e2, e3, e4, e5, e6, e7 = _corners(x, y, z, stride[level], level < dense_levels, mask)
                w0, w1, w2, w3, w4, w5, w6, w7 = _weights(right, far, up)
                for f in range(_index(features)):
                    g = grad[n, column + f]
                    total[start + e0, f] += g * w0
                    total[start + e1, f] += g * w1
                    total[start + e2, f] += g * w2
                    total[start + e3, f] += g * w3
                    total[start + e4, f] += g * w4
                    total[start + e5, f] += g * w5
                    total[start + e6, f] += g * w6
                    total[start + e7, f] += g * w7

    return compiled(gather), compiled(scatter)
