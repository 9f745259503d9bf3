"""What every reader of every sensor must do with every layout of its files.

A new reader joins by adding its layouts to `CASES`: a writer of the fields of `make_fields`, the function
that opens what it wrote, and the optional variables that must come out.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import netCDF4
import numpy as np
import pytest
import xarray as xr

from atmonr.errors import GranuleError
from atmonr.sensors.granule import OPTIONAL_QUANTITIES, QUANTITIES, Granule
from atmonr.sensors.harp2 import open_harp2
from tests.sensors.granules import NAME, Layout, make_fields, write_granule
from tests.sensors.granules_l1c import NAME_L1C, STDEVS, LayoutL1C, quality, view_seconds, write_l1c

Fields = dict[str, np.ndarray]
POLARISED = ("q", "u")
GRIDDED = (*POLARISED, "radiance_stdev", "q_stdev", "u_stdev", "observations", "quality", "time")


@dataclass(frozen=True)
class Case:
    """A layout of files: how they are written, opened, and what optional variables they hold."""

    name: str
    write: Callable[[Path, Fields], object]
    optional: tuple[str, ...]
    open: Callable[[Path], Granule] = open_harp2
    gridded: bool = False  # all views at the same places


def l1b(layout: Layout, optional: tuple[str, ...] = (*POLARISED, "time")) -> Case:
    return Case(NAME, lambda path, fields: write_granule(path, fields, layout), optional)


def l1c(layout: LayoutL1C, optional: tuple[str, ...] = GRIDDED) -> Case:
    def write(path: Path, fields: Fields) -> object:
        return write_l1c(path, fields, layout)

    return Case(NAME_L1C, write, optional, gridded=True)


CASES = {
    "L1B float": l1b(Layout()),
    "L1B packed": l1b(Layout(packed=True)),
    "L1B early": l1b(Layout(early=True), ()),
    "L1B wrong scale": l1b(Layout(scale_attribute_wrong=True)),
    "L1B fill not declared": l1b(Layout(packed=True, fill_attribute=False)),
    "L1C float": l1c(LayoutL1C()),
    "L1C packed": l1c(LayoutL1C(packed=True, offsets_from_nadir=True)),
    "L1C early": l1c(LayoutL1C(early=True)),
    "L1C wrong scale": l1c(LayoutL1C(scale_attribute_wrong=True)),
    "L1C minimal": l1c(LayoutL1C(minimal=True), ()),
}


@pytest.fixture(params=CASES.values(), ids=CASES.keys())
def case(request: pytest.FixtureRequest) -> Case:
    return request.param


@pytest.fixture(
    params=[CASES["L1B packed"], CASES["L1C packed"], CASES["L1C early"]], ids=["L1B", "L1C", "early"]
)
def one_of_each(request: pytest.FixtureRequest) -> Case:
    return request.param


def with_gaps(case: Case) -> Fields:
    """Fields with all kinds of missing values that a layout can hold."""
    fields = make_fields()
    fields["i"][3, 2:4] = np.nan  # rows without data
    fields["i"][20, :, ::3] = np.nan  # a striped view
    fields["sensor_zenith_angle"][40] = np.nan  # a view without geometry
    views = slice(None) if case.gridded else 5
    fields["latitude"][views, 7] = fields["longitude"][views, 7] = np.nan
    return fields


def read(case: Case, path: Path, **options) -> xr.Dataset:
    with case.open(path) as granule:
        return granule.read_lines(slice(None), **options)


def test_values_units_types_and_gaps_are_canonical(tmp_path: Path, case: Case) -> None:
    fields = with_gaps(case)
    case.write(tmp_path / case.name, fields)
    with case.open(tmp_path / case.name) as granule:
        assert set(granule.optional) == set(case.optional)
        block = granule.read_lines(slice(None))
        begin, end = granule.time_start.timestamp(), granule.time_end.timestamp()
        assert granule.quality_flags == ({1: "saturation"} if "quality" in case.optional else {})
        assert granule.altitude_datum.off_ellipsoid_m > 0.0  # these files do not tell
    assert set(block.data_vars) == {*QUANTITIES, *case.optional}
    for name, quantity in {**QUANTITIES, **OPTIONAL_QUANTITIES}.items():
        if name not in block:
            continue
        values = block[name]
        assert values.dtype == (np.float64 if name == "time" else np.float32)
        assert values.dims == ("view", "line", "pixel")[: values.ndim]
        assert values.attrs["units"] == quantity.units
        assert not ((values < quantity.lower) | (values > quantity.upper)).any()
        assert not np.isinf(values).any()
    assert float(block.longitude.min()) >= -180.0 and float(block.longitude.max()) < 180.0
    for name in (*QUANTITIES, *(name for name in POLARISED if name in case.optional)):
        expected = fields["i" if name == "radiance" else name]
        np.testing.assert_allclose(block[name], expected, rtol=1e-6, atol=1e-6, err_msg=name)
    if "time" in block:
        assert float(block.time.min()) >= begin - 200.0 and float(block.time.max()) <= end + 200.0


def test_what_is_gridded_keeps_times_counts_flags_and_deviations(tmp_path: Path, case: Case) -> None:
    if "observations" not in case.optional:
        pytest.skip("this layout has none")
    case.write(tmp_path / case.name, make_fields())
    block = read(case, tmp_path / case.name)
    start = np.datetime64("2025-06-05T16:13:56").astype("datetime64[s]").astype(float)
    expected = np.broadcast_to((start + view_seconds(12))[:, :, None], (90, 12, 9))
    np.testing.assert_allclose(block.time, expected, atol=1e-4)
    np.testing.assert_array_equal(block.observations[:, 3, 4], np.arange(90))
    np.testing.assert_array_equal(block.quality, quality((12, 9)))
    for name, value in STDEVS.items():
        np.testing.assert_allclose(block["radiance_stdev" if name == "i_stdev" else name], value, rtol=1e-6)


@pytest.mark.parametrize("turn", [(-1, 1), (1, -1)])
def test_lines_go_north_and_pixels_east_whatever_the_file_does(
    tmp_path: Path, one_of_each: Case, turn: tuple[int, int]
) -> None:
    fields = make_fields(centre=(-40.0, 180.0))
    turned = {name: values[:, :: turn[0], :: turn[1]] for name, values in fields.items()}
    one_of_each.write(tmp_path / one_of_each.name, turned)
    with one_of_each.open(tmp_path / one_of_each.name) as granule:
        assert granule.flipped == (turn[0] < 0, turn[1] < 0)
        block = granule.read_lines(slice(2, 12))
    np.testing.assert_allclose(block.radiance, fields["i"][:, 2:12], rtol=1e-6)
    np.testing.assert_allclose(block.latitude, fields["latitude"][:, 2:12], rtol=1e-6)
    assert (np.diff(block.latitude[39], axis=0) > 0).all()


def test_a_pole_is_an_ordinary_place(tmp_path: Path, one_of_each: Case) -> None:
    fields = make_fields(centre=(-89.95, 20.0))
    one_of_each.write(tmp_path / one_of_each.name, fields)
    block = read(one_of_each, tmp_path / one_of_each.name)
    np.testing.assert_allclose(block.latitude, fields["latitude"], rtol=1e-6)
    np.testing.assert_allclose(block.radiance, fields["i"], rtol=1e-6)


def test_a_block_is_a_part_of_the_whole_and_belongs_to_the_caller(tmp_path: Path, one_of_each: Case) -> None:
    one_of_each.write(tmp_path / one_of_each.name, with_gaps(one_of_each))
    with one_of_each.open(tmp_path / one_of_each.name) as granule:
        whole = granule.read_lines(slice(None))
        part = granule.read_lines(slice(3, 8), views=slice(7, 31))
        for values in granule.read_lines(slice(3, 8)).data_vars.values():
            values.to_numpy()[:] = 1.0  # must not spoil what is read next
        fewer = granule.up_to_angle(45.0)
        some = fewer.read_lines(slice(3, 8), ["radiance"], views=slice(5, 20))
        kept = np.flatnonzero(np.abs(granule.view_angle_deg) <= 45.0)
        assert granule.read_lines(slice(3, 8)).equals(whole.isel(line=slice(3, 8)))
    assert part.equals(whole.isel(line=slice(3, 8), view=slice(7, 31)))
    np.testing.assert_array_equal(fewer.views, kept)
    assert some.equals(whole[["radiance"]].isel(line=slice(3, 8), view=kept[5:20]))


def test_what_is_missing_impossible_or_cut_short_is_named(tmp_path: Path, one_of_each: Case) -> None:
    fields = make_fields()
    path = tmp_path / one_of_each.name

    def refusal(*names: str) -> None:
        with pytest.raises(GranuleError) as error, one_of_each.open(path) as granule:
            granule.read_lines(slice(None))
        words = str(error.value)
        assert all(name in words for name in (str(path), "expected", *names)) and "\n" not in words

    fields["solar_zenith_angle"][30, 6, 2] = 185.0
    one_of_each.write(path, fields)
    refusal("solar_zenith_angle", "185")
    with netCDF4.Dataset(path, "a") as file:
        file.renameGroup("observation_data", "x")
    refusal("observation_data/i")
    path.write_bytes(path.read_bytes()[:5000])
    refusal()


def test_granules_are_closed(tmp_path: Path, one_of_each: Case) -> None:
    one_of_each.write(tmp_path / one_of_each.name, make_fields())
    with one_of_each.open(tmp_path / one_of_each.name) as granule:
        pass
    with pytest.raises((GranuleError, RuntimeError)):
        granule.read_lines(slice(None))
