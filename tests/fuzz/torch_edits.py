"""Harm to checkpoints: files with right checksums and wrong content."""

from __future__ import annotations

import random
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import torch

from tests.fuzz import hostile

_KINDS = (torch.float32, torch.float64, torch.float16, torch.int64, torch.bool, torch.complex64)


def edit(path: Path, chance: random.Random) -> None:
    """Change something that the file holds."""
    if chance.random() < 0.4:
        _edit_member(path, chance)
        return
    try:
        state = torch.load(path, weights_only=True)
        torch.save(_edited(state, chance), path)
    except Exception:  # harmed by an edit before
        path.write_bytes(b"")


def _edited(state: Any, chance: random.Random) -> Any:
    if chance.random() < 0.1 or not isinstance(state, dict) or not state:
        return chance.choice((None, [], "text", 3, torch.zeros(2), {"module": None}, {"module": [1]}, {}))
    key = chance.choice(list(state))
    if isinstance(state[key], dict) and chance.random() < 0.8:
        state[key] = _edited(state[key], chance)
        return state
    kind = chance.randrange(5)
    if kind == 0:
        del state[key]
    elif kind == 1:
        state[chance.choice((*hostile.NAMES, 7, None))] = torch.ones(1)
    elif kind == 2:
        state[key] = hostile.json_value(chance)
    elif isinstance(state[key], torch.Tensor):
        tensor = state[key].to(chance.choice(_KINDS))
        shape = chance.choice((tensor.shape, (0,), (1,), (2, 3), (*tensor.shape, 1)))
        tensor = torch.full(shape, chance.choice((0, 1, -1)), dtype=tensor.dtype)
        if tensor.is_floating_point():
            tensor = tensor * chance.choice((1.0, 1e30, float("nan"), float("inf")))
        state[key] = chance.choice((tensor, tensor.to_sparse(), torch.nn.Parameter(torch.ones(3))))
    return OrderedDict(state)


def _edit_member(path: Path, chance: random.Random) -> None:
    """Flip bytes of one file of the archive, with a checksum that fits them."""
    try:
        with zipfile.ZipFile(path) as archive:
            members = {name: bytearray(archive.read(name)) for name in archive.namelist()}
    except (zipfile.BadZipFile, OSError, NotImplementedError, RuntimeError):
        return
    name = chance.choice(list(members))
    for _ in range(chance.choice((1, 1, 3, 10))):
        if members[name]:
            members[name][chance.randrange(len(members[name]))] = chance.randrange(256)
    with zipfile.ZipFile(path, "w") as archive:
        for member, content in members.items():
            archive.writestr(member, bytes(content))
