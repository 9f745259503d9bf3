"""A product as a video: a cloud lit by its own sun, seen from all sides or along the sensor's track."""

from __future__ import annotations

import math
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch

from atmonr.atomic import atomic_file
from atmonr.errors import StoreError, UsageError
from atmonr.export import camera
from atmonr.export.lighting import LitScene, light_up
from atmonr.export.scenery import picture
from atmonr.export.voxels import Voxels, coarse, open_voxels
from atmonr.geo.ephemeris import solar_angles

# Eyes see most in the green.
_WAVELENGTH_NM = 550.0
_MOST_CELLS = 20_000_000
_LOWEST_SUN_DEG = 85.0
_LARGEST_SIDE, _SMALLEST_SIDE = 8192, 16
# The sea fades into the horizon over so many times the width of the scene.
_HAZE_WIDTHS = 6.0
_STDERR_LINES = 3


@dataclass(frozen=True)
class Film:
    """How a video is to be.

    Attributes:
        path: `turntable` or `flyover`.
        width: Of the picture [pixels].
        height: Of the picture [pixels].
        fps: Frames per second.
        seconds: Duration; that of the nearest number of frames.
        sun_deg: Zenith angle and azimuth of the sun; the product's own by default.
        exaggerate: Heights are stretched by this factor, optical depths kept.

    Raises:
        UsageError: For a value out of range.
    """

    path: camera.Path = "turntable"
    width: int = 1280
    height: int = 720
    fps: int = 24
    seconds: float = 8.0
    sun_deg: tuple[float, float] | None = None
    exaggerate: float = 1.0

    def __post_init__(self) -> None:
        if self.path not in ("turntable", "flyover"):
            raise UsageError(f"--path {self.path}: expected turntable or flyover")
        sides = self.width, self.height
        if not all(_SMALLEST_SIDE <= side <= _LARGEST_SIDE and side % 2 == 0 for side in sides):
            raise UsageError(
                f"--size {self.width}x{self.height}: expected even numbers of {_SMALLEST_SIDE} to "
                f"{_LARGEST_SIDE} pixels, because players expect colours at half the resolution (yuv420p)"
            )
        if not 1 <= self.fps <= 240:
            raise UsageError(f"--fps {self.fps}: expected 1 to 240")
        if not (math.isfinite(self.seconds) and self.frames >= 1):
            raise UsageError(
                f"--seconds {self.seconds:g}: expected at least one frame at {self.fps} a second"
            )
        if not (math.isfinite(self.exaggerate) and self.exaggerate > 0):
            raise UsageError(f"--exaggerate {self.exaggerate:g}: expected a factor above 0")

    @property
    def frames(self) -> int:
        """Number of frames."""
        return round(self.seconds * self.fps)


def parse_size(text: str) -> tuple[int, int]:
    """Return width and height of `1280x720`.

    Raises:
        UsageError: If it is something else.
    """
    width, cross, height = text.partition("x")
    if not (cross and width.isdecimal() and height.isdecimal()):
        raise UsageError(f"--size {text}: expected width x height in pixels, such as 1280x720")
    return int(width), int(height)


