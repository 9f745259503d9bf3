"""From points to optical thickness: resolution in the scene's own pixels, clear before training."""

from __future__ import annotations

import pytest
import torch

from atmonr.config import InstantNgpConfig, NerfConfig
from atmonr.fields.medium import FEATURES, FourierMedium, HashMedium, Medium, cell_scales
from tests.fields.make import SMALL_HASH, SMALL_NERF, make_setting


def media(channels: int, **options: float) -> list[Medium]:
    torch.manual_seed(0)
    return [
        HashMedium(make_setting(), InstantNgpConfig(**SMALL_HASH, **options), channels),
        FourierMedium(NerfConfig(**SMALL_NERF, **options), channels),
    ]


def test_cells_shrink_geometrically_from_the_coarsest_to_the_finest() -> None:
    scales = cell_scales(make_setting(), (16.0, 8.0), (1.0, 0.5), 5)
    # The box is 60 by 80 by 20 km and a pixel 3 km: 1.25 to 20 cells across, 0.83 to 13.3 up.
    assert [x for x, _, _ in scales] == pytest.approx([1.25, 2.5, 5, 10, 20])
    assert [y for _, y, _ in scales] == pytest.approx([80 / 48, 80 / 24, 80 / 12, 80 / 6, 80 / 3])
    assert [z for _, _, z in scales] == pytest.approx([1.0, 20 / 12, 20 / 6, 20 / 3, 40 / 3])


def test_one_level_is_the_coarsest() -> None:
    assert cell_scales(make_setting(), (4.0, 2.0), (1.0, 0.5), 1) == [
        pytest.approx([5, 20 / 3, 10 / 3], rel=1e-9)
    ]


@pytest.mark.parametrize("channels", [1, 4])
@pytest.mark.parametrize("initial", [0.1, 3.0])
def test_the_air_has_little_in_it_before_training(channels: int, initial: float) -> None:
    for medium in media(channels, initial_optical_depth=initial):
        depth, features = medium(torch.rand(500, 3))
        assert depth.shape == (500, channels) and features.shape == (500, FEATURES)
        assert depth.min() > initial / 5 and depth.max() < 5 * initial


def test_thickness_is_positive_and_may_be_that_of_a_storm() -> None:
    """400 per km over 20 km is an optical depth of 8,000, or a thousand in the similar medium."""
    for medium in media(1):
        last = medium.network[-1]
        assert isinstance(last, torch.nn.Linear)
        for bias, low, high in ((-30.0, 0.0, 1e-12), (9.5, 1e3, 1e5)):
            torch.nn.init.constant_(last.bias, bias)
            depth, _ = medium(torch.rand(20, 3))
            assert (depth > low).all() and (depth < high).all()


def test_thickness_stays_finite_when_training_overshoots() -> None:
    for medium in media(1):
        last = medium.network[-1]
        assert isinstance(last, torch.nn.Linear)
        torch.nn.init.constant_(last.bias, 1e4)
        assert torch.isfinite(medium(torch.rand(5, 3))[0]).all()


def test_no_noise_is_added_in_training() -> None:
    for medium in media(1):
        medium.train()
        where = torch.rand(50, 3)
        assert torch.equal(medium(where)[0], medium(where)[0])


def test_frequencies_of_the_fourier_features_double() -> None:
    medium = FourierMedium(NerfConfig(**SMALL_NERF), 1)
    encoded = medium.encode(torch.tensor([[0.75, 0.5, 0.5]]))[0]
    assert encoded.shape == (3 + 6 * 4,)
    x = 0.5  # centred
    expected = torch.sin(torch.tensor([1.0, 2.0, 4.0, 8.0]) * torch.pi * x)
    torch.testing.assert_close(encoded[3:7], expected, atol=1e-6, rtol=0)
