"""Bring one file here: what is there is kept, what is half there is continued, and all of it is checked."""

from __future__ import annotations

import fcntl
import http
import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import requests

from atmonr.atomic import flush_to_disk, write_json
from atmonr.errors import AtmonrError, CredentialsMissing, StoreError
from atmonr.json_file import read_json, store_errors
from atmonr.store.fetch.remote import RemoteFile
from atmonr.store.fetch.wire import LOGIN_HOST, Interrupted, Patience, Session, host_of

_READ_BYTES = 1 << 20
_WRONG_COPIES = 2  # a copy damaged on the way is fetched once more; a wrong catalogue stays wrong
_CONTENT_RANGE = re.compile(r"bytes (\d{1,18})-\d{1,18}/(\d{1,18}|\*)")
_NOT_SATISFIABLE = http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE

Progress = Callable[[int], None]


def download(
    file: RemoteFile,
    folder: Path,
    session: Session,
    patience: Patience,
    progress: Progress = lambda done: None,
) -> Path:
    """Return the path of a file in a folder, fetched if it is not there as the catalogue describes it.

    What has come of it lies in `.NAME.part` until the file is whole and checked, and is continued by the next
    call if the server still has the same. A copy that turns out wrong is replaced only by a right one.

    Args:
        file: What to fetch.
        folder: Where to; made if missing.
        session: Carries the credentials.
        patience: How often and how long to try.
        progress: Called with the number of bytes that are here.

    Raises:
        StoreError: The archive or the file system refuses, another command is fetching the file, or every
            copy was wrong.
        CredentialsMissing: They are needed and absent, or were refused.
    """
    target = folder / file.name
    if _is_here(file, target, session, patience):
        progress(target.stat().st_size)
        return target
    part = folder / f".{file.name}.part"
    with store_errors(target):
        folder.mkdir(parents=True, exist_ok=True)
        with _only_writer(part) as stream:
            transfer = _Transfer(file, part, stream, session, patience, progress)
            for _ in range(_WRONG_COPIES):
                patience.insist(transfer.attempt, transfer.here)
                fault = file.fault(part)
                if fault is None:
                    break
                transfer.start_over()
            else:
                raise StoreError(f"what was received {fault}")
            os.fsync(stream.fileno())
            os.replace(part, target)
            transfer.forget()
            flush_to_disk(folder)
    return target


def _is_here(file: RemoteFile, target: Path, session: Session, patience: Patience) -> bool:
    """Whether a right copy is here; what no catalogue describes must at least be as long as the server's."""
    if target.exists() and not target.is_file():
        raise StoreError(f"{target}: is no file")
    if not target.is_file() or file.fault(target) is not None:
        return False
    if file.size_bytes is not None or file.checksum is not None:
        return True

    def length() -> int | None:
        answer = session.head(file.url, allow_redirects=True, headers={"Accept-Encoding": "identity"})
        return _number(answer.headers.get("Content-Length"))

    return patience.insist(length) == target.stat().st_size


