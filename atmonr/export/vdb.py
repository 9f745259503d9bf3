"""A product as an OpenVDB file: one sparse float grid a band, in metres.

The OpenVDB module runs in a process of its own (`vdb_pipe.py`), in whichever Python has one that works: there
is no wheel of it to install beside atmonr, and Debian's crashes with the NumPy that atmonr needs.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from atmonr import __version__
from atmonr.atomic import atomic_file, sha256
from atmonr.errors import StoreError, UsageError
from atmonr.export.child import child
from atmonr.export.voxels import Voxels, open_voxels

INSTALL = (
    "no Python with a working OpenVDB module found; on Debian or Ubuntu: apt-get install python3-openvdb "
    "python3-numpy, with conda: conda install -c conda-forge openvdb"
)
# Rounding to half floats: 11 significant bits, in steps of 2^-24 near zero.
_HALF = 2.0**-11, 2.0**-25
_PIPE = Path(__file__).with_name("vdb_pipe.py")
_PROBE_SECONDS = 60.0

Blocks = Iterator[tuple[int, tuple[int, int, int], NDArray[np.float32]]]
Progress = Callable[[int, int], None]


def write_vdb(
    extract: Path,
    out: Path,
    *,
    half: bool = False,
    threshold_per_m: float | None = None,
    progress: Progress | None = None,
) -> Path:
    """Write a product's extinction as an OpenVDB file, and read it back to compare.

    Grids are fog volumes named `extinction`, or `extinction_440` and so on where bands differ. World
    coordinates are metres: x east, y north, z up from the ellipsoid. Cells missing or 0 are inactive.

    Args:
        extract: File from `atmonr merge`, on a voxel grid.
        out: File to make.
        half: Store 16 bits a value.
        threshold_per_m: Leave out cells of a smaller extinction too.
        progress: Told the number of cells done, of those to do.

    Returns:
        `out`.

    Raises:
        UsageError: If there is no OpenVDB module, or `out` exists.
        SceneError: If the product is unreadable or not on a voxel grid.
        StoreError: If the file cannot be written, or differs when it is read back.
    """
    if out.exists():
        raise UsageError(f"{out}: exists already; choose another name or remove it first")
    voxels = open_voxels(extract)
    python = find_python()
    told = _Told(2 * len(voxels.fields) * int(np.prod(voxels.shape)), progress or (lambda done, total: None))
    with atomic_file(out) as temporary:
        head = _head(voxels, temporary, half, threshold_per_m)
        _ask(out, python, "write", head, _blocks(voxels, threshold_per_m, told))
        _compare(out, python, voxels, temporary, half, _blocks(voxels, threshold_per_m, told))
    return out


def find_python() -> list[str]:
    """Return the command of a Python with a working OpenVDB module: this, the path's or the system's.

    Raises:
        UsageError: If there is none; says what to install.
    """
    # Others must not see this one's packages, nor the folder of the script, whose modules they would import.
    candidates = [[sys.executable, "-P"]]
    for path in (None, os.defpath):
        found = shutil.which("python3", path=path)
        # The folder alone is resolved: a virtual environment's Python is a link to another one.
        other = found and str(Path(found).parent.resolve() / "python3")
        if other and [other, "-I"] not in candidates:
            candidates.append([other, "-I"])
    for python in candidates:
        try:
            done = subprocess.run(
                [*python, str(_PIPE), "probe"], capture_output=True, timeout=_PROBE_SECONDS, check=False
            )
        except (OSError, subprocess.TimeoutExpired):
            continue
        if done.returncode == 0:
            return python
    raise UsageError(INSTALL)


class _Told:
    """Counts cells for whoever shows progress."""

    def __init__(self, total: int, progress: Progress) -> None:
        self._done, self._total, self._progress = 0, total, progress

    def add(self, cells: int) -> None:
        self._done += cells
        self._progress(self._done, self._total)


def _blocks(voxels: Voxels, threshold_per_m: float | None, told: _Told) -> Blocks:
    for number, wavelength in enumerate(voxels.fields.values()):
        for ijk, values in voxels.blocks(wavelength):
            if threshold_per_m is not None:
                values[values < threshold_per_m] = 0.0
            yield number, ijk, values
            told.add(values.size)


def _head(voxels: Voxels, path: Path, half: bool, threshold_per_m: float | None) -> dict[str, Any]:
    """What the file holds beside the values."""
    x, y, z = voxels.step_m
    product = {
        f"product_{name}": value for name, value in voxels.file.attrs.items() if isinstance(value, str)
    }
    about: dict[str, str | float] = {
        "units": "m-1",
        "long_name": "volume extinction coefficient of cloud and aerosol particles",
        "axes": "metres: x east and y north of the frame's centre, z above the WGS-84 ellipsoid",
        "product_file": voxels.file.path.name,
        "product_sha256": sha256(voxels.file.path),
        **product,
    }
    if threshold_per_m is not None:
        about["threshold_per_m"] = threshold_per_m
    return {
        "file": str(path),
        "half": half,
        # Rows of the matrix are images of the index axes; index 0 is the centre of the first cell.
        "matrix": [[x, 0, 0, 0], [0, y, 0, 0], [0, 0, z, 0], [*voxels.first_m, 1]],
        "metadata": {"creator": f"atmonr {__version__}"},
        "grids": [
            {"name": name, "metadata": about if np.isnan(band) else {**about, "wavelength_nm": band}}
            for name, band in voxels.fields.items()
        ],
    }


def _compare(out: Path, python: list[str], voxels: Voxels, path: Path, half: bool, blocks: Blocks) -> None:
    """Raise StoreError if a file does not hold what was written to it."""
    corners = [[0, 0, 0], [size - 1 for size in voxels.shape]]
    relative, absolute = _HALF if half else (0.0, 0.0)
    head = {"file": str(path), "relative": relative, "absolute": absolute, "corners": corners}
    found = _ask(out, python, "compare", head, blocks)
    world = [
        [f + s * i for f, s, i in zip(voxels.first_m, voxels.step_m, ijk, strict=True)] for ijk in corners
    ]
    problems = []
    if found["names"] != list(voxels.fields):
        problems.append(f"grids {found['names']}, expected {list(voxels.fields)}")
    if any(found["wrong"]):
        problems.append(f"{sum(found['wrong'])} cells with other values")
    if not half and found["active"] != found["expected_active"]:
        problems.append(f"{found['active']} active cells, expected {found['expected_active']}")
    if not np.allclose(found["world"], world, rtol=0, atol=1e-6 * max(voxels.step_m)):
        problems.append(f"corners at {found['world']}, expected {world}")
    if problems:
        raise StoreError(f"{out}: read back with {'; '.join(problems)}")


def _ask(out: Path, python: Sequence[str], task: str, head: dict[str, Any], blocks: Blocks) -> dict[str, Any]:
    """Have the other process do something and return its answer."""
    failure = f"{out}: cannot {task}: the OpenVDB module says"
    with child([*python, str(_PIPE), task], failure) as process:
        process.feed(_line(head))
        for number, ijk, values in blocks:
            process.feed(_line({"grid": number, "ijk": ijk, "shape": values.shape}))
            process.feed(values.astype("<f4", copy=False).tobytes())
        process.feed(_line({"end": True}))
        return dict(json.loads(process.finish()))


def _line(content: dict[str, Any]) -> bytes:
    return json.dumps(content).encode() + b"\n"
