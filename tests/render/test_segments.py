"""A ray integrated in pieces is the ray integrated at once."""

from __future__ import annotations

import torch
from torch import Tensor

from atmonr.render.integrate import integrate
from atmonr.render.segments import integrate_runs, join


def rays(thick: float = 1.0) -> tuple[Tensor, Tensor, Tensor]:
    """Random rays of 40 bins cut into up to four runs at random places, some of them empty."""
    generator = torch.Generator().manual_seed(2)
    depth = torch.rand(50, 40, generator=generator) * thick
    source = torch.rand(50, 40, generator=generator)
    cuts = torch.randint(0, 41, (50, 3), generator=generator).sort(1).values
    run = torch.searchsorted(cuts, torch.arange(40).expand(50, -1).contiguous(), right=True)
    return depth, source, run


def test_pieces_make_up_the_whole() -> None:
    for thick in (1e-4, 1.0, 10.0):
        depth, source, run = rays(thick)
        whole = integrate(depth, source)
        runs = integrate_runs(depth, source, run, 4)
        radiance, passed = join(runs.radiance, runs.transmittance)
        torch.testing.assert_close(radiance, whole.radiance, rtol=1e-5, atol=1e-7)
        torch.testing.assert_close(runs.transmittance.prod(1), whole.transmittance, rtol=1e-4, atol=1e-7)
        torch.testing.assert_close(runs.weights * passed.gather(1, run), whole.weights, rtol=1e-4, atol=1e-7)
        torch.testing.assert_close(runs.passed * passed.gather(1, run), whole.passed, rtol=1e-4, atol=1e-7)


def test_so_do_their_gradients_when_each_piece_knows_only_two_numbers_of_the_others() -> None:
    """The exchange goes forward only: each rank differentiates with the others' numbers as constants."""
    depth, source, run = rays()
    depth.requires_grad_(), source.requires_grad_()
    (integrate(depth, source).radiance.square().sum()).backward()
    expected = depth.grad.clone(), source.grad.clone()
    found = torch.zeros_like(depth), torch.zeros_like(source)
    for tile in range(4):
        own = run == tile
        mine = integrate_runs(depth * own, source, run, 4)
        everything = integrate_runs(depth.detach(), source.detach(), run, 4)
        here = torch.arange(4) == tile
        radiance, _ = join(
            torch.where(here, mine.radiance, everything.radiance),
            torch.where(here, mine.transmittance, everything.transmittance),
        )
        gradients = torch.autograd.grad(radiance.square().sum(), (depth, source))
        for total, part in zip(found, gradients, strict=True):
            total += part
    torch.testing.assert_close(found[0], expected[0], rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(found[1], expected[1], rtol=1e-4, atol=1e-6)


def test_a_run_that_lies_elsewhere_lets_everything_pass() -> None:
    depth, source, run = rays()
    runs = integrate_runs(depth * (run != 1), source, run, 4)
    assert (runs.radiance[:, 1] == 0).all()
    assert (runs.transmittance[:, 1] == 1).all()
