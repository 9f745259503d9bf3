"""Simulate: a cloud, a sun and an instrument become a granule in the native format and its truth file."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import get_args

import numpy as np
import torch

from atmonr.errors import UsageError
from atmonr.simulate import clouds, native
from atmonr.simulate.instrument import irradiances
from atmonr.simulate.picture import Picture, Progress, observe_cloud
from atmonr.simulate.surface import surface_named
from atmonr.simulate.volume import Volume, read_truth, write_truth

TRUTH_NAME = "truth.nc"
TRUTH_WAVELENGTH_NM = 664.57
DEFAULT_PIXEL_M = 320.0
LOWEST_SUN_DEG = 80.0


def simulate(
    preset: str | None,
    out: Path,
    *,
    volume: Path | Volume | None = None,
    lines: int | None = None,
    pixels: int | None = None,
    pixel_m: float | None = None,
    latitude_deg: float = 18.0,
    longitude_deg: float = -61.5,
    solar_zenith_deg: float = 40.0,
    solar_azimuth_deg: float = -42.0,
    heading_deg: float = 348.0,
    surface: str = "black",
    rayleigh: bool = False,
    noise: float = 0.0,
    product: native.Product = "L1B",
    packing: native.Packing = "float",
    seed: int = 0,
    subpixels: int = 2,
    progress: Progress | None = None,
) -> tuple[Path, Path]:
    """Simulate a HARP2 granule of a known cloud.

    Args:
        preset: kind of cloud (see `clouds.PRESETS`), or None when `volume` is given.
        out: folder for the two files; it is made if it is not there.
        volume: a cloud of one's own, or the truth file of one; it stands where it says.
        lines: lines of the picture, along the track; by default what suits the cloud.
        pixels: pixels of a line; by default what suits the cloud.
        pixel_m: ground spacing of pixels [m].
        latitude_deg: middle of a preset's scene.
        longitude_deg: middle of a preset's scene.
        solar_zenith_deg: where the sun stands, seen from the middle of the scene.
        solar_azimuth_deg: likewise, clockwise from north.
        heading_deg: direction of flight, clockwise from north.
        surface: "black", "ocean" or "land".
        rayleigh: whether the air scatters too.
        noise: relative standard deviation of each radiance.
        product: "L1B", where views coincide in the middle of the cloud and each has its own places; "L1C",
            where all views look at the same places on the ground.
        packing: how numbers are stored (see `native.write_granule`).
        seed: of the cloud, the ground and the noise.
        subpixels: lines of sight averaged over each pixel, along and across (1 or more).
        progress: called after each view.

    Returns:
        Paths of the granule and of the truth file.

    Raises:
        UsageError: for an unknown name, a value out of range, or when an output exists.
        SceneError: if `volume` is no truth file or not a usable cloud.
        StoreError: if a file cannot be written.
    """
    _check_sizes(lines, pixels, pixel_m, subpixels)
    _check_scene(latitude_deg, longitude_deg, solar_zenith_deg, noise)
    _check_format(product, packing)
    granule_path, truth_path = Path(out) / native.GRANULE_NAMES[product], Path(out) / TRUTH_NAME
    for path in (granule_path, truth_path):
        if path.exists():
            raise UsageError(f"{path}: exists already; choose another folder or remove it first")
    if preset is not None and volume is None:
        place = latitude_deg, longitude_deg
        picture = _of_preset(preset, lines, pixels, pixel_m, place, heading_deg, seed)
    elif volume is not None and preset is None:
        cloud = volume if isinstance(volume, Volume) else read_truth(volume)
        picture = _of_volume(cloud, lines, pixels, pixel_m or DEFAULT_PIXEL_M, heading_deg)
    else:
        raise UsageError("simulate: expected either a preset or a volume, not both")
    picture = replace(picture, on_ground=product == "L1C")
    ground = surface_named(surface, 3 * picture.pixel_m, seed)
    sun_deg = solar_zenith_deg, solar_azimuth_deg
    with _one_thread():
        geometry, reflectance = observe_cloud(picture, sun_deg, ground, rayleigh, subpixels, progress)

    factor = irradiances() * np.cos(np.radians(solar_zenith_deg)) / (np.pi * native.SUN_EARTH_DISTANCE_AU**2)
    radiance = reflectance * factor[:, None, None]
    random = np.random.default_rng([seed, 2])
    radiance *= np.clip(1 + noise * random.standard_normal(radiance.shape), 0, None)
    source = f"preset {preset}, seed {seed}" if preset else "a given volume"
    comment = f"Simulated by atmonr from a known cloud ({source}); surface {surface}; I only, no q or u."
    native.write_granule(granule_path, geometry, radiance, packing, comment, product)
    write_truth(picture.cloud, truth_path, granule_path.name, TRUTH_WAVELENGTH_NM)
    return granule_path, truth_path


@contextmanager
def _one_thread() -> Iterator[None]:
    """Let torch use one thread.

    Its operations here are short. On a busy machine, threads that wait for each other after every one of them
    take ten times as long as one that works.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _of_preset(
    name: str,
    lines: int | None,
    pixels: int | None,
    pixel_m: float | None,
    place_deg: tuple[float, float],
    heading_deg: float,
    seed: int,
) -> Picture:
    preset = clouds.preset_named(name)
    size = lines or preset.lines, pixels or preset.pixels, pixel_m or preset.pixel_m
    return Picture(clouds.build(preset, *size, *place_deg, heading_deg, seed), *size, heading_deg)


