"""Attack one reader with many inputs, in processes that may crash or hang.

Inputs that make the package take a new step from line to line become parents of later ones. A case follows
from the seed and from the cases before it, so that a campaign can be repeated.
"""

from __future__ import annotations

import ctypes
import json
import multiprocessing
import os
import random
import resource
import shutil
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any
from unittest.mock import patch

from atmonr import netcdf_probe, provenance
from tests.fuzz.arcs import Arcs
from tests.fuzz.attempt import Outcome, Watch, attempt
from tests.fuzz.mutators import mutate
from tests.fuzz.readers import READERS, Reader

_MEMORY_BYTES = 1 << 30  # beyond what the interpreter and its libraries take
_EXAMPLES = 2  # kept of each fault
_PROBE_EVERY = 50
PROBE_LIMIT_S = 15.0
_FORK = multiprocessing.get_context("fork")


@dataclass
class Fault:
    """One kind of fault.

    Attributes:
        detail: Of the first.
        count: How often it was seen.
        examples: Folders with inputs that show it.
    """

    detail: str
    count: int = 0
    examples: list[str] = field(default_factory=list)


@dataclass
class Tally:
    """What a campaign has found.

    Attributes:
        reader: Its name.
        tries: Inputs made, those included that were lost because their making crashed.
        cases: Inputs read.
        read: Inputs that were still good enough.
        refused: Inputs refused with an error of ours.
        deadly: Inputs that crash or hang a library in the C below, which the probe has to find.
        parents: Inputs kept because they reached something new.
        arcs: Steps from line to line of the package that were reached.
        seconds: Taken.
        slowest_s: Of one case.
        faults: What must not be, by kind.
    """

    reader: str
    tries: int = 0
    cases: int = 0
    read: int = 0
    refused: int = 0
    deadly: int = 0
    parents: int = 0
    arcs: int = 0
    seconds: float = 0.0
    slowest_s: float = 0.0
    faults: dict[str, Fault] = field(default_factory=dict)


@dataclass(frozen=True)
class Parent:
    """An input to make others of; see `mutate` for `bytes_only`."""

    path: Path
    bytes_only: bool


class Campaign:
    """The cases of one reader.

    Args:
        name: Of the reader.
        seed: Of all random choices.
        folder: Scratch space, and where inputs that show a fault are kept.
        limit_s: Time after which a case hangs.
    """

    def __init__(self, name: str, seed: int, folder: Path, limit_s: float) -> None:
        self.seed, self.folder, self.limit_s = seed, folder, limit_s
        self.work = make_work(folder)
        self.parents: list[Parent] = []
        self.tally = Tally(name)

    def run(self, cases: int) -> Tally:
        """Try so many inputs."""
        start = time.perf_counter()
        case = self.work / "case"
        # Libraries that have been used are in no state to be forked: this process uses none.
        maker = Worker(lambda request: mutate(case, *request))
        reader = Worker(Examiner(READERS[self.tally.reader], self.folder))
        self._make_seeds()
        while self.tally.cases < cases:
            parent, chance = self._next_parent()
            shutil.rmtree(case)
            copy(parent.path, case)
            try:
                bytes_only = maker.ask((chance, parent.bytes_only), self.limit_s)
            except Lost:
                continue  # an edit crashed, no reader
            outcome, arcs = self._read(reader)
            self._take_in(outcome, arcs, bytes_only)
        for worker in (maker, reader):
            worker.end()
        self.tally.seconds = time.perf_counter() - start
        return self.tally

    def _read(self, reader: Worker) -> tuple[Outcome, int]:
        """Read the input in hand, most often without the probe, which would take most of the time.

        An input that crashes or hangs the reader then has to be found by the probe. That is asked of a new
        process: what earlier inputs did to a library without the probe may be what crashes the old one.
        """
        before = time.perf_counter()
        probing = self.tally.cases % _PROBE_EVERY == 0
        try:
            return reader.ask(probing, self.limit_s)
        except Lost:
            self.tally.deadly += 1
        finally:
            self.tally.slowest_s = max(self.tally.slowest_s, time.perf_counter() - before)
        try:
            # To a new process everything is new.
            return reader.ask(True, 2.0 * self.limit_s)[0], 0
        except Lost as lost:
            return Outcome(False, "", [str(lost)]), 0

    def _make_seeds(self) -> None:
        seeds = self.folder / "seeds"
        seeds.mkdir()
        making = Worker(READERS[self.tally.reader].make)
        making.ask(seeds, 300.0)
        making.end()
        self.parents = [Parent(path, False) for path in sorted(seeds.iterdir())]

    def _next_parent(self) -> tuple[Parent, random.Random]:
        self.tally.tries += 1
        chance = random.Random(f"{self.tally.reader} {self.seed} {self.tally.tries}")
        # Half of the cases come of what was valid, half of what led somewhere new, the later the likelier.
        count = len(self.parents)
        seeds = count - self.tally.parents
        index = chance.randrange(seeds) if chance.random() < 0.5 else max(chance.choices(range(count), k=2))
        return self.parents[index], chance

    def _take_in(self, outcome: Outcome, arcs: int, bytes_only: bool) -> None:
        """Add a case to the tally, and keep the input if it is of use."""
        case = self.work / "case"
        for text in outcome.faults:
            kind, _, detail = text.partition(": ")
            fault = self.tally.faults.setdefault(kind, Fault(detail))
            fault.count += 1
            if len(fault.examples) < _EXAMPLES:
                example = self.folder / "failures" / str(self.tally.cases)
                fault.examples.append(str(example))
                if not example.exists():
                    copy(case, example)
        if arcs and not outcome.faults:
            parent = Parent(self.folder / "parents" / str(self.tally.cases), bytes_only)
            copy(case, parent.path)
            self.parents.append(parent)
            self.tally.parents += 1
        self.tally.cases += 1
        self.tally.refused += outcome.refused
        self.tally.read += not outcome.refused and not outcome.faults
        self.tally.arcs += arcs


