"""What this machine has and lacks for atmonr, in about ten lines."""

from __future__ import annotations

import ctypes.util
import importlib.util
import netrc
import os
import platform
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path

EARTHDATA_HOST = "urs.earthdata.nasa.gov"
GIB = 2**30


def examine() -> list[tuple[str, str]]:
    """Return (subject, finding) pairs; what is absent comes with how to get it. Shows no secret."""
    mpi = _start_mpi()  # meanwhile torch is imported, which takes as long
    return [
        ("machine", _machine()),
        ("disk", f"{shutil.disk_usage(Path.cwd()).free / GIB:.0f} GiB free here"),
        ("torch", _torch()),
        ("devices", _devices()),
        ("GPU kernels", _gpu_kernels()),
        ("MPI", _mpi(mpi)),
        ("data", ", ".join(_version(name) for name in ("netCDF4", "zarr", "xarray"))),
        ("tracking", _version("mlflow")),
        ("Earthdata", _earthdata()),
        ("OpenVDB", _openvdb()),
    ]


def _machine() -> str:
    cores = len(os.sched_getaffinity(0))
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / GIB
    system = f"{platform.system()} {platform.machine()}"
    return f"Python {platform.python_version()}, {system}, {cores} cores, {memory:.0f} GiB memory"


def _torch() -> str:
    if not _installed("torch"):
        return "absent; pip install torch"
    import torch

    build = f"CUDA {torch.version.cuda}" if torch.version.cuda else None
    build = build or (f"ROCm {torch.version.hip}" if torch.version.hip else "CPU only")
    return f"{torch.__version__} ({build}), {torch.get_num_threads()} threads"


def _devices() -> str:
    if not _installed("torch"):
        return "unknown without torch"
    import torch

    if not torch.cuda.is_available():
        return "CPU; for an NVIDIA or AMD GPU install the torch build of its driver, see pytorch.org"
    found = (torch.cuda.get_device_properties(index) for index in range(torch.cuda.device_count()))
    return ", ".join(f"{gpu.name} {gpu.total_memory / GIB:.0f} GiB" for gpu in found)


def _gpu_kernels() -> str:
    """Looked up, not imported: tinycudann raises at import where there is no GPU."""
    return (
        ", ".join(f"{name} {'yes' if _installed(name) else 'no'}" for name in ("triton", "tinycudann"))
        + "; without them the plain torch path runs"
    )


def _start_mpi() -> subprocess.Popen[str] | None:
    """In a process of its own: loading MPI starts it, and a library that does not fit may end the process."""
    if not _installed("mpi4py"):
        return None
    script = "from mpi4py import MPI; print(MPI.Get_library_version().split('\\n')[0])"
    return subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )


def _mpi(process: subprocess.Popen[str] | None) -> str:
    launcher = Path(sys.executable).with_name("mpiexec")
    start = str(launcher) if launcher.exists() else shutil.which("mpiexec") or "no mpiexec"
    if process is None:
        return f"absent; pip install 'atmonr[mpi]'; {start}"
    with process:
        try:
            told, _ = process.communicate(timeout=30)
        except subprocess.TimeoutExpired:
            process.kill()
            return f"{_version('mpi4py')}, but MPI does not start; {start}"
    library = (
        " ".join(told.split()) if process.returncode == 0 else "no MPI library; pip install 'atmonr[mpi]'"
    )
    return f"{_version('mpi4py')}, {library}; {start}"


def _earthdata() -> str:
    """Say whether `atmonr` could log in, never with what."""
    if "EARTHDATA_TOKEN" in os.environ:
        return "credentials yes (EARTHDATA_TOKEN)"
    if "EARTHDATA_USERNAME" in os.environ and "EARTHDATA_PASSWORD" in os.environ:
        return "credentials yes (EARTHDATA_USERNAME and EARTHDATA_PASSWORD)"
    path = Path(os.environ.get("NETRC", Path.home() / ".netrc"))
    try:
        if netrc.netrc(path).authenticators(EARTHDATA_HOST):
            return f"credentials yes ({path})"
    except FileNotFoundError:
        pass
    except (OSError, netrc.NetrcParseError) as error:
        return f"credentials no; {path} cannot be read ({type(error).__name__})"
    return (
        f"credentials no; set EARTHDATA_TOKEN or add machine {EARTHDATA_HOST} to {path} to download granules"
    )


def _openvdb() -> str:
    for module in ("openvdb", "pyopenvdb"):
        if _installed(module):
            return f"yes ({module})"
    if ctypes.util.find_library("openvdb"):
        return "library without its Python module; conda-forge has both"
    return "no; conda-forge has it, and Debian as python3-openvdb; only VDB export needs it"


def _installed(module: str) -> bool:
    return importlib.util.find_spec(module) is not None


def _version(package: str) -> str:
    try:
        return f"{package} {metadata.version(package)}"
    except metadata.PackageNotFoundError:
        return f"{package} absent (pip install {package})"
