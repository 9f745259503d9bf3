"""Campaign folders without science, and their whole life on a clock that tests turn."""

from __future__ import annotations

import os
import random
import sys
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from launch.attempts import all_attempts
from launch.board import Board
from launch.campaign_file import Care
from launch.folder import Folder
from launch.policy import Adjustment
from launch.task import RUN, Stage, Task, key_of
from launch.terms import Terms
from launch.worker import Worker, place_to_begin

LEASE_S = 60.0


def smallest_field(steps: int) -> str:
    """A method's TOML that trains in seconds."""
    return f"""\
[field]
method = "instant_ngp"
levels = 2
log2_table_size = 9
[render]
samples = 6
[light]
every_steps = 1000
max_points = 1000
[train]
steps = {steps}
batch_rays = 32
log_every_steps = 10
evaluate_every_steps = {steps}
"""


def tasks_of(granules: int, *, pool: str = "gpu") -> list[Task]:
    """A scene and a field of each granule."""
    scenes, fields = [], []
    for number in range(granules):
        name = f"granule-{number:05d}"
        key = key_of({"scene": number})
        facts: dict[str, Any] = {
            "size_bytes": 1000,
            "path": name,
            "scene": f"tasks/{key[:2]}/{key}/{name}.zarr",
        }
        ingest = Stage("ingest", ("ingest", name, "-o", facts["scene"]), facts["scene"])
        scenes.append(Task(key, "scene", name, "", pool, "", (ingest,), facts))
        more = {
            "size_bytes": 1000,
            "seed": 0,
            "batch_rays": 64,
            "ray_chunks": 2,
            "steps": 10,
            "config_file": "configs/c.toml",
        }
        field_key = key_of({"field": number})
        here = f"tasks/{field_key[:2]}/{field_key}"
        stages = (
            Stage("train", ("train", "--run", RUN)),
            Stage("merge", ("merge", "-o", f"{here}/extract.nc"), f"{here}/extract.nc"),
        )
        facts = {**more, "parts": f"{here}/parts.zarr"}
        fields.append(Task(field_key, "field", name, "", "gpu", key, stages, facts))
    return [*scenes, *fields]


def frozen(path: Path, granules: int, *, pool: str = "gpu", **changes: Any) -> Folder:
    """A campaign folder in which nothing has begun."""
    folder = Folder(path)
    settings = {
        "name": "try",
        "site": "none",
        "scheduler": "local",
        "program": [],
        "heartbeat_s": 20.0,
        "lease_s": LEASE_S,
        "idle_s": 60.0,
        "care": Care().model_dump(),
        "cost": {},
        "pools": {"gpu": {}},
        "track_uri": None,
        "lock": {"atmonr": "0", "packages": []},
        **changes,
    }
    folder.freeze(settings, {"configs/c.toml": ""}, tasks_of(granules, pool=pool))
    return folder


class Clock:
    """Time that passes when a test says so."""

    def __init__(self) -> None:
        self.now_s = 1_000_000.0
        self.stamped: set[Path] = set()

    def monotonic_s(self) -> float:
        return self.now_s

    def stamp(self, path: Path, record: Mapping[str, Any]) -> float:
        if path not in self.stamped:  # made once: only the time counts
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("{}")
            self.stamped.add(path)
        os.utime(path, (self.now_s, self.now_s))
        return self.now_s


class PretendChild:
    """A command that ends with a code at a time."""

    def __init__(self, clock: Clock, seconds: float, code: int, words: str = "") -> None:
        self.clock, self.end_s, self.code, self.words = clock, clock.now_s + seconds, code, words
        self.stops = 0
        self.killed = False

    def poll(self) -> int | None:
        if self.killed:
            return -9
        return self.code if self.clock.now_s >= self.end_s else None

    def stop(self) -> None:
        self.stops += 1
        if self.clock.now_s < self.end_s:
            self.end_s, self.code = self.clock.now_s + 5.0, 75

    def kill(self) -> None:
        self.killed = True

    def last_words(self) -> str:
        return self.words

    @property
    def running(self) -> bool:
        return self.poll() is None


def terms(name: str, **changes: Any) -> Terms:
    """What a worker of these tests is told."""
    values: dict[str, Any] = {
        "name": name,
        "host": f"node-{name}",
        "job": "1",
        "pools": ("gpu", "cpu"),
        "slots": 1,
        "wall_s": 1e9,
        "grace_s": 30.0,
        "heartbeat_s": 20.0,
        "lease_s": LEASE_S,
        "idle_s": 60.0,
    }
    return Terms(**{**values, **changes})


@dataclass
class Player:
    """A worker and what happens to it."""

    worker: Worker
    children: list[tuple[str, PretendChild]] = field(default_factory=list)
    frozen_until_s: float = 0.0
    was_frozen: bool = False


