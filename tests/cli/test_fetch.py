"""`atmonr fetch` as a user meets it: on a terminal, in a batch job, and when it is interrupted."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from atmonr.cli import app
from tests.store.fetch.archives import (
    DATA,
    LOGIN,
    NAME,
    PASSWORD,
    SIGNED,
    TOKEN,
    USER,
    Archives,
    paused,
    status,
)

OTHER = "PACE_HARP2.20250605T161856.L1B.V3.nc"
WHEN = ("--from", "2025-06-05", "--to", "2025-06-07", "--bbox", -65, 10, -55, 20)


def call(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["fetch", *(str(argument) for argument in arguments)])


def test_files_of_a_time_and_place_are_listed_then_fetched(
    archives: Archives,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("EARTHDATA_USERNAME", USER)
    monkeypatch.setenv("EARTHDATA_PASSWORD", PASSWORD)
    archives.hold(OTHER)
    data = archives.hold()
    listed = call("--product", "L1B", *WHEN, "-o", tmp_path / "data", "--dry-run")
    assert listed.exit_code == 0 and not (tmp_path / "data").exists()
    assert archives.asked(LOGIN) == archives.asked(DATA) == []
    assert listed.stdout.count("to fetch") == 2 and "0.3" in listed.stdout and NAME in listed.stdout
    fetched = call("--product", "L1B", *WHEN, "-o", tmp_path / "data")
    assert fetched.stdout.splitlines() == [str(tmp_path / "data" / name) for name in (NAME, OTHER)]
    assert (fetched.exit_code, fetched.stderr) == (0, "")
    assert (tmp_path / "data" / NAME).read_bytes() == data
    assert archives.logins() == 1


def test_failures_are_listed_at_the_end_with_74(
    archives: Archives,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("EARTHDATA_TOKEN", TOKEN)
    archives.hold(listed={"Checksum": {"Algorithm": "MD5", "Value": "0" * 32}})
    archives.hold(OTHER)
    archives.faults[SIGNED] = [status(404)]
    result = call("--granule", OTHER, "--granule", NAME, "-o", tmp_path / "data")
    assert result.exit_code == 74
    lines = result.stderr.splitlines()
    assert lines[0] == f"{OTHER}: {SIGNED} answered 404 Not Found"
    assert lines[1].startswith(f"{NAME}: what was received has the md5")
    assert lines[2:] == ["2 of 2 files could not be fetched; the same command tries them again"]
    assert list((tmp_path / "data").iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((), "exactly one of"),
        (("--granule", NAME, "--product", "L1B"), "exactly one of"),
        (("--granule", NAME, "--from", "2025-06-05"), "go with --product only"),
        (("--product", "L1B", "--from", "2025-06-05"), "needs --from and --to"),
        (("--product", "L9"), "L9"),
        (("--granule", "../x.nc"), "expected a name such as"),
        (("--match", "../x.nc"), "expected the name of a HARP2 granule"),
    ],
)
def test_what_cannot_be_meant_is_one_line_and_2(
    tmp_path: Path, arguments: tuple[object, ...], says: str
) -> None:
    result = call(*arguments, "-o", tmp_path / "data")
    assert result.exit_code == 2 and says in result.stderr and len(result.stderr.splitlines()) == 1
    assert not (tmp_path / "data").exists()


@pytest.mark.slow
def test_without_earthaccess_the_message_names_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in list(sys.modules):
        if name.startswith("atmonr.store.fetch"):
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "earthaccess", None)
    result = call("--product", "DEM", "-o", tmp_path)
    assert (result.exit_code, result.stderr) == (
        2,
        "earthaccess is not installed; pip install 'atmonr[fetch]'\n",
    )


def batch_job(*arguments: object) -> subprocess.Popen[str]:
    """Start the command as a batch system does: no terminal, nothing on stdin, an empty home folder."""
    command = [sys.executable, "-m", "atmonr", "fetch", *(str(argument) for argument in arguments)]
    return subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # ignored in the background
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )


@pytest.mark.slow
def test_a_batch_job_without_credentials_ends_with_77_and_asks_nobody(
    archives: Archives,
    tmp_path: Path,
) -> None:
    archives.hold()
    with batch_job("--granule", NAME, "-o", tmp_path / "data") as job:
        output, errors = job.communicate(timeout=60)
    assert (job.returncode, output) == (77, "")
    assert len(errors.splitlines()) == 1 and "set EARTHDATA_TOKEN" in errors
    assert archives.asked(LOGIN) == [] and list((tmp_path / "data").iterdir()) == []


@pytest.mark.slow
def test_a_wrong_password_is_tried_once_and_never_shown(
    archives: Archives,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("EARTHDATA_USERNAME", USER)
    monkeypatch.setenv("EARTHDATA_PASSWORD", "wrong-password")
    archives.hold()
    archives.hold(OTHER)
    command = ("--granule", NAME, "--granule", OTHER, "-o", tmp_path / "data")
    with batch_job(*command) as job:
        output, errors = job.communicate(timeout=60)
    assert job.returncode == 77 and archives.logins() == 1
    assert len(errors.splitlines()) == 1 and "wrong-password" not in output + errors


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_what_has_come_when_it_is_interrupted_is_continued(
    archives: Archives,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    number: signal.Signals,
) -> None:
    monkeypatch.setenv("EARTHDATA_TOKEN", TOKEN)
    data = archives.hold()
    archives.faults[SIGNED] = [paused(100_000, 20.0)]
    folder = tmp_path / "data"
    part = folder / f".{NAME}.part"
    with batch_job("--granule", NAME, "-o", folder) as job:
        until = time.monotonic() + 60
        while not (part.exists() and part.stat().st_size == 100_000) and time.monotonic() < until:
            time.sleep(0.05)
        job.send_signal(number)
        job.communicate(timeout=30)
    assert job.returncode == (130 if number == signal.SIGINT else -number)
    assert not (folder / NAME).exists() and part.read_bytes() == data[:100_000]
    assert call("--granule", NAME, "-o", folder).exit_code == 0
    assert archives.seen[-1].headers["range"] == "bytes=100000-"
    assert (folder / NAME).read_bytes() == data and list(folder.iterdir()) == [folder / NAME]
