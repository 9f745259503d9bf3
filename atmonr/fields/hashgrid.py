"""Multi-resolution hash encoding (Mueller et al. 2022, doi:10.1145/3528223.3530127)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

_BLOCK = 8192  # points whose corners a CPU finds together: so many stay in its cache
# Primes of the published spatial hash, as int32: only the low bits of the products are used.
_PRIMES = (1, 2654435761 - 2**32, 805459861)


class HashGrid(nn.Module):
    """Features of points in the unit box from tables of trilinear cells.

    Indexing as published (ibid. section 3 and its reference implementation): level l has scale s_l per axis,
    a point x lies at x s_l + 1/2 on a lattice that is stored densely when it fits the table and otherwise
    hashed as the xor of coordinate times prime, modulo the table's size. Two things differ: axes may have
    different scales, because the atmosphere is thin, and the lattice has ceil(s_l) + 2 points, one more than
    published, because there the last half cell of a dense level borrows from the opposite face.
    """

    scale: Tensor  # (levels, D) float32
    stride: Tensor  # (levels, D) int32
    offset: Tensor  # (levels,) int32

    def __init__(self, scales: Sequence[Sequence[float]], log2_table_size: int, features: int) -> None:
        """
        Args:
            scales: Per level, cells along each of two or three axes.
            log2_table_size: Entries of a hashed level, and the most that a dense one may have, as a power of
                two.
            features: Numbers per entry.
        """
        super().__init__()
        table = 2**log2_table_size
        shapes = [[math.ceil(cells) + 2 for cells in level] for level in scales]
        dense = [math.prod(shape) <= table for shape in shapes]
        sizes = [math.prod(shape) if fits else table for shape, fits in zip(shapes, dense, strict=True)]
        self.levels, self.features, self.axes = len(scales), features, len(scales[0])
        self.dense_levels = sum(dense)
        if dense != sorted(dense, reverse=True):
            raise ValueError("scales: expected levels ordered from coarse to fine")
        self.table = nn.Parameter(torch.empty(sum(sizes), features).uniform_(-1e-4, 1e-4))
        strides = [
            [math.prod(shape[:axis]) for axis in range(self.axes)] if fits else list(_PRIMES[: self.axes])
            for shape, fits in zip(shapes, dense, strict=True)
        ]
        offsets = [sum(sizes[:level]) for level in range(self.levels)]
        self._constant("scale", torch.tensor(scales, dtype=torch.float32))
        self._constant("stride", torch.tensor(strides, dtype=torch.int32))
        self._constant("offset", torch.tensor(offsets, dtype=torch.int32))
        self.mask = table - 1

    def _constant(self, name: str, value: Tensor) -> None:
        self.register_buffer(name, value, persistent=False)

    @property
    def width(self) -> int:
        """Features of a point, all levels together."""
        return self.levels * self.features

    def forward(self, unit_ND: Tensor) -> Tensor:
        """(N, D) points in [0, 1]^D to (N, levels x features); points outside are moved to the box."""
        return self._compiled(unit_ND) if unit_ND.device.type == "cpu" else self.reference(unit_ND)

    def _compiled(self, unit_ND: Tensor) -> Tensor:
        from atmonr.fields.hashgrid_compiled import Interpolate, layout

        where = layout(self.scale, self.stride, self.offset, self.dense_levels, self.mask)
        unit_N3 = nn.functional.pad(unit_ND.detach(), (0, 3 - self.axes)).contiguous()
        encoded: Tensor = Interpolate.apply(self.table, unit_N3, where)
        return encoded

    def reference(self, unit_ND: Tensor) -> Tensor:
        """`forward` in plain torch, for every device; what others are held against."""
        index, weight = self.corners(unit_ND)
        encoded: Tensor = _Interpolate.apply(self.table, index, weight)
        return encoded.view(self.levels, len(unit_ND), self.features).transpose(0, 1).flatten(1)

    @torch.no_grad()
    def corners(self, unit_ND: Tensor) -> tuple[Tensor, Tensor]:
        """Table entries and weights of the 2^D corners around each point on each level.

        Returns:
            int32 and float32, both (levels x N, 2^D), the first axis of a corner varying slowest.
        """
        points, corners = len(unit_ND), 2**self.axes
        index = torch.empty(self.levels, points, corners, dtype=torch.int32, device=unit_ND.device)
        weight = torch.empty(self.levels, points, corners, device=unit_ND.device)
        block = _BLOCK if unit_ND.device.type == "cpu" else max(points, 1)
        for start in range(0, points, block):
            part = slice(start, start + block)
            # Points run along the last dimension until the end: far faster than corners there.
            found = self._corners(unit_ND[part].clamp(0.0, 1.0).T[:, None, :])
            index[:, part], weight[:, part] = (values.permute(1, 2, 0) for values in found)
        return index.view(-1, corners), weight.view(-1, corners)

    def _corners(self, unit_D1N: Tensor) -> tuple[Tensor, Tensor]:
        """(2^D, levels, N) table entries and weights."""
        position = unit_D1N * self.scale.T[:, :, None] + 0.5
        cell = position.floor()
        fraction = position - cell
        stride = self.stride.T[:, :, None]
        low = cell.int() * stride
        pair, split = torch.stack([low, low + stride], 1), self.dense_levels
        dense = _combine(pair[:, :, :split], torch.add)
        hashed = _combine(pair[:, :, split:], torch.bitwise_xor) & self.mask
        index = torch.cat([dense, hashed], 1) + self.offset[:, None]
        return index, _combine(torch.stack([1.0 - fraction, fraction], 1), torch.mul)


def _combine(pair_D2LN: Tensor, combine: Any) -> Tensor:
    """(D, 2, L, N) low and high values per axis to (2^D, L, N), the first axis varying slowest."""
    axes = pair_D2LN.unbind(0)
    result = axes[0]
    for axis in axes[1:]:
        result = combine(result[:, None], axis[None]).flatten(0, 1)
    return result


class _Interpolate(torch.autograd.Function):
    """Weighted sum of table entries; the gradient is a histogram, on a CPU in a fixed order."""

    @staticmethod
    def forward(ctx: Any, table: Tensor, index: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(index, weight)
        ctx.entries = len(table)
        return torch.nn.functional.embedding_bag(index, table, per_sample_weights=weight, mode="sum")

    @staticmethod
    def backward(ctx: Any, *grad: Tensor) -> tuple[Tensor, None, None]:
        index, weight = ctx.saved_tensors
        flat, columns = index.view(-1), grad[0].unbind(-1)
        sums = [
            torch.bincount(flat, weights=(column[:, None] * weight).view(-1), minlength=ctx.entries)
            for column in columns
        ]
        return torch.stack(sums, -1).to(grad[0].dtype), None, None
