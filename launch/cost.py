"""What tasks take of time and disk: by the site's profile, or by finished tasks once there are any."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from launch.attempts import stage_file
from launch.disk import read_if_there
from launch.folder import Folder
from launch.site import Cost, Pool
from launch.task import Task

SAFETY = 1.25
SHORTEST_MINUTES = 10
# More finished tasks than this say nothing new, and each costs a few reads.
ENOUGH = 200


@dataclass(frozen=True)
class Model:
    """Expected times.

    Attributes:
        rates: {stage: seconds per unit of `size_of`}; a stage that is missing has an unknown time.
        spread: What finished tasks took beyond that, as a factor that 95 % of them kept within.
        measured: Number of finished tasks that this comes from; 0: from the site's profile.
    """

    rates: Mapping[str, float]
    spread: float
    measured: int

    def seconds(self, task: Task) -> float | None:
        """Expected time of a task; None if it is unknown."""
        parts = [self._stage_seconds(task, stage.name) for stage in task.stages]
        known = [part for part in parts if part is not None]
        return sum(known) if len(known) == len(parts) else None

    def _stage_seconds(self, task: Task, stage: str) -> float | None:
        if stage in self.rates:
            return self.rates[stage] * size_of(task, stage)
        # A profile gives one number for all that follows training.
        if "other" in self.rates and stage not in ("ingest", "train"):
            return self.rates["other"] / max(1, len(task.stages) - 1)
        return None


def size_of(task: Task, stage: str) -> float:
    """What a stage's time is about proportional to: bytes of a granule, rays seen in training, or 1."""
    if stage == "ingest":
        return float(max(1, task.facts["size_bytes"]))
    if stage == "train":
        return float(task.facts["steps"] * task.facts["batch_rays"])
    return 1.0


def model_of(cost: Cost, folder: Folder | None, tasks: Sequence[Task]) -> Model:
    """Return what to expect.

    Args:
        cost: Of the site's profile.
        folder: Of the campaign; None if nothing was submitted yet.
        tasks: All tasks of the campaign.
    """
    seen: dict[str, list[float]] = {}
    totals: list[tuple[Task, float]] = []
    for task in tasks if folder is not None else ():
        if len(totals) >= ENOUGH:
            break
        times = stage_times(folder, task) if folder is not None else {}
        if len(times) == len(task.stages):
            totals.append((task, sum(times.values())))
        for stage, seconds in times.items():
            seen.setdefault(stage, []).append(seconds / size_of(task, stage))
    rates = _from_profile(cost) | {stage: statistics.median(values) for stage, values in seen.items()}
    model = Model(rates, 1.0, len(totals))
    ratios = [taken / expected for task, taken in totals if (expected := model.seconds(task))]
    return Model(rates, max(1.0, _quantile(ratios, 0.95)), len(totals))


def stage_times(folder: Folder, task: Task) -> dict[str, float]:
    """Seconds that each complete stage of a task took, in its last attempt."""
    found = {}
    for stage in task.stages:
        record = read_if_there(stage_file(folder.of(task), stage.name))
        if record is not None:
            found[stage.name] = float(record["seconds"])
    return found


def longest_s(model: Model, tasks: Iterable[Task]) -> dict[str, float]:
    """{kind: time within which nearly every task is done}; a kind whose time is unknown is left out."""
    found: dict[str, float] = {}
    for task in tasks:
        seconds = model.seconds(task)
        if seconds is not None:
            found[task.kind] = max(found.get(task.kind, 0.0), seconds * model.spread * SAFETY)
    return found


def wall_minutes(pool: Pool, model: Model, tasks: Sequence[Task], jobs: int) -> int:
    """Length of a job to ask for: short ones start sooner.

    Args:
        pool: What a job gets.
        model: Expected times.
        tasks: Left to do in such jobs.
        jobs: How many share them.

    Returns:
        What the tasks of a job need if shared out evenly, with a reserve; the pool's longest where times are
        unknown.
    """
    times = [model.seconds(task) for task in tasks]
    if not times or None in times or jobs < 1:
        return pool.wall_minutes
    known = [time for time in times if time is not None]
    per_slot = math.ceil(len(known) / (jobs * pool.slots))
    seconds = SAFETY * model.spread * max(max(known), per_slot * statistics.fmean(known)) + pool.grace_s
    return min(pool.wall_minutes, max(SHORTEST_MINUTES, math.ceil(seconds / 60)))


def disk_bytes(cost: Cost, tasks: Iterable[Task]) -> float:
    """Expected disk use of tasks."""
    return sum(
        task.facts["size_bytes"] * cost.scene_bytes_per_byte if task.kind == "scene" else cost.run_mb * 1e6
        for task in tasks
    )


def _from_profile(cost: Cost) -> dict[str, float]:
    rates = {}
    if cost.ingest_mb_per_s:
        rates["ingest"] = 1 / (cost.ingest_mb_per_s * 1e6)
    if cost.rays_per_s:
        rates["train"] = 1 / cost.rays_per_s
    if cost.other_s:
        rates["other"] = cost.other_s
    return rates


def _quantile(values: Sequence[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(share * len(values)))] if values else 1.0
