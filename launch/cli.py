"""The `atmonr campaign` commands."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from atmonr.errors import UsageError

if TYPE_CHECKING:
    from launch.driver import Started
    from launch.folder import Folder

app = typer.Typer(help="Many scenes and configs on a cluster.", no_args_is_help=True)

FileArgument = Annotated[
    Path, typer.Argument(metavar="CAMPAIGN", help="The campaign file, such as campaign.toml.")
]
LimitOption = Annotated[int | None, typer.Option(min=1, help="Only the first so many granules.")]
WaitOption = Annotated[
    bool, typer.Option("--wait", help="Go on starting workers until nothing is left to do.")
]
EveryOption = Annotated[float, typer.Option(min=0.1, metavar="S", help="--wait, --watch: how often to look.")]


@app.command()
def plan(
    campaign: FileArgument,
    limit: LimitOption = None,
    scripts: Annotated[
        bool, typer.Option("--scripts/--no-scripts", help="Show what would be submitted.")
    ] = True,
) -> None:
    """Show what there would be to do, and what it would cost; writes nothing."""
    from launch.campaign_file import load_campaign
    from launch.forecast import forecast

    for line in forecast(load_campaign(campaign), limit=limit, scripts=scripts):
        typer.echo(line)


@app.command()
def submit(
    campaign: FileArgument,
    limit: LimitOption = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="As `plan`.")] = False,
    wait: WaitOption = False,
    every_s: EveryOption = 30.0,
) -> None:
    """Freeze the plan into the campaign folder and start workers; submitting twice does nothing twice."""
    from launch.campaign_file import load_campaign
    from launch.forecast import forecast
    from launch.plan import make_plan
    from launch.submit import fetch_granules, freeze

    loaded = load_campaign(campaign)
    if dry_run:
        for line in forecast(loaded, limit=limit, scripts=True):
            typer.echo(line)
        return
    fetch_granules(loaded)
    made = make_plan(loaded)
    if not made.tasks:
        raise UsageError(f"{campaign}: granules: no file is found; see `atmonr campaign plan`")
    _drive(freeze(loaded, made, limit=limit), wait, every_s)


@app.command()
def status(
    campaign: FileArgument,
    as_json: Annotated[bool, typer.Option("--json", help="Everything, for programs.")] = False,
    watch: Annotated[bool, typer.Option("--watch", help="Again and again, until Ctrl-C.")] = False,
    html: Annotated[Path | None, typer.Option(help="Also write the report.")] = None,
    every_s: EveryOption = 30.0,
) -> None:
    """Tell where the campaign stands; needs no scheduler."""
    from launch.status import status_of, summary

    folder = _folder(campaign)
    while True:
        found = status_of(folder)
        if as_json:
            typer.echo(json.dumps(found, indent=2))
        else:
            typer.echo("\n".join(summary(found)))
        if html is not None:
            from launch.report import write_report

            write_report(folder, found, html)
        if not watch:
            return
        time.sleep(every_s)


@app.command()
def logs(
    campaign: FileArgument,
    task: Annotated[str, typer.Argument(help="Beginning of its key, or the granule's name.")],
    attempt: Annotated[int | None, typer.Option(min=1, help="As a rule the newest.")] = None,
) -> None:
    """Show what the commands of a task printed, and how its attempts ended."""
    from launch.attempts import all_attempts, log_file
    from launch.find import find_task

    folder = _folder(campaign)
    found = find_task(folder.tasks(), task)
    attempts = all_attempts(folder.of(found))
    for tried in attempts:
        end = tried["end"]
        how = f"{end['class']} {end.get('reason', '')}".strip() if end else "running"
        typer.echo(f"attempt {tried['number']} on {tried['claim']['host']}: {how}")
    number = attempt or max((tried["number"] for tried in attempts), default=0)
    path = log_file(folder.of(found), number)
    if path.exists():
        typer.echo(path.read_text(encoding="utf-8", errors="replace"), nl=False)


@app.command()
def resume(
    campaign: FileArgument,
    retry_class: Annotated[
        list[str] | None,
        typer.Option(help="Try tasks again that failed so, such as gpu-memory, or all; may be repeated."),
    ] = None,
    task: Annotated[list[str] | None, typer.Option("--task", help="Only this one; may be repeated.")] = None,
    wait: WaitOption = False,
    every_s: EveryOption = 30.0,
) -> None:
    """Go on with what is not done; running it twice does nothing twice."""
    from launch.find import find_task
    from launch.verbs import lift

    folder = _folder(campaign)
    keys = [find_task(folder.tasks(), wanted).key for wanted in task or ()]
    lifted = lift(folder, retry=retry_class or (), keys=keys)
    if lifted:
        typer.echo(f"{lifted} tasks are ready again")
    _drive(folder, wait, every_s)


@app.command()
def cancel(
    campaign: FileArgument,
    tasks: Annotated[list[str] | None, typer.Argument(metavar="TASK...", help="Only these.")] = None,
) -> None:
    """End jobs, or only some tasks; what runs is saved, and `resume` goes on with it."""
    from launch.driver import Driver
    from launch.find import find_task
    from launch.verbs import cancel_tasks, halt

    folder = _folder(campaign)
    if tasks:
        found = [find_task(folder.tasks(), wanted) for wanted in tasks]
        typer.echo(f"{cancel_tasks(folder, found)} tasks cancelled")
        return
    halt(folder, "cancelled by its user")
    typer.echo(f"{Driver(folder).cancel()} jobs told to end")


@app.command()
def collect(
    campaign: FileArgument,
    out: Annotated[Path, typer.Option("--out", "-o", help="netCDF file to make.")],
) -> None:
    """Merge the shards of every finished scene into one mosaic."""
    from launch.verbs import collect as merge_all

    typer.echo(f"{merge_all(_folder(campaign), out)} scenes in {out}")


@app.command()
def reproduce(
    campaign: FileArgument,
    task: Annotated[str, typer.Argument(help="Beginning of its key, or the granule's name.")],
    into: Annotated[Path, typer.Option(help="Folder that the command works in.")] = Path("reproduced"),
) -> None:
    """Print the one command that repeats a task."""
    from launch.find import find_task
    from launch.verbs import reproduce as command_of

    folder = _folder(campaign)
    typer.echo(command_of(folder, find_task(folder.tasks(), task), into.resolve()))


@app.command()
def report(
    campaign: FileArgument,
    out: Annotated[Path, typer.Option("--out", "-o", help="HTML file to make.")] = Path("report.html"),
) -> None:
    """Write one page with every task, its pictures, scores and cost."""
    from launch.report import write_report
    from launch.status import status_of

    folder = _folder(campaign)
    write_report(folder, status_of(folder), out)
    typer.echo(out)


@app.command(hidden=True)
def work(
    folder: Annotated[Path, typer.Argument(help="Campaign folder.")],
    pool: Annotated[list[str], typer.Option(help="Kinds of tasks to do.")],
    wall_s: Annotated[float, typer.Option(help="Length of the job [s].")],
    grace_s: Annotated[float, typer.Option(help="What saving may take [s].")],
    slots: Annotated[int, typer.Option(min=1)] = 1,
    gpus: Annotated[int, typer.Option(min=0)] = 0,
    cpus: Annotated[int, typer.Option(min=1)] = 1,
    job: Annotated[str, typer.Option(help="Id of the job.")] = "",
    canaries: Annotated[bool, typer.Option("--canaries", help="Only what goes first.")] = False,
    expect: Annotated[
        list[str] | None, typer.Option(metavar="KIND=S", help="Time that a task takes.")
    ] = None,
) -> None:
    """Be a worker; what jobs run."""
    from launch.work import Work
    from launch.work import work as do

    task_s = {kind: float(seconds) for kind, _, seconds in (pair.partition("=") for pair in expect or ())}
    sys.exit(do(Work(folder, job, pool, slots, gpus, cpus, wall_s, grace_s, task_s, canaries)))


def _folder(campaign: Path) -> Folder:
    """The folder of a campaign file; the folder itself is taken too, for when the file is gone."""
    from launch.campaign_file import CampaignFile
    from launch.folder import Folder
    from launch.toml_file import load_section

    if campaign.is_dir():
        return Folder.open(campaign)
    return Folder.open(campaign.parent / load_section(campaign, CampaignFile).folder)


def _drive(folder: Folder, wait: bool, every_s: float) -> None:
    from launch.driver import Driver
    from launch.status import status_of, summary

    driver = Driver(folder)
    if not wait:
        _tell(driver.top_up(ahead=True))
        return
    driver.wait(every_s=every_s, tell=_tell)
    typer.echo("\n".join(summary(status_of(folder))))


def _tell(started: Started, before: Started | None = None) -> None:
    if (
        before is not None
        and not started.jobs
        and (before.open, before.alive) == (started.open, started.alive)
    ):
        return
    for pool, number in started.alive.items():
        typer.echo(f"{pool}: {started.open[pool]} tasks open, {number} jobs wait or run")
    if started.jobs:
        shown = ", ".join(started.jobs[:5]) + (" …" if len(started.jobs) > 5 else "")
        typer.echo(f"submitted {len(started.jobs)} jobs: {shown}")
