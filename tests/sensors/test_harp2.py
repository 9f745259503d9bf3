"""The HARP2 reader: every layout that may be met, and a clear refusal of everything else."""

from __future__ import annotations

from pathlib import Path

import netCDF4
import numpy as np
import pytest

from atmonr.errors import GranuleError
from atmonr.sensors.granule import QUANTITIES
from atmonr.sensors.harp2 import open_harp2
from tests.sensors.granules import (
    ANGLES,
    IRRADIANCES,
    NAME,
    VIEW_ANGLES_DEG,
    WAVELENGTHS_NM,
    Layout,
    make_fields,
    write_granule,
)

NAMES = {name: "i" if name == "radiance" else name for name in QUANTITIES}
LAYOUTS = {
    "float32": Layout(),
    "packed": Layout(packed=True),
    "early": Layout(early=True),
    "angles with a wrong scale": Layout(scale_attribute_wrong=True),
    "fill value not declared": Layout(fill_attribute=False),
    "packed, fill value not declared": Layout(packed=True, fill_attribute=False),
}


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS.keys())
def test_every_layout_gives_the_same_values_units_and_gaps(tmp_path, layout):
    fields = make_fields()
    fields["i"][3, 2:4] = np.nan  # rows without data
    fields["latitude"][5, 7] = fields["longitude"][5, 7] = np.nan
    fields["i"][20, :, ::3] = np.nan  # a striped view
    fields["sensor_zenith_angle"][40] = np.nan  # a view without geometry
    with open_harp2(write_granule(tmp_path / NAME, fields, layout)) as granule:
        block = granule.read_lines(slice(None))
    for name, native in NAMES.items():
        assert block[name].dtype == np.float32
        assert block[name].dims == ("view", "line", "pixel")
        assert block[name].attrs["units"] == QUANTITIES[name].units
        np.testing.assert_allclose(block[name], fields[native], rtol=1e-6, atol=1e-6)


def test_packed_values_are_what_netcdf_itself_decodes(tmp_path):
    path = write_granule(tmp_path / NAME, layout=Layout(packed=True))
    with open_harp2(path) as granule, netCDF4.Dataset(path) as plain:
        radiance = granule.read_lines(slice(None), ["radiance"]).radiance.to_numpy()
        expected = plain["observation_data/i"][:].filled(np.nan)
    np.testing.assert_allclose(radiance, expected, rtol=1e-7)


def test_packed_radiance_of_a_real_file_decodes_to_the_published_digits(tmp_path):
    # Blue views of one pixel of a public notebook about granule 20240511T193044.
    printed = [137.1000061, 133.3000031, 125.3000031, 119.25, 107.9000015, 99.6500015, 107.9000015]
    fields = make_fields()
    fields["i"][80:87, 4, 5] = printed
    with open_harp2(write_granule(tmp_path / NAME, fields, Layout(packed=True))) as granule:
        got = granule.read_lines(slice(4, 5), ["radiance"]).radiance[80:87, 0, 5]
    np.testing.assert_allclose(got, printed, rtol=1e-7)


def test_identity_and_table_of_views_come_from_the_file(tmp_path):
    with open_harp2(write_granule(tmp_path / NAME)) as granule:
        assert granule.name == "PACE_HARP2.20250605T161356"
        assert granule.shape == (90, 12, 9)
        assert granule.time_start.isoformat() == "2025-06-05T16:13:56+00:00"
        assert granule.time_end.isoformat() == "2025-06-05T16:18:55+00:00"
        assert granule.sun_earth_distance == pytest.approx(1.0146)
        np.testing.assert_allclose(granule.view_angle_deg, VIEW_ANGLES_DEG, rtol=1e-6)
        np.testing.assert_allclose(granule.wavelength_nm, WAVELENGTHS_NM, rtol=1e-6)
        np.testing.assert_array_equal(granule.solar_irradiance, IRRADIANCES)
        np.testing.assert_allclose(granule.band_wavelength_nm, [440.16, 549.57, 664.57, 865.63], rtol=1e-6)
        np.testing.assert_array_equal(granule.band, np.repeat([1, 2, 3, 0], [10, 60, 10, 10]))
        assert granule.optional == ("q", "u", "time")
        assert granule.notes == ()


