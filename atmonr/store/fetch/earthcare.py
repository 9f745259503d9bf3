"""ESA's catalogue (MAAP, a STAC service) of EarthCARE files. It needs no login; the files need MAAP_TOKEN."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any

from atmonr.errors import GranuleError, StoreError
from atmonr.store.fetch.catalogue import Footprint
from atmonr.store.fetch.remote import RemoteFile, is_plain_name
from atmonr.store.fetch.wire import Patience, Session, host_of
from atmonr.store.survey import BoundingBox

PRODUCT = "ATL_EBD_2A"
MATCH_WITHIN = timedelta(minutes=5)
_SEARCH = "https://catalog.maap.eo.esa.int/catalogue/search"
_COLLECTION = "EarthCAREL2Validated_MAAP"
_ASSET = "enclosure_h5"
_MOST_PAGES = 100
_NAME = re.compile(r"ECA_[A-Z]{2}[A-Z]{2}_ATL_EBD_2A_\d{8}T\d{6}Z_\d{8}T\d{6}Z_\d{5}[A-H]")


def find_by_time(
    start: datetime, end: datetime, box: BoundingBox | None, patience: Patience
) -> list[RemoteFile]:
    """Return the frames that meet a time and a box, of each the newest processing alone.

    Raises:
        StoreError: The catalogue does not answer.
        GranuleError: It answers nonsense.
    """
    place = {} if box is None else {"bbox": list(box)}
    return _newest(_search({"datetime": _interval(start, end), **place}, patience))


def find_matches(footprint: Footprint, patience: Patience) -> list[RemoteFile]:
    """Return the frames that cross a granule's outline within five minutes of it.

    Raises:
        StoreError, GranuleError: As above.
    """
    when = _interval(footprint.start - MATCH_WITHIN, footprint.end + MATCH_WITHIN)
    return _newest(_search({"datetime": when, "intersects": footprint.geometry}, patience))


def find_by_name(name: str, patience: Patience) -> RemoteFile | None:
    """Return one frame by its name, with or without `.h5`; None if the catalogue does not list it.

    Raises:
        StoreError, GranuleError: As above.
    """
    files = _search({"ids": [name.removesuffix(".h5")]}, patience)
    return next((file for file in files if file.name == f"{name.removesuffix('.h5')}.h5"), None)


def is_name(name: str) -> bool:
    """Whether a name is one of a frame of this product."""
    return _NAME.fullmatch(name.removesuffix(".h5")) is not None


def _search(condition: dict[str, Any], patience: Patience) -> list[RemoteFile]:
    session = Session()
    body: dict[str, Any] = {
        "collections": [_COLLECTION],
        "limit": 200,
        "filter-lang": "cql2-text",
        "filter": f"\"product:type\"='{PRODUCT}'",
        **condition,
    }
    answer = patience.insist(lambda: session.post(_SEARCH, json=body).json())
    files: list[RemoteFile] = []
    for _ in range(_MOST_PAGES):
        try:
            files += [_file(feature) for feature in answer["features"]]
            following = [link["href"] for link in answer.get("links", []) if link.get("rel") == "next"]
        except (KeyError, TypeError, AttributeError) as error:
            raise GranuleError("the catalogue (MAAP) has an entry that cannot be understood") from error
        if not following:
            return files
        url = str(following[0])
        if host_of(url) != host_of(_SEARCH):
            raise GranuleError("the catalogue (MAAP) continues on another host")
        answer = patience.insist(lambda url=url: session.get(url).json())  # type: ignore[misc]
    raise StoreError(f"the catalogue (MAAP) has more than {_MOST_PAGES} pages; narrow the time or the box")


def _file(feature: dict[str, Any]) -> RemoteFile:
    name, asset = feature["id"], feature["assets"][_ASSET]
    if not is_plain_name(name) or not is_name(name):
        raise GranuleError(f"the catalogue (MAAP) names a file {name!r:.80}: expected ECA_…_{PRODUCT}_…")
    return RemoteFile(f"{name}.h5", str(asset["href"]), asset.get("file:size"))


def _newest(files: list[RemoteFile]) -> list[RemoteFile]:
    """Keep of each frame the newest baseline (letters 7 and 8 of the name) and, of that, processing."""
    kept: dict[tuple[str, str], RemoteFile] = {}
    for file in sorted(files, key=lambda file: (file.name[6:8], file.name[37:53])):
        kept[file.name[20:36], file.name[54:60]] = file
    return sorted(kept.values(), key=lambda file: file.name[20:36])


def _interval(start: datetime, end: datetime) -> str:
    return "/".join(f"{moment.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}" for moment in (start, end))
