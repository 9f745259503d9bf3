"""Where a result comes from: code, interpreter, packages, command line and time."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from atmonr import __version__


def provenance() -> dict[str, Any]:
    """Return JSON data that says how a result was made; holds nothing about the machine or the user."""
    return {
        "atmonr": __version__,
        "git_commit": _git_commit(),
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in ("torch", "numpy", "xarray", "zarr", "netCDF4")},
        "command": sys.argv,
        "container_image": _container_image(),
        "created_utc": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _container_image() -> str | None:
    """Return the digest of the container this runs in, if its image tells, or else the image's name."""
    digest, image = (os.environ.get(name) for name in ("ATMONR_IMAGE_DIGEST", "APPTAINER_CONTAINER"))
    return digest or (Path(image).name if image else None)


def _git_commit() -> str | None:
    """Return the commit of the checkout this package is from, with `+changes` if files differ from it."""
    checkout = Path(__file__).resolve().parents[1]
    if not (checkout / ".git").exists():
        return os.environ.get("ATMONR_REVISION")  # what an image was built from
    command = [
        "git",
        "-C",
        str(checkout),
        "describe",
        "--always",
        "--abbrev=40",
        "--exclude=*",
        "--dirty=+changes",
    ]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