def test_bands_are_found_from_nominal_wavelengths_that_differ_within_a_band(tmp_path):
    nominal = np.repeat([549.0, 669.0, 873.0, 441.0], [10, 60, 10, 10])
    nominal[10:20] = 664.6

    def other_wavelengths(file: netCDF4.Dataset) -> None:
        file["sensor_views_bands/intensity_wavelength"][:] = nominal

    with open_harp2(write_granule(tmp_path / NAME, edit=other_wavelengths)) as granule:
        np.testing.assert_array_equal(granule.band, np.repeat([1, 2, 3, 0], [10, 60, 10, 10]))
        np.testing.assert_allclose(granule.band_wavelength_nm, [441.0, 549.0, 669.0, 873.0])


def test_missing_optional_variables_are_replaced_and_noted(tmp_path):
    with open_harp2(write_granule(tmp_path / NAME, layout=Layout(early=True))) as granule:
        assert granule.optional == ()
        np.testing.assert_array_equal(granule.solar_irradiance, IRRADIANCES)
        # 5 June: an almanac gives 1.0147 au.
        assert granule.sun_earth_distance == pytest.approx(1.0147, abs=2e-4)
        assert [note.split(" ")[0] for note in granule.notes] == [
            "sensor_views_bands/intensity_f0",
            "sun_earth_distance",
        ]


def test_a_wrong_scale_is_noted(tmp_path):
    with open_harp2(write_granule(tmp_path / NAME, layout=Layout(scale_attribute_wrong=True))) as granule:
        assert "scale factors" in granule.notes[0]
        assert all(name in granule.notes[0] for name in ANGLES)


@pytest.mark.parametrize("reverse_lines", [False, True])
@pytest.mark.parametrize("reverse_pixels", [False, True])
@pytest.mark.parametrize("centre", [(18.0, -61.5), (-50.0, 180.0), (65.0, 90.0)])
def test_reversed_lines_and_pixels_are_undone_and_remembered(tmp_path, centre, reverse_lines, reverse_pixels):
    fields = make_fields(centre=centre)
    fields["i"][:, 0, 0] = np.nan
    order = np.s_[:, :: -1 if reverse_lines else 1, :: -1 if reverse_pixels else 1]
    path = write_granule(tmp_path / NAME, {name: values[order] for name, values in fields.items()})
    with open_harp2(path) as granule:
        assert granule.flipped == (reverse_lines, reverse_pixels)
        block = granule.read_lines(slice(3, 12))
        np.testing.assert_allclose(block.latitude, fields["latitude"][:, 3:12], rtol=1e-6)
        np.testing.assert_allclose(granule.read_lines(slice(0, 3)).radiance, fields["i"][:, :3], rtol=1e-6)
        seconds = np.diff(block.time[0])
        np.testing.assert_allclose(seconds, -0.4 if reverse_lines else 0.4, atol=1e-4)
        assert granule.notes == ()


@pytest.mark.parametrize("missing", [slice(0), slice(60, 141), slice(70, 230)])
def test_the_order_of_many_lines_is_found_wherever_they_have_places(tmp_path, missing):
    fields = make_fields(image=(300, 6))
    for name in ("latitude", "longitude"):
        fields[name][:, missing] = np.nan
    turned = {name: values[:, ::-1, ::-1] for name, values in fields.items()}
    for number, (given, flipped) in enumerate(((fields, (False, False)), (turned, (True, True)))):
        with open_harp2(write_granule(tmp_path / f"{number}.nc", given)) as granule:
            assert granule.flipped == flipped and granule.notes == ()


