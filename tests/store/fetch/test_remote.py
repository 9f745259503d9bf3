"""What a catalogue says decides where we write and connect: it is hostile until checked."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from atmonr.errors import GranuleError, StoreError
from atmonr.store.fetch.remote import RemoteFile

URL = "https://data.example.org/a.nc"


@pytest.mark.parametrize(
    "name",
    [
        "../a.nc",
        "/etc/passwd",
        "a/b.nc",
        "a\\b.nc",
        "..",
        ".",
        "",
        ".bashrc",
        "-rf",
        "a\n.nc",
        "a\x00.nc",
        "a b.nc",
        "%2e%2e%2fa.nc",
        "ä.nc",
        "\x1b[31m.nc",
        "a" * 201,
        None,
        7,
    ],
)
def test_names_that_are_not_plain_are_refused(name: object) -> None:
    with pytest.raises(GranuleError, match="plain file name") as caught:
        RemoteFile(name, URL)  # type: ignore[arg-type]
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    "url", ["http://x/a.nc", "file:///etc/passwd", "ftp://x/a", "s3://x/a", "https:///a", "https://[", ""]
)
def test_addresses_that_are_not_https_are_refused(url: str) -> None:
    with pytest.raises(GranuleError, match="not https"):
        RemoteFile("a.nc", url)


@pytest.mark.parametrize("size", [-1, "12", 1.5, [1]])
def test_sizes_that_are_no_number_of_bytes_are_refused(size: object) -> None:
    with pytest.raises(GranuleError, match="expected bytes"):
        RemoteFile("a.nc", URL, size)  # type: ignore[arg-type]


@pytest.mark.parametrize("algorithm", ["md5", "sha1", "sha256", "sha512"])
def test_a_copy_is_right_if_size_and_checksum_are(tmp_path: Path, algorithm: str) -> None:
    path = tmp_path / "a.nc"
    path.write_bytes(b"data")
    digest = hashlib.new(algorithm, b"data").hexdigest()
    assert RemoteFile("a.nc", URL, 4, (algorithm, digest.upper())).fault(path) is None
    path.write_bytes(b"dat")
    assert (
        RemoteFile("a.nc", URL, 4, (algorithm, digest)).fault(path)
        == "has 3 bytes where the catalogue says 4"
    )
    path.write_bytes(b"date")
    assert f"has the {algorithm}" in str(RemoteFile("a.nc", URL, 4, (algorithm, digest)).fault(path))


@pytest.mark.parametrize(
    ("begin", "right"), [(b"\x89HDF\r\n", True), (b"CDF\x01", True), (b"<html>", False), (b"", False)]
)
def test_without_a_checksum_a_copy_must_look_like_data(tmp_path: Path, begin: bytes, right: bool) -> None:
    path = tmp_path / "a.nc"
    path.write_bytes(begin)
    assert (RemoteFile("a.nc", URL).fault(path) is None) == right


def test_a_copy_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=str(tmp_path)):
        RemoteFile("a.nc", URL).fault(tmp_path)
