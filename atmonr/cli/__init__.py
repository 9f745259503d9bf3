"""The command line.

A command parses its arguments and calls one library function, which it imports only then, so that
`atmonr --help` is quick and needs no torch, MPI or netCDF.
"""

from __future__ import annotations

import sys
import traceback
from importlib.metadata import entry_points
from typing import Annotated

import typer

from atmonr import __version__
from atmonr.cli import (
    bench,
    demo,
    doctor,
    evaluate,
    export,
    extract,
    fetch,
    ingest,
    merge,
    quicklook,
    simulate,
    train,
)
from atmonr.cli.report import ReportingGroup, translate

app = typer.Typer(
    name="atmonr",
    help="Three-dimensional clouds from multi-angle satellite imagery.",
    cls=ReportingGroup,
    no_args_is_help=True,
    # Rich's own markup would take the units in brackets for styles and leave them out.
    rich_markup_mode="markdown",
    add_completion=False,
    # Errors meant for users are one line (see report.py); a traceback that remains is a bug and shown whole.
    pretty_exceptions_enable=False,
)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"atmonr {__version__}")
        raise typer.Exit()


@app.callback()
def options(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Three-dimensional clouds from multi-angle satellite imagery."""


for command in (
    fetch.fetch,
    ingest.ingest,
    train.train,
    extract.extract,
    merge.merge,
    evaluate.evaluate,
    export.export,
    quicklook.quicklook,
    simulate.simulate,
    demo.demo,
    doctor.doctor,
    bench.bench,
):
    app.command()(command)

# Command groups of other packages, such as `atmonr campaign`, join here without atmonr importing them.
for entry_point in sorted(entry_points(group="atmonr.commands"), key=lambda found: found.name):
    app.add_typer(entry_point.load(), name=entry_point.name)


def main() -> None:
    """Run the command line and exit with the code of `atmonr.errors`."""
    code = 0
    try:
        app()
    except Exception as error:
        traceback.print_exc()
        _, code = translate(error) or ("", 1)
    # Out here the traceback is gone, and with it its hold on the connections to other ranks: left to the
    # interpreter they would outlive the libraries they need, and end the process in an abort.
    sys.exit(code)
