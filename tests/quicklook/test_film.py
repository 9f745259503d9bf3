from __future__ import annotations

import numpy as np
import pytest

from atmonr.errors import StoreError
from atmonr.geo.frame import Frame
from atmonr.quicklook.film import write_film
from atmonr.quicklook.ground import Ground

GROUND = Ground(
    Frame(18.0, -61.5, (-1.0, -1.0, 0.0), (1.0, 1.0, 1.0)), np.arange(9) * 1e3, np.arange(7) * 1e3
)


def frame(number):
    return np.full((7, 9), number / 4), f"frame {number}"


@pytest.mark.slow
def test_a_film_can_be_mp4(tmp_path):
    imageio_ffmpeg = pytest.importorskip("imageio_ffmpeg")
    write_film(tmp_path / "film.mp4", GROUND, 5, frame, size=(3.01, 2.97))
    frames, seconds = imageio_ffmpeg.count_frames_and_secs(str(tmp_path / "film.mp4"))
    assert (frames, round(seconds, 1)) == (8, 0.8)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["film.gif", "film.mp4"])
def test_a_film_that_cannot_be_written_leaves_nothing(tmp_path, name):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StoreError, match="cannot write"):
        write_film(tmp_path / "file" / name, GROUND, 1, frame, size=(3.0, 3.0))
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
