from __future__ import annotations

import sys
from pathlib import Path

import netCDF4
import pytest

from atmonr import netcdf_probe


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "a.nc"
    with netCDF4.Dataset(path, "w") as made:
        made.createDimension("x", 3)
        made.createVariable("group/v", "f4", ("x",))[:] = 1.0
        made.createVariable("text", str)[...] = "words"
    return path


def test_good_files_and_what_is_no_file_pass(file: Path, tmp_path: Path) -> None:
    (tmp_path / "b.nc").write_bytes(b"nothing")
    assert [netcdf_probe.deadly(path) for path in (file, tmp_path / "b.nc", tmp_path / "none")] == [None] * 3


@pytest.mark.parametrize(
    ("program", "says"), [("import os; os.abort()", "crashes"), ("while True: pass", "comes to no end")]
)
def test_a_crash_and_an_endless_loop_are_told(
    file: Path, monkeypatch: pytest.MonkeyPatch, program: str, says: str
) -> None:
    visit = file.with_name("visit.py")
    visit.write_text(program)
    monkeypatch.setattr(netcdf_probe, "_VISIT", visit)
    monkeypatch.setattr(netcdf_probe, "LIMIT_S", 0.7)
    if says == "crashes":
        monkeypatch.setattr(netcdf_probe, "LIMIT_S", 60.0)
    assert says in (netcdf_probe.deadly(file) or "")


def test_without_a_process_to_be_had_the_file_is_opened_here(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    assert netcdf_probe.deadly(file) is None
