"""How errors reach the user: one red line on stderr and an exit code; a traceback only with --debug."""

from __future__ import annotations

import errno
import sys
from typing import Any

import typer
from typer.core import TyperGroup

from atmonr.errors import AtmonrError, GpuMemoryError, StoreError, UsageError

INTERRUPTED = 130  # 128 + SIGINT, what a shell reports for Ctrl-C


class ReportingGroup(TyperGroup):
    """A command group that ends every foreseen error with one line and its exit code."""

    def invoke(self, ctx: Any) -> Any:
        """Run the chosen command. Errors that are nobody's intention pass through with their traceback."""
        try:
            return super().invoke(ctx)
        except (Exception, KeyboardInterrupt) as error:
            known = translate(error)
            if known is None or ctx.params.get("debug"):
                raise
            message, code = known
            typer.secho(message, fg=typer.colors.RED, err=True)
            raise typer.Exit(code) from error


def translate(error: BaseException) -> tuple[str, int] | None:
    """Return the line to show and the exit code; None for an error that should not have happened."""
    if isinstance(error, AtmonrError):
        return str(error), error.exit_code
    if isinstance(error, KeyboardInterrupt):
        return "interrupted", INTERRUPTED
    if hasattr(error, "format_message"):  # a complaint about arguments; typer keeps its class to itself
        context = getattr(error, "ctx", None)
        command = context.command_path if context else "atmonr"
        return (
            f"{' '.join(error.format_message().split()).rstrip('.')}; see `{command} --help`",
            UsageError.exit_code,
        )
    if isinstance(error, MemoryError) or _is_gpu_memory_error(error):
        return (
            f"out of memory: {error}; use fewer rays, samples or voxels at a time",
            GpuMemoryError.exit_code,
        )
    if isinstance(error, OSError) and not isinstance(error, BrokenPipeError):  # `atmonr … | head` is no error
        what = "disk full" if error.errno == errno.ENOSPC else error.strerror or str(error)
        return f"{error.filename}: {what}" if error.filename else what, StoreError.exit_code
    return None


def _is_gpu_memory_error(error: BaseException) -> bool:
    torch = sys.modules.get("torch")  # if torch was never imported, it cannot have run out of memory
    return torch is not None and isinstance(error, torch.cuda.OutOfMemoryError)
