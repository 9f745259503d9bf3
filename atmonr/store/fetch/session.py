"""`atmonr fetch` as a library: which files are meant, and the bringing of all of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from datetime import UTC, date, datetime, time
from pathlib import Path
from typing import Literal

from atmonr.errors import CredentialsMissing, StoreError, UsageError
from atmonr.store.fetch import catalogue, earthcare
from atmonr.store.fetch.credentials import secrets
from atmonr.store.fetch.download import download
from atmonr.store.fetch.remote import RemoteFile
from atmonr.store.fetch.wire import Patience, Session
from atmonr.store.survey import BoundingBox

Product = Literal["L1B", "L1C", "DEM", "ATL_EBD_2A"]

_EXAMPLE = "PACE_HARP2.20250605T161356.L1B.V3.nc"

# In no catalogue: neither its size nor a checksum is published.
DEM = RemoteFile(
    "ETOPO1_ocssw.nc", "https://oceandata.sci.gsfc.nasa.gov/ocssw/static_ancillary/ETOPO1_ocssw.nc"
)


def _no_progress(title: str) -> AbstractContextManager[Callable[[int, int], None]]:
    return nullcontext(lambda done, total: None)


def find_named(names: Sequence[str], patience: Patience) -> list[RemoteFile]:
    """Return the files of these names: HARP2 L1B and L1C, EarthCARE ATL_EBD_2A, the DEM.

    Raises:
        UsageError: A name is of none of these, or the catalogue does not list it.
        StoreError: A catalogue does not answer.
        GranuleError: A catalogue answers nonsense.
    """
    return [_find_named(name, patience) for name in dict.fromkeys(names)]


def find_product(
    product: Product,
    start: str | None,
    end: str | None,
    bbox: tuple[float, float, float, float] | None,
    patience: Patience,
) -> list[RemoteFile]:
    """Return the files of a product that meet a time and a place; of several versions the newest alone.

    Args:
        product: Of the DEM there is one, without time or place.
        start: ISO date or time, UTC unless it names another zone.
        end: Likewise; a date means all of that day.
        bbox: west, south, east, north [degrees]; west > east crosses the dateline.
        patience: How often and how long to try.

    Raises:
        UsageError: A time or the box is wrong or missing, or nothing was found.
        StoreError, GranuleError: As above.
    """
    if product == "DEM":
        if any(condition is not None for condition in (start, end, bbox)):
            raise UsageError("the DEM is one file: --from, --to and --bbox do not go with it")
        return [DEM]
    if start is None or end is None:
        raise UsageError(f"--product {product} needs --from and --to")
    first, last = _moment(start, time.min), _moment(end, time(23, 59, 59))
    if first > last:
        raise UsageError(f"--from {start} is after --to {end}")
    box = None if bbox is None else BoundingBox(*bbox)
    if box is not None:
        box.check()
        box = BoundingBox(_within_180(box.west_deg), box.south_deg, _within_180(box.east_deg), box.north_deg)
    if product == earthcare.PRODUCT:
        files = earthcare.find_by_time(first, last, box, patience)
    else:
        files = catalogue.find_by_time(product, first, last, box, patience)
    if not files:
        raise UsageError(f"the catalogue has no {product} file of this time and place")
    return files


def find_matches(name: str, patience: Patience) -> list[RemoteFile]:
    """Return the EarthCARE frames that cross a HARP2 granule within five minutes of it.

    Raises:
        UsageError: The catalogue does not list the granule, or no frame crosses it.
        StoreError, GranuleError: As above.
    """
    if catalogue.level_of(name) is None:
        raise UsageError(f"{name!r:.80}: expected the name of a HARP2 granule, such as {_EXAMPLE}")
    footprint = catalogue.find_footprint(name, patience)
    if footprint is None:
        raise UsageError(f"{name}: the catalogue has no such file")
    files = earthcare.find_matches(footprint, patience)
    if not files:
        raise UsageError(f"{name}: no EarthCARE frame crosses it within five minutes")
    return files


def fetch(
    files: Sequence[RemoteFile],
    folder: Path,
    patience: Patience,
    progress: Callable[[str], AbstractContextManager[Callable[[int, int], None]]] = _no_progress,
) -> Iterator[tuple[RemoteFile, Path | StoreError]]:
    """Bring files into a folder, one after the other, and yield what became of each.

    Args:
        files: What to fetch; what is there and right is kept.
        folder: Where to; made if missing.
        patience: How often and how long to try.
        progress: Makes of a title a context whose value is called with the bytes done, and those of all.

    Raises:
        CredentialsMissing: They are needed and absent, or were refused; no further file is tried.
    """
    session = Session(secrets())
    here = 0
    for number, file in enumerate(files, start=1):
        try:
            with progress(f"{number}/{len(files)} {file.name}") as move:
                path = _bring(file, folder, session, patience, move)
        except CredentialsMissing as error:
            raise CredentialsMissing(f"{error}; {here} of {len(files)} files are here") from error
        except StoreError as error:
            yield file, error
        else:
            here += 1
            yield file, path


def _bring(
    file: RemoteFile, folder: Path, session: Session, patience: Patience, move: Callable[[int, int], None]
) -> Path:
    return download(file, folder, session, patience, lambda done: move(done, file.size_bytes or done))


def state(file: RemoteFile, folder: Path) -> str:
    """Say how much of a file is in a folder already, without reading it."""
    target, part = folder / file.name, folder / f".{file.name}.part"
    if target.is_file():
        right = file.size_bytes in (None, target.stat().st_size)
        return "here" if right else "here, of wrong size"
    return f"begun, {part.stat().st_size / 1e6:.1f} MB" if part.is_file() else "to fetch"


def _find_named(name: str, patience: Patience) -> RemoteFile:
    if name == DEM.name:
        return DEM
    if catalogue.level_of(name) is not None:
        found = catalogue.find_by_name(name, patience)
    elif earthcare.is_name(name):
        found = earthcare.find_by_name(name, patience)
    else:
        raise UsageError(
            f"{name!r:.80}: expected a name such as {_EXAMPLE}, {DEM.name}, or that of an EarthCARE"
            f" {earthcare.PRODUCT} frame"
        )
    if found is None:
        raise UsageError(f"{name}: the catalogue has no such file")
    return found


def _moment(text: str, time_of_date: time) -> datetime:
    try:
        if len(text) <= len("2025-06-05"):
            return datetime.combine(date.fromisoformat(text), time_of_date, UTC)
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise UsageError(f"{text!r:.80}: expected a time such as 2025-06-05 or 2025-06-05T16:13") from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _within_180(longitude_deg: float) -> float:
    return longitude_deg - 360.0 if longitude_deg > 180.0 else longitude_deg
