"""Where a process computes; the only place that decides between CPU and GPU."""

from __future__ import annotations

import ctypes
import sys
from typing import TYPE_CHECKING, Literal

from atmonr.errors import WorldError

if TYPE_CHECKING:
    import torch

# From <malloc.h> of glibc.
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4

DeviceKind = Literal["auto", "cpu", "cuda"]


def choose_device(kind: DeviceKind, local_rank: int) -> torch.device:
    """Choose this rank's device; a GPU is also made current, so that nothing is ever put on another one.

    Args:
        kind: `auto` takes a GPU where there is one. `cuda` covers AMD GPUs, which torch gives the same name.
        local_rank: Position of this rank on its machine; ranks share GPUs in turn where there are too few.

    Raises:
        WorldError: If a GPU is asked for and there is none.
    """
    import torch

    if kind == "cpu" or (kind == "auto" and not torch.cuda.is_available()):
        _keep_freed_memory()
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise WorldError("train.device=cuda: torch sees no GPU; see `atmonr doctor`, or set train.device=cpu")
    device = torch.device("cuda", local_rank % torch.cuda.device_count())
    torch.cuda.set_device(device)
    return device


def _keep_freed_memory() -> None:
    """Let glibc keep the memory of freed tensors for the next ones.

    By default every tensor above some 100 kB is a new mapping of zeroed pages, and a training step on a CPU
    spends most of its time in page faults. Other C libraries have no `mallopt` and are left alone.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        for parameter, value in ((_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, 2**31 - 1), (_M_TOP_PAD, 2**26)):
            mallopt(parameter, value)


def device_id(device: torch.device) -> str | None:
    """Return what tells this GPU from every other one in the cluster; None for a CPU."""
    import torch

    return str(torch.cuda.get_device_properties(device).uuid) if device.type == "cuda" else None
