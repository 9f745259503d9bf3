"""Values that have broken readers before."""

from __future__ import annotations

import random
from typing import Any

import numpy as np

TEXTS = (
    "",
    " ",
    "../../outside/kept.txt",
    "/outside/kept.txt",
    "two\nlines",
    "\x1b[2J\x07",
    "x" * 70_000,
    "\u202e\U0001f4a5é",
    "nan",
    "1e999",
    "-1",
    "{}",
    "[]",
    "null",
    "%s%n{0.__class__}",
    "0001-01-01T00:00:00+23:59",
    "9999-12-31T23:59:59-23:59",
    "2025-02-30T00:00:00Z",
    "days since 0000-00-00",
    "seconds since 1970-01-01",
    "HARP2 Level-1B",
)
NAMES = (
    "..",
    ".hidden",
    "../x",
    "a b",
    "x" * 200,
    "é\u202e",
    "-o",
    "CON",
    "scale_factor",
    "latitude",
    "time",
)
NUMBERS: tuple[Any, ...] = (
    *(0, 1, -1, 2, 255, 65_536, 2**31 - 1, 2**31, 2**32, 2**53 + 1, 2**63 - 1, -(2**63)),
    *(0.5, -0.0, 1e-320, 1e30, -1e30, 1e308, -1e308, 9.96921e36, -32767.0, float("nan"), float("inf")),
    *(float("-inf"), True, False),
)
KINDS = ("i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8", "S1", "str")

# JSON texts that no JSON value makes.
JSON_TEXTS = (
    "[" * 100_000,
    '{"a":' * 50_000,
    "1" * 5000,
    '"\\ud800"',
    "NaN",
    "-Infinity",
    "1e999",
    "\ufeff{}",
    '{"a": 1, "a": 2}',
    '"\x00"',
)
TOML_TEXTS = (
    "[" * 5000,
    "9" * 5000,
    "0x" + "f" * 4000,
    "inf",
    "-nan",
    "1979-05-27T07:32:00Z",
    "07:32:00",
    "{ a = 1 }",
    "{ a = { b = 1 }",
    "[1, 'a', []]",
    '"\\u0000"',
    '"\\ud800"',
    "'''",
    "true",
    '"../../outside"',
    '"sqlite:////tmp/x@y"',
    '"http://[::1"',
    '"http://user:pass@host"',
    "1_000",
    "1e400",
)


def number(chance: random.Random) -> Any:
    """A plain number, of any type that JSON has."""
    if chance.random() < 0.3:
        return chance.choice((chance.uniform(-1e3, 1e3), chance.getrandbits(chance.randrange(1, 70))))
    return chance.choice(NUMBERS)


def json_value(chance: random.Random) -> Any:
    """Any JSON value, small."""
    makers = (
        lambda: number(chance),
        lambda: chance.choice(TEXTS),
        lambda: None,
        lambda: [],
        lambda: {},
        lambda: [number(chance) for _ in range(chance.randrange(1, 7))],
        lambda: {chance.choice(NAMES): chance.choice(TEXTS)},
        lambda: [[number(chance)] * chance.randrange(4)] * chance.randrange(4),
    )
    return chance.choice(makers)()


def attribute(chance: random.Random) -> Any:
    """Any value of a netCDF attribute."""
    kind = chance.randrange(5)
    if kind < 2:
        return chance.choice(TEXTS)
    if kind == 2:
        return [chance.choice(TEXTS) for _ in range(chance.randrange(2, 5))]
    return values(chance, (chance.choice((0, 1, 1, 1, 2, 5)),), chance.choice(KINDS[:10]))


def values(chance: random.Random, shape: tuple[int, ...], kind: str) -> Any:
    """An array of a NumPy type (or of objects, for "str") with bad values here and there."""
    if kind == "str":
        return np.full(shape, chance.choice(TEXTS), object)
    if kind == "S1":
        return np.full(shape, b"x", "S1")
    bad, usual = (float(number(chance)) for _ in range(2))
    share = chance.choice((0.0, 0.2, 1.0))
    picked = np.where(np.random.default_rng(chance.getrandbits(32)).random(shape) < share, bad, usual)
    with np.errstate(all="ignore"):
        return picked.astype(kind)
