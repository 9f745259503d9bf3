"""Every command of the tutorials runs as it is written, in order, and prints what the tutorial shows."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

BLOCK = re.compile(r"^```console\n(.*?)^```$", re.MULTILINE | re.DOTALL)
# What changes from run to run, machine to machine: numbers and checksums, and with them the width of tables.
CHANGING = re.compile(r"\b[0-9a-f]{8,}…?|[-+]?\d[\d.,:eE+-]*|[─━═\s│┃]+")


def sessions(text: str) -> list[tuple[str, list[str]]]:
    """Commands, continued lines joined, each with the lines that it is said to print."""
    found: list[tuple[str, list[str]]] = []
    for block in BLOCK.findall(text):
        for line in block.replace("\\\n", "").splitlines():
            if line.startswith("$ "):
                found.append((line[2:], []))
            elif line.strip() not in ("", "…"):
                found[-1][1].append(line)
    return found


def comparable(line: str) -> str:
    return CHANGING.sub(" ", line).strip()


def test_commands_and_what_they_print_are_told_apart() -> None:
    text = "```console\n$ echo a \\\n    b\na b\n$ true\n```\ntext\n```console\n$ false\n…\n```\n"
    assert sessions(text) == [("echo a     b", ["a b"]), ("true", []), ("false", [])]
    assert comparable("│ IoU  │ 0.69 │") == comparable("│ IoU │ 0.7012 │") != comparable("│ rmse │ 0.7 │")


@pytest.mark.slow
@pytest.mark.parametrize("document", ["tutorial", "campaigns"])
def test_the_tutorial_can_be_followed_to_the_letter(document: str, checkout: Path, tmp_path: Path) -> None:
    (tmp_path / "configs").symlink_to(checkout / "configs")
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "COLUMNS": "100",
        "OMP_NUM_THREADS": "1",
    }
    steps = sessions((checkout / "docs" / f"{document}.md").read_text(encoding="utf-8"))
    assert len(steps) > 8
    for command, shown in steps:
        done = subprocess.run(
            ["bash", "-euc", command],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=900,
        )
        assert done.returncode == 0, f"{command}\n{done.stdout[-2000:]}{done.stderr[-2000:]}"
        printed = {comparable(line) for line in (done.stdout + done.stderr).splitlines()}
        missing = [line for line in shown if comparable(line) not in printed]
        assert not missing, f"{command}\ndoes not print {missing}, but\n{done.stdout}{done.stderr}"
