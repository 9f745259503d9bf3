"""Scores of a rendered image against the measured one, over valid pixels only: pure functions, fp64.

Invalid pixels are left out, never counted as equal: a fill value that is the same in both images would
otherwise raise every score.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.ndimage import correlate1d

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]

# Wang et al. 2004, IEEE Trans. Image Process. 13, 600, section III.C.
_SIGMA_PIXELS = 1.5
_RADIUS_PIXELS = 5
_K1, _K2 = 0.01, 0.03


@dataclass(frozen=True)
class ImageScore:
    """A score and the number of pixels it is the mean of; NaN without any."""

    value: float
    pixels: int


def psnr(target: ArrayLike, rendered: ArrayLike, valid: ArrayLike, *, peak: float) -> ImageScore:
    """Return the peak signal-to-noise ratio [dB], 10 log10(peak^2 / mean squared error).

    Args:
        target: Measured values, any shape.
        rendered: Rendered values of the same shape.
        valid: True where the measurement counts; the others may hold anything, NaN included.
        peak: Value that stands for full signal, such as the brightest measured pixel.

    Returns:
        The score; infinite for identical images.
    """
    target, rendered, valid = _images(target, rendered, valid)
    pixels = int(valid.sum())
    if pixels == 0:
        return ImageScore(float("nan"), 0)
    error = float(np.mean((target[valid] - rendered[valid]) ** 2))
    return ImageScore(float(10 * np.log10(peak**2 / error)) if error else float("inf"), pixels)


def ssim(target: ArrayLike, rendered: ArrayLike, valid: ArrayLike, *, peak: float) -> ImageScore:
    """Return the mean structural similarity over the valid pixels of one image.

    The Gaussian window (standard deviation 1.5 pixels, 11 x 11; Wang et al. 2004) is cut at invalid pixels
    and at the border and normalised by the weight that is left, so that fill values never enter.

    Args:
        target: Measured values, shape (line, pixel).
        rendered: Rendered values of the same shape.
        valid: True where the measurement counts.
        peak: Dynamic range of the measurement, as for `psnr`.
    """
    target, rendered, valid = _images(target, rendered, valid)
    if target.ndim != 2:
        raise ValueError(f"structural similarity needs an image of (line, pixel), got shape {target.shape}")
    if not valid.any():
        return ImageScore(float("nan"), 0)
    target, rendered = np.where(valid, target, 0.0), np.where(valid, rendered, 0.0)
    weight = _blur(valid.astype(np.float64))[valid]
    mean_t, mean_r = _blur(target)[valid] / weight, _blur(rendered)[valid] / weight
    variance_t = _blur(target**2)[valid] / weight - mean_t**2
    variance_r = _blur(rendered**2)[valid] / weight - mean_r**2
    covariance = _blur(target * rendered)[valid] / weight - mean_t * mean_r
    c1, c2 = (_K1 * peak) ** 2, (_K2 * peak) ** 2
    luminance = (2 * mean_t * mean_r + c1) / (mean_t**2 + mean_r**2 + c1)
    structure = (2 * covariance + c2) / (variance_t + variance_r + c2)
    return ImageScore(float(np.mean(luminance * structure)), int(valid.sum()))


def _blur(image: FloatArray) -> FloatArray:
    """Weight every pixel's neighbourhood with the window; outside the image counts nothing."""
    offsets = np.arange(-_RADIUS_PIXELS, _RADIUS_PIXELS + 1)
    kernel = np.exp(-0.5 * (offsets / _SIGMA_PIXELS) ** 2)
    kernel /= kernel.sum()
    for axis in (0, 1):
        image = correlate1d(image, kernel, axis=axis, mode="constant", cval=0.0)
    return image


def _images(
    target: ArrayLike, rendered: ArrayLike, valid: ArrayLike
) -> tuple[FloatArray, FloatArray, BoolArray]:
    target, rendered = np.asarray(target, np.float64), np.asarray(rendered, np.float64)
    valid = np.asarray(valid, bool)
    if not target.shape == rendered.shape == valid.shape:
        raise ValueError(f"shapes {target.shape}, {rendered.shape}, {valid.shape}: expected equal shapes")
    return target, rendered, valid