@pytest.mark.parametrize("latitude", [90.0, -90.0, 89.95])
def test_a_granule_over_a_pole_is_read_as_it_is(tmp_path, latitude):
    fields = make_fields(centre=(latitude, 20.0))
    with open_harp2(write_granule(tmp_path / NAME, fields)) as granule:
        assert granule.flipped == (False, False)
        np.testing.assert_allclose(granule.read_lines(slice(None)).latitude, fields["latitude"], rtol=1e-6)
    mirrored = {name: values[..., ::-1] for name, values in fields.items()}
    with open_harp2(write_granule(tmp_path / "mirrored.nc", mirrored)) as granule:
        assert granule.flipped == (False, True)


def test_longitudes_of_any_turn_come_out_from_minus_180_to_180(tmp_path):
    fields = make_fields(centre=(10.0, 180.0))
    expected = fields["longitude"].copy()
    fields["longitude"] = fields["longitude"] % 360.0
    with open_harp2(write_granule(tmp_path / NAME, fields)) as granule:
        longitude = granule.read_lines(slice(None)).longitude
    assert longitude.min() >= -180.0 and longitude.max() < 180.0
    np.testing.assert_allclose(longitude, np.where(expected >= 180, expected - 360, expected), atol=1e-4)


@pytest.mark.parametrize(
    ("stamp", "expected"),
    [
        ("2025-06-05T16:13:56", "2025-06-05T16:13:56+00:00"),
        ("2025-06-05T16:13:56.250Z", "2025-06-05T16:13:56.250000+00:00"),
        ("2025-06-05T16:13:56.25", "2025-06-05T16:13:56.250000+00:00"),
        ("not a time", "2025-06-05T16:13:56+00:00"),  # from the name of the file
    ],
)
def test_time_stamps_may_have_a_fraction_or_a_zone_or_be_missing(tmp_path, stamp, expected):
    path = write_granule(tmp_path / NAME, edit=lambda file: file.setncattr("time_coverage_start", stamp))
    with open_harp2(path) as granule:
        assert granule.time_start.isoformat() == expected


@pytest.mark.parametrize("per_view", [True, False])
def test_seconds_of_day_become_absolute_across_midnight(tmp_path, per_view):
    seconds = (86_398.0 + np.arange(12)) % 86_400.0

    def over_midnight(file: netCDF4.Dataset) -> None:
        file.time_coverage_start = "2024-05-19T23:59:58Z"
        file["navigation_data/seconds_of_day"][:] = seconds

    path = write_granule(tmp_path / NAME, layout=Layout(time_per_view=per_view), edit=over_midnight)
    with open_harp2(path) as granule:
        time = granule.read_lines(slice(None), ["time"]).time
    assert time.shape == (90, 12) and time.dtype == np.float64
    begin = np.datetime64("2024-05-19T23:59:58").astype("datetime64[s]").astype(float)
    np.testing.assert_allclose(time[7], begin + np.arange(12))


def test_times_of_an_unknown_shape_are_left_out_and_noted(tmp_path):
    def per_pixel(file: netCDF4.Dataset) -> None:
        file["navigation_data"].createVariable("seconds_of_day", "f8", ("swath_pixels",))

    path = write_granule(tmp_path / NAME, layout=Layout(omit=("seconds_of_day",)), edit=per_pixel)
    with open_harp2(path) as granule:
        assert granule.optional == ("q", "u")
        assert "times are left out" in granule.notes[0]


@pytest.mark.parametrize(
    "name",
    [
        "PACE_HARP2.20250605T161356.L1B.nc",
        "PACE_HARP2.20250605T161356.L1B.V3.nc",
        "PACE_HARP2.20250605T161356.L1B.V3.NRT.nc",
    ],
)
def test_names_of_all_versions_give_one_granule_name(tmp_path, name):
    with open_harp2(write_granule(tmp_path / name)) as granule:
        assert granule.name == "PACE_HARP2.20250605T161356"


