"""The `atmonr track` commands."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from atmonr.errors import UsageError

app = typer.Typer(help="Copy campaigns into MLflow.", no_args_is_help=True)


@app.callback()
def track() -> None:
    """Copy campaigns into MLflow."""


@app.command()
def sync(
    folder: Annotated[Path, typer.Argument(help="Campaign folder.")],
    uri: Annotated[
        str | None,
        typer.Option(help="Tracking server, or sqlite:///FILE; as a rule that of the campaign file."),
    ] = None,
) -> None:
    """Send what is new since the last time; may be run at any time and again, on a machine with a network."""
    from launch.folder import Folder
    from launch.mlflow_sync import sync as send

    campaign = Folder.open(folder)
    place = uri or campaign.settings["track_uri"]
    if place is None:
        raise UsageError(f"{folder}: its campaign file names no tracking server; give --uri")
    sent = send(campaign, place)
    typer.echo(f"{sent.changed} of {sent.tasks} tasks sent, {sent.points} points, {sent.pictures} pictures")
