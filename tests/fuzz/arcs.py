"""Which steps from line to line the package's code has taken: that tells new kinds of input from old."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import atmonr

_PACKAGE = str(Path(atmonr.__file__).parent)


class Arcs:
    """Notes arcs while its `with` block runs; on this thread only, where all of the package's reading is.

    Attributes:
        taken: Arcs of the block that ran last.
    """

    def __init__(self) -> None:
        self.taken: set[int] = set()
        self._names: dict[CodeType, int] = {}

    def __enter__(self) -> Arcs:
        self.taken = set()
        sys.settrace(self._call)
        return self

    def __exit__(self, *_: object) -> None:
        sys.settrace(None)

    def _call(self, frame: FrameType, event: str, argument: Any) -> Callable[..., Any] | None:
        code = frame.f_code
        name = self._names.get(code)
        if name is None:
            ours = code.co_filename.startswith(_PACKAGE)
            name = hash((code.co_filename, code.co_firstlineno)) if ours else 0
            self._names[code] = name
        if not name:
            return None
        last = 0
        note = self.taken.add

        def line(frame: FrameType, event: str, argument: Any) -> Callable[..., Any]:
            nonlocal last
            number = frame.f_lineno if event != "return" else -1
            note(hash((name, last, number)))
            last = number
            return line

        return line
