"""Videos have the size, rate and duration that were asked for, or are not there."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr

from atmonr.errors import StoreError, UsageError
from atmonr.export import video
from atmonr.export.camera import Box, cameras
from atmonr.export.lighting import light_up
from atmonr.export.video import Film, heading_deg, parse_size, render, sun_vector, write_video
from atmonr.export.voxels import open_voxels

CPU = torch.device("cpu")
TINY = Film("turntable", 32, 16, 10, 0.3)


def without(product: Path, out: Path, *names: str) -> Path:
    with xr.open_dataset(product) as dataset:
        kept = {name: value for name, value in dataset.attrs.items() if name not in names}
        dataset.load().drop_attrs(deep=False).assign_attrs(kept).to_netcdf(out)
    return out


@pytest.fixture
def quick(monkeypatch):
    """Light takes a while; these tests are about what comes after it."""
    empty = light_up(torch.zeros(4, 4, 4), (0.0,) * 3, (100.0,) * 3, 0.0, (0.0, 0.0, 1.0))
    monkeypatch.setattr(video, "light_up", lambda *_: empty)


@pytest.mark.slow
@pytest.mark.parametrize(
    "film",
    [Film("turntable", 160, 90, 24, 0.5), Film("flyover", 96, 128, 30, 0.4), Film("turntable", 64, 64, 1, 2)],
)
def test_ffprobe_agrees_with_what_was_asked_for(need, product, tmp_path, film):
    seen: list[tuple[int, int]] = []
    out = write_video(product, tmp_path / "c.mp4", film, device=CPU, progress=lambda *n: seen.append(n))
    entries = "stream=codec_name,width,height,pix_fmt,r_frame_rate,avg_frame_rate,nb_read_frames,duration"
    probe = [need("ffprobe"), "-v", "error", "-count_frames", "-show_entries", entries, "-of", "json", out]
    (stream,) = json.loads(subprocess.run(probe, capture_output=True, check=True).stdout)["streams"]
    assert (stream["width"], stream["height"]) == (film.width, film.height)
    assert (stream["codec_name"], stream["pix_fmt"]) == ("h264", "yuv420p")
    assert stream["r_frame_rate"] == stream["avg_frame_rate"] == f"{film.fps}/1"
    assert int(stream["nb_read_frames"]) == film.frames == film.fps * film.seconds
    assert float(stream["duration"]) == pytest.approx(film.seconds)
    assert seen == [(n + 1, film.frames) for n in range(film.frames)]
    content = out.read_bytes()
    assert content.index(b"moov") < content.index(b"mdat")  # can be played before all of it is there
    assert list(tmp_path.iterdir()) == [out]


@pytest.mark.slow
def test_the_same_product_gives_the_same_frames_and_they_move(product):
    film = Film("flyover", 64, 36, 10, 0.5)
    voxels = open_voxels(product)
    first, second = (
        list(render(*video.prepare(voxels, film, CPU), film, heading_deg(voxels), CPU)) for _ in range(2)
    )
    assert first == second
    assert len(set(first)) == len(first) == 5


@pytest.mark.slow
def test_stretched_heights_keep_the_optical_depth(product):
    voxels = open_voxels(product)
    depths = []
    for factor in (1.0, 3.0):
        scene, box = video.prepare(voxels, Film(exaggerate=factor), CPU)
        assert scene.volume is not None
        depths.append(scene.volume.values[0].sum(dim=0).max() * scene.volume.step_m[2])
    assert float(depths[1]) == pytest.approx(float(depths[0]), rel=0.1)
    assert box.lower_m[2] == pytest.approx(3 * 650.0, abs=450)
    assert video.prepare(voxels, Film(threshold_per_m=1.0), CPU)[0].volume is None


def test_an_encoder_that_fails_is_quoted_and_leaves_nothing(quick, product, tmp_path, monkeypatch):
    script = tmp_path / "ffmpeg"
    script.write_text(
        "#!/bin/sh\nhead -c 100 >/dev/null\necho 'first line' >&2\necho 'disk quota' >&2\nexit 3\n"
    )
    script.chmod(0o755)
    monkeypatch.setattr(video, "_ffmpeg", lambda: str(script))
    with pytest.raises(StoreError, match=r"c\.mp4: the encoder failed: first line / disk quota"):
        write_video(product, tmp_path / "c.mp4", TINY, device=CPU)
    assert list(tmp_path.iterdir()) == [script]


def test_a_real_encoder_that_cannot_write_is_quoted(quick, product, tmp_path):
    with pytest.raises(StoreError, match=r"c\.nosuchformat: the encoder failed: .*nosuchformat"):
        write_video(product, tmp_path / "c.nosuchformat", TINY, device=CPU)
    assert list(tmp_path.iterdir()) == []


def test_an_interruption_leaves_nothing(quick, product, tmp_path):
    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_video(product, tmp_path / "c.mp4", TINY, device=CPU, progress=stop)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_ctrl_c_leaves_nothing(write_product, tmp_path):
    command = [sys.executable, "-m", "atmonr", "export", write_product(step_m=500.0)]
    film = ["--video", tmp_path / "c.mp4", "--size", "320x180", "--seconds", "600", "--device", "cpu"]
    with subprocess.Popen(
        [*command, *film],
        stderr=subprocess.PIPE,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # ignored in the background
    ) as running:
        try:
            deadline = time.monotonic() + 200
            while not list(tmp_path.iterdir()) and time.monotonic() < deadline:
                time.sleep(0.05)
            assert list(tmp_path.iterdir()), "the encoder never began"
            time.sleep(0.5)
            os.killpg(running.pid, signal.SIGINT)  # to all of the group, as a terminal does
            _, said = running.communicate(timeout=60)
        finally:
            running.kill()
    assert running.returncode == 130 and said.decode().strip() == "interrupted"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"width": 641}, "--size 641x720: expected even numbers"),
        ({"height": 4}, "--size 1280x4: expected even numbers of 16 to 8192"),
        ({"fps": 0}, "--fps 0"),
        ({"seconds": 0.0}, "--seconds 0: expected at least one frame"),
        ({"seconds": math.inf}, "--seconds inf"),
        ({"path": "dive"}, "--path dive: expected turntable or flyover"),
        ({"exaggerate": 0.0}, "--exaggerate 0"),
    ],
)
def test_what_cannot_be_made_is_refused(wrong, message):
    with pytest.raises(UsageError, match=message):
        Film(**wrong)


@pytest.mark.parametrize("size", ["", "1280", "1280x", "axb", "1280 x 720", "-2x4", "1280x720x3"])
def test_sizes_that_are_none_are_refused(size):
    assert parse_size("1280x720") == (1280, 720)
    with pytest.raises(UsageError, match="such as 1280x720"):
        parse_size(size)


def test_the_sun_is_the_product_s_own(product, tmp_path):
    assert sun_vector(open_voxels(product), None) == pytest.approx((0.6, 0.0, 0.8), abs=1e-4)
    assert sun_vector(open_voxels(product), (60.0, 180.0)) == pytest.approx((0, -math.sqrt(0.75), 0.5))
    assert heading_deg(open_voxels(product)) == pytest.approx(
        360 - math.degrees(math.atan(500 / 4_500)), abs=0.01
    )


def test_a_product_without_sun_has_time_and_place(product, tmp_path):
    older = without(product, tmp_path / "older.nc", "solar_zenith_deg", "sensor_heading_deg")
    assert sun_vector(open_voxels(older), None)[2] > 0.99  # noon in June at 18 degrees north
    assert heading_deg(open_voxels(older)) == 0.0
    timeless = without(older, tmp_path / "timeless.nc", "time_coverage_start")
    with pytest.raises(UsageError, match=r"timeless\.nc: tells neither .* give --sun ZENITH AZIMUTH"):
        sun_vector(open_voxels(timeless), None)
    with pytest.raises(UsageError, match="the sun is 95"):
        sun_vector(open_voxels(timeless), (95.0, 0.0))


@pytest.mark.parametrize("path", ["turntable", "flyover"])
@pytest.mark.parametrize("heading", [0.0, 348.0])
def test_cameras_are_above_the_cloud_and_see_it(path, heading):
    low, high = torch.tensor([-5e3, -3e3, 500.0]), torch.tensor([5e3, 3e3, 3e3])
    box = Box(low.double().numpy(), high.double().numpy())
    for camera in cameras(path, box, 12, 16 / 9, heading):
        assert camera.place_m[2] > 3e3
        ahead, towards = camera.target_m - camera.place_m, box.middle_m - camera.place_m
        cosine = ahead @ towards / math.sqrt((ahead @ ahead) * (towards @ towards))
        assert cosine > math.cos(math.radians(45))
        origin, rays = camera.rays(32, 18, CPU)
        assert torch.allclose(rays.norm(dim=-1), torch.ones(18, 32))
        assert rays[0, 0, 2] > rays[-1, 0, 2]  # the first row is the top
        assert origin.tolist() == pytest.approx(camera.place_m.tolist(), rel=1e-6)


def test_thin_haze_does_not_widen_the_picture():
    cloud = np.zeros((10, 40, 50), np.float32)
    cloud[3:6, 10:20, 30:45] = 0.02
    first, step = np.array([0.0, 0.0, 50.0]), np.array([100.0, 100.0, 100.0])
    bare, hazy = (video._framed(values, first, step) for values in (cloud, cloud + np.float32(1e-4)))
    assert np.array_equal(bare.lower_m, hazy.lower_m) and np.array_equal(bare.upper_m, hazy.upper_m)
    assert (bare.lower_m <= (2_950, 950, 300)).all() and (bare.upper_m >= (4_450, 1_950, 600)).all()
    whole = video._framed(np.zeros_like(cloud), first, step)
    assert (whole.upper_m - whole.lower_m).tolist() == [5_200.0, 4_200.0, 1_200.0]


def test_a_turntable_shows_all_of_the_cloud_and_closes():
    box = Box(*(torch.tensor(v).double().numpy() for v in ([-5e3, -3e3, 500.0], [5e3, 3e3, 3e3])))
    corners = [[x, y, z] for x in (-5e3, 5e3) for y in (-3e3, 3e3) for z in (500.0, 3e3)]
    views = list(cameras("turntable", box, 8, 16 / 9, 0.0))
    assert len({tuple(v.place_m.round()) for v in views}) == 8
    assert views[0].place_m[1] < 0  # the sensor comes from the south
    for camera in views:
        _, rays = camera.rays(160, 90, CPU)
        middle = rays[44:46, 79:81].mean(dim=(0, 1)).double()
        right, above = (rays[:, -1] - rays[:, 0]).mean(0).double(), (rays[0] - rays[-1]).mean(0).double()
        limit_x = float(rays[45, -1].double() @ right / (rays[45, -1].double() @ middle))
        limit_y = float(rays[0, 80].double() @ above / (rays[0, 80].double() @ middle))
        for corner in corners:
            to = torch.tensor(corner).double() - torch.tensor(camera.place_m)
            assert abs(float(to @ right / (to @ middle))) < limit_x * 1.01
            assert abs(float(to @ above / (to @ middle))) < abs(limit_y) * 1.02
