"""Procedural clouds: kinds that look and shade like real ones, of any size, the same for the same seed.

Each shape function fills a box of cells with extinction [1/m]. Where a cloud condenses as it rises, the
extinction grows with height above the base like the liquid water of an undiluted parcel to the power 2/3 (a
fixed number of droplets per volume).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from atmonr.errors import UsageError
from atmonr.simulate.volume import Volume

Floats = NDArray[np.float64]

# The most oblique views see a cloud's top this many times its height aside of its foot.
OBLIQUE_RUN = 2.5


@dataclass(frozen=True)
class Cells:
    """Cell centres of a box: x (X, 1, 1), y (1, Y, 1), z (1, 1, Z) [m]; z is height above the ground."""

    x: Floats
    y: Floats
    z: Floats
    base_m: float
    top_m: float

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.x.size, self.y.size, self.z.size

    @property
    def half_m(self) -> tuple[float, float]:
        """Half the width of the box along x and y."""
        return float(self.x.max() + self.step_m / 2), float(self.y.max() + self.step_m / 2)

    @property
    def step_m(self) -> float:
        return float(self.x.ravel()[1] - self.x.ravel()[0])

    @property
    def vertical_step_m(self) -> float:
        return float(self.z.ravel()[1] - self.z.ravel()[0])


@dataclass(frozen=True)
class Preset:
    """A kind of cloud and the picture that suits it.

    Attributes:
        shape: fills cells with extinction [1/m].
        base_m, top_m: heights between which it may stand.
        vertical_step_m: height of a cell.
        lines, pixels, pixel_m: the picture when nothing else is asked for.
        single_scattering_albedo: of the cloud.
    """

    shape: Callable[[Cells, Generator], Floats]
    base_m: float
    top_m: float
    vertical_step_m: float
    lines: int
    pixels: int
    pixel_m: float
    single_scattering_albedo: float = 1.0


def cumulus(cells: Cells, random: Generator) -> Floats:
    """A field of fair-weather cumuli, each a pile of rising bubbles over a flat base."""
    half_x, half_y = cells.half_m
    depth = cells.top_m - cells.base_m
    body = np.full(cells.shape, -9.0)
    places: list[Floats] = []
    for cloud in range(max(1, round(0.7 * 4 * half_x * half_y / depth**2))):
        # One large cloud anchors the scene; the others are mostly small, by a power law.
        width = depth * (0.48 if cloud == 0 else 0.19 * random.uniform(0.2, 1.0) ** -0.5)
        reach = np.maximum(0.0, np.array([half_x, half_y]) - 1.4 * width)
        place = _apart(places, random.uniform(-reach, reach, (4, 2)))
        places.append(place)
        height = min(0.95 * depth, width * random.uniform(1.7, 2.3))
        for level in np.linspace(0.0, 1.0, 9):
            radius = width * random.uniform(0.65, 0.95) * (1.0 - 0.5 * level**2)
            wander = random.normal(0.0, 0.4 * width, 2) * (0.5 + 0.5 * level)
            middle = cells.base_m + level * (height - radius)
            body = np.maximum(body, _bubble(cells, place + wander, middle, radius))
    edge = body + 0.16 * _fractal(cells, random, 0.3 * depth)
    return _condensed(cells, 0.032) * _rise(edge, 0.0, 0.25)


def stratocumulus(cells: Cells, random: Generator) -> Floats:
    """A broken layer of closed cells."""
    depth = cells.top_m - cells.base_m
    pattern = _fractal(cells, random, 8.0 * depth)[:, :, :1]
    cover = _rise(pattern, -0.9, 1.3)
    ceiling = cells.base_m + depth * (0.15 + 0.65 * cover)
    lumps = 0.10 * depth * _fractal(cells, random, 0.8 * depth)
    edge = (ceiling + lumps - cells.z) / (0.15 * depth)
    return _condensed(cells, 0.060) * _rise(edge, 0.0, 1.0) * _rise(cover, 0.05, 0.35)


def deep(cells: Cells, random: Generator) -> Floats:
    """One thunderstorm: turrets, a core up to the tropopause and an anvil blown to one side."""
    half_x, half_y = cells.half_m
    depth = cells.top_m - cells.base_m
    width = min(half_x, half_y)
    rise = (cells.z - cells.base_m) / depth
    core = np.full(cells.shape, -9.0)
    for _ in range(12):
        aside = random.normal(0.0, 0.14 * width, 2)
        place = aside - (0.0, 0.2 * width)
        # The middle of the storm rises highest.
        height = np.clip(random.uniform(0.95, 1.1) - 2.2 * np.hypot(*aside) / width, 0.3, 0.98)
        radius = 0.17 * width * random.uniform(0.6, 1.2) * np.sqrt(np.clip(1.02 - rise / height, 0.05, 1))
        sideways = np.hypot(cells.x - place[0], cells.y - place[1] - 0.12 * width * rise)
        core = np.maximum(core, np.minimum(1 - sideways / radius, (height - rise) * 8))
    along = (cells.y - 0.25 * width) / (0.70 * width)
    spread = 1 - np.hypot(along, cells.x / (0.52 * width))
    thickness = 0.04 + 0.10 * np.clip(spread, 0, 1)
    anvil = np.minimum(2 * spread, 1 - np.abs(rise - 0.84) / thickness)
    noise = _fractal(cells, random, 0.25 * width)
    tower = 0.007 * np.clip(rise * 3, 0.25, 1) * _rise(core + 0.30 * noise, 0.0, 0.35)
    sheet = 0.0025 * _rise(anvil + 0.20 * noise, 0.0, 0.60)
    return np.maximum(tower, sheet)


def slab(cells: Cells, random: Generator) -> Floats:
    """A box of uniform extinction and unit optical depth over the middle of the scene."""
    half_x, half_y = cells.half_m
    inside = (np.abs(cells.x) < 0.4 * half_x) & (np.abs(cells.y) < 0.4 * half_y) & (cells.z > 0)
    return inside / (cells.top_m - cells.base_m)


def clear(cells: Cells, random: Generator) -> Floats:
    """Nothing."""
    return np.zeros(cells.shape)


PRESETS = {
    "cumulus": Preset(cumulus, 640.0, 3040.0, 60.0, lines=48, pixels=40, pixel_m=320.0),
    "stratocumulus": Preset(stratocumulus, 640.0, 1480.0, 40.0, lines=48, pixels=40, pixel_m=320.0),
    "deep": Preset(deep, 1000.0, 13000.0, 300.0, lines=64, pixels=40, pixel_m=1500.0),
    "slab": Preset(slab, 4000.0, 6000.0, 100.0, lines=48, pixels=40, pixel_m=320.0),
    "absorber": Preset(
        slab, 4000.0, 6000.0, 100.0, lines=48, pixels=40, pixel_m=320.0, single_scattering_albedo=0.0
    ),
    "clear": Preset(clear, 640.0, 3040.0, 200.0, lines=48, pixels=40, pixel_m=320.0),
}


def preset_named(name: str) -> Preset:
    """The preset of that name.

    Raises:
        UsageError: if there is none; the message lists those there are.
    """
    if name not in PRESETS:
        raise UsageError(f"preset {name!r}: expected one of {', '.join(PRESETS)}")
    return PRESETS[name]


def build(
    preset: Preset,
    lines: int,
    pixels: int,
    pixel_m: float,
    latitude_deg: float,
    longitude_deg: float,
    heading_deg: float,
    seed: int,
) -> Volume:
    """Fill the box that all views of a picture see with a cloud.

    The box is as wide as the picture less a rim of clear ground. Along the track it is shorter, by the
    parallax of the most oblique views, but never less than half of it (these views then lose its ends).
    """
    along, across = lines * pixel_m, pixels * pixel_m
    step = pixel_m / 2
    length = max(0.5 * along, along - OBLIQUE_RUN * (preset.top_m - preset.base_m) - 2 * pixel_m)
    x, y = _centres(0.9 * across, step), _centres(length, step)
    levels = round((preset.top_m - preset.base_m) / preset.vertical_step_m)
    z = preset.base_m + (np.arange(levels, dtype=np.float64) + 0.5) * preset.vertical_step_m
    cells = Cells(x[:, None, None], y[:, None], z[None, None], preset.base_m, preset.top_m)
    extinction = preset.shape(cells, np.random.default_rng(seed))
    return Volume(
        x,
        y,
        z,
        np.where(extinction > 1e-6, extinction, 0.0).astype(np.float32),
        latitude_deg,
        longitude_deg,
        heading_deg,
        preset.single_scattering_albedo,
    )


def _centres(size_m: float, step_m: float) -> Floats:
    count = max(4, round(size_m / step_m))
    return (np.arange(count, dtype=np.float64) - (count - 1) / 2) * step_m


def _apart(taken: list[Floats], candidates: Floats) -> Floats:
    """The candidate place (of (C, 2)) furthest from those taken."""
    if not taken:
        return candidates[0]
    distance = np.linalg.norm(candidates[:, None] - np.array(taken), axis=-1).min(axis=1)
    return candidates[np.argmax(distance)]


def _bubble(cells: Cells, place: Floats, middle_m: float, radius_m: float) -> Floats:
    """1 at the centre of a ball, 0 on its skin, negative outside."""
    squared = (cells.x - place[0]) ** 2 + (cells.y - place[1]) ** 2 + (cells.z - middle_m) ** 2
    return 1 - np.sqrt(squared) / radius_m


def _rise(values: Floats, low: float, high: float) -> Floats:
    """A smooth step from 0 at `low` to 1 at `high`."""
    share = np.clip((values - low) / (high - low), 0, 1)
    return share * share * (3 - 2 * share)


def _condensed(cells: Cells, per_m_at_1500_m: float) -> Floats:
    """Extinction [1/m] of undiluted cloud at a height above the base."""
    return per_m_at_1500_m * (np.clip(cells.z - cells.base_m, 0, None) / 1500.0) ** (2 / 3)


def _fractal(cells: Cells, random: Generator, longest_m: float) -> Floats:
    """Random field of unit variance, within -2..2, with the spectrum of turbulence up to a wavelength."""
    steps = (cells.step_m, cells.step_m, cells.vertical_step_m)
    frequencies = [np.fft.fftfreq(size, step) for size, step in zip(cells.shape, steps, strict=True)]
    f_x, f_y, f_z = np.meshgrid(*frequencies, indexing="ij", sparse=True)
    squared = f_x**2 + f_y**2 + f_z**2 + longest_m**-2
    # Energy per wavenumber falls like k^(-5/3), so amplitude per mode in 3-D falls like k^(-11/6).
    spectrum = np.fft.fftn(random.standard_normal(cells.shape)) * squared ** (-11 / 12)
    spectrum[0, 0, 0] = 0
    field = np.fft.ifftn(spectrum).real
    # Rare large values would condense specks of cloud far away from any.
    return np.clip(field / field.std(), -2, 2)
