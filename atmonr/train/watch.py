"""What a person sees while scenes train: one live table on a terminal, plain lines elsewhere, or nothing."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from atmonr.errors import LostRankError
from atmonr.train.plan import SceneWork
from atmonr.train.progress import EVERY_S, Row, note_name
from atmonr.world import World

LINES_PER_S = 10  # of all groups together, where there is no terminal
FURNITURE = 5  # lines of the terminal for the table's head and foot and what follows it


class View(Protocol):
    """Shows the rows of all groups."""

    every_s: float

    def show(self, rows: Sequence[Row]) -> None:
        """Called from time to time."""
        ...

    def close(self) -> None:
        """Called at the end."""
        ...


@contextmanager
def watch(
    world: World, session: int, groups: int, todo: Sequence[SceneWork], *, quiet: bool
) -> Iterator[None]:
    """Show, on rank 0 and on standard error, what all groups are doing, until the block ends.

    Reading and drawing happen on a thread of their own, so that training does not wait for them.
    """
    if quiet or world.rank > 0:
        yield
        return
    console = Console(stderr=True)
    for scene in todo:
        if scene.failure is not None:
            console.print(f"{scene.name}: failed before ({scene.failure}); tried again", markup=False)
    view = TableView(console, len(todo)) if console.is_terminal else LineView(console, len(todo), groups)
    names = [note_name(session, group) for group in range(groups)]
    over = threading.Event()

    def work() -> None:
        last = False
        while not last:
            last = over.wait(view.every_s)
            try:
                view.show([Row.from_note(note) for note in world.posted(names)])
            except LostRankError:
                return

    thread = threading.Thread(target=work, name="progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(10 * EVERY_S)
        view.close()


class LineView:
    """One line for every group whose figures have changed, and one when scenes have ended."""

    def __init__(self, console: Console, scenes: int, groups: int) -> None:
        self.every_s = max(EVERY_S, groups / LINES_PER_S)
        self._console = console
        self._scenes = scenes
        self._ended = ended((), scenes)
        self._shown: dict[int, tuple[str, float | None, float | None]] = {}

    def show(self, rows: Sequence[Row]) -> None:
        """Print what is new since the last call."""
        for group, row in enumerate(rows):
            figures = (row.scene, row.loss, row.steps_per_s)
            if not row.scene or row.loss is None or figures == self._shown.get(group):
                continue
            self._shown[group] = figures
            self._print(
                f"{row.scene}  step {row.step}/{row.steps}  loss {row.loss:.4g}  "
                f"{row.steps_per_s:.4g} steps/s  left {row.time_left}"
            )
        if ended(rows, self._scenes) != self._ended:
            self._ended = ended(rows, self._scenes)
            self._print(self._ended)

    def _print(self, line: str) -> None:
        self._console.print(line, markup=False, highlight=False, soft_wrap=True)

    def close(self) -> None:
        """Nothing is left to do."""


class TableView:
    """A table with a row for every group at work, as far as the terminal is high enough."""

    every_s = EVERY_S

    def __init__(self, console: Console, scenes: int) -> None:
        self._console = console
        self._scenes = scenes
        self._live = Live(console=console, auto_refresh=False, transient=False)
        self._live.start()

    def show(self, rows: Sequence[Row]) -> None:
        """Draw anew."""
        self._live.update(self._table(rows), refresh=True)

    def close(self) -> None:
        """Leave the last table on the terminal."""
        self._live.stop()

    def _table(self, rows: Sequence[Row]) -> Group:
        busy = [row for row in rows if row.scene]
        fitting = max(1, self._console.height - FURNITURE)
        hidden = f", {len(busy) - fitting} more at work" if len(busy) > fitting else ""
        table = Table(box=None, pad_edge=False)
        table.add_column("scene")
        for heading in ("step", "loss", "steps/s", "left"):
            table.add_column(heading, justify="right")
        for row in busy[:fitting]:
            table.add_row(
                Text(row.scene),
                f"{row.step}/{row.steps}" if row.steps else "loading",
                "" if row.loss is None else f"{row.loss:.4g}",
                "" if row.steps_per_s is None else f"{row.steps_per_s:.4g}",
                row.time_left,
            )
        summary = Text(f"{ended(rows, self._scenes)}{hidden}")
        return Group(table, summary) if busy else Group(summary)


def ended(rows: Sequence[Row], scenes: int) -> str:
    """Return how many of the session's scenes have ended, and how."""
    finished, failed = sum(row.finished for row in rows), sum(row.failed for row in rows)
    return f"{finished} of {scenes} scenes finished" + (f", {failed} failed" if failed else "")
