"""Credentials are taken from the environment or netrc, tried once, and shown to nobody."""

from __future__ import annotations

import base64
import traceback
from pathlib import Path

import pytest
import requests

from atmonr.errors import AtmonrError, CredentialsMissing, StoreError
from atmonr.store.fetch.credentials import secrets
from atmonr.store.fetch.wire import Session
from tests.store.fetch.archives import (
    DATA,
    LOGIN,
    MAAP,
    MAAP_TOKEN,
    NAME,
    PASSWORD,
    TOKEN,
    USER,
    Archives,
    status,
)

URL = f"https://{DATA}/{NAME}"


@pytest.fixture
def netrc(archives: Archives, tmp_path: Path) -> Path:
    path = tmp_path / "home" / ".netrc"
    path.write_text(f'machine {LOGIN} login {USER} password "{PASSWORD}"\n')
    return path


@pytest.fixture
def environment(archives: Archives, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EARTHDATA_USERNAME", USER)
    monkeypatch.setenv("EARTHDATA_PASSWORD", PASSWORD)


def works(archives: Archives) -> bool:
    archives.content[NAME] = b"data"
    return Session(secrets()).get(URL).content == b"data"


def test_a_token_needs_no_login(archives: Archives, netrc: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EARTHDATA_TOKEN", TOKEN)
    assert works(archives)
    assert archives.asked(LOGIN) == []


def test_name_and_password_are_exchanged_once_for_a_token(archives: Archives, environment: None) -> None:
    archives.content[NAME] = b"data"
    session = Session(secrets())
    assert [session.get(URL).content for _ in range(3)] == [b"data"] * 3
    assert len(archives.asked(LOGIN)) == archives.logins() == 1


def test_netrc_is_read_and_sent_once(archives: Archives, netrc: Path) -> None:
    assert works(archives)
    assert len(archives.asked(LOGIN)) == archives.logins() == 1


@pytest.mark.slow
def test_another_netrc_may_be_named(
    archives: Archives, netrc: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NETRC", str(netrc.rename(tmp_path / "elsewhere")))
    assert works(archives)


@pytest.mark.parametrize("text", [None, "", f"machine {DATA} login a password b\n", "machine", "nonsense\n"])
def test_without_credentials_nobody_is_asked(archives: Archives, tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / "home" / ".netrc").write_text(text)
    with pytest.raises(CredentialsMissing, match="set EARTHDATA_TOKEN, or EARTHDATA_USERNAME"):
        works(archives)
    assert archives.seen == []


def test_a_netrc_that_cannot_be_read_is_named(archives: Archives, tmp_path: Path) -> None:
    (tmp_path / "home" / ".netrc").mkdir()
    with pytest.raises(CredentialsMissing, match="netrc cannot be read"):
        works(archives)


def shown(error: BaseException) -> str:
    """Everything that a traceback with --debug would show."""
    return "".join(traceback.format_exception(error))


@pytest.mark.parametrize("source", ["environment", "netrc"])
def test_a_wrong_password_is_sent_once_in_a_session(
    archives: Archives, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, source: str
) -> None:
    request.getfixturevalue(source)
    monkeypatch.setattr("tests.store.fetch.archives.PASSWORD", "another now")
    session = Session(secrets())
    for _ in range(3):
        with pytest.raises(CredentialsMissing, match=f"{LOGIN} refused the credentials.*lock") as caught:
            session.get(URL)
    assert len(archives.asked(LOGIN)) == archives.logins() == 1
    coded = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
    assert PASSWORD not in shown(caught.value) and coded not in shown(caught.value)


def test_the_environment_is_not_followed_by_netrc(
    archives: Archives, netrc: Path, environment: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two wrong passwords in one command would be two steps towards a locked account."""
    monkeypatch.setenv("EARTHDATA_PASSWORD", "wrong")
    with pytest.raises(CredentialsMissing):
        works(archives)
    assert archives.logins() == 1


@pytest.mark.parametrize(("code", "says"), [(502, "502 Bad Gateway"), (429, "429")])
def test_a_login_that_does_not_work_is_not_tried_again_either(
    archives: Archives, environment: None, code: int, says: str
) -> None:
    archives.faults[LOGIN] = [status(code)]
    session = Session(secrets())
    for _ in range(2):
        with pytest.raises(StoreError, match=f"login failed: .*{says}"):
            session.get(URL)
    assert archives.logins() == 1


@pytest.mark.parametrize(
    "answer", [b"", b"<html>", b"[]", b"{}", b'{"access_token": "a b", "expiration_date": ""}']
)
def test_a_login_that_answers_nonsense_is_an_error(
    archives: Archives, environment: None, answer: bytes
) -> None:
    archives.faults[LOGIN] = [lambda handler, data: handler.answer(200, answer) or True]
    with pytest.raises(AtmonrError, match=r"answer|characters"):
        works(archives)


@pytest.mark.parametrize("token", ["two words", "line\nend", "tab\t", "ümlaut"])
def test_what_is_no_token_is_not_sent_and_not_shown(
    archives: Archives, monkeypatch: pytest.MonkeyPatch, token: str
) -> None:
    monkeypatch.setenv("EARTHDATA_TOKEN", token)
    monkeypatch.setenv("MAAP_TOKEN", token)
    for url in (URL, f"https://{MAAP}/data/a.h5"):
        with pytest.raises(CredentialsMissing, match="characters that no token has") as caught:
            Session(secrets()).get(url)
        assert token not in shown(caught.value)
    assert archives.seen == []


def test_each_archive_gets_its_own_token(archives: Archives, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EARTHDATA_TOKEN", TOKEN)
    monkeypatch.setenv("MAAP_TOKEN", MAAP_TOKEN)
    archives.content = {NAME: b"data", "a.h5": b"other"}
    session = Session(secrets())
    assert session.get(URL).content == b"data"
    assert session.get(f"https://{MAAP}/data/a.h5").content == b"other"
    assert TOKEN not in str(archives.asked(MAAP))
    assert MAAP_TOKEN not in str(archives.asked(DATA))


def test_without_a_token_for_maap_it_is_asked_for(archives: Archives, netrc: Path) -> None:
    with pytest.raises(CredentialsMissing, match="set MAAP_TOKEN"):
        Session(secrets()).get(f"https://{MAAP}/data/a.h5")
    assert archives.seen == []


@pytest.mark.parametrize("host", ["notearthdata.nasa.gov", "earthdata.nasa.gov.evil.example", "nasa.gov"])
def test_hosts_that_only_look_like_it_get_nothing(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EARTHDATA_TOKEN", TOKEN)
    request = Session(secrets()).prepare_request(requests.Request("GET", f"https://{host}/a"))
    assert "Authorization" not in request.headers
