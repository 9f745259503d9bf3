"""However many commands a user starts, few refused passwords reach Earthdata Login."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from atmonr.errors import CredentialsMissing, StoreError
from atmonr.store.fetch.credentials import secrets
from atmonr.store.fetch.refusals import few_refusals
from atmonr.store.fetch.wire import Session
from tests.store.fetch.archives import DATA, NAME, PASSWORD, TOKEN, USER, Archives

URL = f"https://{DATA}/{NAME}"


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file of refusals."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "atmonr" / "earthdata-refusals"


def refuse(now: float) -> None:
    with pytest.raises(CredentialsMissing), few_refusals(lambda: now):
        raise CredentialsMissing("refused")


def test_many_jobs_at_once_send_a_wrong_password_twice(
    archives: Archives, kept: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EARTHDATA_USERNAME", USER)
    monkeypatch.setenv("EARTHDATA_PASSWORD", "wrong")

    def job(_: int) -> str:
        with pytest.raises(CredentialsMissing) as caught:
            Session(secrets()).get(URL)
        return str(caught.value)

    with ThreadPoolExecutor(8) as jobs:
        answers = list(jobs.map(job, range(8)))
    assert archives.logins() == 2
    assert sum(f"or remove {kept}" in answer for answer in answers) == 6
    assert len(kept.read_text().split()) == 2 and "wrong" not in kept.read_text()
    monkeypatch.setenv("EARTHDATA_TOKEN", TOKEN)
    archives.content[NAME] = b"data"
    assert Session(secrets()).get(URL).content == b"data"


def test_a_right_password_and_other_failures_leave_no_trace(
    archives: Archives, kept: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EARTHDATA_USERNAME", USER)
    monkeypatch.setenv("EARTHDATA_PASSWORD", PASSWORD)
    archives.content[NAME] = b"data"
    assert Session(secrets()).get(URL).content == b"data"
    for _ in range(3):
        with pytest.raises(StoreError), few_refusals():
            raise StoreError("no network")
    assert kept.read_text() == ""


def test_after_ten_minutes_it_may_be_tried_again(kept: Path) -> None:
    for now in (1000.0, 1300.0):
        refuse(now)
    with pytest.raises(CredentialsMissing, match="2 times within ten minutes"), few_refusals(lambda: 1599.0):
        pytest.fail("let through")
    refuse(1601.0)
    assert kept.read_text().split() == ["1300", "1601"]


@pytest.mark.parametrize("content", ["nan inf -inf\n", "\x00\n", "x" * 99_999, "9" * 400])
def test_a_spoilt_file_locks_nobody_out(kept: Path, content: str) -> None:
    kept.parent.mkdir(parents=True)
    kept.write_text(content)
    refuse(1000.0)
    assert kept.read_text() == "1000\n"


def in_the_way(kept: Path) -> None:
    kept.mkdir(parents=True)


def no_folder(kept: Path) -> None:
    kept.parents[1].write_text("a file where the cache should be")


@pytest.mark.parametrize("spoil", [in_the_way, no_folder])
def test_without_a_cache_folder_it_goes_on(kept: Path, spoil: Callable[[Path], None]) -> None:
    spoil(kept)
    for _ in range(3):
        refuse(1000.0)
