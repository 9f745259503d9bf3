"""A file comes whole, right and once, whatever the archive does; until then nothing has its name."""

from __future__ import annotations

import errno
import fcntl
import shutil
import socket
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from hashlib import md5
from pathlib import Path

import pytest

from atmonr.errors import CredentialsMissing, StoreError
from atmonr.store.fetch import wire
from atmonr.store.fetch.credentials import secrets
from atmonr.store.fetch.download import download
from atmonr.store.fetch.remote import RemoteFile
from atmonr.store.fetch.session import DEM
from atmonr.store.fetch.wire import Patience, Session
from tests.store.fetch.archives import (
    DATA,
    DEM_PATH,
    ELSEWHERE,
    LOGIN,
    NAME,
    OCEANDATA,
    PASSWORD,
    SIGNATURE,
    SIGNED,
    TOKEN,
    USER,
    Archives,
    Fault,
    _Handler,
    broken_off,
    garbled,
    netcdf_bytes,
    paused,
    status,
)

CONTENT = netcdf_bytes()
FILE = RemoteFile(
    NAME, f"https://{DATA}/ob-cumulus-prod-public/{NAME}", len(CONTENT), ("md5", md5(CONTENT).hexdigest())
)
Get = Callable[..., Path]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "data"


@pytest.fixture
def get(archives: Archives, folder: Path, patience: Patience, monkeypatch: pytest.MonkeyPatch) -> Get:
    """Download with a token in the environment."""
    monkeypatch.setenv("EARTHDATA_TOKEN", TOKEN)
    archives.content[NAME] = CONTENT
    session = Session(secrets())

    def fetch(file: RemoteFile = FILE, **options: object) -> Path:
        return download(file, folder, session, **{"patience": patience, **options})  # type: ignore[arg-type]

    return fetch


def only(path: Path, content: bytes = CONTENT) -> bool:
    """Whether a file is as expected and alone in its folder, hidden files included."""
    return path.read_bytes() == content and list(path.parent.iterdir()) == [path]


def test_a_file_comes_with_the_token_only_to_its_host(get: Get, archives: Archives, folder: Path) -> None:
    steps: list[int] = []
    assert only(get(progress=steps.append))
    assert [request.host for request in archives.seen] == [DATA, SIGNED]
    assert archives.seen[0].headers["authorization"] == f"Bearer {TOKEN}"
    assert "authorization" not in archives.seen[1].headers
    assert steps == sorted(steps) and steps[-1] == len(CONTENT)


def test_what_is_here_and_right_is_not_asked_for_again(get: Get, archives: Archives) -> None:
    get()
    asked = len(archives.seen)
    assert only(get())
    assert len(archives.seen) == asked


@pytest.mark.slow
@pytest.mark.parametrize("wrong", [CONTENT[:-1], CONTENT[:-1] + b"x", b""])
def test_what_is_here_and_wrong_is_fetched_again(get: Get, folder: Path, wrong: bytes) -> None:
    folder.mkdir()
    (folder / NAME).write_bytes(wrong)
    assert only(get())


def test_a_transfer_that_breaks_off_is_continued(get: Get, archives: Archives) -> None:
    archives.faults[SIGNED] = [broken_off(100_000), broken_off(50_000)]
    assert only(get())
    asked = [request.headers for request in archives.asked(SIGNED)]
    assert [headers.get("range") for headers in asked] == [None, "bytes=100000-", "bytes=150000-"]
    assert asked[1]["if-range"] == '"first"'


@pytest.mark.slow
def test_the_next_command_continues(get: Get, archives: Archives, folder: Path) -> None:
    archives.faults[SIGNED] = [broken_off(1000)] * 6
    with pytest.raises(StoreError, match=r"broke off.*gave up after 6 tries"):
        get()
    assert not (folder / NAME).exists()
    assert (folder / f".{NAME}.part").read_bytes() == CONTENT[:6000]
    assert only(get())
    assert archives.seen[-1].headers["range"] == "bytes=6000-"


@pytest.mark.slow
def test_a_whole_but_nameless_file_is_checked_and_named(get: Get, archives: Archives, folder: Path) -> None:
    folder.mkdir()
    (folder / f".{NAME}.part").write_bytes(CONTENT)
    assert only(get())
    assert archives.seen == []


