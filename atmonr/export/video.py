"""A product as a video: a cloud lit by its own sun, seen from all sides or along the sensor's track."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from atmonr.atomic import atomic_file
from atmonr.errors import UsageError
from atmonr.export import camera
from atmonr.export.child import child
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
_HAZE_WIDTHS = 12.0
# Of squared extinction, at either end of each axis, what may lie outside the picture.
_LEFT_OUT = 0.002


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
        threshold_per_m: Cells of a smaller extinction are left out.

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
    threshold_per_m: float | None = None

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
    with atomic_file(out) as temporary:
        command = _command(ffmpeg, temporary, film, voxels)
        with child(command, f"{out}: the encoder failed") as encoder:
            for done, frame in enumerate(render(scene, box, film, heading_deg(voxels), device)):
                encoder.feed(frame)
                if progress is not None:
                    progress(done + 1, film.frames)
            encoder.finish()
    return out


def prepare(voxels: Voxels, film: Film, device: torch.device) -> tuple[LitScene, camera.Box]:
    """Read a product, solve for its light, and find what to look at."""
    values, first, step = coarse(voxels, _WAVELENGTH_NM, _MOST_CELLS)
    if film.threshold_per_m is not None:
        values[values < film.threshold_per_m] = 0.0
    ground = first[2] - step[2] / 2.0
    stretched = film.exaggerate
    first = first[0], first[1], ground + (first[2] - ground) * stretched
    step = step[0], step[1], step[2] * stretched
    extinction = torch.from_numpy(values).to(device) / stretched
    scene = light_up(extinction, first, step, ground, sun_vector(voxels, film.sun_deg))
    return scene, _framed(values, np.array(first), np.array(step))


def _framed(extinction: NDArray[np.float32], first_m: camera.Vector, step_m: camera.Vector) -> camera.Box:
    """Return the box of all but the outermost cloud; thin haze around it counts for little."""
    squared = np.square(extinction, dtype=np.float64)
    low, high = np.zeros(3), np.array(extinction.shape[::-1]) - 1.0
    if squared.any():
        for axis, others in enumerate(((0, 1), (0, 2), (1, 2))):
            share = np.cumsum(squared.sum(axis=others))
            low[axis], high[axis] = np.searchsorted(share / share[-1], (_LEFT_OUT, 1.0 - _LEFT_OUT))
    return camera.Box(first_m + (low - 1.5) * step_m, first_m + (high + 1.5) * step_m)


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
