"""How rendered reflectance is compared with measured reflectance: always in fp32, on numbers of order one.

Radiance in W m-2 sr-1 um-1 in half precision underflows in the mean over a batch; reflectance in fp32 does
not.
"""

from __future__ import annotations

from torch import Tensor

from atmonr.config import LossConfig
from atmonr.tasks.view import Seen

HDR_FLOOR = 0.01  # reflectance below which errors count absolutely; clear ocean away from glint
FIRST_SHARE = 0.1  # of the weights that hold cloud down in the end
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


def hold_down(seen: Seen, weights: LossConfig, progress: float) -> Tensor:
    """What cloud along rays costs, on average; scalar.

    Sparsity is about haze that rays see: what nobody sees, inside thick cloud or behind it, is not haze to be
    cleared away. The amount is about all cloud, and weighs little; it keeps what nothing else holds from
    growing without end.

    Both grow evenly over the training. Cloud that few rays see past others, such as low cloud under an anvil,
    comes up slowly and would be held down for good; haze that has come up with it is taken away later.

    Args:
        seen: By B rays.
        weights: Of the terms, at the end.
        progress: Share of the training that is done.
    """
    share = FIRST_SHARE + (1.0 - FIRST_SHARE) * min(progress, 1.0)
    return share * (weights.sparsity * seen.sparsity + weights.amount * seen.cloud_depth).mean()