@pytest.mark.slow
def test_a_part_of_unknown_origin_is_not_continued(get: Get, archives: Archives, folder: Path) -> None:
    folder.mkdir()
    (folder / f".{NAME}.part").write_bytes(b"something else")
    assert only(get())
    assert "range" not in archives.seen[-1].headers


@pytest.mark.slow
@pytest.mark.parametrize("note", ["", "[]", "{", '{"validator": 7}'])
def test_a_spoilt_note_costs_a_new_beginning_at_most(get: Get, folder: Path, note: str) -> None:
    folder.mkdir()
    (folder / f".{NAME}.part").write_bytes(CONTENT[:10])
    (folder / f".{NAME}.part.json").write_text(note)
    assert only(get())


@pytest.mark.slow
def test_a_file_that_changed_meanwhile_is_begun_anew(get: Get, archives: Archives) -> None:
    def changed(handler: _Handler, data: bytes) -> bool:
        archives.tag = '"second"'
        archives.content[NAME] = CONTENT
        return False

    archives.content[NAME] = b"\x89HDF of yesterday".ljust(len(CONTENT))
    archives.faults[SIGNED] = [broken_off(100_000), changed]
    assert only(get())
    assert archives.seen[-1].headers["if-range"] == '"first"'


@pytest.mark.slow
@pytest.mark.parametrize(
    "wrong", [f"bytes 5-{len(CONTENT) - 1}/{len(CONTENT)}", "bytes 100-", "", f"bytes 100000-1/{9**19}"]
)
def test_a_part_that_was_not_asked_for_is_refused(get: Get, archives: Archives, wrong: str) -> None:
    def other_part(handler: _Handler, data: bytes) -> bool:
        handler.answer(206, data[5:], {"ETag": '"first"', "Content-Range": wrong})
        return True

    archives.faults[SIGNED] = [broken_off(100_000), other_part]
    assert only(get())


@pytest.mark.slow
def test_a_server_that_has_less_than_is_here_makes_it_begin_anew(
    get: Get, archives: Archives, folder: Path
) -> None:
    folder.mkdir()
    (folder / f".{NAME}.part").write_bytes(CONTENT + b"more")
    (folder / f".{NAME}.part.json").write_text('{"validator": "\\"first\\""}')
    assert only(get())
    assert len(archives.asked(SIGNED)) == 2


@pytest.mark.slow
def test_without_an_entity_tag_nothing_is_spliced(get: Get, archives: Archives) -> None:
    archives.tag = None
    archives.faults[SIGNED] = [broken_off(100_000)]
    assert only(get())
    assert "range" not in archives.seen[-1].headers


def test_a_pause_is_as_long_as_the_server_asks(get: Get, archives: Archives, pauses: list[float]) -> None:
    date = datetime.now(UTC) + timedelta(seconds=90)
    archives.faults[SIGNED] = [
        status(429, Retry_After="7"),
        status(503, Retry_After=f"{date:%a, %d %b %Y %H:%M:%S} GMT"),
        status(429, Retry_After="soon"),
    ]
    assert only(get())
    assert pauses[0] == 7.0 and 80.0 < pauses[1] <= 90.0 and 4.0 <= pauses[2] <= 8.0


@pytest.mark.slow
def test_a_pause_beyond_the_time_limit_is_not_begun(
    get: Get, archives: Archives, pauses: list[float]
) -> None:
    archives.faults[SIGNED] = [status(429, Retry_After="4000")]
    with pytest.raises(StoreError, match="time limit"):
        get()
    assert pauses == []


@pytest.mark.slow
@pytest.mark.parametrize("code", [408, 500, 502, 503, 504])
def test_passing_errors_are_tried_again_with_growing_pauses(
    get: Get, archives: Archives, pauses: list[float], code: int
) -> None:
    archives.faults[DATA] = [status(code)] * 5
    assert only(get())
    assert [1 <= pauses[0] <= 2, 2 <= pauses[1] <= 4, 16 <= pauses[4] <= 32] == [True] * 3


