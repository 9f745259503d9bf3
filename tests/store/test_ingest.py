"""From granule to scene: the right numbers, the right mask, the right box, or nothing at all."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import netCDF4
import numpy as np
import pytest
import xarray as xr
import zarr

from atmonr.errors import GranuleError, StoreError, UsageError
from atmonr.geo.ellipsoid import direction_to_ecef, geodetic_to_ecef
from atmonr.geo.paths import path_points, paths_of
from atmonr.geo.sun import sun_direction
from atmonr.sensors.harp2 import open_harp2
from atmonr.store.ingest import ingest
from atmonr.store.layout import SIGHT
from atmonr.store.scene import Scene, open_scene
from tests.sensors.granules import (
    GEOLOCATION,
    IRRADIANCES,
    NAME,
    VIEW_ANGLES_DEG,
    Layout,
    create_granule,
    fill_granule,
    make_fields,
    write_granule,
)
from tests.sensors.granules_l1c import NAME_L1C, LayoutL1C, write_l1c

FLOAT32 = Layout()
CENTRES = [(18.0, -61.5), (60.0, 179.99), (0.0, 90.0), (90.0, 0.0), (-89.9, 10.0)]


def make_scene(folder: Path, fields=None, layout: Layout = FLOAT32, **options) -> Scene:
    path = write_granule(folder / NAME, fields, layout)
    with open_harp2(path) as granule:
        return open_scene(ingest(granule, folder / "scene.zarr", **options))


def usable_sample(scene: Scene) -> dict[str, np.ndarray]:
    """The geometry of all usable rays, as flat float64 arrays."""
    valid = scene.read("valid").astype(bool)
    return {name: scene.read(name)[valid].astype(float) for name in GEOLOCATION}


def test_reflectance_is_pi_l_d2_over_f0_and_the_cosine_of_the_suns_zenith(tmp_path):
    fields = make_fields()
    scene = make_scene(tmp_path, fields)
    mu = np.cos(np.radians(fields["solar_zenith_angle"].astype(float)))
    factor = np.pi * 1.0146**2 / (mu * IRRADIANCES[:, None, None])
    assert scene.read("valid").all()
    for name, native in {"reflectance": "i", "q": "q", "u": "u"}.items():
        values = scene.read(name)
        assert values.dtype == np.float32
        np.testing.assert_allclose(values, fields[native] * factor, rtol=1e-6, atol=1e-7)


def test_geometry_and_table_of_views_are_kept_bit_for_bit(tmp_path):
    fields = make_fields()
    scene = make_scene(tmp_path, fields)
    for name in GEOLOCATION:
        np.testing.assert_array_equal(scene.read(name), fields[name])
    np.testing.assert_array_equal(scene.view_band, np.repeat([1, 2, 3, 0], [10, 60, 10, 10]))
    np.testing.assert_allclose(scene.wavelengths_nm, [440.16, 549.57, 664.57, 865.63], rtol=1e-6)
    np.testing.assert_array_equal(scene.read("solar_irradiance"), IRRADIANCES)
    expected = (
        np.datetime64("2025-06-05").astype("datetime64[s]").astype(float) + 58436.0 + 0.4 * np.arange(12)
    )
    np.testing.assert_allclose(scene.read("time"), np.broadcast_to(expected, (90, 12)), atol=1e-6)


def test_a_scene_of_several_blocks_is_the_whole_granule(tmp_path, monkeypatch):
    monkeypatch.setattr("atmonr.store.layout._RAYS_AT_ONCE", 1)
    fields = make_fields(image=(20, 10))
    done: list[tuple[int, int]] = []
    scene = make_scene(tmp_path, fields, progress=lambda lines, total: done.append((lines, total)))
    np.testing.assert_array_equal(scene.read("latitude"), fields["latitude"])
    np.testing.assert_array_equal(np.diff(scene.read("time")[0]) > 0, True)
    assert done == [(views, 90) for views in range(15, 91, 15)]


def test_a_gridded_granule_keeps_its_times_counts_flags_and_deviations(tmp_path):
    fields = make_fields()
    fields["i"][7, 5, 5] = np.nan
    with open_harp2(write_l1c(tmp_path / NAME_L1C, fields, LayoutL1C(packed=True))) as granule:
        scene = open_scene(ingest(granule, tmp_path / "scene.zarr"))
    mu = np.cos(np.radians(fields["solar_zenith_angle"].astype(float)))
    factor = np.pi * 1.0146**2 / (mu * IRRADIANCES[:, None, None])
    factor[7, 5, 5] = np.nan
    for name, value in {"reflectance_stdev": 1.5, "q_stdev": 0.5, "u_stdev": 0.25}.items():
        np.testing.assert_allclose(scene.read(name), value * factor, rtol=1e-5)
    flags, counts = scene.read("quality"), scene.read("observations")
    assert flags.dtype == np.uint8 and (flags[:, 0, 0] == 1).all() and (flags[:, -1] == 255).all()
    assert flags[7, 5, 5] == 0 and counts[7, 5, 5] == 7  # of unusable rays too
    attributes = dict(scene.group["quality"].attrs)
    assert attributes["flag_masks"] == [1] and attributes["flag_meanings"] == "saturation"
    assert scene.group["surface_altitude"].attrs["vertical_datum"].startswith("not stated")
    assert scene.read("time").shape == (90, 12, 9)
    np.testing.assert_allclose(scene.read("time")[10, 0], 1749140036.0 + 100.0 - 2.0 * 55.72, atol=1e-3)
    assert scene.provenance["source_level"] == "L1C"


def test_every_tenth_view_is_held_out(tmp_path):
    scene = make_scene(tmp_path)
    np.testing.assert_array_equal(np.flatnonzero(scene.holdout), np.arange(5, 90, 10))
    assert set(scene.view_band[scene.holdout]) == {0, 1, 2, 3}


def test_views_beyond_an_angle_are_left_out_and_the_same_ones_held_out(tmp_path):
    fields = make_fields()
    scene = make_scene(tmp_path, fields, max_view_angle_deg=45.0)
    kept = np.flatnonzero(np.abs(VIEW_ANGLES_DEG) <= 45.0)
    assert scene.shape == (kept.size, 12, 9) and 50 < kept.size < 90
    np.testing.assert_array_equal(scene.read("view"), kept)
    np.testing.assert_array_equal(scene.read("latitude"), fields["latitude"][kept])
    np.testing.assert_array_equal(scene.holdout, kept % 10 == 5)
    np.testing.assert_allclose(scene.view_angle_deg, VIEW_ANGLES_DEG[kept], rtol=1e-6)
    np.testing.assert_array_equal(scene.view_band, np.repeat([1, 2, 3, 0], [10, 60, 10, 10])[kept])


@pytest.mark.parametrize(
    ("angle", "words"), [(0.1, "no view within 0.1"), (1.0, "held out"), (-5.0, "above 0")]
)
def test_an_angle_that_leaves_too_few_views_is_refused(tmp_path, angle, words):
    with pytest.raises(UsageError, match=words):
        make_scene(tmp_path, max_view_angle_deg=angle)
    assert not (tmp_path / "scene.zarr").exists()


def test_unusable_rays_are_masked_in_every_variable(tmp_path):
    fields = make_fields()
    unusable = np.zeros(fields["i"].shape, dtype=bool)
    for view, name in enumerate(["i", *GEOLOCATION]):
        fields[name][view, 2, 3] = np.nan
        unusable[view, 2, 3] = True
    fields["solar_zenith_angle"][20, 4, 4] = 85.0
    fields["sensor_zenith_angle"][21, 4, 4] = 75.5
    unusable[[20, 21], 4, 4] = True
    fields["i"][30] = np.nan  # a whole view: no reason to refuse the others
    unusable[30] = True
    fields["q"][40, 1, 1] = np.nan  # polarisation is an extra
    scene = make_scene(tmp_path, fields)
    np.testing.assert_array_equal(scene.read("valid"), ~unusable)
    for name in ("reflectance", *GEOLOCATION):
        np.testing.assert_array_equal(np.isnan(scene.read(name)), unusable)
    assert np.isnan(scene.read("q")[40, 1, 1])


def test_plain_xarray_opens_a_scene_without_a_warning_and_finds_cf_metadata(tmp_path):
    make_scene(tmp_path)
    with xr.open_zarr(tmp_path / "scene.zarr") as plain:  # warnings are errors in these tests
        assert plain.reflectance.dims == ("view", "line", "pixel")
        assert plain.valid.dtype == np.uint8 and plain.band.dtype == np.int8
        assert {"latitude", "longitude", "view_angle_deg", "wavelength_nm"} <= set(plain.reflectance.coords)
        assert plain.reflectance.attrs["units"] == "1"
        assert plain.sensor_zenith_angle.attrs["standard_name"] == "sensor_zenith_angle"
        assert plain.latitude.attrs["units"] == "degrees_north"
        assert plain.time.dtype.kind == "M"
        assert str(plain.time.to_numpy()[0, 0])[:19] == "2025-06-05T16:13:56"
        assert plain.attrs["Conventions"].startswith("CF-")
        assert plain.sizes["band_index"] == 4
    plain.to_netcdf(tmp_path / "copy.nc")


def test_arrays_are_sharded_but_for_those_that_every_training_reads(tmp_path):
    scene = make_scene(tmp_path, make_fields(image=(300, 7)))
    for name, chunks, shards in (
        ("solar_zenith_angle", (15, 150, 7), (90, 300, 7)),
        ("reflectance", (90, 300, 7), None),
    ):
        array = scene.group[name]
        assert isinstance(array, zarr.Array)
        assert (array.chunks, array.shards) == (chunks, shards)
        assert sum(path.is_file() for path in (scene.path / name / "c").rglob("*")) == 1


def test_what_every_training_reads_is_not_compressed(tmp_path):
    scene = make_scene(tmp_path)
    kinds = {
        name: [type(codec).__name__ for codec in scene.group[name].compressors]
        for name in (*SIGHT, "reflectance", "solar_zenith_angle", "valid")
    }
    assert kinds.pop("solar_zenith_angle") == ["BloscCodec", "Crc32cCodec"]
    assert set(map(tuple, kinds.values())) == {("Crc32cCodec",)}


def test_provenance_names_the_source_and_what_was_assumed(tmp_path):
    scene = make_scene(tmp_path, layout=Layout(early=True))
    assert scene.provenance["source"] == NAME
    assert scene.provenance["source_bytes"] == (tmp_path / NAME).stat().st_size
    assert len(scene.provenance["source_sha256"]) == 64
    assert scene.provenance["atmonr_version"]
    assert any("intensity_f0" in note for note in scene.provenance["notes"])
    assert str(tmp_path) not in json.dumps(dict(scene.group.attrs))
    assert not scene.has("q") and not scene.has("time")


def test_the_identity_follows_content_and_options_not_place_or_time(tmp_path):
    path = write_granule(tmp_path / NAME)
    other = write_granule(tmp_path / "other.nc", make_fields(centre=(1.0, 2.0)))
    with open_harp2(path) as granule, open_harp2(other) as another:
        first = open_scene(ingest(granule, tmp_path / "a.zarr"))
        again = open_scene(ingest(granule, tmp_path / "b.zarr"))
        lower = open_scene(ingest(granule, tmp_path / "c.zarr", top_height_m=15_000.0))
        elsewhere = open_scene(ingest(another, tmp_path / "d.zarr"))
    assert first.scene_id == again.scene_id
    assert len({first.scene_id, lower.scene_id, elsewhere.scene_id}) == 3
    assert lower.top_height_m == 15_000.0


@pytest.mark.parametrize("centre", CENTRES)
@pytest.mark.parametrize("spacing_m", [300.0, 100_000.0])
def test_the_box_holds_every_sample_of_every_ray(tmp_path, centre, spacing_m):
    scene = make_scene(tmp_path, make_fields(centre=centre, spacing_m=spacing_m))
    sample = usable_sample(scene)
    paths = paths_of(scene.frame, scene.top_height_m, *(sample[name] for name in GEOLOCATION[:5])).path
    unit = scene.frame.unit(path_points(paths, np.linspace(0, 1, 33)))
    assert unit.min() >= 0.0 and unit.max() <= 1.0
    # and the box is not much larger than that
    assert unit[..., :2].min() < 0.05 and unit[..., :2].max() > 0.95


@pytest.mark.parametrize("centre", CENTRES)
def test_pixel_size_footprint_and_centre_are_those_of_the_nadir_view(tmp_path, centre):
    scene = make_scene(tmp_path, make_fields(centre=centre))
    assert scene.pixel_m == pytest.approx(3000.0, rel=1e-3)
    training = ~scene.holdout
    assert scene.training_rays == int(scene.read("valid")[training].sum()) > 0
    x0, y0, x1, y1 = scene.footprint_m
    assert [(x0 + x1) / 2, (y0 + y1) / 2] == pytest.approx([0.0, 0.0], abs=500.0)
    if abs(centre[0]) < 80.0:
        assert [x1 - x0, y1 - y0] == pytest.approx([24_000.0, 33_000.0], rel=1e-2)
    else:  # the axes may be turned against the writer's
        assert 24_000.0 < x1 - x0 < np.hypot(24_000.0, 33_000.0) + 10.0


def test_the_footprint_holds_usable_pixels_only(tmp_path, monkeypatch):
    monkeypatch.setattr("atmonr.store.layout._RAYS_AT_ONCE", 1)  # in several blocks
    fields = make_fields()
    fields["solar_zenith_angle"][:, 6:] = 86.0  # night
    fields["i"][:, :, 7:] = np.nan
    x0, y0, x1, y1 = make_scene(tmp_path, fields).footprint_m
    assert [x1 - x0, y1 - y0] == pytest.approx([18_000.0, 15_000.0], rel=1e-2)


@pytest.mark.parametrize("centre", CENTRES)
def test_the_outline_goes_around_the_nadir_views_pixels_and_no_farther(tmp_path, centre):
    scene = make_scene(tmp_path, make_fields(centre=centre))
    corners = np.array(scene.outline_m)
    along = np.roll(corners, -1, axis=0) - corners
    area = 0.5 * (corners[:, 0] * along[:, 1] - corners[:, 1] * along[:, 0]).sum()
    # Counterclockwise, and the rectangle of 24 by 33 km however the axes are turned against it.
    assert area == pytest.approx(24_000.0 * 33_000.0, rel=1e-2)
    x0, y0, x1, y1 = scene.footprint_m
    assert corners.min(0) == pytest.approx([x0, y0], abs=0.1)
    assert corners.max(0) == pytest.approx([x1, y1], abs=0.1)
    # From the middle of the first line to that of the last.
    start, end = np.reshape(scene.group.attrs["track_m"], (2, 2))
    assert np.linalg.norm(end - start) == pytest.approx(33_000.0, rel=1e-2)
    assert (start + end) / 2 == pytest.approx([(x0 + x1) / 2, (y0 + y1) / 2], abs=600.0)
    if abs(centre[0]) < 80.0:
        assert end[1] - start[1] == pytest.approx(33_000.0, rel=2e-2)  # northward


@pytest.mark.parametrize("centre", CENTRES)
def test_the_suns_direction_is_that_of_the_pixels(tmp_path, centre):
    scene = make_scene(tmp_path, make_fields(centre=centre))
    sample = usable_sample(scene)
    lat, lon = sample["latitude"], sample["longitude"]
    towards = direction_to_ecef(lat, lon, sample["solar_zenith_angle"], sample["solar_azimuth_angle"])
    here = scene.frame.from_geodetic(lat, lon)
    step = scene.frame.from_ecef(geodetic_to_ecef(lat, lon, 0.0) + 1000.0 * towards) - here
    unit = scene.frame.unit(here)
    got = np.stack(sun_direction(scene.sun_direction, unit[:, 0], unit[:, 1]), axis=-1)
    cosine = (got * step).sum(axis=-1) / np.linalg.norm(step, axis=-1)
    assert np.degrees(np.arccos(np.clip(cosine, -1, 1))).max() < 0.1
    np.testing.assert_allclose(np.linalg.norm(got, axis=-1), 1.0, atol=1e-9)


def test_a_crop_keeps_what_lies_in_the_box_and_remembers_where_it_was(tmp_path):
    fields = make_fields(centre=(10.0, 180.0))
    lat, lon = fields["latitude"][0], fields["longitude"][0]
    box = (float(lon[6, 2]) - 1e-3, float(lat[3, 4]) - 1e-3, float(lon[6, 6]) + 1e-3, float(lat[8, 4]) + 1e-3)
    assert box[0] > box[2]  # across the dateline
    scene = make_scene(tmp_path, fields, bbox=box)
    assert scene.shape == (90, 6, 5)
    np.testing.assert_array_equal(scene.read("latitude"), fields["latitude"][:, 3:9, 2:7])
    np.testing.assert_array_equal(scene.read("line"), np.arange(3, 9))
    np.testing.assert_array_equal(scene.read("pixel"), np.arange(2, 7))
    np.testing.assert_allclose(scene.read("time")[0], 1749140036.0 + 0.4 * np.arange(3, 9), atol=1e-4)
    assert abs(abs(scene.frame.longitude_deg) - 180.0) < 0.1


def _set(name: str, value: float):
    def edit(file: netCDF4.Dataset) -> None:
        file[name][:] = value

    return edit


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (_set("observation_data/i", -32767.0), "no usable ray"),
        (_set("geolocation_data/latitude", -32767.0), "no pixel has a latitude"),
        (_set("geolocation_data/solar_zenith_angle", 95.0), "no usable ray"),
        (_set("geolocation_data/sensor_azimuth_angle", 1000.0), "sensor_azimuth_angle has the value 1000"),
    ],
)
def test_a_granule_without_a_usable_ray_leaves_nothing_behind(tmp_path, edit, words):
    path = write_granule(tmp_path / NAME, edit=edit)
    with open_harp2(path) as granule, pytest.raises(GranuleError, match=words) as refusal:
        ingest(granule, tmp_path / "scene.zarr")
    assert str(path) in str(refusal.value) and "expected" in str(refusal.value)
    assert sorted(tmp_path.iterdir()) == [path]


def test_an_existing_output_is_refused_and_untouched(tmp_path):
    (tmp_path / "scene.zarr").mkdir()
    (tmp_path / "scene.zarr" / "mine").write_text("precious")
    with pytest.raises(UsageError, match="exists"):
        make_scene(tmp_path)
    assert (tmp_path / "scene.zarr" / "mine").read_text() == "precious"


def test_a_full_disk_is_a_storage_error_and_leaves_nothing_behind(tmp_path, monkeypatch):
    path = write_granule(tmp_path / NAME)

    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(zarr.Array, "__setitem__", full)
    with (
        open_harp2(path) as granule,
        pytest.raises(StoreError, match=r"scene\.zarr: cannot write: No space left"),
    ):
        ingest(granule, tmp_path / "scene.zarr")
    assert sorted(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    "options",
    [
        {"max_view_zenith_deg": 90.0},
        {"max_view_zenith_deg": 0.0},
        {"top_height_m": -1.0},
        {"top_height_m": 60_000.0},
        {"bbox": (0.0, 10.0, 5.0, -10.0)},
    ],
)
def test_options_without_sense_are_refused(tmp_path, options):
    with pytest.raises(UsageError, match="expected"):
        make_scene(tmp_path, **options)


def test_the_independent_granule_becomes_a_scene(tmp_path):
    path = Path(__file__).resolve().parents[3] / "shared" / "truth" / NAME
    if not path.is_file():
        pytest.skip("the independent granule is not beside this checkout")
    with open_harp2(path) as granule:
        scene = open_scene(ingest(granule, tmp_path / "scene.zarr"))
    with netCDF4.Dataset(path) as plain:
        radiance = plain["observation_data/i"][:].filled(np.nan).astype(float)
    factor = np.pi / (np.cos(np.radians(40.0)) * IRRADIANCES[:, None, None])
    valid = scene.read("valid").astype(bool)
    assert scene.shape == (90, 145, 57) and valid.mean() > 0.5
    np.testing.assert_allclose(
        scene.read("reflectance")[valid], (radiance * factor)[valid], rtol=1e-4, atol=1e-6
    )
    assert scene.pixel_m == pytest.approx(320.0, rel=2e-3)
    x, y, up = sun_direction(scene.sun_direction, 0.5, 0.5)
    assert np.degrees(np.arccos(up)) == pytest.approx(40.0, abs=0.05)
    assert np.degrees(np.arctan2(x, y)) == pytest.approx(-42.0, abs=0.1)


# Not ru_maxrss: that begins with the memory of the process that started this one.
MEASURE = """
import sys, time
from atmonr.sensors.harp2 import open_harp2
from atmonr.store.ingest import ingest
begin = time.perf_counter()
with open_harp2(sys.argv[1]) as granule:
    ingest(granule, sys.argv[2])
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
print(time.perf_counter() - begin, int(status["VmHWM"].split()[0]) * 1024)
"""


@pytest.mark.slow
def test_a_full_granule_is_ingested_in_2_gib_into_200_files(tmp_path):
    image = (780, 600)
    path = tmp_path / NAME
    with create_granule(path, image, Layout()) as file:
        for start in range(0, image[0], 60):
            lines = slice(start, start + 60)
            fill_granule(file, make_fields(image=image, spacing_m=2600.0, lines=lines), lines)
    out = tmp_path / "scene.zarr"
    command = [sys.executable, "-c", MEASURE, str(path), str(out)]
    result = subprocess.run(command, capture_output=True, text=True, check=True, timeout=900)
    path.unlink()  # 1.7 GB that pytest would keep
    seconds, peak = (float(word) for word in result.stdout.split())
    files = sum(entry.is_file() for entry in out.rglob("*"))
    print(f"full granule: {seconds:.0f} s, {peak / 2**30:.2f} GiB resident, {files} files")
    assert peak <= 2 * 2**30
    assert files <= 200
    scene = open_scene(out)
    assert scene.shape == (90, *image)
    assert scene.read("valid").mean() > 0.9
