"""EarthCARE frames are found in ESA's catalogue, by time, by name, and by the granule they cross."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from atmonr.errors import CredentialsMissing, GranuleError, StoreError
from atmonr.store.fetch import earthcare
from atmonr.store.fetch.credentials import secrets
from atmonr.store.fetch.download import download
from atmonr.store.fetch.session import find_matches
from atmonr.store.fetch.wire import Patience, Session
from atmonr.store.survey import BoundingBox
from tests.store.fetch.archives import (
    ELSEWHERE,
    FRAME,
    MAAP,
    MAAP_TOKEN,
    NAME,
    Archives,
    feature,
    netcdf_bytes,
    status,
)

pytestmark = pytest.mark.slow

DAY = (datetime(2025, 6, 5, tzinfo=UTC), datetime(2025, 6, 6, tzinfo=UTC))
CONTENT = netcdf_bytes(5000)


def test_the_catalogue_is_asked_for_product_time_and_place(archives: Archives, patience: Patience) -> None:
    archives.features = [feature(FRAME, CONTENT)]
    (file,) = earthcare.find_by_time(*DAY, BoundingBox(-65, 10, -55, 20), patience)
    assert (file.name, file.size_bytes, file.checksum) == (f"{FRAME}.h5", 5000, None)
    (request,) = archives.seen
    assert json.loads(request.body) == {
        "collections": ["EarthCAREL2Validated_MAAP"],
        "limit": 200,
        "filter-lang": "cql2-text",
        "filter": "\"product:type\"='ATL_EBD_2A'",
        "datetime": "2025-06-05T00:00:00Z/2025-06-06T00:00:00Z",
        "bbox": [-65, 10, -55, 20],
    }


def test_frames_that_cross_a_granule_are_sought_within_five_minutes(
    archives: Archives, patience: Patience
) -> None:
    archives.hold()
    archives.features = [feature(FRAME, CONTENT)]
    assert [file.name for file in find_matches(NAME, patience)] == [f"{FRAME}.h5"]
    asked = json.loads(archives.asked(MAAP)[0].body)
    assert asked["datetime"] == "2025-06-05T16:08:56Z/2025-06-05T16:23:55Z"
    assert asked["intersects"]["type"] == "MultiPolygon"
    assert asked["intersects"]["coordinates"][0][0][2] == [-55, 20]


def test_of_each_frame_the_newest_processing_is_meant(archives: Archives, patience: Patience) -> None:
    older = [FRAME.replace("EXBA", "EXAE").replace("20250721", "20260101"), FRAME.replace("0721", "0720")]
    other = FRAME.replace("05790E", "05790F")
    archives.features = [feature(name, CONTENT) for name in (older[0], FRAME, older[1], other)]
    assert [file.name for file in earthcare.find_by_time(*DAY, None, patience)] == [
        f"{FRAME}.h5",
        f"{other}.h5",
    ]


def test_a_name_means_that_frame_alone(archives: Archives, patience: Patience) -> None:
    archives.features = [feature(FRAME, CONTENT)]
    for name in (FRAME, f"{FRAME}.h5"):
        found = earthcare.find_by_name(name, patience)
        assert found is not None and found.name == f"{FRAME}.h5"
        assert json.loads(archives.seen[-1].body)["ids"] == [FRAME]
    assert earthcare.find_by_name(FRAME.replace("E.h5", "F.h5").replace("5790E", "5790F"), patience) is None


def answer_with(links: list[dict[str, Any]], features: list[dict[str, Any]]) -> Any:
    def fault(handler: Any, data: bytes) -> bool:
        handler.json({"features": features, "links": links})
        return True

    return fault


def test_pages_are_followed(archives: Archives, patience: Patience) -> None:
    following = {"rel": "next", "href": f"https://{MAAP}/catalogue/search?token=2"}
    other = FRAME.replace("05790E", "05790F")
    archives.faults[MAAP] = [
        answer_with([{"rel": "self"}, following], [feature(FRAME, CONTENT)]),
        status(502),
        answer_with([], [feature(other, CONTENT)]),
    ]
    assert len(earthcare.find_by_time(*DAY, None, patience)) == 2


def test_pages_do_not_lead_elsewhere_or_on_for_ever(
    archives: Archives, patience: Patience, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(earthcare, "_MOST_PAGES", 3)
    away = {"rel": "next", "href": f"https://{ELSEWHERE}/catalogue/search"}
    archives.faults[MAAP] = [answer_with([away], [])]
    with pytest.raises(GranuleError, match="another host"):
        earthcare.find_by_time(*DAY, None, patience)
    assert archives.asked(ELSEWHERE) == []
    again = {"rel": "next", "href": f"https://{MAAP}/catalogue/search"}
    archives.faults[MAAP] = [answer_with([again], [])] * 9
    with pytest.raises(StoreError, match="pages"):
        earthcare.find_by_time(*DAY, None, patience)


@pytest.mark.parametrize(
    "entry",
    [
        feature("../../etc/passwd", CONTENT),
        feature(f"{FRAME}/../../a", CONTENT),
        feature("ECA_EXBA_CPR_CD__2A_20250605T161500Z_20250721T105728Z_05790E", CONTENT),
        feature(FRAME, CONTENT, href=f"http://{MAAP}/a.h5"),
        feature(FRAME, CONTENT, href=7),
        feature(FRAME, CONTENT, href="https://["),
        feature(FRAME, CONTENT) | {"assets": {}},
        feature(FRAME, CONTENT) | {"assets": []},
        feature(FRAME, CONTENT) | {"id": None},
        {},
        3,
    ],
)
def test_entries_that_make_no_sense_are_refused(archives: Archives, patience: Patience, entry: Any) -> None:
    archives.features = [entry]
    with pytest.raises(GranuleError, match="catalogue"):
        earthcare.find_by_time(*DAY, None, patience)


def test_a_frame_comes_with_the_token_of_maap(
    archives: Archives, patience: Patience, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archives.features = [feature(FRAME, CONTENT)]
    archives.content[f"{FRAME}.h5"] = CONTENT
    (file,) = earthcare.find_by_time(*DAY, None, patience)
    with pytest.raises(CredentialsMissing, match="MAAP_TOKEN"):
        download(file, tmp_path / "data", Session(secrets()), patience)
    monkeypatch.setenv("MAAP_TOKEN", MAAP_TOKEN)
    path = download(file, tmp_path / "data", Session(secrets()), patience)
    assert path.read_bytes() == CONTENT
