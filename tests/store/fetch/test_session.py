"""Which files are meant, and what became of each of many."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import pytest

from atmonr.errors import CredentialsMissing, StoreError, UsageError
from atmonr.store.fetch.session import DEM, fetch, find_matches, find_named, find_product, state
from atmonr.store.fetch.wire import Patience
from tests.store.fetch.archives import DATA, FRAME, LOGIN, NAME, TOKEN, Archives, feature, status

pytestmark = pytest.mark.slow

OTHERS = [f"PACE_HARP2.20250605T16{minute}56.L1B.V3.nc" for minute in (18, 23)]


def test_names_of_all_kinds_are_found_once(archives: Archives, patience: Patience) -> None:
    archives.hold()
    l1c = "PACE_HARP2.20250605T161356.L1C.V3.5km.nc"
    archives.hold(l1c)
    archives.features = [feature(FRAME, b"x")]
    files = find_named([NAME, l1c, "ETOPO1_ocssw.nc", FRAME, NAME], patience)
    assert [file.name for file in files] == [NAME, l1c, "ETOPO1_ocssw.nc", f"{FRAME}.h5"]


@pytest.mark.parametrize(
    ("name", "says"),
    [
        (NAME, f"{NAME}: the catalogue has no such file"),
        (FRAME, f"{FRAME}: the catalogue has no such file"),
        ("../../etc/passwd", "expected a name such as PACE_HARP2"),
        ("PACE_HARP2.*.nc", "expected a name such as PACE_HARP2"),
    ],
)
def test_names_that_mean_nothing_are_refused(
    archives: Archives, patience: Patience, name: str, says: str
) -> None:
    with pytest.raises(UsageError, match=re.escape(says)):
        find_named([name], patience)


def test_a_date_means_all_of_that_day_and_longitudes_may_go_to_360(
    archives: Archives, patience: Patience
) -> None:
    archives.hold("PACE_HARP2.20250605T235950.L1B.V3.nc")
    assert len(find_product("L1B", "2025-06-05", "2025-06-05", (290, 10, 310, 20), patience)) == 1
    assert "bounding_box=-70.0,10.0,-50.0,20.0" in archives.seen[0].path
    find_product("L1B", "2025-06-05T23:50", "2025-06-06T01:00+00:30", None, patience)
    assert "2025-06-05T23:50:00Z,2025-06-06T00:30:00Z" in archives.seen[1].path


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("L1B", "yesterday", "2025-06-06", None), "'yesterday': expected a time such as"),
        (("L1B", "2025-13-01", "2025-06-06", None), "expected a time such as"),
        (("L1B", "2025-06-07", "2025-06-06", None), "--from 2025-06-07 is after --to"),
        (("L1B", None, "2025-06-06", None), "needs --from and --to"),
        (("L1B", "2025-06-05", None, None), "needs --from and --to"),
        (("L1B", "2025-06-05", "2025-06-06", (0, 20, 5, 10)), "bounding box 0,20,5,10"),
        (("L1C", "2025-06-05", "2025-06-06", None), "the catalogue has no L1C file"),
        (("ATL_EBD_2A", "2025-06-05", "2025-06-06", None), "the catalogue has no ATL_EBD_2A file"),
        (("DEM", "2025-06-05", None, None), "the DEM is one file"),
    ],
)
def test_wrong_times_and_places_are_refused(
    archives: Archives, patience: Patience, arguments: Any, says: str
) -> None:
    with pytest.raises(UsageError, match=says):
        find_product(*arguments, patience)


def test_the_dem_is_in_no_catalogue(patience: Patience) -> None:
    assert find_product("DEM", None, None, None, patience) == [DEM]


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("a.nc", "expected the name of a HARP2 granule"),
        (OTHERS[0], "no such file"),
        (NAME, "no EarthCARE frame"),
    ],
)
def test_matches_of_nothing_are_refused(archives: Archives, patience: Patience, name: str, says: str) -> None:
    archives.hold()
    with pytest.raises(UsageError, match=says):
        find_matches(name, patience)


def test_a_failure_does_not_stop_the_others(
    archives: Archives, patience: Patience, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EARTHDATA_TOKEN", TOKEN)
    for name in (NAME, *OTHERS):
        archives.hold(name)
    archives.faults[DATA] = [lambda handler, data: False, status(403)]
    steps: list[tuple[object, ...]] = []

    def progress(title: str) -> AbstractContextManager[Callable[..., None]]:
        steps.append((title,))
        return nullcontext(lambda *step: steps.append(step))

    files = find_named([NAME, *OTHERS], patience)
    outcomes = dict(fetch(files, tmp_path, patience, progress))
    assert [type(outcome) for outcome in outcomes.values()][1] is StoreError
    assert sorted(path.name for path in tmp_path.glob("*.nc")) == [NAME, OTHERS[1]]
    assert [step for step in steps if len(step) == 1][1] == (f"2/3 {OTHERS[0]}",)
    assert steps[-1] == (300_000, 300_000)


def test_refused_credentials_are_not_tried_for_the_other_files(
    archives: Archives, patience: Patience, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EARTHDATA_TOKEN", "expired")
    for name in (NAME, *OTHERS):
        archives.hold(name)
    files = find_named([NAME, *OTHERS], patience)
    with pytest.raises(CredentialsMissing, match="0 of 3 files are here"):
        list(fetch(files, tmp_path / "data", patience))
    assert len(archives.asked(DATA)) == 1 and archives.asked(LOGIN) == []


def test_what_is_here_is_told_without_asking(archives: Archives, patience: Patience, tmp_path: Path) -> None:
    data = archives.hold()
    (file,) = find_named([NAME], patience)
    assert state(file, tmp_path) == "to fetch"
    (tmp_path / f".{NAME}.part").write_bytes(bytes(2_500_000))
    assert state(file, tmp_path) == "begun, 2.5 MB"
    (tmp_path / NAME).write_bytes(data)
    assert state(file, tmp_path) == "here"
    (tmp_path / NAME).write_bytes(data[1:])
    assert state(file, tmp_path) == "here, of wrong size"
