"""Train undisturbed, then again while the program is killed at random moments; run as a process of its own.

Children are forked, so that a kill costs no new start of Python; each runs the whole command line.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from pathlib import Path

# Imported here, so that no child has to.
import matplotlib.pyplot  # noqa: F401

import atmonr.tasks.heldout
import atmonr.tasks.tomography
import atmonr.train.session  # noqa: F401
from atmonr.cli import main
from atmonr.run import Run

LOOK = os.WEXITED | os.WNOHANG | os.WNOWAIT


def start(arguments: list[str]) -> int:
    child = os.fork()
    if child == 0:
        sys.argv = ["atmonr", *arguments]
        main()
    return child


def run_of(arguments: list[str]) -> Run:
    return Run(Path(arguments[arguments.index("--run") + 1]))


def await_record(run: Run, child: int) -> None:
    """Wait until a step more has been logged; no longer than the child lives."""
    before = len(run.read_metrics("scene"))
    while len(run.read_metrics("scene")) <= before and not os.waitid(os.P_PID, child, LOOK):
        time.sleep(0.005)


def timed(arguments: list[str]) -> tuple[float, float]:
    """Train; return the seconds until the first steps have been made, and those of all others."""
    begin = time.monotonic()
    child = start(arguments)
    await_record(run_of(arguments), child)
    start_s = time.monotonic() - begin
    if os.waitpid(child, 0)[1]:
        sys.exit("the undisturbed training failed")
    return start_s, time.monotonic() - begin - start_s


def train_killed(kills: int, seed: int, undisturbed: list[str], killed: list[str]) -> list[int]:
    """Return the newest step saved after each kill that hit, -1 if none was."""
    start_s, train_s = timed(undisturbed)
    run = run_of(killed)
    moments = random.Random(seed)
    newest: list[int] = []
    while True:
        begun = (run.scene_folder("scene") / "scene.json").exists()
        child = start([*killed, "--resume"] if begun else killed)
        if len(newest) < kills:
            if moments.random() < 0.3:
                time.sleep(moments.uniform(0.0, start_s))
            else:
                # Even the longest of these waits, 20 times, would leave a part of the training undone.
                await_record(run, child)
                time.sleep(moments.uniform(0.0, 0.03 * train_s))
            os.kill(child, signal.SIGKILL)
        status = os.waitpid(child, 0)[1]
        if not os.WIFSIGNALED(status):
            if status:
                sys.exit(f"a resumed training failed: {status}")
            return newest
        newest.append(max(run.saved_steps("scene"), default=-1))


if __name__ == "__main__":
    print(json.dumps(train_killed(int(sys.argv[1]), int(sys.argv[2]), *json.loads(sys.argv[3]))))
