"""Harm to config files and to overrides of them, one a line."""

from __future__ import annotations

import random
from pathlib import Path

from tests.fuzz import hostile

_KEYS = (
    "field.method",
    "field",
    "train.steps",
    "train.warm_start",
    "world.tiles",
    "loss.mse",
    "track.uri",
    "render.samples",
    "task",
    "field.hidden_width",
    "a.b.c.d",
    "train..steps",
    ".",
    "x" * 5000,
    "é.\x1b[2J",
    "train.steps.more",
)
_VALUES = ('"nerf"', "nerf", '"instant_ngp"', "0", "1", "2", "-5", "2.5", "1e-3", '"off"', "", '""', "a=b")


def edit(path: Path, chance: random.Random) -> None:
    """Change, add, remove or exchange a line."""
    lines = path.read_bytes().decode("utf-8", "surrogateescape").split("\n")
    index = chance.randrange(len(lines))
    kind = chance.randrange(6)
    if kind == 0:
        del lines[index]
    elif kind == 1:
        lines.insert(index, chance.choice(lines))
    elif kind == 2:
        lines.insert(
            index, chance.choice(("[field]", "[[train]]", "[train.steps]", "['']", "[a.b.c]", "a.b.c = 1"))
        )
    elif kind == 3:
        key = chance.choice(_KEYS)
        lines.insert(index, f"{key} = {_value(chance)}")
    else:
        key = lines[index].partition("=")[0]
        lines[index] = f"{key}= {_value(chance)}"
    path.write_bytes("\n".join(lines).encode("utf-8", "surrogateescape"))


def edit_overrides(path: Path, chance: random.Random) -> None:
    """Add an override, or change one."""
    lines = path.read_bytes().decode("utf-8", "surrogateescape").split("\n")
    if chance.random() < 0.3:
        lines[chance.randrange(len(lines))] = chance.choice(hostile.TEXTS)
    else:
        lines.insert(0, f"{chance.choice(_KEYS)}={_value(chance)}")
    path.write_bytes("\n".join(lines).encode("utf-8", "surrogateescape"))


def _value(chance: random.Random) -> str:
    return chance.choice(chance.choice((_VALUES, hostile.TOML_TEXTS, hostile.TEXTS)))
