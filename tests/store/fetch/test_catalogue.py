"""CMR is asked what the user asked, through earthaccess, and its answers are not trusted."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from atmonr.errors import AtmonrError, GranuleError, StoreError
from atmonr.store.fetch import catalogue
from atmonr.store.fetch.remote import RemoteFile
from atmonr.store.fetch.wire import Patience
from atmonr.store.survey import BoundingBox
from tests.store.fetch.archives import CMR, DATA, ELSEWHERE, LOGIN, NAME, Archives, status

pytestmark = pytest.mark.slow

DAY = (datetime(2025, 6, 5, tzinfo=UTC), datetime(2025, 6, 5, 23, 59, 59, tzinfo=UTC))
BOX = BoundingBox(-65, 10, -55, 20)


def names(files: list[RemoteFile]) -> list[str]:
    return [file.name for file in files]


def test_the_catalogue_is_asked_for_time_and_place_without_a_login(
    archives: Archives, patience: Patience
) -> None:
    archives.hold()
    archives.hold("PACE_HARP2.20250606T161356.L1B.V3.nc")
    archives.hold(NAME.replace("L1B", "L1C"))
    (file,) = catalogue.find_by_time("L1B", *DAY, BOX, patience)
    assert (file.name, file.size_bytes) == (NAME, 300_000)
    assert file.url == f"https://{DATA}/ob-cumulus-prod-public/{NAME}"
    assert file.checksum is not None and file.checksum[0] == "md5"
    (request,) = archives.seen
    asked = parse_qs(urlsplit(request.path).query)
    assert asked["temporal[]"] == ["2025-06-05T00:00:00Z,2025-06-05T23:59:59Z"]
    assert asked["bounding_box"] == ["-65.0,10.0,-55.0,20.0"]
    assert catalogue.find_by_time("L1B", *DAY, BoundingBox(0, 10, 5, 20), patience) == []
    assert archives.asked(LOGIN) == []


def test_many_pages_are_all_read(archives: Archives, patience: Patience) -> None:
    many = [f"PACE_HARP2.20250605T00{second // 60:02d}{second % 60:02d}.L1B.V3.nc" for second in range(2001)]
    for name in many:
        archives.hold(name, b"x")
    assert names(catalogue.find_by_time("L1B", *DAY, None, patience)) == many
    assert len(archives.seen) == 2


def test_of_several_versions_the_newest_is_meant(archives: Archives, patience: Patience) -> None:
    stem = "PACE_HARP2.20250605T161356.L1B"
    for version in (".V9", ".V10_1", "", ".V10", ".V3"):
        archives.hold(f"{stem}{version}.nc")
    other = archives.hold("PACE_HARP2.20250605T162000.L1B.nc")
    files = catalogue.find_by_time("L1B", *DAY, None, patience)
    assert names(files) == [f"{stem}.V10_1.nc", "PACE_HARP2.20250605T162000.L1B.nc"]
    assert files[1].size_bytes == len(other)


def test_a_name_means_that_file_alone(archives: Archives, patience: Patience) -> None:
    archives.hold(NAME.replace("V3", "V3_1"), GranuleUR=NAME.removesuffix(".nc") + "_1")
    assert catalogue.find_by_name(NAME, patience) is None
    archives.hold(GranuleUR=NAME.removesuffix(".nc"))
    archives.hold()
    file = catalogue.find_by_name(NAME, patience)
    assert file is not None and file.name == NAME


def test_near_real_time_names_are_sought_in_their_own_collection(
    archives: Archives, patience: Patience
) -> None:
    assert catalogue.find_by_name("PACE_HARP2.20250605T161356.L1B.V3.NRT.nc", patience) is None
    assert "short_name=PACE_HARP2_L1B_SCI_NRT&" in archives.seen[0].path


@pytest.mark.parametrize(
    ("name", "level"),
    [
        (NAME, "L1B"),
        ("PACE_HARP2.20240519T235950.L1B.nc", "L1B"),
        ("PACE_HARP2.20250605T161356.L1C.V3.5km.nc", "L1C"),
        ("PACE_HARP2.20250605T161356.L2.MAPOL_OCEAN.V3_0.nc", None),
        ("PACE_OCI.20250605T161356.L1B.V3.nc", None),
        (NAME + "&short_name=X", None),
        (NAME + "\n", None),
        ("*", None),
    ],
)
def test_levels_are_told_by_names(name: str, level: str | None) -> None:
    assert catalogue.level_of(name) == level


def test_the_entry_with_a_checksum_is_preferred(archives: Archives, patience: Patience) -> None:
    archives.hold(listed={"Checksum": {}})
    archives.hold()
    archives.hold(listed={"Checksum": {"Algorithm": "CRC-32", "Value": "00000000"}})
    (file,) = catalogue.find_by_time("L1B", *DAY, None, patience)
    assert file.checksum is not None


@pytest.mark.parametrize(
    ("algorithm", "length", "known"),
    [
        ("MD5", 32, "md5"),
        ("SHA-256", 64, "sha256"),
        ("SHA-2", 128, "sha512"),
        ("MD5", 31, None),
        ("Adler-32", 8, None),
        ("__import__", 32, None),
    ],
)
def test_only_known_checksums_are_used(
    archives: Archives, patience: Patience, algorithm: str, length: int, known: str | None
) -> None:
    archives.hold(listed={"Checksum": {"Algorithm": algorithm, "Value": "a" * length}})
    (file,) = catalogue.find_by_time("L1B", *DAY, None, patience)
    assert file.checksum == (None if known is None else (known, "a" * length))


def link(url: object, kind: object = "GET DATA") -> dict[str, Any]:
    return {"RelatedUrls": [{"URL": url, "Type": kind}]}


@pytest.mark.parametrize(
    "url",
    [
        f"https://{ELSEWHERE}/%2e%2e%2fa.nc",
        f"https://{ELSEWHERE}/..\\a.nc",
        f"https://{ELSEWHERE}/.nc",
        f"https://{ELSEWHERE}/-a.nc",
        f"https://{ELSEWHERE}/a\n.nc",
        f"https://{ELSEWHERE}/{'a' * 999}.nc",
        "https:/a.nc",
        "https://[/a.nc",
    ],
)
def test_hostile_addresses_are_refused(archives: Archives, patience: Patience, url: str) -> None:
    archives.hold(**link(url))
    with pytest.raises(GranuleError):
        catalogue.find_by_time("L1B", *DAY, None, patience)


@pytest.mark.parametrize(
    "changes",
    [
        link(f"http://{DATA}/{NAME}"),
        link(f"s3://{DATA}/{NAME}"),
        link(f"https://{DATA}/{NAME}.md5"),
        link(f"https://{DATA}/{NAME}", "GET RELATED VISUALIZATION"),
        {"RelatedUrls": []},
    ],
)
def test_links_to_other_things_are_left_out(
    archives: Archives, patience: Patience, changes: dict[str, Any]
) -> None:
    archives.hold(**changes)
    assert catalogue.find_by_time("L1B", *DAY, None, patience) == []


@pytest.mark.parametrize(
    "changes",
    [
        {"RelatedUrls": None},
        {"RelatedUrls": [{}]},
        {"RelatedUrls": [3]},
        link(None),
        link(f"https://{DATA}/{NAME}") | {"DataGranule": []},
        {"DataGranule": {"ArchiveAndDistributionInformation": None}},
        {"DataGranule": {"ArchiveAndDistributionInformation": ["a"]}},
        {"listed": {"Checksum": "md5"}},
        {"listed": {"SizeInBytes": "many"}},
        {"listed": {"SizeInBytes": -5}},
        {"listed": {"Name": ["a"]}},
    ],
)
def test_entries_that_make_no_sense_are_errors_of_ours(
    archives: Archives, patience: Patience, changes: dict[str, Any]
) -> None:
    archives.hold(**changes)
    try:
        catalogue.find_by_time("L1B", *DAY, None, patience)
    except AtmonrError as error:
        assert "catalogue" in str(error)


@pytest.mark.parametrize(
    "answer", [b"<html>", b"[]", b"{}", b'{"items": 3}', b'{"items": [3]}', b'{"items": [{}]}']
)
def test_an_answer_that_is_no_list_of_granules_is_an_error(
    archives: Archives, patience: Patience, answer: bytes
) -> None:
    archives.faults[CMR] = [lambda handler, data: handler.answer(200, answer) or True] * 6
    with pytest.raises(StoreError, match=r"the catalogue .*answered something"):
        catalogue.find_by_time("L1B", *DAY, None, patience)


def test_a_busy_catalogue_is_asked_again(archives: Archives, patience: Patience, pauses: list[float]) -> None:
    archives.hold()
    archives.faults[CMR] = [status(429, Retry_After="3"), status(504)]
    assert names(catalogue.find_by_time("L1B", *DAY, None, patience)) == [NAME]
    assert pauses[0] == 3.0 and len(pauses) == 2


def test_a_catalogue_that_refuses_is_not_asked_again(archives: Archives, patience: Patience) -> None:
    archives.faults[CMR] = [status(400)]
    with pytest.raises(StoreError, match=f"{CMR} answered 400 Bad Request"):
        catalogue.find_by_time("L1B", *DAY, None, patience)
    assert len(archives.seen) == 1


def test_a_catalogue_without_network_is_given_up_in_the_end(
    archives: Archives, patience: Patience, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    with pytest.raises(StoreError, match="connection failed or broke off; gave up after 6 tries"):
        catalogue.find_by_time("L1B", *DAY, None, patience)


def test_a_certificate_that_is_not_trusted_names_the_remedy(
    archives: Archives, patience: Patience, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("REQUESTS_CA_BUNDLE")
    with pytest.raises(StoreError, match="set REQUESTS_CA_BUNDLE"):
        catalogue.find_by_time("L1B", *DAY, None, patience)


def test_a_footprint_has_times_and_an_outline(archives: Archives, patience: Patience) -> None:
    archives.hold(NAME.replace("V3", "V3_1"))  # found along with it, and another file
    assert catalogue.find_footprint(NAME, patience) is None
    archives.hold()
    footprint = catalogue.find_footprint(NAME, patience)
    assert footprint is not None
    assert footprint.start == datetime(2025, 6, 5, 16, 13, 56, tzinfo=UTC)
    assert (footprint.end - footprint.start).total_seconds() == 299
    ((outline,),) = footprint.geometry["coordinates"]  # type: ignore[misc]
    assert outline[0] == [-65, 10]
    assert catalogue.find_footprint(NAME.replace("13", "14"), patience) is None


def times(begin: object, end: object) -> dict[str, Any]:
    return {"TemporalExtent": {"RangeDateTime": {"BeginningDateTime": begin, "EndingDateTime": end}}}


@pytest.mark.parametrize(
    "changes",
    [
        times("2025-06-05T16:13:56Z", "2025-06-07T16:13:56Z"),
        times("2025-06-05T16:13:56Z", "2025-06-05T16:13:55Z"),
        times("2025-06-05T16:13:56", "2025-06-05T16:14:55"),
        times("2025-06-05T16:13:56Z", "2025-06-05T16:14:55"),
        times("2025-06-05T16:13:56Z", None),
        times("2025-06-05T16:13:56Z", "later"),
        {"SpatialExtent": {}},
        {"SpatialExtent": {"HorizontalSpatialDomain": {"Geometry": {}}}},
    ],
)
def test_a_footprint_of_impossible_time_or_place_is_refused(
    archives: Archives, patience: Patience, changes: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    archives.hold(**changes)
    monkeypatch.setattr("tests.store.fetch.archives._meets", lambda entry, asked: True)
    with pytest.raises(GranuleError, match=NAME):
        catalogue.find_footprint(NAME, patience)