def _of_volume(
    cloud: Volume, lines: int | None, pixels: int | None, pixel_m: float, heading_deg: float
) -> Picture:
    """By default the picture holds the volume from all views: longer than it by the most oblique parallax."""
    turn = np.radians(heading_deg - cloud.heading_deg)
    wide, long = np.ptp(cloud.x_m), np.ptp(cloud.y_m)
    along_m = abs(long * np.cos(turn)) + abs(wide * np.sin(turn))
    across_m = abs(wide * np.cos(turn)) + abs(long * np.sin(turn))
    along_m += clouds.OBLIQUE_RUN * np.ptp(cloud.altitude_m)
    default = (int(np.ceil(size_m / pixel_m)) + 2 for size_m in (along_m, across_m))
    lines, pixels = (given or fitting for given, fitting in zip((lines, pixels), default, strict=True))
    return Picture(cloud, lines, pixels, pixel_m, heading_deg)


def _check_sizes(lines: int | None, pixels: int | None, pixel_m: float | None, subpixels: int) -> None:
    for name, count, least in (("lines", lines, 2), ("pixels", pixels, 2), ("subpixels", subpixels, 1)):
        if count is not None and count < least:
            raise UsageError(f"{name} {count}: expected at least {least}")
    if pixel_m is not None and not pixel_m > 0:
        raise UsageError(f"pixel_m {pixel_m}: expected more than 0 m")


def _check_scene(latitude_deg: float, longitude_deg: float, solar_zenith_deg: float, noise: float) -> None:
    ranges = {
        "latitude_deg": (latitude_deg, -90.0, 90.0),
        "longitude_deg": (longitude_deg, -180.0, 180.0),
        "solar_zenith_deg": (solar_zenith_deg, 0.0, LOWEST_SUN_DEG),
        "noise": (noise, 0.0, 1.0),
    }
    for name, (value, least, most) in ranges.items():
        if not least <= value <= most:
            raise UsageError(f"{name} {value}: expected {least:g} to {most:g}")


def _check_format(product: str, packing: str) -> None:
    known = {"product": (product, get_args(native.Product)), "packing": (packing, get_args(native.Packing))}
    for name, (value, values) in known.items():
        if value not in values:
            raise UsageError(f"{name} {value!r}: expected one of {', '.join(values)}")
