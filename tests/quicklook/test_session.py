"""One command draws everything, and says what it cannot draw."""

from __future__ import annotations

import matplotlib.image
import netCDF4
import numpy as np
import pytest
import xarray as xr
from PIL import Image
from typer.testing import CliRunner

from atmonr.cli import app
from atmonr.config import load
from atmonr.errors import SceneError, UsageError
from atmonr.quicklook.session import kind_of, quicklook
from atmonr.run import Run
from atmonr.sensors.harp2 import open_harp2
from atmonr.store.ingest import ingest
from tests.sensors.granules import NAME, make_fields, write_granule


def write_curtain(path, *, upward=True, bands=False):
    """A cloud from 3 to 5 km along a track over the dateline; some profiles lack heights or a place."""
    profile, level = np.arange(40), np.arange(30)
    longitude = (179.5 + 0.03 * profile + 180.0) % 360.0 - 180.0
    latitude = 60.0 + 0.05 * profile
    altitude = 300.0 * level[:, None] + 5.0 * profile
    extinction = np.where((altitude > 3000) & (altitude < 5000), 0.01, 0.0)
    altitude[:, 7], altitude[:4, 9], latitude[20] = np.nan, np.nan, np.nan
    if not upward:
        altitude, extinction = altitude[::-1], extinction[::-1]
    dims = ("level", "profile")
    values = (("band", *dims), np.stack([0 * extinction, extinction])) if bands else (dims, extinction)
    xr.Dataset(
        {
            "extinction": values,
            "z": (dims, altitude),
            "latitude": ("profile", latitude),
            "longitude": ("profile", longitude),
            **({"wavelength": ("band", [441.0, 669.0])} if bands else {}),
        },
        attrs={"frame": "{}"},
    ).to_netcdf(path)
    return path


def write_columns(path, *, bins):
    """The Level-1C bins of a swath over the dateline, or a window of latitude and longitude there."""
    rows, columns = np.arange(20), np.arange(30)
    dims = ("bins_along_track", "bins_across_track") if bins else ("latitude", "longitude")
    latitude, longitude = 59.0 + 0.05 * rows, 179.0 + 0.1 * columns
    if bins:
        latitude, longitude = latitude[:, None] + 0.01 * columns, longitude - 0.02 * rows[:, None]
    place = (dims, dims) if bins else (dims[0], dims[1])
    extinction = np.zeros((12, 20, 30))
    extinction[4:7, 5:12, 8:20] = 0.003
    extinction[:, :2] = np.nan
    values = {
        "extinction": (("z", *dims), extinction),
        "z": ("z", 250.0 + 500.0 * np.arange(12)),
        "latitude": (place[0], latitude),
        "longitude": (place[1], (longitude + 180.0) % 360.0 - 180.0),
    }
    xr.Dataset(values, attrs={"frame": "{}"}).to_netcdf(path)
    return path


@pytest.fixture
def make(checkout, tmp_path, write_extract, write_truth):
    """Make a file of a kind."""

    def granule():
        return write_granule(tmp_path / NAME, make_fields((40, 30), (0.0, 180.0)))

    def scene():
        with open_harp2(granule()) as opened:
            ingest(opened, tmp_path / "scene.zarr")
        return tmp_path / "scene.zarr"

    def run():
        made = Run.create(tmp_path / "run", load(checkout / "configs" / "nerf.toml"), {"a": {}}, {})
        for step in range(5):
            made.append_metrics("a", {"step": step, "loss": 1.0 / (step + 1)})
        return made.path

    def extract():
        return write_extract(lambda lat, lon, height, x, y: np.where(height < 4000, 1e-3, 0.0), step_m=800.0)

    makers = {
        "granule": granule,
        "scene": scene,
        "run": run,
        "extract": extract,
        "truth": write_truth,
        "columns": lambda: write_columns(tmp_path / "columns.nc", bins=True),
        "curtain": lambda: write_curtain(tmp_path / "curtain.nc"),
    }
    return lambda kind: makers[kind]()


def is_drawn(path) -> bool:
    """Whether a picture is larger than an icon and has many colours."""
    pixels = matplotlib.image.imread(path)[..., :3]
    return min(pixels.shape[:2]) > 300 and len(np.unique(pixels.reshape(-1, 3), axis=0)) > 50


@pytest.mark.parametrize("kind", ["granule", "run", "extract", "truth", "columns", "curtain"])
def test_a_file_says_what_it_is(make, kind):
    assert kind_of(make(kind)) == kind


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["granule", "scene", "run", "extract", "truth", "columns", "curtain"])
def test_every_kind_is_drawn(make, tmp_path, kind):
    path = make(kind)
    quicklook(path, tmp_path / "picture.png")
    assert is_drawn(tmp_path / "picture.png")
    with pytest.raises(UsageError, match="exists already"):
        quicklook(path, tmp_path / "picture.png")


