"""NASA's catalogue (CMR) of HARP2 files, asked through earthaccess. It needs no login."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import earthaccess

from atmonr.errors import GranuleError, StoreError
from atmonr.store.fetch.remote import RemoteFile
from atmonr.store.fetch.wire import Patience, Session
from atmonr.store.survey import BoundingBox

SHORT_NAMES = {"L1B": "PACE_HARP2_L1B_SCI", "L1C": "PACE_HARP2_L1C_SCI"}
_LONGEST_GRANULE = timedelta(hours=1)  # nominally 5 minutes; some entries have broken times
_MOST_RESULTS = 100_000
_ALGORITHMS = {
    ("MD5", 32): "md5",
    ("SHA-1", 40): "sha1",
    ("SHA-256", 64): "sha256",
    ("SHA-384", 96): "sha384",
    ("SHA-512", 128): "sha512",
    ("SHA-2", 64): "sha256",
    ("SHA-2", 96): "sha384",
    ("SHA-2", 128): "sha512",
}


@dataclass(frozen=True)
class Footprint:
    """When and where a granule was taken.

    Attributes:
        start: Of the granule, with its time zone.
        end: Likewise.
        geometry: Its outline as GeoJSON, longitude before latitude [degrees].
    """

    start: datetime
    end: datetime
    geometry: dict[str, object]


def find_by_time(
    product: str, start: datetime, end: datetime, box: BoundingBox | None, patience: Patience
) -> list[RemoteFile]:
    """Return the files of a product that meet a time and a box, of each granule the newest version alone.

    Args:
        product: A key of SHORT_NAMES.
        start: First moment, with its time zone.
        end: Last moment.
        box: None for the whole Earth.
        patience: How often and how long to try.

    Raises:
        StoreError: The catalogue does not answer.
        GranuleError: It answers nonsense.
    """
    place = {} if box is None else {"bounding_box": tuple(box)}
    granules = _search(patience, short_name=SHORT_NAMES[product], temporal=(start, end), **place)
    return _newest(_unique(file for granule in granules for file in _files(granule)))


def find_by_name(name: str, patience: Patience) -> RemoteFile | None:
    """Return one file; None if the catalogue does not list it.

    Raises:
        StoreError, GranuleError: As above.
    """
    files = (file for granule in _named(name, patience) for file in _files(granule))
    return next((file for file in _unique(files) if file.name == name), None)


def find_footprint(name: str, patience: Patience) -> Footprint | None:
    """Return when and where a granule was taken; None if the catalogue does not list it.

    Raises:
        StoreError, GranuleError: As above.
    """
    for granule in _named(name, patience):
        if all(file.name != name for file in _files(granule)):
            continue
        try:
            times = granule["umm"]["TemporalExtent"]["RangeDateTime"]
            start = datetime.fromisoformat(times["BeginningDateTime"])
            end = datetime.fromisoformat(times["EndingDateTime"])
            geometry = granule.__geo_interface__
            duration = end - start
        except (KeyError, TypeError, ValueError) as error:
            raise GranuleError(f"{name}: the catalogue does not tell when and where it was taken") from error
        if not timedelta(0) < duration < _LONGEST_GRANULE or start.tzinfo is None:
            raise GranuleError(f"{name}: the catalogue has impossible times for it: {start} to {end}")
        return Footprint(start, end, geometry)
    return None


def level_of(name: str) -> str | None:
    """Return which of SHORT_NAMES a file name belongs to, such as PACE_HARP2.20250605T161356.L1B.V3.nc."""
    match = re.fullmatch(r"PACE_HARP2\.\d{8}T\d{6}\.(L1[BC])\.([A-Za-z0-9_]+\.)*nc", name)
    return match[1] if match else None


def _named(name: str, patience: Patience) -> list[Any]:
    # Catalogues differ in whether an entry's name ends like the file's.
    short_name = SHORT_NAMES[level_of(name) or "L1B"] + ("_NRT" if ".NRT" in name else "")
    return _search(patience, short_name=short_name, granule_name=f"*{name.removesuffix('.nc')}*")


def _search(patience: Patience, **parameters: Any) -> list[Any]:
    """Return what CMR has on granules, as earthaccess gives it."""
    query = earthaccess.DataGranules().parameters(**parameters)
    query.session = Session()  # anonymous; earthaccess's own would wait for ever
    try:
        with warnings.catch_warnings():  # of what earthaccess itself calls, and will change
            warnings.simplefilter("ignore", FutureWarning)
            return patience.insist(lambda: query.get(_MOST_RESULTS))
    except (KeyError, TypeError, AttributeError) as error:
        raise StoreError("the catalogue (CMR) answered something else than a list of granules") from error


def _files(granule: Any) -> list[RemoteFile]:
    """Return the netCDF files of one entry."""
    try:
        listed = granule["umm"].get("DataGranule", {}).get("ArchiveAndDistributionInformation", [])
        entries = {entry.get("Name"): entry for entry in listed}
        links = [str(link) for link in granule.data_links(access="external")]
        files = []
        for link in links:
            name = link.partition("?")[0].rpartition("/")[2]
            if link.startswith("https:") and name.endswith(".nc"):
                entry = entries.get(name, {})
                checksum = entry.get("Checksum", {})
                files.append(RemoteFile(name, link, entry.get("SizeInBytes"), _checksum(checksum)))
        return files
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise GranuleError("the catalogue (CMR) has an entry that cannot be understood") from error


def _checksum(entry: dict[str, Any]) -> tuple[str, str] | None:
    """Return algorithm and digest; None for those that hashlib does not have, such as CRC-32."""
    digest = str(entry.get("Value", ""))
    algorithm = _ALGORITHMS.get((str(entry.get("Algorithm")), len(digest)))
    return (algorithm, digest) if algorithm else None


def _unique(files: Iterable[RemoteFile]) -> list[RemoteFile]:
    """Keep one file of each name: archives moved, and the catalogue may list both the old and the new."""
    kept: dict[str, RemoteFile] = {}
    for file in files:
        if file.name not in kept or (kept[file.name].checksum is None and file.checksum is not None):
            kept[file.name] = file
    return list(kept.values())


def _newest(files: list[RemoteFile]) -> list[RemoteFile]:
    """Keep the newest version of each granule, which is its sensor, time and level."""
    kept: dict[str, RemoteFile] = {}
    for file in sorted(files, key=lambda file: _version(file.name)):
        kept[file.name[: len("PACE_HARP2.20250605T161356.L1B")]] = file
    return sorted(kept.values(), key=lambda file: file.name)


def _version(name: str) -> tuple[int, ...]:
    """Return (3, 1) for `….V3_1.nc`, () for the first version, which has none in its name."""
    match = re.search(r"\.V(\d+(?:_\d+)*)\.", name)
    return tuple(int(part) for part in match[1].split("_")) if match else ()
