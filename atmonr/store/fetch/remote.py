"""A file in an archive, as its catalogue describes it."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

from atmonr.errors import GranuleError
from atmonr.json_file import store_errors
from atmonr.store.fetch.wire import host_of

# No separator, no leading dot or dash, and room for the suffix of an unfinished download.
_PLAIN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}")
_HDF5, _NETCDF3 = b"\x89HDF", b"CDF"


@dataclass(frozen=True)
class RemoteFile:
    """A file to fetch. What the catalogue says is checked first: it decides where we write and connect.

    Attributes:
        name: What it is called on disk.
        url: Where it is.
        size_bytes: None if the catalogue does not tell.
        checksum: Algorithm, as hashlib names it, and hexadecimal digest; None if the catalogue does not tell.
    """

    name: str
    url: str
    size_bytes: int | None = None
    checksum: tuple[str, str] | None = None

    def __post_init__(self) -> None:
        """Refuse what cannot be the name or the address of a file.

        Raises:
            GranuleError: The name is not plain, the address is not HTTPS, or the size not a number of bytes.
        """
        if not is_plain_name(self.name):
            raise GranuleError(f"the catalogue names a file {self.name!r:.80}: expected a plain file name")
        if not self.url.startswith("https://") or not host_of(self.url):
            raise GranuleError(f"{self.name}: its address in the catalogue is not https://…")
        size = self.size_bytes
        if size is not None and (not isinstance(size, int) or size < 0):
            raise GranuleError(f"{self.name}: its size in the catalogue is {size!r:.80}: expected bytes")

    def fault(self, path: Path) -> str | None:
        """Say what is wrong with a copy on disk; None if it is what the catalogue describes.

        Without a checksum a file must at least begin as netCDF or HDF5 does: login and error pages do not.

        Raises:
            StoreError: The copy cannot be read.
        """
        with store_errors(path), open(path, "rb") as stream:
            size = path.stat().st_size
            if self.size_bytes is not None and size != self.size_bytes:
                return f"has {size} bytes where the catalogue says {self.size_bytes}"
            if self.checksum is None:
                begin = stream.read(4)
                is_data = begin.startswith((_HDF5, _NETCDF3))
                return None if is_data else "is neither netCDF nor HDF5; an error page?"
            algorithm, expected = self.checksum
            # The digest guards against accidents; machines with FIPS rules would refuse MD5 otherwise.
            found = hashlib.file_digest(stream, lambda: hashlib.new(algorithm, usedforsecurity=False))
        if found.hexdigest() == expected.lower():
            return None
        return f"has the {algorithm} {found.hexdigest()} where the catalogue says {expected:.128}"


def is_plain_name(name: object) -> bool:
    """Whether a name can only mean a visible file in the folder where it is used."""
    return isinstance(name, str) and _PLAIN_NAME.fullmatch(name) is not None