class _Transfer:
    """The content of one file on its way into its `.part`; a note beside it tells of which copy it is."""

    def __init__(
        self,
        file: RemoteFile,
        part: Path,
        stream: BinaryIO,
        session: Session,
        patience: Patience,
        progress: Progress,
    ) -> None:
        self._file = file
        self._stream = stream
        self._session = session
        self._patience = patience
        self._progress = progress
        self._note = part.with_name(f"{part.name}.json")

    def here(self) -> int:
        """How many bytes have come so far."""
        return os.fstat(self._stream.fileno()).st_size

    def start_over(self) -> None:
        """Throw away what has come."""
        self._stream.truncate(0)
        self.forget()

    def forget(self) -> None:
        """Remove the note of which copy this is a part of."""
        self._note.unlink(missing_ok=True)

    def attempt(self) -> None:
        """Receive what is missing.

        Raises:
            requests.RequestException: It did not come whole; another attempt continues.
            StoreError: The server's copy is not the one in the catalogue.
        """
        done, validator = self.here(), self._validator()
        if done and done == self._file.size_bytes:
            return  # stopped just before it was checked and got its name
        headers = {"Accept-Encoding": "identity"}
        if done and validator:
            headers |= {"Range": f"bytes={done}-", "If-Range": validator}
        try:
            answer = self._session.get(self._file.url, headers=headers, stream=True)
        except requests.HTTPError as error:
            if error.response is not None and error.response.status_code == _NOT_SATISFIABLE:
                self.start_over()
                raise Interrupted("the server's copy is shorter than what was received before") from None
            raise
        with answer:
            self._receive(answer, validator)

    def _receive(self, answer: requests.Response, validator: str) -> None:
        if host_of(answer.url) == LOGIN_HOST:
            raise CredentialsMissing(
                f"{LOGIN_HOST} shows its login page: this archive needs EARTHDATA_USERNAME and"
                " EARTHDATA_PASSWORD, or netrc"
            )
        begin, total = self._extent(answer, validator)
        expected = self._file.size_bytes
        if expected is not None and total is not None and total != expected:
            raise StoreError(f"the server has {total} bytes where the catalogue says {expected}")
        if begin == 0:
            self.start_over()
            write_json(self._note, {"validator": _validator_of(answer)})
            self._refuse_full_disk(total)
        self._stream.seek(begin)
        while data := answer.raw.read1(_READ_BYTES):
            self._write(data)
            self._progress(self.here())
            if total is not None and self.here() > total:
                self.start_over()
                raise Interrupted(f"the server sent more than the {total} bytes it announced")
            self._patience.check()
        if total is not None and self.here() < total:
            raise Interrupted(f"the connection broke off at {self.here()} of {total} bytes")

    def _write(self, data: bytes) -> None:
        left = memoryview(data)
        while left:  # a raw stream may take less than all
            left = left[self._stream.write(left) :]

    def _extent(self, answer: requests.Response, validator: str) -> tuple[int, int | None]:
        """Return where the content begins that is coming, and how long the whole file is, if announced."""
        if answer.status_code != http.HTTPStatus.PARTIAL_CONTENT:
            total = _number(answer.headers.get("Content-Length"))
            return 0, self._file.size_bytes if total is None else total
        match = _CONTENT_RANGE.fullmatch(answer.headers.get("Content-Range", ""))
        same = _validator_of(answer) in (validator, "")
        if match is None or int(match[1]) != self.here() or not same:
            self.start_over()
            raise Interrupted("the server continued with something else than asked for")
        total = _number(match[2])
        return int(match[1]), self._file.size_bytes if total is None else total

    def _validator(self) -> str:
        """Return by what the server knows the copy that this is a part of; empty if unknown."""
        try:
            return str(read_json(self._note).get("validator", ""))
        except AtmonrError:
            return ""

    def _refuse_full_disk(self, total: int | None) -> None:
        free = shutil.disk_usage(self._note.parent).free
        if total is not None and total > free:
            raise StoreError(f"needs {total / 1e6:.0f} MB where {free / 1e6:.0f} MB are free")


@contextmanager
def _only_writer(path: Path) -> Iterator[BinaryIO]:
    """Open a file to go on writing, for this process alone; every write reaches the system at once.

    Raises:
        StoreError: Another process is writing it.
    """
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW
    with open(path, "r+b", buffering=0, opener=lambda name, _: os.open(name, flags, 0o666)) as stream:
        # Whoever had the lock may have given the file its final name just now.
        if (
            not _lock(stream)
            or not path.exists()
            or not os.path.samestat(path.stat(), os.fstat(stream.fileno()))
        ):
            raise StoreError(f"{path}: another command is fetching this file")
        try:
            yield stream
        finally:
            if os.fstat(stream.fileno()).st_size == 0:
                path.unlink(missing_ok=True)


def _lock(stream: BinaryIO) -> bool:
    """Return whether nobody else has the lock; some parallel file systems have none to give."""
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True


def _validator_of(answer: requests.Response) -> str:
    """Return what If-Range may name: a strong entity tag, else the time of the last change, else nothing."""
    tag = answer.headers.get("ETag", "")
    strong = tag.startswith('"')
    return str(tag if strong else answer.headers.get("Last-Modified", ""))


def _number(text: str | None) -> int | None:
    return int(text) if text and re.fullmatch(r"\d{1,18}", text) else None
