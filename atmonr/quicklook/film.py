"""Frames, one after the other, as GIF or MP4."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from matplotlib import rc_context
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

from atmonr.atomic import atomic_file
from atmonr.evaluate.drawing import STYLE
from atmonr.quicklook.ground import Ground, draw_graticule

FloatArray = NDArray[np.float64]
Picture = NDArray[np.uint8]
Frame = Callable[[int], tuple[FloatArray, str]]

_DPI = 90
_FPS = 10


def write_film(
    path: Path,
    ground: Ground,
    frames: int,
    frame: Frame,
    *,
    size: tuple[float, float],
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Draw frames on a map, forth and back so that nothing jumps, and write them.

    Args:
        path: GIF to write, or MP4 by its name.
        ground: The map.
        frames: How many there are.
        frame: Gives the picture of a frame, (Y, X) of 0 to 1 with NaN where nothing is, and its title.
        size: Of a frame [inches].
        progress: Called with the number of finished frames and of all frames.

    Raises:
        StoreError: If the file cannot be written.
    """
    drawn = []
    for number, picture in enumerate(_drawn(ground, frames, frame, size)):
        drawn.append(picture)
        if progress is not None:
            progress(number + 1, frames)
    write = _write_mp4 if path.suffix.lower() == ".mp4" else _write_gif
    with atomic_file(path) as temporary:
        write(temporary.resolve(), drawn + drawn[-2:0:-1])


def _write_gif(path: Path, pictures: list[Picture]) -> None:
    # Shades of grey: 256 colours are enough, and no frame needs a palette of its own.
    first, *others = (Image.fromarray(picture).convert("L") for picture in pictures)
    first.save(path, format="GIF", save_all=True, append_images=others, duration=1000 // _FPS, loop=0)


def _write_mp4(path: Path, pictures: list[Picture]) -> None:
    import imageio_ffmpeg

    height, width = (size // 2 * 2 for size in pictures[0].shape[:2])  # H.264 halves the colours' resolution
    writer = imageio_ffmpeg.write_frames(
        str(path), (width, height), fps=_FPS, codec="libx264", macro_block_size=2, ffmpeg_log_level="error"
    )
    writer.send(None)
    for picture in pictures:
        writer.send(np.ascontiguousarray(picture[:height, :width]))
    writer.close()


def _drawn(ground: Ground, frames: int, frame: Frame, size: tuple[float, float]) -> Iterator[Picture]:
    """Every frame as (height, width, 3) bytes."""
    with rc_context(STYLE):
        figure = Figure(figsize=size, dpi=_DPI)
        canvas = FigureCanvasAgg(figure)
        axis = figure.subplots()
        axis.set_facecolor("0.75")
        image = axis.imshow(
            np.zeros((1, 1)), extent=ground.edges_km, origin="lower", cmap="gray", vmin=0.0, vmax=1.0
        )
        draw_graticule(axis, ground)
        for number in range(frames):
            picture, title = frame(number)
            image.set_data(picture)
            axis.set_title(title, fontsize=8)
            canvas.draw()
            figure.set_layout_engine("none")  # once is enough: nothing moves
            yield np.asarray(canvas.buffer_rgba())[..., :3].copy()
