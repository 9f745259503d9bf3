"""The EarthCARE reader: gaps value by value, levels upwards, heights above the ellipsoid, clear refusals."""

from __future__ import annotations

import netCDF4
import numpy as np
import pytest

from atmonr.errors import GranuleError
from atmonr.sensors.earthcare import NO_CODE, read_profiles
from tests.sensors.earthcare_files import GEOID_M, LEVELS, NAME, PROFILES, make_variables, write_frame

EXTINCTION = "particle_extinction_coefficient_355nm"


@pytest.mark.parametrize("declare_fill", [True, False])
def test_values_go_up_and_gaps_stay_where_they_are(tmp_path, declare_fill):
    variables = make_variables()
    variables["height"][2, 5] = np.nan  # one level of one profile
    variables["height"][6] = np.nan  # a whole profile
    variables[EXTINCTION][3, 7] = np.nan
    variables["latitude"][8] = variables["longitude"][8] = np.nan
    variables["simple_classification"][1, 2] = np.nan
    profiles = read_profiles(write_frame(tmp_path / NAME, variables, declare_fill=declare_fill))
    assert dict(profiles.sizes) == {"profile": PROFILES, "level": LEVELS}
    for ours, theirs in (("height", "height"), ("extinction_per_m", EXTINCTION)):
        np.testing.assert_allclose(profiles[ours], variables[theirs][:, ::-1], rtol=1e-6)
    np.testing.assert_allclose(profiles["latitude"], variables["latitude"])
    assert profiles["simple_classification"][1, LEVELS - 1 - 2] == NO_CODE
    assert int((profiles["simple_classification"] == NO_CODE).sum()) == 1
    # The lowest levels lie below the surface and the ellipsoid; nothing is dropped for it.
    assert float(profiles["height"].min()) < -1_000.0
    assert int(profiles["height"].isnull().sum()) == LEVELS + 1


def test_times_are_seconds_since_1970(tmp_path):
    profiles = read_profiles(write_frame(tmp_path / NAME))
    assert np.datetime64(int(profiles["time"][0]), "s") == np.datetime64("2025-06-05T16:14:00")
    assert profiles["time"].attrs["units"].startswith("seconds since 1970-01-01")


@pytest.mark.parametrize("levels", [241, 242])
def test_sizes_come_from_the_file(tmp_path, levels):
    profiles = read_profiles(write_frame(tmp_path / NAME, make_variables(levels=levels)))
    assert profiles.sizes["level"] == levels


def test_levels_stored_upwards_stay_so(tmp_path):
    variables = make_variables()
    upwards = {name: v[:, ::-1] if v.ndim == 2 else v for name, v in variables.items()}
    down, up = (
        read_profiles(write_frame(tmp_path / f"{way}_{NAME}", values))
        for way, values in (("down", variables), ("up", upwards))
    )
    assert down.drop_attrs().identical(up.drop_attrs())


@pytest.mark.parametrize("place", [(-50.0, 179.99), (18.0, -180.0), (-89.0, 90.0)])
def test_longitudes_are_wrapped(tmp_path, place):
    variables = make_variables(latitude=place[0], longitude=place[1])
    expected = variables["longitude"].copy()
    variables["longitude"] = variables["longitude"] % 360.0  # some files count from 0 to 360
    longitude = read_profiles(write_frame(tmp_path / NAME, variables))["longitude"].to_numpy()
    np.testing.assert_allclose(longitude, expected, atol=1e-9)
    assert longitude.min() >= -180.0 and longitude.max() < 180.0


@pytest.mark.parametrize("above_geoid", [False, True])
def test_the_surface_is_above_the_ellipsoid_whatever_the_file_counts_from(tmp_path, above_geoid):
    variables = make_variables()
    variables["elevation"] = variables["elevation"] - (GEOID_M if above_geoid else 0.0)
    surface = read_profiles(write_frame(tmp_path / NAME, variables))["surface_height"]
    np.testing.assert_allclose(surface, np.where(np.arange(PROFILES) < 4, GEOID_M, GEOID_M + 70.0))
    assert ("geoid_offset" in surface.attrs["datum"]) == above_geoid


