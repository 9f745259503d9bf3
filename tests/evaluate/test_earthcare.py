"""An extract matched with a lidar frame: on both kinds of grid, anywhere on Earth, with clear refusals."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from scipy.interpolate import RegularGridInterpolator
from typer.testing import CliRunner

from atmonr.cli import app
from atmonr.errors import SceneError, UsageError
from atmonr.evaluate.session import evaluate
from atmonr.geo.frame import Frame
from atmonr.simulate import clouds
from atmonr.simulate.earthcare import simulate_frame
from atmonr.simulate.volume import write_truth as write_truth_file
from tests.sensors.earthcare_files import NAME, make_variables
from tests.sensors.earthcare_files import write_frame as write_file

PLACE = (18.01, -61.49)
EXTINCTION = "particle_extinction_coefficient_355nm"
PROFILES, LEVELS = 41, 90
# The lidar's first profile is measured at 16:14:00.
OBSERVED = {
    "time_coverage_start": "2025-06-05T16:13:56+00:00",
    "time_coverage_end": "2025-06-05T16:18:55+00:00",
}


def layer(low_m: float = 3_200.0, high_m: float = 4_000.0) -> Callable[..., np.ndarray]:
    """Cloud on whole cells of the extract (160 m) and of the lidar (100 m)."""
    return lambda lat, lon, h, x, y: np.where((h > low_m) & (h < high_m), 2e-3, 0.0)


def frame_variables(function: Callable[..., np.ndarray], place: tuple[float, float]) -> dict[str, np.ndarray]:
    """A track from 20 km north-east of a place to 20 km south-west, with the lowest heights missing here and
    there."""
    variables = make_variables(PROFILES, LEVELS)
    aside = np.arange(20, -21, -1) * 1_000.0 * np.sqrt(0.5)
    frame = Frame(*place, (-1.0, -1.0, 0.0), (1.0, 1.0, 1.0))
    latitude, longitude, _ = frame.to_geodetic(np.stack([aside, aside, 0.0 * aside], -1))
    height = np.tile(50.0 + 100.0 * np.arange(LEVELS - 1, -1, -1), (PROFILES, 1)) - 200.0
    extinction = function(latitude, longitude, height, aside[:, None], aside[:, None])
    height[::4, -1] = np.nan
    good = np.zeros(height.shape)
    variables |= {"latitude": latitude, "longitude": longitude, "height": height, EXTINCTION: extinction}
    return variables | {"elevation": aside * 0.0, "quality_status": good, "simple_classification": good}


@pytest.fixture
def write_frame(tmp_path: Path) -> Callable[..., Path]:
    def write(function=None, place=PLACE, **changed: np.ndarray) -> Path:
        return write_file(tmp_path / NAME, frame_variables(function or layer(), place) | changed)

    return write


@pytest.fixture
def score(write_extract, write_frame, tmp_path) -> Callable[..., dict]:
    def run(function=None, *, place=PLACE, frame=None, attrs=OBSERVED, step_m=640.0, **options) -> dict:
        made = write_extract(function or layer(), *place, attrs=attrs, step_m=step_m, top_m=5_120.0)
        path = frame or write_frame(place=place)
        out = tmp_path / "match.json"
        out.unlink(missing_ok=True)
        given = {"truth": None, "run": None, "pictures": None} | options
        return evaluate(made, out=out, earthcare=path, **given)["earthcare"]

    return run


def write_curtain(path: Path, frame: Path, some: slice, **changed: float) -> Path:
    """What `atmonr extract --grid curtain` and merge make of a perfect field: levels upwards, level first."""
    with xr.open_dataset(frame, group="ScienceData") as file:
        height = file["height"].values[some, ::-1].astype("f8") + changed.get("raised_m", 0.0)
        values = np.where(np.isnan(height), np.nan, file[EXTINCTION].values[some, ::-1])
        place = {name: ("profile", file[name].values[some]) for name in ("latitude", "longitude")}
    dims = ("band", "level", "profile")
    xr.Dataset(
        {"extinction": (dims, np.stack([values.T, 3 * values.T]).astype("f4"))},
        place
        | {
            "z": (dims[1:], height.T),
            "profile": np.arange(PROFILES, dtype=np.int32)[some],
            "wavelength": ("band", [440.0, 865.0]),
        },
        OBSERVED,
    ).to_netcdf(path)
    return path


@pytest.mark.parametrize(
    "place", [PLACE, (-50.0, 180.0), pytest.param((89.95, 30.0), marks=pytest.mark.slow)]
)
def test_the_same_cloud_scores_perfectly_anywhere(score, place):
    scores = score(place=place)
    # The extract is 16 km wide, the track crosses it diagonally: 22.6 km.
    assert scores["match"]["profiles"] == 23
    assert scores["match"]["first_profile"] == 9
    assert scores["match"]["length_km"] == pytest.approx(22.0, rel=1e-3)
    assert scores["match"]["time_offset_s"] == 0.0
    assert scores["cloud_mask"]["iou"] == 1.0
    assert scores["extinction"]["epsilon"] < 1e-6
    assert scores["cloud_top"]["rmse_m"] == 0.0
    assert scores["cloud_top"]["samples"] == 23


def test_a_cloud_elsewhere_scores_worse(score):
    high, aside = (
        score(layer(3_520.0, 4_320.0)),
        score(lambda lat, lon, h, x, y: layer()(0, 0, h, 0, 0) * (x > 0)),
    )
    assert high["cloud_top"]["bias_m"] == pytest.approx(320.0, abs=50.0)
    assert high["cloud_mask"]["iou"] < 0.6
    assert 0.4 < aside["cloud_mask"]["iou"] < 0.6
    assert aside["cloud_top"]["rmse_m"] == 0.0
    assert aside["cloud_top"]["profiles_cloudy_in_lidar_only"] > 8


@pytest.mark.parametrize("place", [PLACE, pytest.param((-50.0, 180.0), marks=pytest.mark.slow)])
def test_a_curtain_of_that_file_is_taken_as_it_is(write_frame, tmp_path, place):
    frame = write_frame(place=place)
    curtain = write_curtain(tmp_path / "curtain.nc", frame, slice(7, 33))
    score = evaluate(curtain, truth=None, run=None, out=tmp_path / "s.json", pictures=None, earthcare=frame)
    scores = score["earthcare"]
    assert scores["extract_wavelengths_nm"] == [440.0]  # the band nearest to 355 nm
    assert (scores["match"]["first_profile"], scores["match"]["last_profile"]) == (7, 32)
    assert scores["extinction"]["epsilon"] < 1e-6 and scores["cloud_mask"]["iou"] == 1.0
    assert scores["cloud_top"]["samples"] == 26
    # A level that some profiles lack is kept in the others.
    assert scores["excluded"]["no_height"]["cells"] == 7
    assert scores["extinction"]["samples"] > 26 * 80


def test_a_curtain_of_another_file_and_one_against_a_truth_are_refused(write_frame, write_truth, tmp_path):
    frame = write_frame()
    other = write_curtain(tmp_path / "other.nc", frame, slice(7, 33), raised_m=30.0)
    options = {"run": None, "out": tmp_path / "s.json", "pictures": None, "earthcare": frame}
    with pytest.raises(SceneError, match=r"other\.nc: its profiles are not those of ECA_.*h5; expected"):
        evaluate(other, truth=None, **options)
    with pytest.raises(UsageError, match="lidar's profiles"):
        evaluate(other, truth=write_truth(), **options)
    assert not (tmp_path / "s.json").exists()


def test_a_frame_that_passes_elsewhere_is_refused(score, write_frame):
    elsewhere = write_frame(place=(-18.0, -61.49))
    with pytest.raises(SceneError, match=r"no profile lies inside .*extract\.nc; expected a track.*-17\.87"):
        score(frame=elsewhere)


def test_a_frame_that_passes_at_another_time_is_refused_unless_it_is_allowed(score):
    early = {name: text.replace("16:", "15:") for name, text in OBSERVED.items()}
    with pytest.raises(SceneError, match=r"passes 330\d s after the observation.*at most 300 s"):
        score(attrs=early)
    match = score(attrs=early, max_time_offset_s=4_000.0)["match"]
    # 15:18:55 to 16:14:00, and the middle of the matched profiles 3 s later.
    assert match["time_offset_s"] == pytest.approx(3_308.0, abs=0.1)
    assert match["max_time_offset_s"] == 4_000.0


@pytest.mark.slow
def test_an_unknown_time_is_told_not_guessed(score, tmp_path):
    assert score(attrs={})["match"]["time_offset_s"] is None
    json.loads((tmp_path / "match.json").read_text(), parse_constant=pytest.fail)


@pytest.mark.slow
def test_a_profile_without_heights_or_place_parts_the_match(score, write_frame):
    variables = frame_variables(layer(), PLACE)
    variables["height"][14] = np.nan
    variables["latitude"][30] = np.nan
    match = score(frame=write_frame(**variables))["match"]
    assert (match["first_profile"], match["last_profile"]) == (15, 29)


@pytest.mark.slow
def test_truth_and_lidar_together_and_their_pictures(score, write_truth, tmp_path):
    folder = tmp_path / "pictures"
    score(truth=write_truth(), pictures=folder)
    assert {"volume", "truth", "earthcare"} <= json.loads((tmp_path / "match.json").read_text()).keys()
    names = {path.name for path in folder.iterdir() if path.read_bytes().startswith(b"\x89PNG")}
    assert names == {
        "sections.png",
        "optical_depth.png",
        "profile.png",
        "earthcare_curtains.png",
        "earthcare_profiles.png",
    }


@pytest.mark.slow
@pytest.mark.parametrize("case", ["no cloud", "one profile", "a level that all lack", "nothing compared"])
def test_pictures_of_little_are_drawn_too(score, write_frame, tmp_path, case):
    variables = frame_variables(layer(), PLACE)
    if case == "no cloud":
        variables[EXTINCTION][:] = 0.0
    elif case == "one profile":
        variables["latitude"][:20] = variables["latitude"][21:] = np.nan
    elif case == "a level that all lack":
        variables["height"][:, 30] = np.nan
    else:
        variables["quality_status"][:] = 3.0
    score(frame=write_frame(**variables), pictures=tmp_path / "pictures")
    assert len(list((tmp_path / "pictures").iterdir())) == 2


@pytest.mark.slow
def test_the_command_line_takes_the_frame_and_shows_its_scores(write_extract, write_frame, tmp_path):
    options = ["--earthcare", str(write_frame()), "-o", str(tmp_path / "m.json")]
    extract = str(write_extract(layer(), *PLACE, attrs=OBSERVED))
    shown = CliRunner().invoke(app, ["evaluate", extract, *options])
    assert shown.exit_code == 0 and "earthcare.cloud_mask.iou" in shown.stdout
    assert json.loads((tmp_path / "m.json").read_text())["earthcare"]["cloud_mask"]["iou"] == 1.0


@pytest.mark.slow
def test_the_truth_itself_scores_well_beside_its_simulated_lidar(score, tmp_path):
    """An independent way from cloud to lidar: profiles are means over a kilometre, thick cloud hides."""
    cloud = clouds.build(clouds.preset_named("cumulus"), 48, 40, 320.0, *PLACE, 348.0, 7)
    write_truth_file(cloud, tmp_path / "cloud.nc", "granule.nc", 665.0)
    frame = simulate_frame(tmp_path / "cloud.nc", tmp_path, noise=0.05)
    axes = cloud.x_m, cloud.y_m, cloud.altitude_m
    sample = RegularGridInterpolator(axes, cloud.extinction_per_m, bounds_error=False, fill_value=0.0)

    def truth(lat, lon, h, x, y):
        return sample(cloud.from_frame(cloud.frame.from_geodetic(lat, lon, h)))

    same, aside = (
        score(function, frame=frame, step_m=160.0)
        for function in (truth, lambda *at: np.roll(truth(*at), 5, axis=2))
    )
    assert same["cloud_mask"]["iou"] > 0.85
    assert same["extinction"]["epsilon"] < 0.2
    assert same["cloud_top"]["rmse_m"] < 104.0  # one level of the lidar
    assert same["cloud_top"]["samples"] >= 4
    assert same["excluded"]["attenuated"]["cloudy_extract"] > 20
    assert aside["cloud_mask"]["iou"] < 0.5
    assert aside["extinction"]["epsilon"] > 0.6
