"""Truth and extract files, written here without the package's own writers."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from pyproj import Proj

from atmonr.geo.frame import Frame

# Turned against the extract's axes, as a cloud simulated along a satellite's track is.
TURN_DEG = 12.0
COLUMNS, ROWS, LEVELS = 14, 10, 6


def truth_columns(latitude: float, longitude: float, step_m: float = 800.0) -> tuple[np.ndarray, np.ndarray]:
    """Latitude and longitude of columns around a point, by PROJ."""
    along, across = np.meshgrid(
        (np.arange(COLUMNS) - (COLUMNS - 1) / 2) * step_m,
        (np.arange(ROWS) - (ROWS - 1) / 2) * step_m,
        indexing="ij",
    )
    turn = np.radians(TURN_DEG)
    east, north = along * np.cos(turn) - across * np.sin(turn), along * np.sin(turn) + across * np.cos(turn)
    lon, lat = Proj(proj="aeqd", lat_0=latitude, lon_0=longitude, ellps="WGS84")(east, north, inverse=True)
    return np.asarray(lat), np.asarray(lon)


@pytest.fixture
def write_truth(tmp_path: Path) -> Callable[..., Path]:
    def write(
        extinction=None,
        latitude=18.0,
        longitude=-61.5,
        base_m=3_000.0,
        step_m=400.0,
        name="truth.nc",
        changed=(),
    ):
        if extinction is None:
            extinction = np.zeros((COLUMNS, ROWS, LEVELS))
            extinction[4:9, 3:7, 1:4] = 0.01
        lat, lon = truth_columns(latitude, longitude)
        variables = {
            "latitude": (("x", "y"), lat),
            "longitude": (("x", "y"), lon),
            "altitude": (("altitude",), base_m + step_m * np.arange(LEVELS)),
            "extinction_coefficient": (("x", "y", "altitude"), np.asarray(extinction, "f4")),
        }
        dataset = xr.Dataset(variables | dict(changed), attrs={"wavelength_nm": 670.0})
        dataset.to_netcdf(tmp_path / name)
        return tmp_path / name

    return write


@pytest.fixture
def write_extract(tmp_path: Path) -> Callable[..., Path]:
    """Write an extract of a function of (latitude, longitude, height, x, y)."""

    def write(
        function,
        latitude=18.01,
        longitude=-61.49,
        half_m=8_000.0,
        step_m=320.0,
        top_m=8_000.0,
        name="extract.nc",
        attrs=None,
    ):
        frame = Frame(latitude, longitude, (-half_m, -half_m, 0.0), (half_m, half_m, 20_000.0))
        x = np.arange(-half_m + step_m / 2, half_m, step_m)
        z = np.arange(step_m / 8, top_m, step_m / 4)
        height, y, x3 = np.meshgrid(z, x, x, indexing="ij")
        lat, lon, _ = frame.to_geodetic(np.stack([x3, y, height], -1))
        dataset = xr.Dataset(
            {"extinction": (("z", "y", "x"), np.asarray(function(lat, lon, height, x3, y), "f4"))},
            {"z": z, "y": x, "x": x},
            {"frame": json.dumps(frame.to_json()), "scene": "cloud", "scene_id": "s" * 64} | (attrs or {}),
        )
        dataset.to_netcdf(tmp_path / name)
        return tmp_path / name

    return write
