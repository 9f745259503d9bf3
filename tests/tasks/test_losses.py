"""Losses against numbers worked out by hand, and what half precision must not do to them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from atmonr.config import LossConfig
from atmonr.tasks.losses import DARK_SCALE, HDR_FLOOR, dark, hdr, hold_down, image_loss, l1, mse
from atmonr.tasks.view import Seen

RENDERED = torch.tensor([0.1, 0.5, 0.9])
MEASURED = torch.tensor([0.2, 0.5, 0.6])


def only(**weights: float) -> LossConfig:
    return LossConfig(**{"mse": 0.0, **weights})


def test_known_values() -> None:
    assert mse(RENDERED, MEASURED).item() == pytest.approx((0.01 + 0.09) / 3)
    assert l1(RENDERED, MEASURED).item() == pytest.approx((0.1 + 0.3) / 3)
    relative = [0.1 / (0.1 + HDR_FLOOR), 0.3 / (0.9 + HDR_FLOOR)]
    assert hdr(RENDERED, MEASURED).item() == pytest.approx(sum(r * r for r in relative) / 3)
    weights = [DARK_SCALE / (DARK_SCALE + m) for m in (0.2, 0.6)]
    assert dark(RENDERED, MEASURED).item() == pytest.approx((0.01 * weights[0] + 0.09 * weights[1]) / 3)


@pytest.mark.parametrize("term", [mse, l1, hdr, dark])
def test_every_term_is_zero_for_a_perfect_picture_and_pulls_towards_it(term) -> None:
    assert term(MEASURED, MEASURED).item() == 0
    for error in (-0.05, 0.05):
        rendered = (MEASURED + error).requires_grad_()
        term(rendered, MEASURED).backward()
        assert (rendered.grad * error > 0).all()


def test_terms_are_summed_by_weight() -> None:
    total = image_loss(RENDERED, MEASURED, LossConfig(mse=2.0, l1=0.5, hdr=0.1, dark=3.0)).item()
    parts = [
        2.0 * mse(RENDERED, MEASURED),
        0.5 * l1(RENDERED, MEASURED),
        0.1 * hdr(RENDERED, MEASURED),
        3.0 * dark(RENDERED, MEASURED),
    ]
    assert total == pytest.approx(sum(part.item() for part in parts))
    assert image_loss(RENDERED, MEASURED, only(l1=1.0)).item() == l1(RENDERED, MEASURED).item()


def test_the_scale_of_hdr_carries_no_gradient() -> None:
    rendered = RENDERED.clone().requires_grad_()
    hdr(rendered, MEASURED).backward()
    expected = 2 * (RENDERED - MEASURED) / (RENDERED + HDR_FLOOR) ** 2 / 3
    torch.testing.assert_close(rendered.grad, expected)


def test_hdr_counts_a_relative_error_alike_in_dark_and_bright() -> None:
    bright, dim = torch.tensor([4.0]), torch.tensor([0.4])
    assert hdr(bright * 1.1, bright).item() == pytest.approx(hdr(dim * 1.1, dim).item(), rel=0.1)


def test_dark_gives_a_dark_ray_more_weight_than_a_bright_one() -> None:
    rendered = torch.tensor([0.05, 0.85], requires_grad=True)
    dark(rendered, torch.tensor([0.0, 0.8])).backward()
    assert rendered.grad[0] == pytest.approx(17 * rendered.grad[1].item(), rel=1e-4)


def test_noise_below_zero_is_no_reason_for_an_infinite_weight() -> None:
    assert dark(torch.zeros(1), torch.tensor([-DARK_SCALE])).item() == pytest.approx(DARK_SCALE**2)


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16])
def test_half_precision_inputs_are_compared_in_fp32(kind: torch.dtype) -> None:
    rendered, measured = RENDERED.to(kind), MEASURED.to(kind)
    weights = LossConfig(mse=1.0, l1=1.0, hdr=1.0, dark=1.0)
    loss = image_loss(rendered, measured, weights)
    assert loss.dtype == torch.float32
    assert loss.item() == image_loss(rendered.float(), measured.float(), weights).item()


@pytest.mark.parametrize("term", ["mse", "l1", "hdr", "dark"])
def test_one_hot_pixel_does_not_change_what_the_others_count(term: str) -> None:
    """A scale taken from the brightest pixel of a batch or scene would."""
    rendered = torch.rand(64, generator=torch.Generator().manual_seed(0))
    measured = rendered * 0.9
    gradients = []
    for hot in (0.5, 500.0):
        values = torch.cat([rendered, torch.tensor([hot])]).requires_grad_()
        image_loss(values, torch.cat([measured, torch.tensor([hot])]), only(**{term: 1.0})).backward()
        gradients.append(values.grad[:64])
    assert torch.equal(*gradients)


@pytest.mark.parametrize("term", ["mse", "l1", "hdr", "dark"])
def test_no_gradient_of_a_large_batch_underflows(term: str) -> None:
    """8,192 rays with errors of 10 % at reflectances of a dark ocean to a bright cloud, networks in fp16."""
    generator = torch.Generator().manual_seed(0)
    measured = 0.01 + torch.rand(8192, generator=generator)
    rendered = (measured * 1.1).half().requires_grad_()
    promoted = rendered.float()
    promoted.retain_grad()
    image_loss(promoted, measured, only(**{term: 1.0})).backward()
    gradient = promoted.grad
    assert gradient.dtype == torch.float32
    assert (gradient > 0).all()
    expected = 2 * (promoted.detach().double() - measured.double()) / 8192
    if term == "mse":
        np.testing.assert_allclose(gradient.numpy(), expected.numpy(), rtol=1e-4)


def test_what_holds_cloud_down_grows_from_a_tenth_to_its_weights() -> None:
    ones = torch.ones(3)
    seen = Seen(ones, cloud_depth=torch.tensor([1.0, 2.0, 3.0]), sparsity=0.5 * ones, departure=ones)
    weights = LossConfig(sparsity=2.0, amount=0.5)  # 2 in the end: 2 x 0.5 and 0.5 x 2
    assert float(hold_down(seen, weights, 0.0)) == pytest.approx(0.2)
    assert float(hold_down(seen, weights, 0.5)) == pytest.approx(1.1)
    # A run that goes on with more steps than it was begun for.
    assert float(hold_down(seen, weights, 1.0)) == float(hold_down(seen, weights, 1.5)) == pytest.approx(2.0)