@pytest.mark.slow
def test_errors_that_do_not_pass_are_given_up(get: Get, archives: Archives, folder: Path) -> None:
    archives.faults[DATA] = [status(502)] * 6
    with pytest.raises(StoreError, match=f"{DATA} answered 502 Bad Gateway; gave up after 6 tries"):
        get()
    assert len(archives.seen) == 6
    assert list(folder.iterdir()) == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("code", "error", "says"),
    [
        (401, CredentialsMissing, "refused the credentials"),
        (403, StoreError, "accept terms"),
        (404, StoreError, "404"),
    ],
)
def test_refusals_are_never_tried_again(
    get: Get, archives: Archives, folder: Path, code: int, error: type[Exception], says: str
) -> None:
    archives.faults[DATA] = [status(code)]
    with pytest.raises(error, match=says):
        get()
    assert len(archives.seen) == 1
    assert list(folder.iterdir()) == []


@pytest.mark.slow
def test_a_damaged_copy_is_fetched_once_more(get: Get, archives: Archives) -> None:
    archives.faults[SIGNED] = [garbled]
    assert only(get())


def test_a_wrong_checksum_ends_with_an_error(get: Get, archives: Archives, folder: Path) -> None:
    folder.mkdir()
    (folder / NAME).write_bytes(b"an old wrong copy")
    with pytest.raises(StoreError, match=r"has the md5 .* where the catalogue says 0{32}"):
        get(replace(FILE, checksum=("md5", "0" * 32)))
    assert len(archives.asked(SIGNED)) == 2
    assert only(folder / NAME, b"an old wrong copy")


@pytest.mark.slow
def test_a_wrong_size_is_known_before_the_transfer(get: Get, archives: Archives, folder: Path) -> None:
    with pytest.raises(StoreError, match=f"server has {len(CONTENT)} bytes where the catalogue says 12"):
        get(replace(FILE, size_bytes=12))
    assert len(archives.asked(SIGNED)) == 1
    assert list(folder.iterdir()) == []


@pytest.mark.slow
def test_a_server_that_sends_without_end_is_cut(get: Get, archives: Archives, folder: Path) -> None:
    def endless(handler: _Handler, data: bytes) -> bool:
        handler.send_response(200)
        handler.end_headers()
        handler.wfile.write(data * 9)
        handler.close_connection = True
        return True

    archives.faults[SIGNED] = [endless] * 6
    with pytest.raises(StoreError, match="more than the 300000 bytes"):
        get()
    assert list(folder.iterdir()) == []


@pytest.mark.slow
def test_a_server_that_falls_silent_is_left_and_continued(
    get: Get, archives: Archives, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wire, "_READ_S", 0.1)
    archives.faults[SIGNED] = [paused(1000, 0.3)]
    assert only(get())
    assert archives.seen[-1].headers["range"] == "bytes=1000-"


@pytest.mark.slow
def test_a_slow_server_cannot_go_on_for_ever(get: Get, archives: Archives, folder: Path) -> None:
    def dripping(handler: _Handler, data: bytes) -> bool:
        handler.serve(data, 1000)
        for _ in range(20):
            time.sleep(0.02)
            handler.wfile.write(bytes(1000))
        return True

    now = [0.0]
    archives.faults[SIGNED] = [dripping]
    limited = Patience(60.0, clock=lambda: now[0], sleep=lambda s: None)
    with pytest.raises(StoreError, match="time limit is reached; run the same command again"):
        get(patience=limited, progress=lambda done: now.__setitem__(0, 61.0))
    assert 1000 <= (folder / f".{NAME}.part").stat().st_size < 10_000


@pytest.mark.slow
def test_a_transfer_that_gets_on_is_not_given_up(
    get: Get, archives: Archives, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wire, "_PROGRESS_BYTES", 10_000)
    archives.faults[SIGNED] = [broken_off(20_000)] * 12
    assert only(get())


def redirect(address: str) -> Fault:
    return status(302, Location=address)


def test_the_token_does_not_follow_a_redirection(get: Get, archives: Archives) -> None:
    archives.faults[DATA] = [redirect(f"https://{ELSEWHERE}/{NAME}")]
    assert only(get())
    (request,) = archives.asked(ELSEWHERE)
    assert TOKEN not in str(request)


