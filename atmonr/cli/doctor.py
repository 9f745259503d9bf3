"""`atmonr doctor`"""

from __future__ import annotations

import typer


def doctor() -> None:
    """Show what this machine has: devices, backends, MPI, versions, credentials."""
    from atmonr.doctor import examine

    for subject, finding in examine():
        typer.echo(f"{subject:<12} {finding}")
