"""What `atmonr campaign plan` shows: tasks, duplicates, time, disk, files, and what would be submitted."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from launch.board import Board, counts_of
from launch.campaign_file import Campaign
from launch.cost import Model, disk_bytes, model_of
from launch.driver import MOST_AT_ONCE, order_of
from launch.folder import Folder
from launch.plan import Plan, make_plan
from launch.schedulers import scheduler_of
from launch.submit import fetch_command, limited
from launch.task import Task
from launch.waves import waves

# Of a task's folder: records, log, and its results; measured on a small scene, where shards are few.
FILES = {"scene": 30, "field": 60}
SHOWN = 5


def forecast(campaign: Campaign, *, limit: int | None, scripts: bool) -> Iterator[str]:
    """Yield the lines; writes nothing.

    Raises:
        UsageError: If the granules cannot be told apart.
        StoreError: If one of them cannot be read.
    """
    plan = make_plan(campaign)
    tasks = limited(plan.tasks, limit)
    folder = Folder(campaign.folder)
    board = Board(folder, tasks, campaign.file.care)
    statuses = {task.key: board.status(task.key) for task in tasks}
    left = [task for task in tasks if statuses[task.key] in ("ready", "waiting", "running")]
    model = model_of(campaign.site.cost, folder, [task for task in tasks if statuses[task.key] == "done"])
    yield from _what(campaign, plan, tasks)
    yield f"state       {', '.join(f'{number} {name}' for name, number in counts_of(statuses).items())}"
    yield from _costs(campaign, model, left)
    if scripts:
        yield from _scripts(campaign, board, model)


def _what(campaign: Campaign, plan: Plan, tasks: Sequence[Task]) -> Iterator[str]:
    yield f"campaign    {campaign.file.name} in {campaign.folder}"
    tested = "" if campaign.site.tested else ", UNTESTED"
    yield f"site        {campaign.site.title} ({campaign.site.scheduler}{tested})"
    total = sum(granule.size_bytes for granule in plan.found.granules)
    yield f"granules    {len(plan.found.granules)}, {total / 1e9:.3g} GB"
    yield from _some("duplicate", [f"{copy} is {first.name}" for copy, first in plan.found.duplicates])
    yield from _some("missing", plan.found.missing)
    if campaign.file.granules.fetch is not None:
        yield f"fetch       {' '.join(fetch_command(campaign.file.granules.fetch, campaign.path.parent)[3:])}"
        yield "            runs first, here; only what it has brought already is counted above"
    scenes = sum(task.kind == "scene" for task in tasks)
    configs = f"{len(campaign.variants)} configs a scene"
    yield f"tasks       {scenes} scenes, {len(tasks) - scenes} fields ({configs})"
    yield f"code        {plan.code}"


def _costs(campaign: Campaign, model: Model, left: Sequence[Task]) -> Iterator[str]:
    origin = f"{model.measured} finished tasks" if model.measured else "the site's profile"
    for name in ("gpu", "cpu"):
        tasks = [task for task in left if task.pool == name]
        if not tasks or (name == "cpu" and campaign.site.cpu is None):
            continue
        pool = campaign.site.pool(name)
        times = [seconds for task in tasks if (seconds := model.seconds(task)) is not None]
        if len(times) < len(tasks):
            remedy = "fill in [cost] of the site, or let a few finish"
            yield f"{name:12}unknown time for {len(tasks)} tasks: {remedy}"
            continue
        slot_hours = sum(times) / 3600
        jobs = min(pool.max_jobs, math.ceil(len(tasks) / pool.slots))
        job_hours = slot_hours / pool.slots
        charge = f", {job_hours * pool.charge_per_hour:.3g} units" if pool.charge_per_hour else ""
        yield (
            f"{name:12}{job_hours * max(1, pool.gpus):.3g} {'GPU' if pool.gpus else 'job'} hours{charge}, "
            f"{job_hours / jobs:.3g} hours on {jobs} jobs, by {origin}"
        )
    files = sum(FILES[task.kind] for task in left)
    yield f"disk        {disk_bytes(campaign.site.cost, left) / 1e9:.3g} GB in about {files} files"


def _scripts(campaign: Campaign, board: Board, model: Model) -> Iterator[str]:
    scheduler = scheduler_of(campaign.site.scheduler)
    pools = campaign.site.pools
    planned = waves(pools, board, dict.fromkeys(pools, 0), ahead=True)
    for number, wave in enumerate(planned, start=1):
        after = [f"JOB-{place + 1}" for place in wave.after]
        order = order_of(Folder(campaign.folder), campaign.file.name, pools, wave, model, after=after)
        yield ""
        behind = f", after {' and '.join(after)}" if after else ""
        yield f"--- JOB-{number}: {wave.jobs} jobs of {wave.pool}{behind}, in arrays of up to {MOST_AT_ONCE}:"
        yield scheduler.script(order)


def _some(title: str, entries: Sequence[str]) -> Iterator[str]:
    if entries:
        more = f", and {len(entries) - SHOWN} more" if len(entries) > SHOWN else ""
        yield f"{title:12}{len(entries)}: {'; '.join(entries[:SHOWN])}{more}"
