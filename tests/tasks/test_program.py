"""The real program on a small scene: killed at any moment, or on two ranks, it computes the same."""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from atmonr.run import Run
from tests.feed.scenes import make_scene
from tests.fields.make import make_config

ATMONR = str(Path(sys.executable).with_name("atmonr"))
MPIEXEC = Path(sys.executable).with_name("mpiexec")
TIMES = {"wall_s", "steps_per_s", "rays_per_s"}

pytestmark = pytest.mark.slow

# Trains in forked children, so that a kill costs no new start of Python; each runs the whole command line.
KILLER = """
import os, random, signal, sys, time
import matplotlib.pyplot, torch
import atmonr.tasks.heldout, atmonr.tasks.tomography, atmonr.train.session
from atmonr.cli import main

kills, seed, done, longest_s = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], float(sys.argv[4])
sys.argv = ["atmonr", *sys.argv[5:]]
moments = random.Random(seed)
hits = 0
while True:
    child = os.fork()
    if child == 0:
        main()
    if hits < kills:
        time.sleep(moments.uniform(0.01, longest_s))
        os.kill(child, signal.SIGKILL)
    status = os.waitpid(child, 0)[1]
    hits += os.WIFSIGNALED(status)
    if os.path.exists(done) or not os.WIFSIGNALED(status):
        print(hits)
        sys.exit(os.waitstatus_to_exitcode(status) if not os.WIFSIGNALED(status) else 0)
    if os.path.exists(os.path.join(os.path.dirname(done), "scene.json")) and "--resume" not in sys.argv:
        sys.argv.append("--resume")
"""


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_scene(tmp_path_factory.mktemp("scene")).path


def arguments(folder: Path, scene: Path, **settings: Any) -> list[str]:
    """A training of `folder`/run; settings are those of the config's train section."""
    train = {"checkpoint_every_steps": 7, "log_every_steps": 3, "evaluate_every_steps": 11, "device": "cpu"}
    folder.mkdir(parents=True)
    config = folder / "config.toml"
    config.write_text(make_config(train=train | settings).toml())
    return ["train", "-c", str(config), "--scene", str(scene), "--run", str(folder / "run"), "--quiet"]


def call(command: list[str], timeout_s: float = 120) -> subprocess.CompletedProcess[str]:
    env = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout_s, env=env)


def succeed(command: list[str], timeout_s: float = 120) -> str:
    done = call(command, timeout_s)
    assert done.returncode == 0, done.stderr
    return done.stdout


def outcome(folder: Path) -> dict[str, Any]:
    """All that must not depend on interruptions."""
    run = Run(folder / "run")
    newest = run.checkpoints("scene") / run.latest("scene").read_text().strip()
    return {
        "newest": newest.name,
        "checkpoint": hashlib.sha256(newest.read_bytes()).hexdigest(),
        "heldout": json.loads(run.heldout("scene").read_text()),
        "metrics": [
            {key: value for key, value in record.items() if key not in TIMES}
            for record in run.read_metrics("scene")
        ],
    }


def test_sigkill_at_20_random_moments_changes_no_bit(tmp_path: Path, scene: Path) -> None:
    steps = 400
    undisturbed = arguments(tmp_path / "undisturbed", scene, steps=steps)
    begin = time.monotonic()
    succeed([ATMONR, *undisturbed])
    # A child that is killed this late has made a few steps more than the one before.
    longest_s = 0.25 * (time.monotonic() - begin)
    killed = arguments(tmp_path / "killed", scene, steps=steps)
    done = tmp_path / "killed" / "run" / "scenes" / "scene" / "done.json"
    driver = [sys.executable, "-c", KILLER, "20", "1", str(done), str(longest_s)]
    assert int(succeed([*driver, *killed], timeout_s=500)) == 20
    assert outcome(tmp_path / "killed") == outcome(tmp_path / "undisturbed")
    assert outcome(tmp_path / "killed")["newest"] == f"step-{steps:08d}.pt"
    assert list((tmp_path / "killed" / "run").rglob(".*")) == []


def test_the_program_killed_while_it_trains_ends_as_if_it_was_not(tmp_path: Path, scene: Path) -> None:
    undisturbed = arguments(tmp_path / "undisturbed", scene, steps=150)
    succeed([ATMONR, *undisturbed])
    killed = [ATMONR, *arguments(tmp_path / "killed", scene, steps=150)]
    run = Run(tmp_path / "killed" / "run")
    moments = random.Random(3)
    for wanted in (1, 40):
        process = subprocess.Popen(killed, env=os.environ | {"OMP_NUM_THREADS": "1"})
        wait_for_step(run, wanted, process)
        time.sleep(moments.uniform(0, 0.2))
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        killed = killed if killed[-1] == "--resume" else [*killed, "--resume"]
    succeed(killed)
    assert outcome(tmp_path / "killed") == outcome(tmp_path / "undisturbed")


def wait_for_step(run: Run, step: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 60
    while not any(record["step"] >= step for record in run.read_metrics("scene")):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.skipif(not MPIEXEC.exists(), reason="needs the mpiexec of `pip install atmonr[mpi]`")
def test_two_ranks_agree_with_one_over_50_steps(tmp_path: Path, scene: Path) -> None:
    settings = {"steps": 50, "log_every_steps": 1}
    one = arguments(tmp_path / "one", scene, **settings)
    two = arguments(tmp_path / "two", scene, **settings)
    succeed([ATMONR, *one])
    succeed([str(MPIEXEC), "-n", "2", ATMONR, *two, "--set", "world.ranks_per_scene=2"])
    losses = [
        [record["loss"] for record in Run(tmp_path / name / "run").read_metrics("scene")]
        for name in ("one", "two")
    ]
    assert len(losses[0]) == 50
    assert losses[0] == pytest.approx(losses[1], abs=1e-5)
    assert losses[0][-1] < 0.8 * losses[0][0]
