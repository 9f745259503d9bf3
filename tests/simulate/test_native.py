"""The granule file, read back with plain netCDF4."""

from __future__ import annotations

from pathlib import Path

import netCDF4
import numpy as np
import pytest

from atmonr.errors import StoreError
from atmonr.geo.ellipsoid import direction_to_ecef
from atmonr.geo.frame import Frame
from atmonr.sensors.harp2 import open_harp2
from atmonr.simulate.instrument import Geometry, observe
from atmonr.simulate.native import GRANULE_NAME, GRANULE_NAMES, START, Packing, write_granule

PACKINGS: tuple[Packing, ...] = ("float", "packed", "early")
ANGLES = ("sensor_zenith", "sensor_azimuth", "solar_zenith", "solar_azimuth")


@pytest.fixture
def geometry() -> Geometry:
    frame = Frame(18.0, -61.5, (-1e4, -1e4, 0.0), (1e4, 1e4, 1e4))
    return observe(frame, 348.0, direction_to_ecef(18.0, -61.5, 40.0, -42.0), 6, 5, 320.0, 2000.0)


@pytest.fixture
def radiance() -> np.ndarray:
    values = np.random.default_rng(0).uniform(0.0, 600.0, (90, 6, 5))
    values[7, 2] = np.nan
    return values


@pytest.mark.parametrize("packing", PACKINGS)
def test_values_come_back_within_the_step_of_their_packing(
    geometry: Geometry, radiance: np.ndarray, tmp_path: Path, packing: Packing
) -> None:
    write_granule(tmp_path / GRANULE_NAME, geometry, radiance, packing, "test")
    tolerance = {"i": 0.0251, "angle": 0.00501} if packing == "packed" else {"i": 1e-4, "angle": 1e-5}
    with netCDF4.Dataset(tmp_path / GRANULE_NAME) as file:
        found = file["observation_data/i"][:]
        assert found.mask[7, 2].all() and found.mask.sum() == 5
        np.testing.assert_allclose(found.filled(np.nan), radiance, atol=tolerance["i"])
        for name in ANGLES:
            stored = file[f"geolocation_data/{name}_angle"][:]
            np.testing.assert_allclose(stored, getattr(geometry, name), atol=tolerance["angle"])
            assert np.issubdtype(stored.dtype, np.floating)
        for name in ("latitude", "longitude"):
            np.testing.assert_array_equal(file[f"geolocation_data/{name}"][:], getattr(geometry, name))
        assert np.issubdtype(file["geolocation_data/surface_altitude"][:].dtype, np.floating)
        assert not file["geolocation_data/surface_altitude"][:].any()


def test_the_layout_is_that_of_level_1b(geometry: Geometry, radiance: np.ndarray, tmp_path: Path) -> None:
    write_granule(tmp_path / GRANULE_NAME, geometry, radiance, "float", "test")
    with netCDF4.Dataset(tmp_path / GRANULE_NAME) as file:
        sizes = {name: len(dimension) for name, dimension in file.dimensions.items()}
        assert sizes == {"views": 90, "swath_lines": 6, "swath_pixels": 5}
        assert file.title == "PACE HARP2 Level-1B Data"
        assert (file.instrument, file.processing_level) == ("HARP2", "L1B")
        assert file.product_name == GRANULE_NAME == "PACE_HARP2.20250605T161356.L1B.V3.nc"
        assert file.time_coverage_start == "2025-06-05T16:13:56Z" < file.time_coverage_end
        assert file.sun_earth_distance == pytest.approx(1.0146)
        assert file.geospatial_bounds.startswith("POLYGON((17.9")
        for name in ("intensity_wavelength", "intensity_f0", "sensor_view_angle"):
            assert file[f"sensor_views_bands/{name}"].dimensions == ("views",)
        variable = file["observation_data/i"]
        assert variable.dimensions == ("views", "swath_lines", "swath_pixels")
        assert (variable.units, variable._FillValue) == ("W m^-2 sr^-1 um^-1", np.float32(-32767))
        seconds = file["navigation_data/seconds_of_day"]
        assert seconds.dimensions == ("views", "swath_lines")
        assert float(seconds[:].min()) == 16 * 3600 + 13 * 60 + 56


