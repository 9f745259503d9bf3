"""Tables on the terminal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Column, Table


def show_scores(scores: Mapping[str, Any], title: str = "Scores") -> None:
    """Print nested scores, one number a line under its dotted name."""
    # Cut short, a name would say nothing; a long value goes on in the next line.
    table = Table(Column("score", no_wrap=True), Column("value", overflow="fold"), title=title)
    for name, value in _flatten(scores):
        table.add_row(name, f"{value:.4g}" if isinstance(value, float) else str(value))
    Console().print(table)


def show_rows(rows: Sequence[Mapping[str, str]], always: Sequence[str], title: str) -> None:
    """Print rows that have the same columns.

    Args:
        rows: {column: value}.
        always: Columns to show in any case; others only where rows differ, else in a line of their own.
        title: Above the table.
    """
    same = [name for name in rows[0] if name not in always and len({row[name] for row in rows}) == 1]
    table = Table(*(name for name in rows[0] if name not in same), title=title)
    for row in rows:
        table.add_row(*(value for name, value in row.items() if name not in same))
    console = Console()
    if not console.is_terminal:  # nothing sets a width, and 80 columns would cut names short
        console.width = Console(width=10_000).measure(table).maximum
    console.print(table)
    for name in same:
        console.print(f"{name}: {rows[0][name]}", highlight=False, soft_wrap=True)


def _flatten(scores: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in scores.items():
        if isinstance(value, Mapping):
            yield from _flatten(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value
