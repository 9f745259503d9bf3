"""What an extraction takes from the scene: the ground under its columns and the rays that cross its cells."""

from __future__ import annotations

import json

import numpy as np
import pytest
import xarray as xr

from atmonr.config import Config
from atmonr.errors import GranuleError, SceneError, UsageError
from atmonr.extract.columns import find_scene
from atmonr.extract.grids.choose import GridRequest, choose_grid
from atmonr.extract.grids.l1c import L1cGrid
from atmonr.extract.merge import merge
from atmonr.extract.session import extract
from atmonr.extract.support import LAYERS, Boxes, count_rays
from atmonr.extract.surface import SceneSurface, column_heights
from atmonr.geo.rays import trace
from atmonr.run import Run
from atmonr.tasks.recipe import describe
from tests.feed.scenes import make_fields, make_scene
from tests.sensors import earthcare_files
from tests.sensors.granules_l1c import NAME_L1C, write_l1c

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    """12 by 9 pixels of 3 km over hills of 200 to 1 800 m."""
    fields = make_fields()
    fields["surface_altitude"] = np.round(1_000.0 + (fields["surface_altitude"] - 40.0) * 800.0 / 30.0)
    return make_scene(tmp_path_factory.mktemp("scene"), fields, top_height_m=4_000.0)


@pytest.fixture
def info(scene):
    return describe(scene.path)


@pytest.fixture
def run(tmp_path, info, known_field, monkeypatch) -> Run:
    """A run whose field is 1 everywhere."""
    made = Run.create(
        tmp_path / "run", Config.model_validate({"field": {"method": "instant_ngp"}}), {"scene": info}, {}
    )
    made.checkpoint("scene", 1).write_bytes(b"weights")
    made.latest("scene").write_text("step-00000001.pt\n")
    field = known_field(lambda points: np.ones(len(points)))
    monkeypatch.setattr("atmonr.fields.load.load_field", lambda *_: field, raising=False)
    return made


def nadir(scene, *names):
    view = int(np.abs(scene.view_angle_deg).argmin())
    return (scene.read(name, views=slice(view, view + 1))[0].astype(float) for name in names)


def test_the_ground_under_a_column_is_that_of_its_pixel(scene):
    latitude, longitude, altitude = nadir(scene, "latitude", "longitude", "surface_altitude")
    grid = L1cGrid.covering(scene.frame, latitude, longitude, 4_000.0, 500.0, {})
    assert np.ptp(altitude) > 1_000.0
    assert np.array_equal(column_heights(grid, SceneSurface.of(scene)), altitude.astype("f4"))


def test_rays_are_counted_where_straight_lines_cross(scene, info):
    boxes = Boxes.of(info)
    counts = count_rays(scene, boxes)
    names = ("latitude", "longitude", "surface_altitude", "sensor_zenith_angle", "sensor_azimuth_angle")
    usable = scene.read("valid").astype(bool) & ~scene.holdout[:, None, None]
    rays = trace(*(scene.read(name)[usable].astype(float) for name in names), scene.top_height_m)
    steps = np.linspace(0.0, 1.0, 101)
    points = np.stack([scene.frame.from_ecef(rays.at(step)) for step in steps])
    edges = [corner + step * np.arange(n + 1) for corner, step, n in zip(*vars(boxes).values(), strict=True)]
    for layer in (0, 15, LAYERS - 1):
        middle = boxes.corner_m[0] + (layer + 0.5) * boxes.step_m[0]
        reached = points[-1, :, 2] <= middle
        y, x = (
            [np.interp(-middle, -points[:, ray, 2], points[:, ray, axis]) for ray in np.flatnonzero(reached)]
            for axis in (1, 0)
        )
        expected = np.histogram2d(y, x, bins=edges[1:])[0] if reached.any() else np.zeros(boxes.shape[1:])
        assert np.abs(counts[layer] - expected).sum() <= 0.004 * max(len(y), 1)
    # Pixels were made about 3 km apart, so a box holds about one of each view that is not held out.
    assert counts[-1].max() == pytest.approx((~scene.holdout).sum(), abs=10)
    assert (counts[0] == 0).all()  # under every hill


