"""A damaged checkpoint is never taken for a good one."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
import torch

from atmonr.checkpoint_file import read_checkpoint
from atmonr.errors import ResumeError

STATE: dict[str, Any] = {"step": 3, "scene_id": "x", "module": {"w": torch.arange(4.0)}}


@pytest.fixture
def content() -> bytes:
    stream = io.BytesIO()
    torch.save(STATE, stream)
    return stream.getvalue()


def read(path: Path, content: bytes) -> dict[str, Any] | None:
    """What is read from a file of this content; None if it is refused by name."""
    path.write_bytes(content)
    try:
        return read_checkpoint(path)
    except ResumeError as error:
        assert str(error).startswith(f"{path}: damaged checkpoint")
        return None


def same(state: dict[str, Any]) -> bool:
    plain = {key: value for key, value in state.items() if key != "module"}
    return plain == {"step": 3, "scene_id": "x"} and torch.equal(state["module"]["w"], STATE["module"]["w"])


@pytest.mark.slow
def test_a_flipped_bit_in_any_byte_is_refused_or_lies_where_nothing_is_read(
    tmp_path: Path, content: bytes, faults: Any
) -> None:
    refused = 0
    for position in range(len(content)):
        damaged = bytearray(content)
        damaged[position] ^= 1 << position % 8
        state = read(tmp_path / "damaged.pt", bytes(damaged))
        refused += state is None
        assert state is None or same(state), f"byte {position}"
    assert refused > len(content) // 3  # the rest is padding and repeated names
    faults.record(True)


@pytest.mark.slow
def test_a_file_cut_anywhere_is_refused(tmp_path: Path, content: bytes, faults: Any) -> None:
    assert read(tmp_path / "whole.pt", content) is not None
    for length in range(0, len(content), 3):
        assert read(tmp_path / "cut.pt", content[:length]) is None, f"{length} bytes"
    faults.record(True)
