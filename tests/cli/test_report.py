from __future__ import annotations

import errno
from collections.abc import Callable

import pytest
import typer
from typer.testing import CliRunner

from atmonr.cli.report import ReportingGroup, translate
from atmonr.errors import ConfigError, GranuleError, StoppedError


def make_app(raises: Callable[[], BaseException]) -> typer.Typer:
    app = typer.Typer(cls=ReportingGroup, pretty_exceptions_enable=False)

    @app.callback()
    def options(debug: bool = False) -> None:
        """Stands for the real application."""

    @app.command()
    def work() -> None:
        raise raises()

    return app


@pytest.mark.parametrize(
    ("error", "line", "code"),
    [
        (GranuleError("a.nc: not netCDF; expected HARP2 L1B"), "a.nc: not netCDF; expected HARP2 L1B", 65),
        (ConfigError("c.toml: bad"), "c.toml: bad", 78),
        (StoppedError("saved at step 7"), "saved at step 7", 75),
        (OSError(errno.ENOSPC, "No space left on device", "out.nc"), "out.nc: disk full", 74),
        (PermissionError(errno.EACCES, "Permission denied", "out.nc"), "out.nc: Permission denied", 74),
        (OSError("netCDF: HDF error"), "netCDF: HDF error", 74),
        (MemoryError("needs 90 GiB"), "out of memory: needs 90 GiB", 76),
        (KeyboardInterrupt(), "interrupted", 130),
    ],
)
def test_a_foreseen_error_is_one_line_and_its_code(error: BaseException, line: str, code: int) -> None:
    result = CliRunner().invoke(make_app(lambda: error), ["work"])
    assert result.exit_code == code
    assert result.stderr.startswith(line)
    assert result.stderr.count("\n") == 1
    assert result.stdout == ""


def test_gpu_memory_has_its_own_code() -> None:
    import torch

    known = translate(torch.cuda.OutOfMemoryError("CUDA out of memory"))
    assert known is not None
    assert known[1] == 76


def test_debug_shows_the_traceback() -> None:
    with pytest.raises(ConfigError):
        CliRunner().invoke(make_app(lambda: ConfigError("bad")), ["--debug", "work"], catch_exceptions=False)


def test_a_bug_keeps_its_traceback() -> None:
    with pytest.raises(ZeroDivisionError):
        CliRunner().invoke(make_app(lambda: ZeroDivisionError()), ["work"], catch_exceptions=False)


def test_wrong_usage_ends_with_two() -> None:
    assert CliRunner().invoke(make_app(lambda: ValueError()), ["work", "--nonsense"]).exit_code == 2
