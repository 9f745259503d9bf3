"""Small harm to the files of an input: to bytes of any file, to the structure of those that are understood.

All is decided by a random generator, so that a case can be made again from its number.
"""

from __future__ import annotations

import random
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

from tests.fuzz import json_edits, netcdf_edits, toml_edits, torch_edits

Edit = Callable[[Path, random.Random], None]
FileEdit = Callable[[Path, Path, random.Random], None]

_INTERESTING = [b"\x00" * 8, b"\xff" * 8, b"\x7f" + b"\xff" * 7, b"\xff" * 7 + b"\x7f", b"\x80" + b"\x00" * 7]
_HEADER_BYTES = 600
# Files that a library edits, which may itself crash on what is damaged.
_LIBRARY = (".nc", ".h5", ".pt")


def mutate(case: Path, chance: random.Random, bytes_only: bool) -> bool:
    """Do harm to an input, in one to four places.

    Args:
        case: The input's folder.
        chance: Decides.
        bytes_only: Leave structure alone: a library that edits damaged files may crash by itself.

    Returns:
        Whether bytes were harmed, now or (`bytes_only`) before.
    """
    for _ in range(chance.choice((1, 1, 1, 2, 2, 4))):
        path = chance.choice(files_of(case) or [case])
        if path == case:
            break  # nothing is left
        structural = _STRUCTURAL.get(path.suffix)
        if structural is not None and not bytes_only and chance.random() < 0.65:
            structural(path, chance)
        elif chance.random() < 0.85:
            chance.choice(_BYTES)(path, chance)
            bytes_only |= path.suffix in _LIBRARY
        else:
            chance.choice(_FILES)(case, path, chance)
            bytes_only = True
    if chance.random() < 0.5:
        json_edits.sign_plans(case)
    return bytes_only


def files_of(case: Path) -> list[Path]:
    """All files of an input, in a fixed order."""
    return sorted(path for path in case.rglob("*") if path.is_file() and not path.is_symlink())


def _content(path: Path) -> bytearray:
    return bytearray(path.read_bytes())


def flip(path: Path, chance: random.Random) -> None:
    """Invert some bits."""
    content = _content(path)
    for _ in range(min(chance.choice((1, 1, 2, 8, 64)), len(content))):
        content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
    path.write_bytes(content)


def overwrite(path: Path, chance: random.Random) -> None:
    """Put other bytes somewhere."""
    content = _content(path)
    start = chance.randrange(len(content) + 1)
    junk = chance.choice((*_INTERESTING, chance.randbytes(4), bytes([chance.randrange(256)]) * 64))
    content[start : start + len(junk)] = junk
    path.write_bytes(content)


def header(path: Path, chance: random.Random) -> None:
    """Spoil the beginning, where formats keep sizes and addresses."""
    content = _content(path)
    start = chance.randrange(min(len(content), _HEADER_BYTES) + 1)
    length = chance.choice((1, 2, 4, 8))
    new = chance.choice((*_INTERESTING, chance.randbytes(8), len(content).to_bytes(8, "little")))[:length]
    content[start : start + length] = new
    path.write_bytes(content)


def truncate(path: Path, chance: random.Random) -> None:
    """Cut the end off."""
    content = _content(path)
    path.write_bytes(content[: chance.choice((0, 1, 8, 96, chance.randrange(len(content) + 1)))])


def extend(path: Path, chance: random.Random) -> None:
    """Add bytes at the end."""
    path.write_bytes(_content(path) + chance.choice((b"\x00", chance.randbytes(500), b"\n" * 20, b"}")))


def shuffle(path: Path, chance: random.Random) -> None:
    """Put blocks in another order."""
    content = _content(path)
    size = chance.choice((16, 64, 512))
    blocks = [bytes(content[start : start + size]) for start in range(0, len(content), size)]
    if chance.random() < 0.5:
        chance.shuffle(blocks)
    elif blocks:
        blocks[chance.randrange(len(blocks))] = chance.choice(blocks)
    path.write_bytes(b"".join(blocks))


def lose(case: Path, path: Path, chance: random.Random) -> None:
    """Remove the file, or the folder it is in."""
    if chance.random() < 0.2 and path.parent != case:
        shutil.rmtree(path.parent)
    else:
        path.unlink()


def replace(case: Path, path: Path, chance: random.Random) -> None:
    """Let something else have the file's name."""
    path.unlink()
    kind = chance.randrange(4)
    if kind == 0:
        path.mkdir()
    elif kind == 1:
        path.symlink_to(chance.choice(("nowhere", path.name, "..", "/dev/null")))
    elif kind == 2:
        path.write_bytes(b"\x89PNG\r\n\x1a\n" + chance.randbytes(100))
    else:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("../../outside/kept.txt", b"x")


def exchange(case: Path, path: Path, chance: random.Random) -> None:
    """Put the content of one file into another."""
    chance.choice(files_of(case)).write_bytes(path.read_bytes())


def rename(case: Path, path: Path, chance: random.Random) -> None:
    """Give the file another name."""
    names = (f"{path.name}.bak", path.name.upper(), ".tmp", "\n", "é", "9-9-9.0123456789abcdef.json")
    path.rename(path.with_name(chance.choice(names)))


_BYTES: tuple[Edit, ...] = (flip, flip, overwrite, header, header, truncate, extend, shuffle)
_FILES: tuple[FileEdit, ...] = (lose, replace, exchange, rename)
_STRUCTURAL: dict[str, Edit] = {
    ".nc": netcdf_edits.edit,
    ".h5": netcdf_edits.edit,
    ".json": json_edits.edit,
    ".jsonl": json_edits.edit_lines,
    ".toml": toml_edits.edit,
    ".txt": toml_edits.edit_overrides,
    ".pt": torch_edits.edit,
}
