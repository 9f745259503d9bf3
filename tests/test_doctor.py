from __future__ import annotations

from pathlib import Path

import pytest

from atmonr import doctor


@pytest.fixture(autouse=True)
def no_credentials(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    for name in ("EARTHDATA_TOKEN", "EARTHDATA_USERNAME", "EARTHDATA_PASSWORD"):
        monkeypatch.delenv(name, raising=False)
    path = tmp_path / "netrc"
    monkeypatch.setenv("NETRC", str(path))
    return path


def find(subject: str) -> str:
    return dict(doctor.examine())[subject]


def test_ten_subjects_in_one_line_each() -> None:
    found = doctor.examine()
    assert len(found) == 10
    assert all("\n" not in finding for _, finding in found)
    assert "torch" in dict(found)


def test_credentials_are_found_but_never_shown(no_credentials: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert find("Earthdata").startswith("credentials no; set EARTHDATA_TOKEN")
    no_credentials.write_text("machine urs.earthdata.nasa.gov login me password tops3cret\n")
    no_credentials.chmod(0o600)
    assert find("Earthdata").startswith("credentials yes")
    assert "tops3cret" not in find("Earthdata")
    monkeypatch.setenv("EARTHDATA_TOKEN", "t0ken")
    assert find("Earthdata") == "credentials yes (EARTHDATA_TOKEN)"


def test_a_broken_netrc_is_told_without_its_content(no_credentials: Path) -> None:
    no_credentials.write_text("machine tops3cret nonsense\n")
    assert find("Earthdata").startswith("credentials no")
    assert "tops3cret" not in find("Earthdata")


def test_what_is_absent_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_installed", lambda module: False)
    found = dict(doctor.examine())
    assert found["torch"] == "absent; pip install torch"
    assert "pip install 'atmonr[mpi]'" in found["MPI"]
    assert "conda-forge" in found["OpenVDB"]
