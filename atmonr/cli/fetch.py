"""`atmonr fetch`"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from atmonr.cli.options import Box, BoxOption, QuietOption
from atmonr.errors import StoreError, UsageError

if TYPE_CHECKING:
    from atmonr.store.fetch.remote import RemoteFile
    from atmonr.store.fetch.wire import Patience


def fetch(
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the files.")],
    granule: Annotated[
        list[str] | None, typer.Option("--granule", help="Name of a file to fetch; may be repeated.")
    ] = None,
    product: Annotated[
        Literal["L1B", "L1C", "DEM", "ATL_EBD_2A"] | None,
        typer.Option(help="Fetch by time and place instead: HARP2 L1B or L1C, EarthCARE, or the DEM."),
    ] = None,
    start: Annotated[str | None, typer.Option("--from", help="First date or time, UTC.")] = None,
    end: Annotated[str | None, typer.Option("--to", help="Last date or time, UTC.")] = None,
    bbox: BoxOption = None,
    match: Annotated[
        str | None,
        typer.Option(help="Fetch the EarthCARE frames that cross the HARP2 granule of this name."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only list what would be fetched.")] = False,
    max_hours: Annotated[
        float, typer.Option(min=0.01, help="Stop after so many hours, pauses and retries included.")
    ] = 12.0,
    quiet: QuietOption = False,
) -> None:
    """Fetch satellite files and the terrain from their archives; a second call continues the first."""
    try:
        from atmonr.store.fetch.session import fetch as bring
        from atmonr.store.fetch.wire import Patience
    except ModuleNotFoundError as error:
        raise UsageError(f"{error.name} is not installed; pip install 'atmonr[fetch]'") from error
    from atmonr.cli.progress import progress_bar

    patience = Patience(max_hours * 3600.0)
    files = _find(granule, product, start, end, bbox, match, patience)
    if dry_run:
        _list(files, out)
        return
    failures: list[str] = []
    try:
        for file, outcome in bring(files, out, patience, lambda title: progress_bar(title, quiet)):
            if isinstance(outcome, Path):
                typer.echo(outcome)
            else:
                failures.append(f"{file.name}: {outcome}")
    finally:
        for failure in failures:
            typer.echo(failure, err=True)
    if failures:
        raise StoreError(
            f"{len(failures)} of {len(files)} files could not be fetched; the same command tries them again"
        )


def _find(
    granule: list[str] | None,
    product: Literal["L1B", "L1C", "DEM", "ATL_EBD_2A"] | None,
    start: str | None,
    end: str | None,
    bbox: Box | None,
    match: str | None,
    patience: Patience,
) -> list[RemoteFile]:
    from atmonr.store.fetch import session

    if sum(choice is not None for choice in (granule or None, product, match)) != 1:
        raise UsageError("expected exactly one of --granule (may be repeated), --product and --match")
    if product is not None:
        return session.find_product(product, start, end, bbox, patience)
    if any(option is not None for option in (start, end, bbox)):
        raise UsageError("--from, --to and --bbox go with --product only")
    if match is not None:
        return session.find_matches(match, patience)
    return session.find_named(granule or [], patience)


def _list(files: Sequence[RemoteFile], out: Path) -> None:
    from atmonr.cli.tables import show_rows
    from atmonr.store.fetch.session import state

    rows = [
        {
            "file": file.name,
            "MB": "?" if file.size_bytes is None else f"{file.size_bytes / 1e6:.1f}",
            "checksum": file.checksum[0] if file.checksum else "none",
            "state": state(file, out),
        }
        for file in files
    ]
    show_rows(rows, always=("file", "MB", "state"), title="Files")
    unknown = sum(file.size_bytes is None for file in files)
    total = f"{sum(file.size_bytes or 0 for file in files) / 1e9:.3g} GB in all"
    typer.echo(f"{total}, without {unknown} of unknown size" if unknown else total)
