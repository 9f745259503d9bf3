"""From a preset or a truth file to a granule: end to end, checked by other means."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import netCDF4
import numpy as np
import pyproj
import pytest
import xarray as xr
from scipy.interpolate import RegularGridInterpolator, griddata
from scipy.stats import spearmanr

from atmonr.errors import SceneError, UsageError
from atmonr.simulate.session import simulate
from atmonr.simulate.volume import Volume, read_truth
from tests.simulate.places import ecef, line_of_sight

TRUTH = Path(__file__).resolve().parents[3] / "shared" / "truth"
SMALL = {"lines": 16, "pixels": 12, "seed": 1}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return simulate("cumulus", tmp_path_factory.mktemp("made"), **SMALL)


def reflectance(granule: Path) -> np.ndarray:
    """(V, L, P) by the formula of the format."""
    with netCDF4.Dataset(granule) as file:
        radiance = file["observation_data/i"][:].filled(np.nan)
        irradiance = file["sensor_views_bands/intensity_f0"][:].filled(np.nan)[:, None, None]
        mu0 = np.cos(np.radians(file["geolocation_data/solar_zenith_angle"][:].filled(np.nan)))
        return np.pi * radiance * file.sun_earth_distance**2 / (mu0 * irradiance)


def optical_depth_along_sight(granule: Path, truth: Path, view: int) -> np.ndarray:
    """(L, P) optical depth of the truth along every line of sight, with PROJ and SciPy alone.

    A truth file places its columns by latitude and longitude; an affine map takes these to its cells.
    """
    with xr.open_dataset(truth) as file:
        latitude, longitude = file["latitude"].to_numpy(), file["longitude"].to_numpy()
        altitude, extinction = file["altitude"].to_numpy(), file["extinction_coefficient"].to_numpy()
    cells = np.stack(np.meshgrid(*map(np.arange, latitude.shape), indexing="ij"), -1).reshape(-1, 2)
    design = np.stack([latitude.ravel(), longitude.ravel(), np.ones(latitude.size)], axis=-1)
    affine = np.linalg.lstsq(design, cells, rcond=None)[0]
    lookup = RegularGridInterpolator(
        (*map(np.arange, latitude.shape), altitude), extinction, bounds_error=False, fill_value=0.0
    )
    with netCDF4.Dataset(granule) as file:
        lat, lon, zenith, azimuth = (
            file[f"geolocation_data/{name}"][view].filled(np.nan).astype(float)
            for name in ("latitude", "longitude", "sensor_zenith_angle", "sensor_azimuth_angle")
        )
    direction = line_of_sight(lat, lon, zenith, azimuth)
    step_m = 0.25 * (altitude[1] - altitude[0])
    ends = altitude[[0, -1]] / np.cos(np.radians(np.nanmean(zenith)))
    back = pyproj.Transformer.from_crs("EPSG:4978", "EPSG:4979", always_xy=True)
    total = np.zeros(lat.shape)
    for length in np.arange(0.9 * ends[0], 1.1 * ends[1], step_m):
        points = ecef(lat, lon, 0.0) + length * direction
        x, y, z = back.transform(*np.moveaxis(points, -1, 0))
        where = np.stack([y, x, np.ones_like(x)], axis=-1) @ affine
        total += step_m * lookup(np.concatenate([where, z[..., None]], axis=-1))
    return total


@pytest.mark.parametrize("view", [10, 20, 39, 58, 69, 84])
def test_thick_lines_of_sight_through_the_truth_are_the_bright_ones(
    made: tuple[Path, Path], view: int
) -> None:
    depth, seen = optical_depth_along_sight(*made, view), reflectance(made[0])[view]
    assert spearmanr(depth.ravel(), seen.ravel())[0] > 0.85
    assert seen[depth > 5].min() > 5 * seen[depth < 1e-3].max()


def test_all_views_see_the_whole_cloud(made: tuple[Path, Path]) -> None:
    """The outermost lines and pixels of every view are clear."""
    seen = reflectance(made[0])
    assert seen.max() > 0.3
    rim = np.concatenate([seen[:, :, 0], seen[:, :, -1]], axis=1)
    assert rim.max() < 0.02


@pytest.mark.slow
def test_noise_is_relative_and_everything_repeats_with_the_seed(tmp_path: Path) -> None:
    noises = {"clean": 0.0, "first": 0.05, "again": 0.05}
    made = {
        name: simulate("stratocumulus", tmp_path / name, lines=9, pixels=9, noise=noise)
        for name, noise in noises.items()
    }
    clean, first, again = (reflectance(granule) for granule, _ in made.values())
    np.testing.assert_array_equal(first, again)
    truths = [read_truth(truth).extinction_per_m for _, truth in made.values()]
    np.testing.assert_array_equal(truths[0], truths[2])
    bright = clean > 0.02
    ratio = first[bright] / clean[bright]
    assert ratio.std() == pytest.approx(0.05, rel=0.1)
    assert ratio.mean() == pytest.approx(1.0, abs=0.005)


@pytest.mark.slow
def test_a_truth_file_as_volume_gives_the_picture_of_its_cloud(
    made: tuple[Path, Path], tmp_path: Path
) -> None:
    again = simulate(None, tmp_path, volume=made[1], lines=16, pixels=12)
    np.testing.assert_allclose(reflectance(again[0]), reflectance(made[0]), atol=2e-3)


def test_air_and_sea_light_up_the_clear_sky(tmp_path: Path) -> None:
    granule, truth = simulate("clear", tmp_path, lines=3, pixels=3, surface="ocean", rayleigh=True)
    seen = reflectance(granule)
    blue, green, red, infrared = seen[84].mean(), seen[4].mean(), seen[40].mean(), seen[74].mean()
    assert 0.11 < blue < 0.16 and 0.035 < red < 0.06
    assert blue > green > red > infrared > 0.01
    assert seen[80].mean() > 1.15 * blue
    assert not read_truth(truth).extinction_per_m.any()


def test_pictures_of_a_volume_hold_it_from_all_sides(box: Volume, tmp_path: Path) -> None:
    granule, _ = simulate(None, tmp_path, volume=replace(box, heading_deg=60.0), pixel_m=250.0)
    seen = reflectance(granule)
    assert seen.max() > 0.2
    assert max(seen[:, [0, -1]].max(), seen[:, :, [0, -1]].max()) < 0.02


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"preset": "cirrus"}, "preset 'cirrus': expected one of cumulus"),
        ({"surface": "snow"}, "surface 'snow': expected black, ocean or land"),
        ({"packing": "zip"}, "packing 'zip': expected one of float, packed, early"),
        ({"lines": 1}, "lines 1: expected at least 2"),
        ({"pixel_m": 0.0}, "pixel_m 0.0: expected more than 0"),
        ({"noise": -0.1}, "noise -0.1: expected 0 to 1"),
        ({"latitude_deg": 91.0}, "latitude_deg 91.0: expected -90 to 90"),
        ({"solar_zenith_deg": 88.0}, "solar_zenith_deg 88.0: expected 0 to 80"),
        ({"preset": None}, "either a preset or a volume"),
        ({"volume": Path("truth.nc")}, "either a preset or a volume"),
    ],
)
def test_what_makes_no_sense_is_refused_before_anything_is_written(
    tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    arguments: dict[str, Any] = {"preset": "cumulus", "lines": 4, "pixels": 4, **change}
    with pytest.raises(UsageError, match=message):
        simulate(arguments.pop("preset"), tmp_path / "out", **arguments)
    assert not (tmp_path / "out").exists()


def test_a_damaged_volume_is_refused(tmp_path: Path) -> None:
    (tmp_path / "bad.nc").write_bytes(b"CDF")
    with pytest.raises(SceneError, match=r"bad\.nc"):
        simulate(None, tmp_path / "out", volume=tmp_path / "bad.nc")


def test_an_output_is_never_written_over(made: tuple[Path, Path]) -> None:
    before = made[0].stat().st_mtime_ns
    with pytest.raises(UsageError, match="exists already"):
        simulate("cumulus", made[0].parent, **SMALL)
    assert made[0].stat().st_mtime_ns == before


@pytest.mark.slow
@pytest.mark.skipif(not TRUTH.exists(), reason="the independent granule is not beside this checkout")
def test_an_independent_solver_paints_nearly_the_same_picture(tmp_path: Path) -> None:
    """AT3D's radiances of a large-eddy simulation's cloud, against ours of the same cloud.

    AT3D knows Mie scattering, with a rainbow and a glory that two Henyey-Greenstein lobes do not have, so
    brightness as a whole may differ from view to view; the picture may not.
    """
    source = TRUTH / "PACE_HARP2.20250605T161356.L1B.V3.nc"
    granule, _ = simulate(None, tmp_path, volume=TRUTH / "rico122.truth.nc", lines=100, pixels=57)
    theirs, ours = reflectance(source), reflectance(granule)
    with netCDF4.Dataset(source) as a, netCDF4.Dataset(granule) as b:
        places = [
            [f[f"geolocation_data/{name}"][39].filled(np.nan) for name in ("latitude", "longitude")]
            for f in (a, b)
        ]
    valid = np.isfinite(theirs[39])
    points = np.stack([field.ravel() for field in places[1]], axis=-1)
    moved = griddata(points, ours[39].ravel(), tuple(field[valid] for field in places[0]), fill_value=0.0)
    assert spearmanr(moved, theirs[39][valid])[0] > 0.9
    assert 0.6 < moved.sum() / theirs[39][valid].sum() < 1.4
