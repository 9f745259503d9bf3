"""How fast a granule becomes a scene and a scene becomes rays, beside merely reading the same bytes."""

from __future__ import annotations

import ctypes
import resource
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import netCDF4
import numpy as np
import torch

from atmonr.device import DeviceKind, choose_device
from atmonr.feed.rays import RayTable, load_rays
from atmonr.sensors.harp2 import open_harp2
from atmonr.store.ingest import ingest
from atmonr.store.scene import open_scene

# What is compared is done in turn, so that a busy moment of the machine hits all; the fastest round counts.
ROUNDS = 3
LOADS = 10  # of a second or less, in which a moment counts for more


def bench_ingest(granule: Path, folder: Path | None = None, device: DeviceKind = "auto") -> dict[str, Any]:
    """Measures the way of a granule to the device.

    What ingest is held against is to read every image of the file with netCDF4, masked and scaled as the
    library does it by default; what loading rays is held against is `numpy.load` of a file with the bytes
    that they take on the device, and moving them there. Both find their files in the page cache, as far as
    the machine keeps them there, get memory from the system, as the one load of a training and a `numpy.load`
    in a process of its own do, and are not charged for giving it back.

    Args:
        granule: A HARP2 granule.
        folder: Where scenes are made for a while; the system's folder for temporary files by default.
        device: auto, cpu or cuda.

    Returns:
        Seconds of each, the two ratios (1 is as fast as merely reading), and peak host memory: of the ingest
        and of all.
    """
    best = dict.fromkeys(("read_netcdf", "ingest", "load_bytes", "load_rays"), float("inf"))
    ingest_peak = 0.0
    with tempfile.TemporaryDirectory(dir=folder) as made:
        scene, copy = Path(made) / "scene.zarr", Path(made) / "rays.npy"
        for _ in range(ROUNDS):
            shutil.rmtree(scene, ignore_errors=True)
            _time(best, "ingest", lambda: _ingest(granule, scene))
            ingest_peak = ingest_peak or _peak_mib()  # before anything else has taken memory
            _time(best, "read_netcdf", lambda: _read_images(granule))
        place = choose_device(device, 0)  # only now: it changes how memory is kept, which no ingest does
        size = _save_bytes(_load_rays(scene, place), copy)
        for _ in range(LOADS):
            _time(best, "load_rays", lambda: _load_rays(scene, place))
            _time(best, "load_bytes", lambda: _load_bytes(copy, place))
    return {
        "device": str(place),
        "seconds": best,
        "ingest_over_read_netcdf": best["read_netcdf"] / best["ingest"],
        "load_rays_over_load_bytes": best["load_bytes"] / best["load_rays"],
        "ray_bytes": size,
        "ingest_peak_memory_mib": ingest_peak,
        "peak_memory_mib": _peak_mib(),
    }


def _time(best: dict[str, float], name: str, work: Callable[[], Any]) -> None:
    _give_memory_back()
    start = time.perf_counter()
    result = work()
    best[name] = min(best[name], time.perf_counter() - start)
    del result  # only now


def _give_memory_back() -> None:
    """Leaves no freed memory at hand, which `choose_device` has glibc keep and which spares page faults."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim is not None:
        trim(0)


def _read_images(granule: Path) -> None:
    with netCDF4.Dataset(granule) as file:
        for group in ("geolocation_data", "observation_data"):
            for variable in file[group].variables.values():
                variable[:]


def _ingest(granule: Path, scene: Path) -> None:
    with open_harp2(granule) as opened:
        ingest(opened, scene)


def _load_rays(scene: Path, device: torch.device) -> RayTable:
    opened = open_scene(scene)
    table = load_rays(opened, np.flatnonzero(~opened.holdout), device)
    _wait(device)
    return table


def _save_bytes(table: RayTable, path: Path) -> int:
    """Save as many bytes as the rays of a table take, and return how many."""
    size = round(len(table) * table.bytes_per_ray)
    np.save(path, np.resize(table.sight.cpu().numpy().view(np.uint8), size))
    return size


def _load_bytes(path: Path, device: torch.device) -> torch.Tensor:
    loaded = torch.from_numpy(np.load(path)).to(device)
    _wait(device)
    return loaded


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def _peak_mib() -> float:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return peak / 2**20
