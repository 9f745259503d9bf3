"""A program that kills ranks of an extraction at random moments until it is finished, and says what it found.

    kill_ranks.py RUN REFERENCE FOLDER KILLS SEED

Ranks are forked, so that each costs no new start of Python and torch, and share a pipe of numbers in place of
the store that ranks of an MPI job share. Whoever is not killed lives on while the next job resumes the work,
as a process does whose node lost contact.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from atmonr.extract.parts import Parts
from atmonr.extract.session import Extinction, fill
from atmonr.extract.shards import pull
from atmonr.fields.load import load_field
from atmonr.run import Run

CPU = torch.device("cpu")
RANKS = 2
BOUND_S = 60.0  # far more than anything here takes


@dataclass(frozen=True)
class Job:
    """An extraction and what it must give; no Zarr in this process, whose threads a fork would not have."""

    run: Run
    scene: str
    field: Extinction
    reference: Path

    def start(self, out: Path) -> list[int]:
        """Start the ranks; return their process ids."""
        numbers, ready = os.pipe(), os.pipe()
        os.write(numbers[1], bytes(range(256)))
        os.close(numbers[1])
        pids = []
        for rank in range(RANKS):
            if (pid := os.fork()) == 0:
                os.close(ready[1 - bool(rank == 0)])
                self._be(rank, out, lambda: (os.read(numbers[0], 1) or b"\xff")[0], ready[rank == 0])
            pids.append(pid)
        for end in (numbers[0], *ready):
            os.close(end)
        return pids

    def trusted_wrongly(self, out: Path) -> list[str]:
        """Shards that pass for finished and are not what they must be."""
        if not out.exists():
            return []
        parts, right = Parts.open(out), Parts.open(self.reference)
        return [
            shard.name
            for shard in parts.shards
            if parts.verified(shard) and parts._file(shard).read_bytes() != right._file(shard).read_bytes()
        ]

    def _be(self, rank: int, out: Path, turn: Callable[[], int], ready: int) -> None:
        """Extract as one rank; rank 0 prepares the folder, the others wait for it. Does not return."""
        code = 1
        try:
            if rank == 0:
                reference = Parts.open(self.reference)
                Parts.create_or_resume(out, reference.grid, 1, reference.plan["source"])
                os.write(ready, b"x" * RANKS)
            elif not os.read(ready, 1):
                os._exit(1)  # rank 0 was killed before
            parts = Parts.open(out)
            fill(parts, self.field, CPU, pull(parts.shards, turn))
            code = 0
        finally:
            os._exit(code)


def wait(pid: int) -> int:
    """Return how a process ended; one that hangs ends this program."""
    signal.alarm(int(BOUND_S))
    status = os.waitpid(pid, 0)[1]
    signal.alarm(0)
    return status


def main(run: Path, reference: Path, folder: Path, kills: int, seed: int) -> dict[str, object]:
    """Return the outcome of every kill and the folders that were finished after some."""
    chance = random.Random(seed)
    opened = Run.open(run)
    (scene,) = opened.scene_names
    job = Job(opened, scene, load_field(opened, scene, CPU), reference)
    outcomes: list[bool] = []
    finished: list[str] = []
    zombies: list[int] = []
    while len(outcomes) < kills:
        out = folder / f"parts{len(finished)}.zarr"
        ranks = job.start(out)
        victim = chance.randrange(RANKS)
        time.sleep(chance.uniform(0.0, 0.6))
        os.kill(ranks[victim], signal.SIGKILL)
        hit = os.WIFSIGNALED(wait(ranks.pop(victim)))
        for old in zombies:
            os.kill(old, signal.SIGKILL)
            wait(old)
        zombies = ranks
        if hit:
            outcomes.append(not job.trusted_wrongly(out))
        if not out.exists() or Parts.open(out).missing():
            continue
        if not all(wait(pid) == 0 for pid in job.start(out)):
            outcomes[-1:] = [False]
        finished.append(str(out))
    out = folder / f"parts{len(finished)}.zarr"
    if not all(wait(pid) == 0 for pid in job.start(out)):
        outcomes[-1] = False
    for old in zombies:
        wait(old)
    return {"outcomes": outcomes, "finished": [*finished, str(out)]}


if __name__ == "__main__":
    where, right, into = (Path(argument) for argument in sys.argv[1:4])
    print(json.dumps(main(where, right, into, int(sys.argv[4]), int(sys.argv[5]))))