@pytest.mark.parametrize(
    "request_", [GridRequest(), GridRequest("global", step_deg=0.02, vertical_step_m=100.0, growth=0.1)]
)
def test_a_run_is_extracted_above_its_ground_with_its_rays(run, info, request_, tmp_path):
    parts = extract(run.path, tmp_path / "parts.zarr", grid=request_, quiet=True)
    assert "path" not in json.loads((parts / "plan.json").read_text())["source"]["scene"]
    with xr.load_dataset(merge([parts], tmp_path / "extract.nc")) as dataset:
        present = dataset.extinction.notnull()
        above = dataset.z >= dataset.surface_altitude
        inside = dataset.surface_altitude.notnull() & present.any("z") & (dataset.z <= 4_000.0)
        assert dataset.extinction.where(present).max() == 1.0
        assert bool((present == (above & inside)).all()) and 0.1 < float(present.mean()) < 0.9
        assert dataset.ray_count.where(present).max() > 70
        assert "not stated" in dataset.surface_altitude.attrs["datum"]


def test_a_scene_that_moved_or_is_another_is_refused(scene, info, tmp_path):
    moved = {**info, "path": str(tmp_path / "gone.zarr")}
    with pytest.raises(SceneError, match=r"gone\.zarr.*say with --scene-store where it lies now"):
        find_scene(moved, None)
    assert find_scene(moved, scene.path).scene_id == scene.scene_id
    with pytest.raises(SceneError, match="the run was trained on xxxxxxxxxxxx"):
        find_scene({**info, "scene_id": "x" * 64}, None)
    # Runs of earlier versions do not tell where their scenes lie.
    assert find_scene({"scene_id": "x"}, None) is None


def test_bins_come_from_an_l1c_file_in_its_order(info, tmp_path):
    fields = make_fields((14, 11))
    # Southward and westward, as a descending orbit might be stored.
    fields = {name: np.ascontiguousarray(values[:, ::-1, ::-1]) for name, values in fields.items()}
    grid = choose_grid(info, GridRequest("l1c", l1c=write_l1c(tmp_path / NAME_L1C, fields)))
    assert grid.shape[1:] == (14, 11)
    latitude, longitude = grid.latitude_longitude(slice(None), slice(None))
    assert np.array_equal(latitude, fields["latitude"][0]) and np.array_equal(
        longitude, fields["longitude"][0]
    )
    assert grid.inputs()[0]["file"] == NAME_L1C
    far = write_l1c(tmp_path / f"far.{NAME_L1C}", make_fields(centre=(40.0, 10.0)))
    with pytest.raises(UsageError, match="no bin lies in the scene"):
        choose_grid(info, GridRequest("l1c", l1c=far))


def test_a_granule_of_another_level_has_no_bins(info, scene):
    granule = scene.path.parent / scene.provenance["source"]
    with pytest.raises(GranuleError, match="is of level L1B; expected a HARP2 L1C file"):
        choose_grid(info, GridRequest("l1c", l1c=granule))


def test_profiles_come_from_an_earthcare_file_those_in_the_scene(info, tmp_path):
    variables = earthcare_files.make_variables(profiles=60, latitude=17.7)
    variables["height"][30, 4] = np.nan
    frame = earthcare_files.write_frame(tmp_path / earthcare_files.NAME, variables)
    grid = choose_grid(info, GridRequest("curtain", earthcare=frame))
    (first, *_) = grid.coordinates()
    some = first.values
    assert first.name == "profile" and some[0] > 0 and some[-1] < 59 and (np.diff(some) == 1).all()
    assert np.array_equal(grid.latitude_longitude(slice(None))[0], variables["latitude"][some])
    # Upwards, with the fill of one profile missing in that one alone, and levels below the ellipsoid.
    expected = variables["height"][some, ::-1].T.astype("f4").astype(float)
    heights = grid.heights_m((slice(None), slice(None)))
    assert np.array_equal(heights, expected, equal_nan=True)
    assert np.isnan(heights).sum() == 1 and np.nanmin(heights) < 0
    far = earthcare_files.make_variables(latitude=50.0)
    with pytest.raises(UsageError, match="no profile lies in the scene"):
        far_frame = earthcare_files.write_frame(tmp_path / f"2{earthcare_files.NAME}", far)
        choose_grid(info, GridRequest("curtain", earthcare=far_frame))
