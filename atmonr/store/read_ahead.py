"""Reading the next piece of something large while one is worked on."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Piece = TypeVar("Piece")
Content = TypeVar("Content")


def read_ahead(read: Callable[[Piece], Content], pieces: Sequence[Piece]) -> Generator[tuple[Piece, Content]]:
    """Yield every piece with its content. One thread alone reads, and at most one piece ahead.

    Args:
        read: Reads a piece.
        pieces: At least one.
    """
    with ThreadPoolExecutor(1, "read ahead") as reader:
        ahead = reader.submit(read, pieces[0])
        for piece, following in zip(pieces, [*pieces[1:], None], strict=True):
            content = ahead.result()
            if following is not None:
                ahead = reader.submit(read, following)
            yield piece, content
            del content  # before the next one is waited for