@pytest.mark.slow
@pytest.mark.parametrize(
    "url",
    [
        f"https://{ELSEWHERE}/{NAME}",
        f"https://{DATA}@{ELSEWHERE}/{NAME}",
        f"https://{ELSEWHERE}/{DATA}/{NAME}",
    ],
)
def test_the_token_does_not_go_where_a_catalogue_points(get: Get, archives: Archives, url: str) -> None:
    assert only(get(RemoteFile(NAME, url)))
    assert len(archives.asked(ELSEWHERE)) == 1
    assert TOKEN not in str(archives.seen) and not archives.asked(LOGIN)


@pytest.mark.slow
def test_a_password_meant_for_any_host_goes_to_none(get: Get, archives: Archives, tmp_path: Path) -> None:
    (tmp_path / "home" / ".netrc").write_text("default login me password for-anybody\n")
    archives.faults[DATA] = [redirect(f"https://{ELSEWHERE}/{NAME}")]
    assert only(get())
    assert archives.logins() == 0


@pytest.mark.slow
@pytest.mark.parametrize("address", [f"http://{ELSEWHERE}/{NAME}", "ftp://x/", "file:///etc/passwd"])
def test_redirections_to_other_than_https_are_refused(get: Get, archives: Archives, address: str) -> None:
    archives.faults[DATA] = [redirect(address)]
    with pytest.raises(StoreError, match="not https"):
        get()
    assert len(archives.seen) == 1


@pytest.mark.slow
def test_a_redirection_to_nowhere_ends(get: Get, archives: Archives) -> None:
    archives.faults[DATA] = [redirect("https://[")]
    with pytest.raises(StoreError, match="nowhere"):
        get()


@pytest.mark.slow
def test_redirections_in_circles_end(get: Get, archives: Archives) -> None:
    archives.faults[DATA] = [redirect(f"https://{DATA}/{NAME}")] * 40
    with pytest.raises(StoreError, match="circles"):
        get()


@pytest.mark.slow
def test_signed_addresses_are_not_shown(get: Get, archives: Archives) -> None:
    def hang_up(handler: _Handler, data: bytes) -> bool:
        handler.connection.shutdown(socket.SHUT_RDWR)
        return True

    archives.faults[SIGNED] = [hang_up] * 6
    with pytest.raises(StoreError, match="connection failed") as caught:
        get()
    assert SIGNATURE not in str(caught.value)
    assert caught.value.__context__ is None and caught.value.__cause__ is None


@pytest.mark.slow
def test_two_commands_do_not_write_the_same_file(get: Get, folder: Path) -> None:
    folder.mkdir()
    with open(folder / f".{NAME}.part", "wb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(StoreError, match="another command is fetching"):
            get()


@pytest.mark.slow
def test_a_link_in_the_place_of_the_part_is_not_followed(get: Get, folder: Path, tmp_path: Path) -> None:
    folder.mkdir()
    victim = tmp_path / "victim"
    victim.write_text("mine")
    (folder / f".{NAME}.part").symlink_to(victim)
    with pytest.raises(StoreError, match=NAME):
        get()
    assert victim.read_text() == "mine"


@pytest.mark.slow
def test_a_link_under_the_final_name_is_replaced_not_followed(get: Get, folder: Path, tmp_path: Path) -> None:
    folder.mkdir()
    victim = tmp_path / "victim"
    victim.write_text("mine")
    (folder / NAME).symlink_to(victim)
    assert only(get())
    assert victim.read_text() == "mine"


@pytest.mark.slow
def test_a_folder_under_the_final_name_is_refused_at_once(get: Get, folder: Path, archives: Archives) -> None:
    (folder / NAME).mkdir(parents=True)
    with pytest.raises(StoreError, match="is no file"):
        get()
    assert archives.seen == []


@pytest.mark.slow
def test_what_does_not_fit_is_not_begun(get: Get, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage("/")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1000))
    with pytest.raises(StoreError, match="needs 0 MB where 0 MB are free"):
        get()
    assert not any(path.suffix == ".nc" for path in folder.iterdir())