@pytest.mark.slow
def test_columns_may_stand_on_latitude_and_longitude(tmp_path):
    quicklook(write_columns(tmp_path / "lattice.nc", bins=False), tmp_path / "picture.png")
    assert is_drawn(tmp_path / "picture.png")


@pytest.mark.slow
def test_a_curtain_looks_the_same_however_it_is_stored(tmp_path):
    for name, how in (("a", {}), ("b", {"upward": False, "bands": True})):
        (tmp_path / name).mkdir()
        quicklook(write_curtain(tmp_path / name / "c.nc", **how), tmp_path / f"{name}.png")
    a, b = (matplotlib.image.imread(tmp_path / f"{name}.png") for name in "ab")
    np.testing.assert_array_equal(a, b)


@pytest.mark.slow
def test_a_film_shows_red_views_there_and_back(make, tmp_path, monkeypatch):
    monkeypatch.setattr("atmonr.quicklook.granule.red_views", lambda source: [10, 39, 69])
    told = []
    quicklook(make("granule"), tmp_path / "film.gif", lambda done, total: told.append((done, total)))
    assert told == [(1, 3), (2, 3), (3, 3)]
    with Image.open(tmp_path / "film.gif") as film:
        assert film.n_frames == 4
        frames = []
        for number in range(4):
            film.seek(number)
            frames.append(np.asarray(film.convert("L"), float))
    assert np.abs(frames[0] - frames[1]).max() > 50
    np.testing.assert_allclose(frames[1], frames[3], atol=2)


def test_what_cannot_be_drawn_is_said(make, write_extract, tmp_path):
    (tmp_path / "text.nc").write_text("no netCDF")
    (tmp_path / "folder").mkdir()
    with netCDF4.Dataset(tmp_path / "other.nc", "w") as file:
        file.title = "<b>Something else</b>"
    for name, said in {
        "absent.nc": "no such file; expected a HARP2 granule",
        "text.nc": "not readable as netCDF-4; expected a HARP2 granule",
        "other.nc": "title is '<b>Something else</b>' and there is no variable extinction",
        "folder": "neither a scene nor a run",
    }.items():
        with pytest.raises(SceneError, match=said):
            quicklook(tmp_path / name, tmp_path / "picture.png")
    with pytest.raises(UsageError, match="no views to show"):
        quicklook(make("curtain"), tmp_path / "picture.gif")
    with pytest.raises(UsageError, match=r"ends in \.png, \.gif or \.mp4"):
        quicklook(tmp_path / "curtain.nc", tmp_path / "picture.jpg")
    assert not list(tmp_path.glob("*picture*"))


@pytest.mark.parametrize(
    ("kind", "spoil", "said"),
    [
        ("curtain", lambda d: d.drop_vars("latitude"), "variable latitude is missing"),
        ("curtain", lambda d: d.assign(z=d["z"][0]), "not as atmonr merge writes it"),
        ("curtain", lambda d: d.isel(profile=[20]), "at least 2 levels and 2 profiles"),
        ("curtain", lambda d: d.assign(extinction=d["extinction"].expand_dims(band=2)), "'wavelength'"),
        ("columns", lambda d: d.assign(latitude=d["latitude"] * np.nan), "no column has a place"),
        ("columns", lambda d: d.assign(latitude=("other", [1.0])), "not as atmonr merge writes it"),
        ("columns", lambda d: d.assign(z=-d["z"]), "ascending"),
    ],
)
def test_a_damaged_product_is_refused(make, tmp_path, kind, spoil, said):
    path = make(kind)
    with xr.open_dataset(path) as opened:
        spoilt = spoil(opened.load())
    spoilt.to_netcdf(tmp_path / "spoilt.nc")
    with pytest.raises(SceneError, match=said):
        quicklook(tmp_path / "spoilt.nc", tmp_path / "picture.png")
    assert not (tmp_path / "picture.png").exists()


def test_a_granule_without_light_is_refused(tmp_path):
    fields = make_fields()
    fields["i"][:] = np.nan
    with pytest.raises(SceneError, match="no pixel of these views"):
        quicklook(write_granule(tmp_path / NAME, fields), tmp_path / "picture.png")
    assert not (tmp_path / "picture.png").exists()


def test_the_command_names_its_picture_after_the_file(monkeypatch, tmp_path):
    drawn = []
    monkeypatch.setattr("atmonr.quicklook.session.quicklook", lambda *args: drawn.append(args[:2]))

    def call(*arguments):
        return CliRunner().invoke(app, ["quicklook", *map(str, arguments)])

    assert call(tmp_path / NAME, "--animate").stdout == f"{NAME[:-3]}.gif\n"
    assert call(tmp_path / "e.nc", "-o", tmp_path / "p.png").exit_code == 0
    assert [str(out) for _, out in drawn] == [f"{NAME[:-3]}.gif", str(tmp_path / "p.png")]
    refused = call("g.nc", "--animate", "-o", "p.png")
    assert refused.exit_code == 2 and "ends in .gif or .mp4" in refused.stderr
