"""Thousands of bad inputs for every reader: refused with an error of ours that names the file, or read.

`python -m tests.fuzz READER FOLDER` repeats what a failure names. ATMONR_FUZZ_CASES multiplies the cases.
"""

from __future__ import annotations

import faulthandler
import json
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.fuzz.campaign import Examiner, Lost, Worker, copy, make_work
from tests.fuzz.mutators import files_of, mutate
from tests.fuzz.readers import READERS, Reader

CASES = sum(reader.cases for reader in READERS.values())
TIMES = float(os.environ.get("ATMONR_FUZZ_CASES", "1"))
LIMIT_S = 30.0


def campaign(name: str, folder: Path, checkout: Path) -> dict[str, Any]:
    """Run a campaign in a process that has used no library yet."""
    cases = str(round(READERS[name].cases * TIMES))
    command = [sys.executable, "-m", "tests.fuzz.campaign", name, cases, "0", str(folder), str(LIMIT_S)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(checkout)}
    ended = subprocess.run(command, cwd=checkout, env=environment, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    return dict(json.loads(ended.stdout))


def test_there_are_ten_thousand_cases() -> None:
    assert CASES >= 10_000


@pytest.mark.slow
@pytest.mark.alone
def test_bad_inputs_are_refused_in_order(
    tmp_path: Path, checkout: Path, record_property: Callable[[str, Any], None]
) -> None:
    """The campaigns of all readers, one for every processor at a time."""
    longest_first = sorted(READERS, key=lambda name: -READERS[name].cost_ms * READERS[name].cases)
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        begun = {name: pool.submit(campaign, name, tmp_path / name, checkout) for name in longest_first}
        tallies = {name: future.result() for name, future in begun.items()}
    lines = []
    for name, tally in tallies.items():
        record_property(
            "told",
            f"fuzz {name}: {tally['cases']} cases in {tally['seconds']:.0f} s, {tally['read']} read,"
            f" {tally['refused']} refused, {tally['deadly']} deadly to a library, {tally['parents']} kept"
            f" for new paths, {tally['arcs']} arcs",
        )
        assert tally["cases"] >= READERS[name].cases * min(TIMES, 1.0)
        assert tally["arcs"] > 100  # else nothing was read
        again = f"\nrepeat with: python -m tests.fuzz {name} "
        lines += [
            f"{name}: {fault['count']} x {kind}: {fault['detail']}{again}{' '.join(fault['examples'])}"
            for kind, fault in tally["faults"].items()
        ]
    assert not lines, "\n".join(lines)


def make_files(folder: Path) -> None:
    (folder / "a").mkdir(parents=True)
    (folder / "a" / "b.json").write_text('{"frame": "{\\"x\\": [1, 2]}", "list": [1, {"k": null}]}')
    (folder / "lines.jsonl").write_text('{"step": 1}\n{"step": 2}\n')
    (folder / "config.toml").write_text("[train]\nsteps = 1\n")
    (folder / "bytes.bin").write_bytes(bytes(range(256)) * 4)


def test_the_same_chance_does_the_same_harm_and_most_harm_changes_something(tmp_path: Path) -> None:
    make_files(tmp_path / "seed")
    before = [path.read_bytes() for path in files_of(tmp_path / "seed")]
    unchanged = 0
    for number in range(60):
        results = []
        for copy_number in range(2):
            case = tmp_path / f"{number}-{copy_number}"
            copy(tmp_path / "seed", case)
            mutate(case, random.Random(number), False)
            results.append([(path.name, path.read_bytes()) for path in files_of(case)])
        assert results[0] == results[1]
        unchanged += [content for _, content in results[0]] == before
    assert unchanged < 12


def behave(case: Path, out: Path) -> None:
    """A reader that does what the input asks for."""
    what = (case / "do").read_text()
    if what == "crash":
        faulthandler.disable()  # the news would look like a crash of pytest
        os.abort()
    if what == "raise":
        raise KeyError("k")
    if what == "write":
        (case.parent / "outside" / "new").write_text("x")
    if what == "replace":
        shutil.copy(case / "do", case / "done")
    if what == "hang":
        while True:
            pass


@pytest.mark.slow
@pytest.mark.parametrize(
    ("what", "fault"),
    [
        ("nothing", ""),
        ("raise", "KeyError at"),
        ("write", "open outside of the output folder"),
        ("replace", "open outside of the output folder"),
        ("crash", "SIGABRT"),
        ("hang", "no answer"),
    ],
)
def test_the_harness_sees_what_readers_must_not_do(tmp_path: Path, what: str, fault: str) -> None:
    work = make_work(tmp_path)
    (work / "case" / "do").write_text(what)
    worker = Worker(Examiner(Reader(1, 1.0, lambda folder: None, behave), tmp_path))
    try:
        outcome, _ = worker.ask(False, 3.0 if what == "hang" else 60.0)
        faults = outcome.faults
    except Lost as lost:
        faults = [str(lost)]
    finally:
        worker.end()
    assert any(fault in found for found in faults) if fault else faults == []
