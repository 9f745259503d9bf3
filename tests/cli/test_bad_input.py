"""Bad input, end to end: one line that names the file, the documented exit code, and nothing left behind."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import netCDF4
import numpy as np
import pytest
from typer.testing import CliRunner, Result

from atmonr.cli import app

SMALL = (
    "train.steps=2",
    "train.batch_rays=32",
    "train.device=cpu",
    "render.samples=8",
    "field.log2_table_size=8",
    "surface.log2_table_size=8",
)


def call(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def refused(result: Result, code: int, *names: str) -> bool:
    """Whether a command ended with a code and one line on stderr in which all names occur."""
    lines = result.stderr.splitlines()
    return result.exit_code == code and len(lines) == 1 and all(name in lines[0] for name in names)


def train(checkout: Path, scene: Path, run: Path, *more: str) -> Result:
    changes = [part for change in (*SMALL, *more) for part in ("--set", change)]
    config = checkout / "configs" / "instant_ngp.toml"
    return call("train", "-c", config, "--scene", scene, "--run", run, *changes, "-q")


@pytest.fixture(scope="session")
def granule(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A simulated granule of 8 x 6 pixels; its truth lies beside it."""
    folder = tmp_path_factory.mktemp("granule")
    result = call("simulate", "--preset", "cumulus", "--lines", 8, "--pixels", 6, "-o", folder / "made", "-q")
    assert result.exit_code == 0, result.output
    return Path(result.stdout.splitlines()[0])


@pytest.fixture(scope="session")
def scene(granule: Path) -> Path:
    path = granule.parent / "s.zarr"
    assert call("ingest", granule, "-o", path, "-q").exit_code == 0
    return path


@pytest.fixture(scope="session")
def run(scene: Path, checkout: Path) -> Path:
    path = scene.parent / "run"
    result = train(checkout, scene, path)
    assert result.exit_code == 0, result.output
    return path


@pytest.fixture(scope="session")
def parts(run: Path) -> Path:
    path = run.parent / "parts.zarr"
    steps = ("--horizontal-step-m", 2000, "--vertical-step-m", 2000)
    assert call("extract", "--run", run, *steps, "--device", "cpu", "-o", path, "-q").exit_code == 0
    return path


Edit = Callable[[netCDF4.Dataset], None]


def fill(name: str, value: float) -> Edit:
    def edit(file: netCDF4.Dataset) -> None:
        file[name][:] = np.float32(value)

    return edit


@pytest.mark.parametrize(
    ("edit", "says"),
    [
        (fill("observation_data/i", np.nan), "no usable ray"),
        (fill("observation_data/i", -1.0), "radiance above 0"),
        (fill("geolocation_data/latitude", np.nan), "no pixel has a latitude"),
        (fill("geolocation_data/sensor_zenith_angle", 500.0), "sensor_zenith_angle"),
        (fill("geolocation_data/solar_zenith_angle", 120.0), "no usable ray"),
        (lambda file: file.renameGroup("observation_data", "other"), "observation_data/i"),
        (lambda file: file.setncatts({"title": "x", "instrument": "x"}), "is not a PACE HARP2"),
    ],
)
def test_a_granule_with_bad_content(granule: Path, tmp_path: Path, edit: Edit, says: str) -> None:
    bad = tmp_path / "bad.nc"
    shutil.copy(granule, bad)
    with netCDF4.Dataset(bad, "a") as file:
        edit(file)
    assert refused(call("ingest", bad, "-o", tmp_path / "s.zarr"), 65, "bad.nc", says)
    assert list(tmp_path.iterdir()) == [bad]


