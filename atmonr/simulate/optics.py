"""How cloud droplets and air molecules scatter: phase functions, Legendre moments, delta-M scaling.

Phase functions are normalised to a mean of 1 over the sphere; `moments[l]` is the mean of the Legendre
polynomial of degree l under the phase function, so moments[0] = 1 and moments[1] is the asymmetry parameter.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

# Highest degree of the scattering source kept by the diffuse solver (see transport.py).
DEGREE = 2

# A water cloud's forward peak and small backward lobe: (share, asymmetry) of Henyey-Greenstein functions.
CLOUD_LOBES = ((0.97, 0.90), (0.03, -0.50))

RAYLEIGH_SCALE_HEIGHT_M = 8000.0


def cloud_phase(cos_angle: Tensor) -> Tensor:
    """Phase function of cloud droplets at a scattering angle.

    Source: L. G. Henyey and J. L. Greenstein, Astrophysical Journal 93 (1941), two lobes.
    """
    total = torch.zeros_like(cos_angle)
    for share, g in CLOUD_LOBES:
        total += share * (1 - g * g) * (1 + g * g - 2 * g * cos_angle).pow(-1.5)
    return total


def cloud_moment(degree: int) -> float:
    """Legendre moment of `cloud_phase`; each lobe's is its asymmetry to the power of the degree."""
    return sum(share * g**degree for share, g in CLOUD_LOBES)


def rayleigh_phase(cos_angle: Tensor) -> Tensor:
    """Phase function of molecules, without depolarisation; its moments are 1, 0, 0.1."""
    return 0.75 * (1 + cos_angle * cos_angle)


def rayleigh_moment(degree: int) -> float:
    """Legendre moment of `rayleigh_phase`."""
    return (1.0, 0.0, 0.1)[degree] if degree <= 2 else 0.0


def forward_fraction() -> float:
    """Share of the scattered light that counts as not scattered at all.

    Delta-M scaling (W. J. Wiscombe, J. Atmos. Sci. 34, 1977): the first moment that the solver does not keep.
    What is left of the phase function is then described exactly by the kept moments.
    """
    return cloud_moment(DEGREE + 1)


def scaled_cloud_moment(degree: int) -> float:
    """Legendre moment of the cloud's phase function without its forward peak."""
    forward = forward_fraction()
    return (cloud_moment(degree) - forward) / (1 - forward)


def rayleigh_extinction(height_m: Tensor, optical_depth: float) -> Tensor:
    """Extinction [1/m] of an exponential atmosphere whose whole column has this optical depth."""
    return optical_depth / RAYLEIGH_SCALE_HEIGHT_M * torch.exp(-height_m / RAYLEIGH_SCALE_HEIGHT_M)


def rayleigh_depth_above(height_m: Tensor, optical_depth: float) -> Tensor:
    """Vertical optical depth of the air above a height."""
    return optical_depth * torch.exp(-height_m / RAYLEIGH_SCALE_HEIGHT_M)


def harmonics(direction: Tensor) -> Tensor:
    """Real orthonormal spherical harmonics of degrees 0..DEGREE.

    Args:
        direction: (..., 3) unit vectors.

    Returns:
        (..., (DEGREE + 1)^2), ordered by degree, then order.
    """
    x, y, z = direction.unbind(-1)
    a, b = math.sqrt(3 / (4 * math.pi)), math.sqrt(15 / (4 * math.pi))
    values = [
        torch.full_like(x, math.sqrt(1 / (4 * math.pi))),
        a * y,
        a * z,
        a * x,
        b * x * y,
        b * y * z,
        math.sqrt(5 / (16 * math.pi)) * (3 * z * z - 1),
        b * x * z,
        b / 2 * (x * x - y * y),
    ]
    return torch.stack(values, dim=-1)


def degrees() -> Tensor:
    """Degree of each harmonic, in the order of `harmonics`."""
    return torch.tensor([degree for degree in range(DEGREE + 1) for _ in range(2 * degree + 1)])
