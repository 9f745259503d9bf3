"""Write or check an OpenVDB file, told what to on standard input; answers with a line of JSON.

This is a program of its own that imports nothing of atmonr, because the Python that has the OpenVDB module is
often another one, such as Debian's: `python vdb_pipe.py probe|write|compare`. `vdb.py` talks to it.

Input of `write` and `compare`: a line of JSON, the head; then for every block a line of JSON with the number
of its grid, its first index and its shape, followed by its values as little-endian fp32, x slowest; then a
line {"end": true}, without which nothing is written.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from typing import IO, Any

import numpy as np

try:
    import openvdb as vdb
except ImportError:  # the module's name until OpenVDB 10, and still Debian's
    import pyopenvdb as vdb


def probe() -> dict[str, Any]:
    """Use what `write` and `compare` need: a module built for another NumPy imports well and then crashes."""
    grid = vdb.FloatGrid(0.0)
    grid.copyFromArray(np.ones((2, 2, 2), np.float32))
    values = np.zeros((2, 2, 2), np.float32)
    grid.copyToArray(values)
    if grid.activeVoxelCount() != 8 or values.sum() != 8.0:
        raise SystemExit("the OpenVDB module does not keep what it is given")
    return {"module": vdb.__name__, "version": list(vdb.LIBRARY_VERSION)}


def blocks(stream: IO[bytes]) -> Iterator[tuple[int, tuple[int, ...], Any]]:
    """Yield (number of the grid, first index, values) of every block."""
    while True:
        head = json.loads(stream.readline() or b"null")
        if head is None:
            raise SystemExit("the input ends early")
        if "end" in head:
            return
        wanted = int(np.prod(head["shape"])) * 4
        data = stream.read(wanted)
        if len(data) != wanted:
            raise SystemExit("the input ends early")
        values = np.frombuffer(data, "<f4").reshape(head["shape"])
        yield head["grid"], tuple(head["ijk"]), np.array(values, np.float32)  # a copy that may be written to


def write(stream: IO[bytes]) -> dict[str, Any]:
    """Make the file; cells equal to the background of 0 are inactive and take no space."""
    head = json.loads(stream.readline())
    grids = []
    for described in head["grids"]:
        grid = vdb.FloatGrid(0.0)
        grid.name = described["name"]
        grid.gridClass = "fog volume"
        grid.transform = vdb.createLinearTransform(head["matrix"])
        grid.saveFloatAsHalf = head["half"]
        for name, value in described["metadata"].items():
            grid[name] = value
        grids.append(grid)
    for number, ijk, values in blocks(stream):
        grids[number].copyFromArray(values, ijk=ijk)
    for grid in grids:
        grid.prune()
    vdb.write(head["file"], grids, metadata=head["metadata"])
    return {"active": [int(grid.activeVoxelCount()) for grid in grids]}


def compare(stream: IO[bytes]) -> dict[str, Any]:
    """Read the file and hold it against the blocks: how many cells differ, and where they are."""
    head = json.loads(stream.readline())
    grids, _ = vdb.readAll(head["file"])
    wrong, expected_active = [0] * len(grids), [0] * len(grids)
    for number, ijk, values in blocks(stream):
        found = np.empty_like(values)
        grids[number].copyToArray(found, ijk=ijk)
        allowed = head["relative"] * np.abs(values) + head["absolute"]
        wrong[number] += int((~(np.abs(found - values) <= allowed)).sum())
        expected_active[number] += int((values != 0).sum())
    return {
        "names": [grid.name for grid in grids],
        "wrong": wrong,
        "active": [int(grid.activeVoxelCount()) for grid in grids],
        "expected_active": expected_active,
        "world": [
            [list(grid.transform.indexToWorld(tuple(ijk))) for ijk in head["corners"]] for grid in grids
        ],
    }


if __name__ == "__main__":
    task = sys.argv[1]
    answer = probe() if task == "probe" else {"write": write, "compare": compare}[task](sys.stdin.buffer)
    sys.stdout.write(json.dumps(answer) + "\n")
