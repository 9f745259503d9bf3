"""What a person sees while a scene trains: a bar on a terminal, plain lines elsewhere, or nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn


class Display(Protocol):
    """Shows how training advances."""

    def advance(self, step: int) -> None:
        """Called after every step with the number of steps done."""
        ...

    def report(self, record: Mapping[str, Any]) -> None:
        """Called with every record of metrics; it has `step`, `loss` and `steps_per_s`."""
        ...

    def close(self) -> None:
        """Called once at the end."""
        ...


def display(scene: str, steps: int, start_step: int, *, quiet: bool) -> Display:
    """Return a display on standard error, which leaves standard output to results."""
    console = Console(stderr=True)
    if quiet:
        return _Silence()
    if console.is_terminal:
        return _Bar(console, scene, steps, start_step)
    return _Lines(console, scene, steps)


class _Silence:
    def advance(self, step: int) -> None:
        pass

    def report(self, record: Mapping[str, Any]) -> None:
        pass

    def close(self) -> None:
        pass


class _Lines:
    def __init__(self, console: Console, scene: str, steps: int) -> None:
        self._console = console
        self._scene = scene
        self._steps = steps

    def advance(self, step: int) -> None:
        pass

    def report(self, record: Mapping[str, Any]) -> None:
        line = f"{self._scene}  step {record['step']}/{self._steps}  {_figures(record, self._steps)}"
        self._console.print(line, markup=False, highlight=False, soft_wrap=True)

    def close(self) -> None:
        pass


class _Bar:
    def __init__(self, console: Console, scene: str, steps: int, start_step: int) -> None:
        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[figures]}", markup=False),
        )
        # The drawing thread competes with training for the interpreter.
        self._progress = Progress(*columns, console=console, refresh_per_second=4)
        self._steps = steps
        self._task = self._progress.add_task(scene, total=steps, completed=start_step, figures="")
        self._progress.start()

    def advance(self, step: int) -> None:
        self._progress.update(self._task, completed=step)

    def report(self, record: Mapping[str, Any]) -> None:
        self._progress.update(self._task, figures=_figures(record, self._steps))

    def close(self) -> None:
        self._progress.stop()


def _figures(record: Mapping[str, Any], steps: int) -> str:
    rate = record["steps_per_s"]
    minutes, seconds = divmod(round((steps - record["step"]) / rate), 60)
    hours, minutes = divmod(minutes, 60)
    return f"loss {record['loss']:.4g}  {rate:.4g} steps/s  left {hours}:{minutes:02}:{seconds:02}"