def write_video(
    extract: Path,
    out: Path,
    film: Film,
    *,
    device: torch.device,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Render a product and encode it as H.264 in MP4; the same input gives the same frames.

    Args:
        extract: File from `atmonr merge`, on a voxel grid.
        out: File to make.
        film: How it is to be.
        device: Where to render.
        progress: Told the number of frames done, of those to do.

    Returns:
        `out`.

    Raises:
        UsageError: If `out` exists, no encoder is found, or the sun is unknown or too low.
        SceneError: If the product is unreadable or not on a voxel grid.
        StoreError: If the encoder fails; says what it said last.
    """
    if out.exists():
        raise UsageError(f"{out}: exists already; choose another name or remove it first")
    voxels = open_voxels(extract)
    ffmpeg = _ffmpeg()
    scene, box = prepare(voxels, film, device)
    with atomic_file(out) as temporary, _encoder(ffmpeg, temporary, out, film, voxels) as write:
        for done, frame in enumerate(render(scene, box, film, heading_deg(voxels), device)):
            write(frame)
            if progress is not None:
                progress(done + 1, film.frames)
    return out


def prepare(voxels: Voxels, film: Film, device: torch.device) -> tuple[LitScene, camera.Box]:
    """Read a product and solve for its light."""
    values, first, step = coarse(voxels, _WAVELENGTH_NM, _MOST_CELLS)
    ground = first[2] - step[2] / 2.0
    stretched = film.exaggerate
    first = first[0], first[1], ground + (first[2] - ground) * stretched
    step = step[0], step[1], step[2] * stretched
    extinction = torch.from_numpy(values).to(device) / stretched
    scene = light_up(extinction, first, step, ground, sun_vector(voxels, film.sun_deg))
    shape = values.shape[::-1]
    corner, size = np.array(first), np.array(step)
    filled = torch.nonzero(extinction).flip(1).cpu().numpy()
    low, high = (filled.min(0), filled.max(0)) if len(filled) else (np.zeros(3), np.array(shape) - 1.0)
    return scene, camera.Box(corner + (low - 0.5) * size, corner + (high + 0.5) * size)


def render(
    scene: LitScene, box: camera.Box, film: Film, heading: float, device: torch.device
) -> Iterator[bytes]:
    """Yield every frame as rows of 8-bit R, G, B."""
    haze = _HAZE_WIDTHS * 2.0 * float(box.half_m[:2].max())
    for view in camera.cameras(film.path, box, film.frames, film.width / film.height, heading):
        origin, directions = view.rays(film.width, film.height, device)
        yield picture(scene, origin, directions, haze).cpu().numpy().tobytes()


def sun_vector(voxels: Voxels, sun_deg: tuple[float, float] | None) -> tuple[float, float, float]:
    """Return the unit vector to the sun: as asked for, as the product says, or from its time and place.

    Raises:
        UsageError: If none of them tells, or the sun is near the horizon or below.
    """
    attrs, path = voxels.file.attrs, voxels.file.path
    if sun_deg is None and "solar_zenith_deg" in attrs and "solar_azimuth_deg" in attrs:
        sun_deg = float(attrs["solar_zenith_deg"]), float(attrs["solar_azimuth_deg"])
    if sun_deg is None:
        try:
            moment = datetime.fromisoformat(str(attrs["time_coverage_start"]))
        except (KeyError, ValueError) as error:
            raise UsageError(
                f"{path}: tells neither the sun's direction nor its time; give --sun ZENITH AZIMUTH"
            ) from error
        sun_deg = solar_angles(moment, voxels.file.frame.latitude_deg, voxels.file.frame.longitude_deg)
    zenith, azimuth = sun_deg
    if not (0.0 <= zenith <= _LOWEST_SUN_DEG and math.isfinite(azimuth)):
        raise UsageError(
            f"{path}: the sun is {zenith:.1f} degrees from the zenith; expected 0 to {_LOWEST_SUN_DEG:g}: "
            "give another with --sun ZENITH AZIMUTH"
        )
    z, a = math.radians(zenith), math.radians(azimuth)
    return math.sin(z) * math.sin(a), math.sin(z) * math.cos(a), math.cos(z)


def heading_deg(voxels: Voxels) -> float:
    """Return the sensor's direction of flight clockwise from north; north if the product does not tell."""
    return float(voxels.file.attrs.get("sensor_heading_deg", 0.0))


def _ffmpeg() -> str:
    try:
        import imageio_ffmpeg

        return str(imageio_ffmpeg.get_ffmpeg_exe())
    except (ImportError, RuntimeError) as error:
        raise UsageError("no ffmpeg found; pip install imageio-ffmpeg") from error


def _command(ffmpeg: str, path: Path, film: Film, voxels: Voxels) -> list[str]:
    raw = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{film.width}x{film.height}", "-r", str(film.fps)]
    colours = [
        "-color_primaries",
        "bt709",
        "-color_trc",
        "bt709",
        "-colorspace",
        "bt709",
        "-color_range",
        "tv",
    ]
    x264 = ["-c:v", "libx264", "-crf", "18", "-pix_fmt", "yuv420p", "-movflags", "+faststart"]
    title = str(voxels.file.attrs.get("title", voxels.file.path.name))
    told = [
        "-metadata",
        f"title={title}",
        "-metadata",
        f"comment=Rendered by atmonr from {voxels.file.path.name}",
    ]
    fixed = ["-hide_banner", "-loglevel", "error", "-y"]
    matrix = ["-vf", "scale=out_color_matrix=bt709:out_range=tv"]
    return [ffmpeg, *fixed, *raw, "-i", "-", "-an", *matrix, *x264, *colours, *told, f"file:{path}"]


@contextmanager
def _encoder(
    ffmpeg: str, path: Path, out: Path, film: Film, voxels: Voxels
) -> Iterator[Callable[[bytes], Any]]:
    """Yield a function that takes frames; the file is whole when the block ends well."""
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(
            _command(ffmpeg, path, film, voxels),
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=errors,
            start_new_session=True,  # Ctrl-C is for this process, which then ends that one
        )
        try:
            if process.stdin is None:
                raise ValueError("ffmpeg has no standard input")
            try:
                yield process.stdin.write
                process.stdin.close()
                failed = process.wait() != 0
            except BrokenPipeError:
                failed = True
            if failed:
                process.wait()
                errors.seek(0)
                said = errors.read().decode(errors="replace").strip().splitlines()[-_STDERR_LINES:]
                why = " / ".join(said) or f"it ended with {process.returncode}"
                raise StoreError(f"{out}: the encoder failed: {why}")
        finally:
            process.kill()
            process.wait()
            with suppress(BrokenPipeError):
                if process.stdin is not None:
                    process.stdin.close()