class Life:
    """Workers come, go, freeze and die until no task is left."""

    def __init__(self, folder: Folder, *, workers: int, seed: int, step_s: float = 5.0) -> None:
        self.folder, self.tasks, self.clock = folder, folder.tasks(), Clock()
        self.random, self.wanted, self.step_s = random.Random(seed), workers, step_s
        self.players: list[Player] = []
        self.watcher = Board(folder, self.tasks, Care())
        self.born = 0
        self.events: Counter[str] = Counter()
        self.twice: list[str] = []
        self.nearly_done: set[str] = set()
        self.by_key: dict[str, tuple[Player, PretendChild]] = {}
        self.bad = {task.key for task in self.tasks if task.kind == "scene" and self.random.random() < 0.03}

    def run(self, *, most_steps: int = 20_000) -> None:
        care = Care(breaker_share=1.0)
        for _ in range(most_steps):
            # As a driver does: no more workers than there are tasks left.
            while len(self.players) < min(self.wanted, max(5, len(self.tasks) - len(self.nearly_done))):
                self._hire(care)
            self.clock.now_s += self.step_s
            for player in list(self.players):
                self._play(player)
            if not self.players or self._over():
                return
        raise AssertionError("the campaign does not come to an end")

    def _over(self) -> bool:
        return self.born > self.wanted and next(self.watcher.remaining(("gpu", "cpu")), None) is None

    def _hire(self, care: Care) -> None:
        self.born += 1
        name = f"w{self.born:05d}"
        board = Board(self.folder, self.tasks, care, begin=place_to_begin(name, len(self.tasks)))
        holder: list[Player] = []
        worker = Worker(
            self.folder,
            board,
            terms(name, wall_s=self.random.uniform(1500.0, 20_000.0), idle_s=200.0),
            clock=self.clock,
            start=lambda task, stage, arguments, number, slot, adjustment: self._start(
                holder[0], task, stage, number, adjustment
            ),
            progress=lambda task, adjustment: {"step": int(self.clock.now_s)},
        )
        worker.durable = False
        holder.append(Player(worker))
        self.players.append(holder[0])

    def _start(
        self, player: Player, task: Task, stage: Stage, number: int, adjustment: Adjustment
    ) -> PretendChild:
        other = self.by_key.get(task.key)
        # A frozen worker cannot end its command, and what that does is not counted. Nobody else may.
        if other is not None and other[1].running and not other[0].was_frozen:
            self.twice.append(task.key)
        code = 65 if task.key in self.bad else 0
        if code == 0 and self.random.random() < 0.1:
            code = self.random.choice([74, -9, 75, 76 if stage.name == "train" else 74])
            if stage.name == "train" and adjustment.seed == 0 and self.random.random() < 0.2:
                code = 70
        if stage is task.stages[-1]:
            self.nearly_done.add(task.key)
        if code == 65:  # nor will its field ever be begun
            self.nearly_done.update(other.key for other in self.tasks if other.needs == task.key)
        child = PretendChild(self.clock, self.random.uniform(20.0, 150.0), code, f"code {code}")
        player.children.append((task.key, child))
        self.by_key[task.key] = (player, child)
        return child

    def _play(self, player: Player) -> None:
        chance = self.random.random()
        if self.clock.now_s < player.frozen_until_s:
            return
        if chance < 0.0007:
            self.events["killed"] += 1
            for _, child in player.children:
                child.kill()
            self.players.remove(player)
        elif chance < 0.0012:
            self.events["frozen"] += 1
            player.frozen_until_s, player.was_frozen = self.clock.now_s + 3 * LEASE_S, True
        elif chance < 0.0022:
            self.events["preempted"] += 1
            player.worker.stop()
        else:
            player.worker.tick()
            if player.worker.over:
                self.events["left"] += 1
                self.players.remove(player)

    def outcome(self) -> Counter[str]:
        board = Board(self.folder, self.tasks, Care())
        return Counter(board.status(task.key) for task in self.tasks)

    def times_done(self) -> dict[str, int]:
        return {
            task.key: sum(
                attempt["end"].get("class") == "done" for attempt in all_attempts(self.folder.of(task))
            )
            for task in self.tasks
        }


# What stands in for atmonr: makes what it is asked for, and fails where it is told to.
PRETEND = """\
import pathlib, sys
words = sys.argv[1:]
print("pretending", *words)
here = pathlib.Path(__file__).parent
fate = here / f"{words[0]}.code"
if fate.exists():
    code = int(fate.read_text())
    fate.unlink()
    print("told to fail")
    sys.exit(code)
out = words[words.index("--run" if words[0] == "train" else "-o") + 1]
pathlib.Path(out).mkdir(parents=True)
"""


def real_place(tmp_path: Path, scheduler: str = "local", granules: int = 2) -> str:
    """A campaign file of a few granules, on this machine."""
    (tmp_path / "pretend.py").write_text(PRETEND)
    for number in range(granules):
        (tmp_path / f"g{number}.nc").write_bytes(bytes([number]))
    (tmp_path / "config.toml").write_text('[field]\nmethod = "instant_ngp"\n')
    program = f'program = ["{sys.executable}", "{tmp_path / "pretend.py"}"]'
    (tmp_path / "site.toml").write_text(
        f'title = "here"\nscheduler = "{scheduler}"\n{program}\n'
        "heartbeat_s = 0.2\nlease_s = 5.0\nidle_s = 1.0\n"
    )
    (tmp_path / "campaign.toml").write_text(
        'name = "try"\nfolder = "campaign"\nsite = "site.toml"\n'
        '[granules]\nfiles = ["*.nc"]\n[config]\nfile = "config.toml"\n'
        "[export]\nevaluate = false\nquicklook = false\n"
    )
    return str(tmp_path / "campaign.toml")
