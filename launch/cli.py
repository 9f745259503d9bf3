"""The `atmonr campaign` commands."""

from __future__ import annotations

import typer

from atmonr.errors import UsageError

app = typer.Typer(help="Many scenes and configs on a cluster (not available yet).")


@app.callback(invoke_without_command=True)
def campaign() -> None:
    """Many scenes and configs on a cluster (not available yet)."""
    raise UsageError(
        "campaigns are not available in this version; train scenes one by one with `atmonr train`"
    )