def test_what_is_optional_may_be_missing(tmp_path):
    optional = ("quality_status", "simple_classification", "elevation", "geoid_offset", "land_flag")
    path = write_frame(tmp_path / NAME, omit=(*optional, EXTINCTION + "_error"), file_type=None)
    assert set(read_profiles(path).data_vars) == {
        "time",
        "latitude",
        "longitude",
        "height",
        "extinction_per_m",
    }


def test_a_missing_geoid_leaves_the_datum_assumed(tmp_path):
    surface = read_profiles(write_frame(tmp_path / NAME, omit=("geoid_offset",)))["surface_height"]
    assert surface.attrs["datum"] == "WGS-84 ellipsoid (assumed)"


def _spoil(name: str, change) -> dict:
    variables = make_variables()
    change(variables[name])
    return {"variables": variables}


def _another_shape(file: netCDF4.Dataset) -> None:
    data = file["ScienceData"]
    data.renameVariable("time", "old")
    data.createVariable("time", "f8", ("JSG_height",))[:] = 1.0


FAULTS = {
    "another product": ({"file_type": "ATL_NOM_1B"}, "File_Type is 'ATL_NOM_1B'; expected 'ATL_EBD_2A'"),
    "no height": ({"omit": ("height",)}, "no variable ScienceData/height"),
    "no extinction": ({"omit": (EXTINCTION,)}, f"no variable ScienceData/{EXTINCTION}"),
    "time of another shape": ({"edit": _another_shape}, r"ScienceData/time has the shape \(12,\)"),
    "latitude": (_spoil("latitude", lambda v: v.__setitem__(3, 95.0)), "latitude has the value 95"),
    "height": (_spoil("height", lambda v: v.__setitem__((3, 0), 2e5)), "height has the value 200000"),
    "order": (_spoil("height", lambda v: v.__setitem__((3, 4), 99.0)), "height is not in order"),
    "all missing": (_spoil("time", lambda v: v.fill(np.nan)), "time is missing everywhere"),
}


@pytest.mark.parametrize(("options", "message"), FAULTS.values(), ids=FAULTS.keys())
def test_what_cannot_be_is_refused_by_name(tmp_path, options, message):
    path = write_frame(tmp_path / NAME, **options)
    with pytest.raises(GranuleError, match=message) as caught:
        read_profiles(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_files_that_are_no_frame_are_refused(tmp_path):
    nameless = write_frame(tmp_path / "frame.h5", file_type=None)
    empty, text = tmp_path / "empty.h5", tmp_path / "text.h5"
    empty.touch()
    text.write_text("no HDF5")
    cut = tmp_path / NAME
    cut.write_bytes(write_frame(tmp_path / "whole.h5").read_bytes()[:9000])
    for path in (nameless, empty, text, cut, tmp_path / "absent.h5", tmp_path):
        with pytest.raises(GranuleError, match="expected an EarthCARE ATL_EBD_2A file"):
            read_profiles(path)


def test_a_runaway_retrieval_is_missing_not_fatal(tmp_path):
    variables = make_variables()
    variables[EXTINCTION][0, 0] = 1e8
    extinction = read_profiles(write_frame(tmp_path / NAME, variables))["extinction_per_m"]
    assert np.isnan(extinction[0, -1]) and int(extinction.isnull().sum()) == 1


def test_the_bits_of_a_damaged_value_raise_no_warning(tmp_path):
    def signalling(file: netCDF4.Dataset) -> None:
        height = file["ScienceData/height"]
        height.set_auto_maskandscale(False)
        stored = height[:]
        stored.view(np.uint32)[0, 0] = 0x7FA00000
        height[:] = stored

    assert np.isnan(read_profiles(write_frame(tmp_path / NAME, edit=signalling))["height"][0, -1])