class Lost(Exception):
    """A worker has crashed, or was killed because it gave no answer."""


class Worker:
    """A function that is called in a process of its own, and in another one when that is lost."""

    def __init__(self, function: Callable[[Any], Any]) -> None:
        self._function = function
        self._start()

    def ask(self, request: Any, limit_s: float) -> Any:
        """Return what the function makes of a request.

        Raises:
            Lost: It crashes or needs too long.
        """
        self._pipe.send(request)
        try:
            if self._pipe.poll(limit_s):
                return self._pipe.recv()
            what = f"hangs: no answer in {limit_s:g} s"
            self._process.kill()
        except (EOFError, ConnectionResetError):
            what = ""
        self._process.join()
        code = self._process.exitcode or 0
        self._start()
        raise Lost(what or f"crashes with {signal.Signals(-code).name if code < 0 else f'exit code {code}'}")

    def end(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.join()

    def _start(self) -> None:
        self._pipe, theirs = _FORK.Pipe()
        self._process = _FORK.Process(target=self._serve, args=(self._pipe, theirs), daemon=True)
        self._process.start()
        theirs.close()

    def _serve(self, theirs: Connection, ours: Connection) -> None:
        theirs.close()
        die_with_parent()
        while True:
            ours.send(self._function(ours.recv()))


class Examiner:
    """Reads the input in hand and tells the outcome, and how many new arcs it led to."""

    def __init__(self, reader: Reader, folder: Path) -> None:
        self._reader, self._folder = reader, folder
        self._known: set[int] = set()
        self._arcs = Arcs()
        self._watch: Watch | None = None

    def __call__(self, probing: bool) -> tuple[Outcome, int]:
        if self._watch is None:
            self._watch = isolate(self._folder)
        probe = self._probe if probing else lambda path: None
        with (
            patch("atmonr.sensors.netcdf.deadly", probe),
            patch("atmonr.evaluate.extract_file.deadly", probe),
        ):
            return self._attempt()

    def _probe(self, path: Path) -> str | None:
        assert self._watch is not None
        with self._watch.paused():
            return netcdf_probe.deadly(path)

    def _attempt(self) -> tuple[Outcome, int]:
        assert self._watch is not None
        with self._arcs:
            outcome = attempt(self._reader, self._folder / "work", self._watch)
        new = self._arcs.taken - self._known
        self._known |= new
        return outcome, len(new)


def die_with_parent() -> None:
    """Let this process be killed when the one that started it ends, however that ends."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


def isolate(folder: Path) -> Watch:
    """Prepare this process to meet bad inputs: little memory, no waiting for disks, output into files."""
    os.chdir(folder / "work" / "cwd")
    os.fsync = lambda descriptor: None  # durability is tested elsewhere
    netcdf_probe.LIMIT_S = PROBE_LIMIT_S
    provenance._git_commit = lambda: None  # git, once a case, would take half of the time
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + _MEMORY_BYTES, resource.RLIM_INFINITY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for descriptor, name in ((1, "stdout.txt"), (2, "stderr.txt")):
        os.dup2(os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_APPEND), descriptor)
    return Watch()


def make_work(folder: Path) -> Path:
    """Return a new folder for one case at a time, with something outside the output that must not change."""
    work = folder / "work"
    shutil.rmtree(work, ignore_errors=True)
    for part in ("case", "cwd", "outside"):
        (work / part).mkdir(parents=True)
    (work / "outside" / "kept.txt").write_text("as it was")
    return work


def copy(source: Path, target: Path) -> None:
    """Copy an input as it is, links and other odd files too."""
    target.mkdir(parents=True, exist_ok=True)
    for entry in os.scandir(source):
        to = target / entry.name
        if entry.is_symlink():
            os.symlink(os.readlink(entry), to)
        elif entry.is_dir():
            copy(Path(entry), to)
        else:
            to.write_bytes(Path(entry).read_bytes())


def _signal_name(code: int | None) -> str:
    return signal.Signals(-code).name if code is not None and code < 0 else f"exit code {code}"


def main() -> None:
    """`python -m tests.fuzz.campaign READER CASES SEED FOLDER LIMIT_S` prints the tally as JSON."""
    die_with_parent()
    name, cases, seed, folder, limit_s = sys.argv[1:]
    tally = Campaign(name, int(seed), Path(folder).resolve(), float(limit_s)).run(int(cases))
    print(json.dumps(asdict(tally)))


if __name__ == "__main__":
    main()
