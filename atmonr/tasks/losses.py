"""How rendered reflectance is compared with measured reflectance: always in fp32, on numbers of order one.

Radiance in W m-2 sr-1 um-1 in half precision underflows in the mean over a batch; reflectance in fp32 does
not.
"""

from __future__ import annotations

from torch import Tensor

from atmonr.config import LossConfig

HDR_FLOOR = 0.01  # reflectance below which errors count absolutely; clear ocean away from glint
FIRST_SPARSITY = 0.1  # of the weight in the end
DARK_SCALE = 0.05  # reflectance at which an error counts half as much as in the dark


def mse(rendered: Tensor, measured: Tensor) -> Tensor:
    """Mean squared error."""
    return (rendered - measured).square().mean()


def l1(rendered: Tensor, measured: Tensor) -> Tensor:
    """Mean absolute error."""
    return (rendered - measured).abs().mean()


def hdr(rendered: Tensor, measured: Tensor) -> Tensor:
    """Mean squared relative error, with the rendered value as scale and no gradient through the scale
    (Mildenhall et al. 2022, arXiv 2111.13679, eq. 7)."""
    return ((rendered - measured) / (rendered.detach() + HDR_FLOOR)).square().mean()


def dark(rendered: Tensor, measured: Tensor) -> Tensor:
    """Mean squared error with less weight on bright rays, so that thin cloud is not drowned by thick."""
    return ((rendered - measured).square() * (DARK_SCALE / (DARK_SCALE + measured.clamp_min(0.0)))).mean()


def image_loss(rendered: Tensor, measured: Tensor, weights: LossConfig) -> Tensor:
    """Weighted sum of the terms with a weight above zero; scalar fp32.

    Args:
        rendered: (B,) reflectance.
        measured: (B,) reflectance.
        weights: Of the terms.
    """
    rendered, measured = rendered.float(), measured.float()
    terms = ((weights.mse, mse), (weights.l1, l1), (weights.hdr, hdr), (weights.dark, dark))
    total = measured.new_zeros(())
    for weight, term in terms:
        if weight > 0:
            total = total + weight * term(rendered, measured)
    return total


def sparsity_weight(weights: LossConfig, step: int, steps: int) -> float:
    """Weight of sparsity at a step: it grows evenly over the training.

    Cloud that few rays see past others, such as low cloud under an anvil, comes up slowly and would be held
    down for good; haze that has come up with it is taken away later.

    Args:
        weights: Of the terms, at the end.
        step: Number of steps done.
        steps: Number of steps in the whole training.
    """
    return weights.sparsity * (FIRST_SPARSITY + (1.0 - FIRST_SPARSITY) * min(step / steps, 1.0))
