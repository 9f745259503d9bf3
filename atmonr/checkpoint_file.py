"""Reading checkpoint files: the only place that loads tensors from a file, and never code with them."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import torch

from atmonr.errors import ResumeError


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Return what a checkpoint holds, on the CPU.

    Raises:
        ResumeError: If it is damaged in any way.
    """
    try:
        # torch itself does not compare the checksums that it writes.
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
        state = torch.load(path, map_location="cpu", weights_only=True) if damaged is None else None
    except Exception as error:  # a damaged file may make a reader fail in any way
        raise ResumeError(f"{path}: damaged checkpoint ({type(error).__name__}: {error})") from error
    if not isinstance(state, dict):
        raise ResumeError(f"{path}: damaged checkpoint (checksum of {damaged or 'its content'} is wrong)")
    return state