def test_packed_numbers_are_short_integers(geometry: Geometry, radiance: np.ndarray, tmp_path: Path) -> None:
    write_granule(tmp_path / GRANULE_NAME, geometry, radiance, "packed", "test")
    with netCDF4.Dataset(tmp_path / GRANULE_NAME) as file:
        file.set_auto_maskandscale(False)
        for name in (
            "observation_data/i",
            "geolocation_data/surface_altitude",
            "geolocation_data/solar_zenith_angle",
        ):
            assert file[name].dtype == np.int16
        assert file["observation_data/i"].scale_factor == np.float32(0.05)
        assert (file["observation_data/i"][7, 2] == -32767).all()


def test_an_early_file_lacks_what_early_files_lack(
    geometry: Geometry, radiance: np.ndarray, tmp_path: Path
) -> None:
    write_granule(tmp_path / GRANULE_NAME, geometry, radiance, "early", "test")
    with netCDF4.Dataset(tmp_path / GRANULE_NAME) as file:
        assert file["sensor_views_bands/intensity_wavelength"].shape == (90, 1)
        assert "intensity_f0" not in file["sensor_views_bands"].variables
        assert "navigation_data" not in file.groups
        assert "geospatial_bounds" not in file.ncattrs()


@pytest.fixture
def gridded() -> Geometry:
    """All views at the same places."""
    frame = Frame(18.0, -61.5, (-1e4, -1e4, 0.0), (1e4, 1e4, 1e4))
    return observe(frame, 348.0, direction_to_ecef(18.0, -61.5, 40.0, -42.0), 6, 5, 5200.0, 0.0)


@pytest.mark.parametrize("packing", PACKINGS)
def test_level_1c_of_every_packing_is_read_back(
    gridded: Geometry, radiance: np.ndarray, tmp_path: Path, packing: Packing
) -> None:
    path = tmp_path / GRANULE_NAMES["L1C"]
    write_granule(path, gridded, radiance, packing, "test", "L1C")
    coarse = packing == "packed"
    with open_harp2(path) as granule:
        assert (granule.level, granule.shape, granule.flipped) == ("L1C", (90, 6, 5), (False, False))
        assert ("time" in granule.optional) == (packing != "early")
        block = granule.read_lines(slice(None))
    np.testing.assert_allclose(block.radiance, radiance, atol=0.0251 if coarse else 1e-4)
    np.testing.assert_allclose(block.latitude, gridded.latitude, atol=1e-5)
    for name in ANGLES:
        tolerance = 0.00501 if coarse else 1e-5
        np.testing.assert_allclose(block[f"{name}_angle"], getattr(gridded, name), atol=tolerance)
    np.testing.assert_array_equal(block.observations, np.isfinite(radiance))
    if "time" in block:
        expected = START.timestamp() + gridded.seconds[:, :, None]
        np.testing.assert_allclose(block.time, np.broadcast_to(expected, (90, 6, 5)), atol=1e-3)


def test_level_1c_lies_as_its_documents_say(gridded: Geometry, radiance: np.ndarray, tmp_path: Path) -> None:
    shapes = {"packed": ((6, 5, 90, 1), (90,)), "early": ((90, 6, 5), (1, 90))}
    for packing, (image, table) in shapes.items():
        path = tmp_path / f"{packing}.nc"
        write_granule(path, gridded, radiance, packing, "test", "L1C")  # type: ignore[arg-type]
        with netCDF4.Dataset(path) as file:
            assert (file.title, file.processing_level) == ("PACE HARP2 Level-1C Data", "L1C")
            assert file["observation_data/i"].shape == image
            assert file["sensor_views_bands/intensity_wavelength"].shape == table
            assert file["geolocation_data/latitude"].shape == (6, 5)


def test_nothing_is_left_when_writing_fails(geometry: Geometry, tmp_path: Path) -> None:
    with pytest.raises(Exception, match=r"shape|broadcast|range"):
        write_granule(tmp_path / GRANULE_NAME, geometry, np.zeros((90, 7, 5)), "float", "test")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match="cannot write"):
        write_granule(tmp_path / "file" / GRANULE_NAME, geometry, np.zeros((90, 6, 5)), "float", "test")
