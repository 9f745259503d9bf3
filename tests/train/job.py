"""A training of toy scenes as data, run in this process or, by the program at the end, in another one."""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import time
import traceback
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tasks"))

from toy import RECIPE

from atmonr.config import Config
from atmonr.errors import AtmonrError
from atmonr.run import Run
from atmonr.train.session import train
from atmonr.world import World

MPIEXEC = Path(sys.executable).with_name("mpiexec")


@dataclass(frozen=True)
class Job:
    """A training to run; `settings` are those of the config's train section."""

    run: str
    scenes: list[str]
    settings: dict[str, Any] = field(default_factory=dict)
    ranks_per_scene: int = 1
    track: dict[str, Any] = field(default_factory=dict)
    resume: bool = False
    quiet: bool = True

    @property
    def config(self) -> Config:
        train = {"steps": 60, "batch_rays": 64, "learning_rate": 0.01}
        train |= {"checkpoint_every_steps": 20, "log_every_steps": 10}
        return Config.model_validate(
            {
                "field": {"method": "instant_ngp"},
                "train": train | self.settings,
                "world": {"ranks_per_scene": self.ranks_per_scene},
                "track": self.track,
            }
        )

    @property
    def folder(self) -> Run:
        return Run(Path(self.run))

    def resumed(self) -> Job:
        return replace(self, resume=True)

    def here(self, world: World | None = None) -> None:
        """Run in this process."""
        train(
            self.config,
            [Path(scene) for scene in self.scenes],
            Path(self.run),
            recipe=RECIPE,
            resume=self.resume,
            world=world or World.single("cpu"),
            quiet=self.quiet,
        )

    def start(self, *arguments: str, ranks: int = 0) -> subprocess.Popen[str]:
        """Start in another process, or with mpiexec in several."""
        launch = [str(MPIEXEC), "-n", str(ranks)] if ranks else []
        command = [*launch, sys.executable, __file__, json.dumps(asdict(self)), *arguments]
        return subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        )

    def elsewhere(self, *arguments: str, ranks: int = 0, timeout_s: float = 60) -> tuple[int, str, str]:
        """Run in another process; return its exit code, standard output and standard error."""
        process = self.start(*arguments, ranks=ranks)
        try:
            output, errors = process.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
        return process.returncode, output, errors

    def outcome(self, scene: str = "a") -> dict[str, Any]:
        """Return all that must not depend on interruptions."""
        times = {"wall_s", "steps_per_s", "rays_per_s"}
        metrics = [
            {key: value for key, value in record.items() if key not in times}
            for record in self.folder.read_metrics(scene)
        ]
        newest = self.folder.checkpoints(scene) / self.folder.latest(scene).read_text().strip()
        return {
            "newest": newest.name,
            "sha256": hashlib.sha256(newest.read_bytes()).hexdigest(),
            "metrics": metrics,
            "heldout": (self.folder.scene_folder(scene) / "heldout.json").read_text(),
        }


def act(*acts: tuple[str, Job, dict[str, Any]], timeout_s: float = 240) -> tuple[list[Any], str]:
    """Act out scenarios of fleet.py in one process; return their results and what the ranks said."""
    program = str(Path(__file__).with_name("fleet.py"))
    told = json.dumps([(name, asdict(job), arguments) for name, job, arguments in acts])
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, program, told], capture_output=True, text=True, timeout=timeout_s, env=environment
    )
    if done.returncode:
        raise RuntimeError(done.stderr)
    return json.loads(done.stdout), done.stderr


def kill_and_resume(job: Job, kills: int, seed: int) -> int:
    """Kill the job at random moments, then let it finish; return how many kills hit.

    Children are forked, so that each costs no new start of Python and torch.
    """
    moments = random.Random(seed)
    hits = 0
    while True:
        resume = Path(job.run).exists()
        child = os.fork()
        if child == 0:
            replace(job, resume=resume).here()
            os._exit(0)
        if hits == kills:
            return hits if os.waitpid(child, 0)[1] == 0 else -1
        time.sleep(moments.uniform(0.01, 0.4))
        os.kill(child, signal.SIGKILL)
        hits += os.WIFSIGNALED(os.waitpid(child, 0)[1])
        if job.folder.done("a"):
            return hits


def run_rank(job: Job) -> int:
    """Be one of the ranks of a training; return the exit code."""
    try:
        with World.detect("cpu") as world:
            job.here(world)
    except AtmonrError as error:
        print(f"rank {world.rank} {type(error).__name__}: {error}", file=sys.stderr, flush=True)
        return error.exit_code
    except Exception:
        # Left to the interpreter, its traceback would keep the connections until libraries are unloaded.
        traceback.print_exc()
        return 1
    return 0


def main() -> int:
    job = Job(**json.loads(sys.argv[1]))
    if len(sys.argv) > 2:
        print(kill_and_resume(job, kills=int(sys.argv[2]), seed=int(sys.argv[3])))
        return 0
    return run_rank(job)


if __name__ == "__main__":
    sys.exit(main())
