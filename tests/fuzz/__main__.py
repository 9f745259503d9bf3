"""`python -m tests.fuzz READER FOLDER ...` reads inputs that a campaign has kept, and says what happens."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from tests.fuzz.campaign import Examiner, Lost, Worker, copy, make_work
from tests.fuzz.readers import READERS

LIMIT_S = 120.0


def main() -> None:
    name, *inputs = sys.argv[1:]
    with tempfile.TemporaryDirectory() as scratch:
        work = make_work(Path(scratch).resolve())
        for source in inputs:
            (work / "case").rmdir()
            copy(Path(source), work / "case")
            worker = Worker(Examiner(READERS[name], work.parent))
            try:
                outcome, _ = worker.ask(True, LIMIT_S)
                print(f"{source}: refused: {outcome.message}" if outcome.refused else f"{source}: read")
                print("".join(f"  FAULT {fault}\n" for fault in outcome.faults), end="")
            except Lost as lost:
                print(f"{source}: FAULT {lost}")
            worker.end()
            work = make_work(Path(scratch).resolve())


if __name__ == "__main__":
    main()