@pytest.mark.slow
def test_the_terrain_needs_no_login_and_is_checked_by_its_length(
    archives: Archives, folder: Path, patience: Patience
) -> None:
    archives.content[DEM.name] = CONTENT
    session = Session(secrets())
    assert only(download(DEM, folder, session, patience))
    assert only(download(DEM, folder, session, patience))
    assert [request.method for request in archives.seen] == ["GET", "HEAD"]
    archives.content[DEM.name] = CONTENT + b"more"
    assert only(download(DEM, folder, session, patience), CONTENT + b"more")
    assert archives.logins() == 0


@pytest.mark.slow
def test_a_page_is_not_taken_for_the_terrain(archives: Archives, folder: Path, patience: Patience) -> None:
    archives.content[DEM.name] = b"<html>down for maintenance</html>"
    with pytest.raises(StoreError, match="neither netCDF nor HDF5"):
        download(DEM, folder, Session(secrets()), patience)
    assert list(folder.iterdir()) == []


@pytest.mark.slow
def test_an_archive_may_send_us_to_the_login(
    archives: Archives, folder: Path, patience: Patience, monkeypatch: pytest.MonkeyPatch
) -> None:
    archives.dem_needs_login = True
    archives.content[DEM.name] = CONTENT
    monkeypatch.setenv("EARTHDATA_USERNAME", USER)
    monkeypatch.setenv("EARTHDATA_PASSWORD", PASSWORD)
    assert only(download(DEM, folder, Session(secrets()), patience))
    assert all("authorization" not in request.headers for request in archives.asked(OCEANDATA))
    assert archives.asked(OCEANDATA)[-1].path == DEM_PATH


@pytest.mark.slow
def test_a_login_page_is_not_data(
    archives: Archives, folder: Path, patience: Patience, monkeypatch: pytest.MonkeyPatch
) -> None:
    archives.dem_needs_login = True
    monkeypatch.setenv("EARTHDATA_TOKEN", TOKEN)
    with pytest.raises(CredentialsMissing, match="EARTHDATA_USERNAME"):
        download(DEM, folder, Session(secrets()), patience)
    assert list(folder.iterdir()) == []


@pytest.mark.slow
def test_a_file_system_without_locks_will_do(get: Get, monkeypatch: pytest.MonkeyPatch) -> None:
    def flock(*_: object) -> None:
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", flock)
    assert only(get())


@pytest.mark.slow
def test_a_changed_file_is_noticed_though_the_server_ignores_our_condition(
    get: Get, archives: Archives
) -> None:
    def rest_of_another(handler: _Handler, data: bytes) -> bool:
        archives.content[NAME] = CONTENT
        extent = f"bytes 100000-{len(CONTENT) - 1}/{len(CONTENT)}"
        handler.answer(206, CONTENT[100_000:], {"ETag": '"second"', "Content-Range": extent})
        return True

    archives.content[NAME] = b"\x89HDF of yesterday".ljust(len(CONTENT))
    archives.faults[SIGNED] = [broken_off(100_000), rest_of_another]
    assert only(get(replace(FILE, checksum=None)))


@pytest.mark.slow
def test_a_part_from_further_on_leaves_no_hole(get: Get, archives: Archives) -> None:
    def further_on(handler: _Handler, data: bytes) -> bool:
        extent = f"bytes 200000-{len(CONTENT) - 1}/{len(CONTENT)}"
        handler.answer(206, data[200_000:], {"ETag": '"first"', "Content-Range": extent})
        return True

    archives.faults[SIGNED] = [broken_off(100_000), further_on]
    assert only(get(replace(FILE, checksum=None)))


@pytest.mark.slow
def test_an_end_without_an_announced_length_is_noticed(get: Get, archives: Archives) -> None:
    def no_length(handler: _Handler, data: bytes) -> bool:
        handler.send_response(200)
        handler.send_header("ETag", '"first"')
        handler.end_headers()
        handler.wfile.write(data[:100_000])
        handler.close_connection = True
        return True

    archives.faults[SIGNED] = [no_length]
    assert only(get())
    assert archives.seen[-1].headers["range"] == "bytes=100000-"