def test_a_block_of_lines_is_a_part_of_the_whole_and_names_can_be_chosen(tmp_path):
    with open_harp2(write_granule(tmp_path / NAME)) as granule:
        whole, block = granule.read_lines(slice(None)), granule.read_lines(slice(5, 8), ["latitude", "q"])
    assert set(block.data_vars) == {"latitude", "q"}
    np.testing.assert_array_equal(block.line, [5, 6, 7])
    np.testing.assert_array_equal(block.q, whole.q[:, 5:8])


def test_azimuths_from_sensor_to_pixel_are_noted(tmp_path):
    fields = make_fields()
    fields["sensor_azimuth_angle"] = (fields["sensor_azimuth_angle"] + 360.0) % 360.0 - 180.0
    with open_harp2(write_granule(tmp_path / NAME, fields)) as granule:
        assert "sensor_azimuth_angle" in granule.notes[0]


def _set(name: str, value: float):
    def edit(file: netCDF4.Dataset) -> None:
        file[name][:] = value

    return edit


BAD = {
    "title of another product": (lambda f: f.setncatts({"title": "OCI", "instrument": "OCI"}), "OCI"),
    "title of level 1C": (
        lambda f: f.setncattr("title", "PACE HARP2 Level-1C Data"),
        r"latitude has the shape .*expected \(rows, columns\)",
    ),
    "level 2": (
        lambda f: f.setncatts({"title": "PACE HARP2 Level-2 Data", "processing_level": "L2"}),
        "Level-1B' or 'HARP2 Level-1C'",
    ),
    "no group of geolocation": (
        lambda f: f.renameGroup("geolocation_data", "x"),
        "geolocation_data/latitude",
    ),
    "no table of views": (lambda f: f.renameGroup("sensor_views_bands", "x"), "sensor_view_angle"),
    "wavelength of no band": (_set("sensor_views_bands/intensity_wavelength", 500.0), "500|blue"),
    "negative irradiance": (_set("sensor_views_bands/intensity_f0", -1.0), "intensity_f0"),
    "view angle missing": (_set("sensor_views_bands/sensor_view_angle", -32767.0), "sensor_view_angle"),
    "impossible distance of the sun": (lambda f: f.setncattr("sun_earth_distance", 9.0), "0.98 to 1.02"),
}


@pytest.mark.parametrize(("edit", "words"), BAD.values(), ids=BAD.keys())
def test_a_file_with_a_fault_is_refused_when_opened(tmp_path, edit, words):
    path = write_granule(tmp_path / NAME, edit=edit)
    with pytest.raises(GranuleError, match=words) as refusal:
        open_harp2(path)
    _assert_one_line_about(refusal.value, path)


@pytest.mark.parametrize("name", ["i", "latitude", "surface_altitude", "intensity_wavelength"])
def test_a_missing_variable_is_named(tmp_path, name):
    path = write_granule(tmp_path / NAME, layout=Layout(omit=(name,)))
    with pytest.raises(GranuleError, match=f"has no variable .*/{name}") as refusal:
        open_harp2(path)
    _assert_one_line_about(refusal.value, path)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("sensor_zenith_angle", 120.0),
        ("sensor_zenith_angle", -5.0),
        ("sensor_azimuth_angle", 400.0),
        ("solar_zenith_angle", 181.0),
        ("latitude", 91.0),
        ("longitude", -190.0),
        ("surface_altitude", 20_000.0),
    ],
)
def test_impossible_values_are_refused_when_read(tmp_path, name, value):
    fields = make_fields()
    fields[name][30, 6, 2] = value
    path = write_granule(tmp_path / NAME, fields)
    with pytest.raises(GranuleError, match=name) as refusal, open_harp2(path) as granule:
        granule.read_lines(slice(None))
    _assert_one_line_about(refusal.value, path)