def test_a_granule_whose_pixels_are_all_at_one_place(granule: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.nc"
    shutil.copy(granule, bad)
    with netCDF4.Dataset(bad, "a") as file:
        fill("geolocation_data/latitude", 10.0)(file)
        fill("geolocation_data/longitude", 10.0)(file)
    assert refused(call("ingest", bad, "-o", tmp_path / "s.zarr"), 65, "bad.nc", "latitude and longitude")
    assert list(tmp_path.iterdir()) == [bad]


@pytest.mark.parametrize("content", [b"", b"hello\n", None], ids=["empty", "text", "truncated"])
def test_a_granule_that_is_no_netcdf(granule: Path, tmp_path: Path, content: bytes | None) -> None:
    bad = tmp_path / "bad.nc"
    bad.write_bytes(granule.read_bytes()[:20_000] if content is None else content)
    assert refused(call("ingest", bad, "-o", tmp_path / "s.zarr"), 65, "bad.nc", "fetch it again")
    assert list(tmp_path.iterdir()) == [bad]


def test_existing_outputs_are_refused(granule: Path, scene: Path, run: Path, checkout: Path) -> None:
    assert refused(call("ingest", granule, "-o", scene), 2, "s.zarr", "exists already")
    assert refused(train(checkout, scene, run), 2, "run folder exists")
    assert refused(call("extract", "--run", run, "-o", scene), 2, "not an extraction")
    assert refused(call("merge", scene, "-o", granule), 2, "exists already")
    assert refused(call("simulate", "--preset", "cumulus", "-o", granule.parent), 2, "exists already")


def test_several_granules_are_not_written_into_a_scene(granule: Path, scene: Path) -> None:
    before = sorted(scene.iterdir())
    assert refused(call("ingest", granule, granule, "-o", scene), 2, "s.zarr", "choose a folder")
    assert sorted(scene.iterdir()) == before


def test_a_bad_granule_does_not_keep_others_from_being_ingested(granule: Path, tmp_path: Path) -> None:
    bad, missing = tmp_path / "bad.nc", tmp_path / "missing.nc"
    bad.write_bytes(granule.read_bytes()[:2000])
    (tmp_path / "scenes").mkdir()
    result = call("ingest", bad, granule, missing, "-o", tmp_path / "scenes", "-q")
    made = tmp_path / "scenes" / f"{granule.stem}.zarr"
    assert result.exit_code == 65
    assert result.stdout == f"{made}\n" and list((tmp_path / "scenes").iterdir()) == [made]
    lines = result.stderr.splitlines()
    assert lines[0] == "2 of 3 granules failed:"
    assert "bad.nc: not readable" in lines[1] and "missing.nc: no such file" in lines[2]


def test_resuming_what_is_not_this_run(scene: Path, run: Path, tmp_path: Path, checkout: Path) -> None:
    def resume(folder: Path, *more: str, of: Path = scene) -> Result:
        config = folder / "run.toml" if folder.exists() else run / "run.toml"
        changes = [part for change in more for part in ("--set", change)]
        return call("train", "-c", config, "--scene", of, "--run", folder, *changes, "--resume", "-q")

    assert refused(resume(tmp_path / "none"), 65, "none", "not a run folder")
    assert refused(resume(run, "train.seed=4"), 65, "train.seed was 0, now 4")
    other = tmp_path / "other.zarr"
    shutil.copytree(scene, other)
    assert refused(resume(run, of=other), 65, "made with scenes s; now other")
    damaged = tmp_path / "damaged"
    shutil.copytree(run, damaged)
    for checkpoint in damaged.rglob("*.pt"):
        checkpoint.write_bytes(checkpoint.read_bytes()[:1000])
    assert refused(resume(damaged, "train.steps=3"), 65, "step-00000002.pt", "damaged")


def test_extracting_without_a_checkpoint(run: Path, tmp_path: Path) -> None:
    copy, out = tmp_path / "run", tmp_path / "parts"
    shutil.copytree(run, copy)
    latest = copy / "scenes" / "s" / "checkpoints" / "latest"
    latest.write_text("step-00000099.pt\n")
    assert refused(call("extract", "--run", copy, "-o", out), 65, "latest", "names no checkpoint")
    latest.unlink()
    assert refused(call("extract", "--run", copy, "-o", out), 65, "latest", "no checkpoint")
    assert not out.exists()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--grid", "foo"), "unknown grid"),
        (("--horizontal-step-m", -5), "horizontal grid"),
        (("--horizontal-step-m", "nan"), "horizontal grid"),
        (("--vertical-step-m", 0), "vertical grid"),
        (("--max-height-m", "nan"), "--max-height-m"),
        (("--bbox", 0, 0, 1, 1), "no cell of the scene"),
    ],
)
def test_a_grid_that_makes_no_sense(
    run: Path, tmp_path: Path, options: tuple[object, ...], says: str
) -> None:
    assert refused(call("extract", "--run", run, "-o", tmp_path / "p", *options), 2, says)
    assert not list(tmp_path.iterdir())


def test_merging_damaged_parts(parts: Path, tmp_path: Path) -> None:
    def damaged(name: str, damage: Callable[[Path], None]) -> Result:
        copy = tmp_path / name
        shutil.copytree(parts, copy)
        damage(copy)
        return call("merge", copy, "-o", tmp_path / "e.nc")

    def shorten_plan(copy: Path) -> None:
        (copy / "plan.json").write_text('{"format": 1}')

    def flip(copy: Path) -> None:
        file = next(path for path in (copy / "extinction" / "c").rglob("*") if path.is_file())
        file.write_bytes(file.read_bytes()[:-1] + b"x")

    assert refused(damaged("holes", lambda copy: shutil.rmtree(copy / "receipts")), 65, "shards are missing")
    assert refused(damaged("flipped", flip), 65, "is damaged")
    assert refused(damaged("plan", shorten_plan), 65, "plan.json")
    assert refused(call("merge", tmp_path / "nothing", "-o", tmp_path / "e.nc"), 65, "nothing/plan.json")
    assert not (tmp_path / "e.nc").exists()


def test_scoring_against_what_is_no_truth(parts: Path, granule: Path, tmp_path: Path) -> None:
    extract, score = tmp_path / "e.nc", tmp_path / "score.json"
    assert call("merge", parts, "-o", extract).exit_code == 0
    truth = tmp_path / "truth.nc"
    shutil.copy(granule.parent / "truth.nc", truth)
    with netCDF4.Dataset(truth, "a") as file:
        file["longitude"][:] = file["longitude"][:] + 20.0

    def against(path: Path) -> Result:
        return call("evaluate", extract, "--truth", path, "-o", score)

    assert refused(against(truth), 65, "truth.nc", "same place")
    assert refused(against(tmp_path / "none.nc"), 65, "none.nc", "no such file")
    assert refused(against(granule), 65, granule.name, "latitude is missing")
    assert not score.exists()


def test_arguments_that_make_no_sense_are_one_line() -> None:
    assert refused(call("train"), 2, "Missing option", "atmonr", "train --help")
    assert refused(call("simulate", "--preset", "cumulus", "-o", "x", "--lines", 0), 2, "--lines")
    assert refused(call("nonsense"), 2, "nonsense")


def test_help_keeps_units_in_brackets() -> None:
    assert "[deg]" in call("simulate", "--help").stdout
