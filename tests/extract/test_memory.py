"""Merging holds a few shards, however large the product."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from atmonr.extract.parts import Parts

pytestmark = pytest.mark.slow

# Reports the largest resident memory of a merge in MiB. Not ru_maxrss: that begins with the memory of the
# process that started this one.
MERGE = """
import sys
from functools import partial
from pathlib import Path
from atmonr.extract import mosaic
from atmonr.extract.merge import merge

mosaic.ShardCache = partial(mosaic.ShardCache, limit_bytes=32 << 20)
*parts, out = map(Path, sys.argv[1:])
merge(parts, out)
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
print(int(status["VmHWM"].split()[0]) / 1024)
"""


@pytest.fixture
def fill_cheaply(make_grid, source, tmp_path: Path) -> Callable[..., Parts]:
    """Make a whole extraction of 40 levels from one shard's worth of values."""

    def make(name: str, columns: int, longitude: float) -> Parts:
        grid = make_grid(longitude=longitude, half_m=columns * 100.0)
        described = {**source, "identity": {**source["identity"], "scene_id": name}}
        parts = Parts.create_or_resume(tmp_path / f"{name}.zarr", grid, 1, described)
        largest = np.random.default_rng(0).integers(0, 50, grid.shard_shape).astype(np.float32)[None]
        for shard in parts.shards:
            z, y, x = (b - a for a, b in zip(shard.start, shard.stop, strict=True))
            parts.write(shard, largest[:, :z, :y, :x])
        return parts

    return make


def peak_mib(python, *files: Path) -> float:
    done = python("-c", MERGE, *map(str, files))
    assert done.returncode == 0, done.stderr
    return float(done.stdout)


def test_the_memory_of_a_merge_does_not_grow_with_the_product(python, fill_cheaply, tmp_path):
    small, large = fill_cheaply("small", 128, -61.5), fill_cheaply("large", 1_024, -61.5)
    assert large.grid.shape == (40, 1_024, 1_024)  # 160 MiB
    peaks = [peak_mib(python, parts.path, tmp_path / f"{i}.nc") for i, parts in enumerate((small, large))]
    assert peaks[1] - peaks[0] < 30, peaks


def test_the_memory_of_a_mosaic_does_not_grow_with_the_product(python, fill_cheaply, tmp_path):
    peaks = []
    for columns in (320, 800):
        # Half of each overlaps the other; the large mosaic has 146 MiB, its scenes 98 MiB each.
        scenes = [
            fill_cheaply(f"{columns} {i}", columns, -61.5 + i * columns * STEP_DEG / 2) for i in range(2)
        ]
        peaks.append(peak_mib(python, *(parts.path for parts in scenes), tmp_path / f"{columns}.nc"))
    assert peaks[1] - peaks[0] < 80, peaks


STEP_DEG = 200.0 / 105_900.0  # one column at 18 degrees north
