from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from atmonr.atomic import atomic_file, atomic_folder, netcdf_errors, sha256
from atmonr.errors import StoreError, UsageError


def test_a_file_appears_whole_and_replaces_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "result.json"
    for text in ("old", "new"):
        with atomic_file(path) as temporary:
            temporary.write_text(text)
            assert temporary.parent == path.parent and temporary.suffix == ".json"
            assert not path.exists() or path.read_text() == "old"
    assert path.read_text() == "new"
    assert list(path.parent.iterdir()) == [path]


def test_an_exception_leaves_the_old_file_and_no_remains(tmp_path: Path) -> None:
    path = tmp_path / "result"
    path.write_text("old")
    with pytest.raises(KeyError), atomic_file(path) as temporary:
        temporary.write_text("half")
        raise KeyError
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_is_a_store_error_that_names_the_final_file(tmp_path: Path) -> None:
    path = tmp_path / "result"
    full = pytest.raises(StoreError, match=r"result: cannot write: No space left on device")
    with full, atomic_file(path) as temporary:
        temporary.write_text("half")
        raise OSError(28, os.strerror(28))
    assert list(tmp_path.iterdir()) == []


def test_a_netcdf_file_that_a_full_disk_refuses_is_a_store_error_and_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "e.nc"
    with (
        pytest.raises(StoreError, match=r"e\.nc: cannot write: NetCDF: HDF error; is the disk full\?"),
        atomic_file(path) as temporary,
        netcdf_errors(path),
    ):
        temporary.write_text("half")
        raise RuntimeError("NetCDF: HDF error")  # as the library says it
    assert not list(tmp_path.iterdir())


def test_a_parent_that_is_a_file_is_a_store_error(tmp_path: Path) -> None:
    (tmp_path / "parent").write_text("")
    with pytest.raises(StoreError, match="parent/result"), atomic_file(tmp_path / "parent" / "result"):
        pass


def test_a_folder_appears_whole(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "scene.zarr"
    with atomic_folder(path) as temporary:
        (temporary / "c").mkdir()
        (temporary / "c" / "0").write_text("data")
        assert not path.exists()
    assert (path / "c" / "0").read_text() == "data"
    assert list(path.parent.iterdir()) == [path]


def test_a_failing_folder_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(KeyError), atomic_folder(tmp_path / "scene") as temporary:
        (temporary / "half").write_text("data")
        raise KeyError
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", ["file", "empty folder", "dangling link"])
def test_a_folder_never_takes_the_place_of_something(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "scene"
    make = {
        "file": lambda: path.write_text("precious"),
        "empty folder": path.mkdir,
        "dangling link": lambda: path.symlink_to(tmp_path / "nowhere"),
    }[kind]
    make()
    with pytest.raises(UsageError, match="scene: exists already"), atomic_folder(path):
        pytest.fail("the block must not run")
    path.rmdir() if kind == "empty folder" else path.unlink()
    with pytest.raises(UsageError), atomic_folder(path):
        make()  # someone else was quicker
    assert list(tmp_path.iterdir()) == [path]


def test_a_killed_writer_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "result"
    path.write_text("old")
    script = (
        "import os, pathlib, signal, sys\n"
        "from atmonr.atomic import atomic_file\n"
        "with atomic_file(pathlib.Path(sys.argv[1])) as temporary:\n"
        "    temporary.write_text('half')\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    killed = subprocess.run([sys.executable, "-c", script, str(path)], timeout=60)
    assert killed.returncode == -signal.SIGKILL
    assert path.read_text() == "old"


def test_sha256_is_that_of_the_content(tmp_path: Path) -> None:
    path = tmp_path / "data"
    path.write_bytes(b"cloud" * 500_000)
    assert sha256(path) == hashlib.sha256(b"cloud" * 500_000).hexdigest()
    with pytest.raises(StoreError, match="missing: cannot read"):
        sha256(tmp_path / "missing")
