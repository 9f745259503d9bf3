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
import xarray as xr

from atmonr.run import Run
from tests.feed.scenes import make_fields, make_scene
from tests.fields.make import make_config

ATMONR = str(Path(sys.executable).with_name("atmonr"))
MPIEXEC = Path(sys.executable).with_name("mpiexec")
TIMES = {"wall_s", "steps_per_s", "rays_per_s"}

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_scene(tmp_path_factory.mktemp("scene")).path


def arguments(folder: Path, scene: Path, tiles: int = 1, **settings: Any) -> list[str]:
    """A training of `folder`/run; settings are those of the config's train section."""
    train = {"checkpoint_every_steps": 7, "log_every_steps": 3, "evaluate_every_steps": 11, "device": "cpu"}
    folder.mkdir(parents=True)
    config = folder / "config.toml"
    config.write_text(make_config(train=train | settings, world={"tiles": tiles}).toml())
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
    trainings = [arguments(tmp_path / name, scene, steps=steps) for name in ("undisturbed", "killed")]
    killer = str(Path(__file__).with_name("kill_program.py"))
    newest = json.loads(succeed([sys.executable, killer, "20", "1", json.dumps(trainings)], timeout_s=500))
    assert len(newest) == 20
    assert len({*newest}) > 5  # most kills came amid the steps
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


@pytest.mark.alone
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


def on_ranks(ranks: int, command: list[str]) -> list[str]:
    return [str(MPIEXEC), "-n", str(ranks), ATMONR, *command]


def tiles_of(folder: Path) -> dict[str, str]:
    """Checksums of the newest checkpoint, tile by tile."""
    run = Run(folder / "run")
    files = run.parts_of("scene", run.latest_step("scene"))
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def volume(folder: Path, ranks: int) -> bytes:
    parts, product = folder / f"parts-{ranks}.zarr", folder / f"volume-{ranks}.nc"
    grid = ["--horizontal-step-m", "1500", "--vertical-step-m", "500", "--quiet"]
    succeed(on_ranks(ranks, ["extract", "--run", str(folder / "run"), "-o", str(parts), *grid]))
    succeed([ATMONR, "merge", str(parts), "-o", str(product)])
    with xr.open_dataset(product) as dataset:
        assert dataset.extinction.size > 1000 and float(dataset.extinction.max()) > 0
        return dataset.extinction.values.tobytes()


@pytest.mark.alone
@pytest.mark.skipif(not MPIEXEC.exists(), reason="needs the mpiexec of `pip install atmonr[mpi]`")
def test_four_tiles_are_learned_alike_on_one_three_and_four_ranks(tmp_path: Path, scene: Path) -> None:
    """Over 100 steps: parameters to the bit, losses but for the order in which their parts are added up."""
    losses, checkpoints, volumes = [], [], []
    for ranks in (1, 3, 4):
        folder = tmp_path / str(ranks)
        command = arguments(folder, scene, tiles=4, steps=100, log_every_steps=1)
        succeed(on_ranks(ranks, command))
        losses.append([record["loss"] for record in Run(folder / "run").read_metrics("scene")])
        checkpoints.append(tiles_of(folder))
        volumes.append(volume(folder, ranks))
    assert len(losses[0]) == 100 and len(checkpoints[0]) == 4
    assert losses[1] == pytest.approx(losses[0], rel=1e-6)
    assert losses[2] == pytest.approx(losses[0], rel=1e-6)
    assert checkpoints[0] == checkpoints[1] == checkpoints[2]
    assert volumes[0] == volumes[1] == volumes[2]


@pytest.mark.alone
@pytest.mark.skipif(not MPIEXEC.exists(), reason="needs the mpiexec of `pip install atmonr[mpi]`")
def test_stopped_tiles_go_on_with_another_number_of_ranks(tmp_path: Path, scene: Path) -> None:
    undisturbed = arguments(tmp_path / "undisturbed", scene, tiles=4, steps=100)
    succeed([ATMONR, *undisturbed])
    stopped = arguments(tmp_path / "stopped", scene, tiles=4, steps=100)
    process = subprocess.Popen(on_ranks(4, stopped), env=os.environ | {"OMP_NUM_THREADS": "1"})
    wait_for_step(Run(tmp_path / "stopped" / "run"), 20, process)
    (tmp_path / "stopped" / "run" / "STOP").touch()
    assert process.wait(timeout=60) == 75
    assert 20 < Run(tmp_path / "stopped" / "run").latest_step("scene") < 100
    succeed(on_ranks(3, [*stopped, "--resume"]))
    assert tiles_of(tmp_path / "stopped") == tiles_of(tmp_path / "undisturbed")


@pytest.mark.alone
@pytest.mark.skipif(not MPIEXEC.exists(), reason="needs the mpiexec of `pip install atmonr[mpi]`")
def test_tiles_killed_while_they_are_saved_go_on_from_a_checkpoint_that_is_whole(
    tmp_path: Path, scene: Path
) -> None:
    """Some tiles of a step may be on disk and others not: what counts is what all of them have."""
    undisturbed = arguments(tmp_path / "undisturbed", scene, tiles=4, steps=60)
    succeed([ATMONR, *undisturbed])
    killed = arguments(tmp_path / "killed", scene, tiles=4, steps=60)
    succeed([ATMONR, *killed])
    run = Run(tmp_path / "killed" / "run")
    (run.scene_folder("scene") / "done.json").unlink()
    # The state after a kill between two tiles: the newest step lacks one, and `latest` has not moved yet.
    run.parts_of("scene", 60)[2].unlink()
    run.latest("scene").write_text("step-00000056.pt\n")
    succeed(on_ranks(2, [*killed, "--resume"]))
    assert tiles_of(tmp_path / "killed") == tiles_of(tmp_path / "undisturbed")


@pytest.mark.alone
@pytest.mark.skipif(not MPIEXEC.exists(), reason="needs the mpiexec of `pip install atmonr[mpi]`")
def test_scenes_that_share_a_decoder_are_learned_alike_on_one_and_two_ranks(
    tmp_path: Path, scene: Path
) -> None:
    other = make_scene(tmp_path / "west", make_fields((14, 11), (-30.0, 179.9))).path
    other = other.rename(other.with_name("west.zarr"))
    checkpoints = []
    for ranks in (1, 2):
        command = arguments(tmp_path / str(ranks), scene, steps=60)
        command += ["--scene", str(other), "--set", "world.shared_decoder=true"]
        succeed(on_ranks(ranks, command))
        run = Run(tmp_path / str(ranks) / "run")
        newest = [run.checkpoint(name, run.latest_step(name)) for name in ("scene", "west")]
        checkpoints.append([hashlib.sha256(file.read_bytes()).hexdigest() for file in newest])
    assert checkpoints[0] == checkpoints[1]