def test_dimensions_of_another_shape_are_refused(tmp_path):
    def flat_latitude(file: netCDF4.Dataset) -> None:
        file["geolocation_data"].createVariable("latitude", "f4", ("swath_lines", "swath_pixels"))

    with pytest.raises(GranuleError, match="geolocation_data/latitude has the shape"):
        open_harp2(write_granule(tmp_path / NAME, layout=Layout(omit=("latitude",)), edit=flat_latitude))

    def short_radiance(file: netCDF4.Dataset) -> None:
        file["observation_data"].createVariable("i", "f4", ("views", "swath_lines"))

    with pytest.raises(GranuleError, match="observation_data/i has the shape"):
        open_harp2(write_granule(tmp_path / "b.nc", layout=Layout(omit=("i",)), edit=short_radiance))


def test_text_in_place_of_numbers_is_refused(tmp_path):
    def text(file: netCDF4.Dataset) -> None:
        file["observation_data"].createVariable("i", str, ("views", "swath_lines", "swath_pixels"))

    with pytest.raises(GranuleError, match=r"observation_data/i has type .*expected numbers"):
        open_harp2(write_granule(tmp_path / NAME, layout=Layout(omit=("i",)), edit=text))


@pytest.mark.parametrize(
    "content", [b"", b"not a netCDF file at all" * 100, b"\x89HDF\r\n\x1a\n" + bytes(500)]
)
def test_what_is_not_netcdf_is_refused(tmp_path, content):
    path = tmp_path / NAME
    path.write_bytes(content)
    with pytest.raises(GranuleError, match="not readable as netCDF-4") as refusal:
        open_harp2(path)
    _assert_one_line_about(refusal.value, path)


def test_a_missing_file_and_a_folder_are_refused(tmp_path):
    for path in (tmp_path / "none.nc", tmp_path):
        with pytest.raises(GranuleError, match="no such file") as refusal:
            open_harp2(path)
        _assert_one_line_about(refusal.value, path)


@pytest.mark.parametrize("kept", [0.3, 0.6, 0.9, 0.999])
def test_a_truncated_file_is_refused(tmp_path, kept):
    path = write_granule(tmp_path / NAME)
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content))])
    with pytest.raises(GranuleError) as refusal, open_harp2(path) as granule:
        granule.read_lines(slice(None))
    _assert_one_line_about(refusal.value, path)


def test_the_file_is_closed_after_use_and_after_a_refusal(tmp_path, monkeypatch):
    opened: list[netCDF4.Dataset] = []
    real = netCDF4.Dataset

    def remember(*args, **kwargs):
        opened.append(real(*args, **kwargs))
        return opened[-1]

    good = write_granule(tmp_path / NAME)
    bad = write_granule(tmp_path / "bad.nc", layout=Layout(omit=("i",)))
    monkeypatch.setattr(netCDF4, "Dataset", remember)
    with open_harp2(good):
        pass
    with pytest.raises(GranuleError):
        open_harp2(bad)
    assert len(opened) == 2 and not any(file.isopen() for file in opened)


def test_the_independent_granule_is_read_as_plain_netcdf_reads_it():
    path = Path(__file__).resolve().parents[3] / "shared" / "truth" / NAME
    if not path.is_file():
        pytest.skip("the independent granule is not beside this checkout")
    with open_harp2(path) as granule, netCDF4.Dataset(path) as plain:
        assert granule.shape == (90, 145, 57) and granule.flipped == (False, False)
        block = granule.read_lines(slice(None))
        for name, native in NAMES.items():
            group = "observation_data" if name == "radiance" else "geolocation_data"
            np.testing.assert_array_equal(block[name], plain[group][native][:].filled(np.nan))


def _assert_one_line_about(error: GranuleError, path: Path) -> None:
    assert str(path) in str(error)
    assert "\n" not in str(error)
    assert "expected" in str(error)
