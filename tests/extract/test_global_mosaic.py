"""Extracts of several scenes on one lattice become one file without interpolation."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
import xarray as xr

from atmonr.errors import UsageError
from atmonr.extract.columns import RAY_COUNT, SURFACE
from atmonr.extract.grids.sphere import GlobalGrid, Lattice
from atmonr.extract.merge import merge
from atmonr.extract.support import Boxes
from atmonr.geo.frame import Frame
from tests.extract.grids import DEGREE_M, PLACES, TOP_M, bands_of, extract, frame_at, scene_of
from tests.extract.test_products import GROUND


class Constant:
    """The same extinction everywhere, in four bands."""

    def __init__(self, value: float) -> None:
        self.value = value

    def extinction(self, points: torch.Tensor) -> torch.Tensor:
        return torch.full((len(points), 4), self.value)


def beside(latitude: float, longitude: float, x_m: float) -> tuple[float, float]:
    frame = Frame(latitude, longitude, (-1.0, -1.0, 0.0), (1.0, 1.0, 1.0))
    lat, lon, _ = frame.to_geodetic(np.array([x_m, -11_000.0, 0.0]))
    return float(lat), float(lon)


def make_parts(path, source, place, name, field=None, lattice=None, top_m=TOP_M, described=None):
    frame = frame_at(*place)
    scene = scene_of(frame)
    step_deg = 0.25 if abs(place[0]) > 89 else 0.05
    grid = GlobalGrid.covering(frame, scene["footprint_m"], top_m, lattice or Lattice(step_deg, 100.0, 0.1))
    return extract(path / f"{name}.zarr", grid, {**source, **(described or {})}, scene, name, field)


def pair(tmp_path, source, place, *fields, **options):
    places = place, beside(*place, 35_000.0)
    fields = fields or (None, None)
    return [
        make_parts(tmp_path, source, at, name, field, **options)
        for at, name, field in zip(places, "ab", fields, strict=True)
    ]


def mosaic(parts, out) -> xr.Dataset:
    return xr.load_dataset(merge([p.path for p in parts], out))


@pytest.mark.parametrize(
    "place",
    [pytest.param(place, marks=[] if place == "dateline" else pytest.mark.slow) for place in PLACES],
)
def test_fields_equal_to_a_coordinate_come_back_equal_to_that_coordinate(place, source, tmp_path):
    dataset = mosaic(pair(tmp_path, source, PLACES[place]), tmp_path / "mosaic.nc")
    block = dataset.extinction.isel(band=0, drop=True)
    lat, lon, altitude = (
        dataset[name].broadcast_like(block).values for name in ("latitude", "longitude", "z")
    )
    error_m = np.abs(dataset.extinction.values - np.moveaxis(bands_of(lat, lon, altitude), -1, 0))
    error_m /= np.array([1 / DEGREE_M, 1 / 6.4e6, 1 / 6.4e6, 1.0]).reshape(4, 1, 1, 1)
    present = block.notnull().values
    assert present.mean() > 0.1 and error_m[:, present].max() < 4.0
    assert np.array_equal(present, dataset.contributing_granules.values > 0)
    assert set(np.unique(dataset.contributing_granules)) == {0, 1, 2, 3}
    assert (np.diff(dataset.longitude) > 0).all()
    assert dataset.sizes["longitude"] < 60 or abs(PLACES[place][0]) > 89


def test_scenes_fade_into_each_other_and_their_rays_add_up(source, tmp_path):
    described = {SURFACE: GROUND, RAY_COUNT: True}
    parts = pair(tmp_path, source, PLACES["dateline"], Constant(1.0), Constant(2.0), described=described)
    for number, part in enumerate(parts, 1):
        scene = part.plan["source"]["scene"]
        part.keep(SURFACE, lambda n=number, p=part: np.full(p.grid.shape[1:], 300.0 * n, np.float32))
        part.keep(RAY_COUNT, lambda n=number, s=scene: np.full(Boxes.of(s).shape, 10 * n, np.int32))
    dataset = mosaic(parts, tmp_path / "mosaic.nc")
    flags, values = dataset.contributing_granules.values, dataset.extinction.values
    assert (values[:, flags == 1] == 1.0).all() and (values[:, flags == 2] == 2.0).all()
    both = values[:, flags == 3]
    assert both.min() > 1.0 and both.max() < 2.0 and np.ptp(both) > 0.5
    assert {bit: set(dataset.ray_count.values[flags == bit].tolist()) for bit in range(4)} == {
        0: {0},
        1: {10},
        2: {20},
        3: {30},
    }
    ground = dataset.surface_altitude.values
    assert np.nanmin(ground) == 300.0 and np.nanmax(ground) == 600.0
    assert not flags[dataset.z.values[:, None, None] < ground].any()
    (overlap,) = json.loads(dataset.attrs["overlaps"])
    assert overlap["ratio"] == pytest.approx(0.5) and overlap["granules"] == ["G.a", "G.b"]
    assert "square of its column's horizontal distance" in dataset.attrs["mosaic_weights"]
    swapped = mosaic(parts[::-1], tmp_path / "swapped.nc")
    assert dataset.drop_attrs().identical(swapped.drop_attrs())


@pytest.mark.slow
def test_other_steps_are_refused_and_another_top_is_not(source, tmp_path):
    one = make_parts(tmp_path, source, PLACES["equator"], "a")
    finer = make_parts(tmp_path, source, PLACES["equator"], "b", lattice=Lattice(0.05, 50.0, 0.1))
    with pytest.raises(UsageError, match="expected the same steps"):
        merge([one.path, finer.path], tmp_path / "mosaic.nc")
    lower = make_parts(tmp_path, source, PLACES["equator"], "c", top_m=700.0)
    dataset = mosaic([one, lower], tmp_path / "mosaic.nc")
    assert (dataset.contributing_granules.sel(z=slice(900, None)) < 2).all()
    assert dataset.sizes["z"] == one.grid.shape[0]


@pytest.mark.parametrize("growth", [0.0, 0.05])
def test_levels_follow_their_formula(growth):
    lattice = Lattice(0.05, 100.0, growth)
    levels = lattice.levels_up_to(5_000.0)
    edges = lattice.edges_m(levels)
    assert edges[0] == 0.0 and edges[-2] < 5_000.0 <= edges[-1] + 1e-6
    np.testing.assert_allclose(np.diff(edges), 100.0 * (1 + growth) ** np.arange(levels), rtol=1e-12)
