"""Rayleigh scattering: the part of the signal that is known."""

from __future__ import annotations

from torch import Tensor

SCALE_HEIGHT_M = 8000.0


def optical_depth(wavelength_nm: float) -> float:
    """Vertical optical depth of the air above sea level at standard pressure.

    Source: Hansen & Travis 1974, doi:10.1007/BF00168069, eq. 2.30.
    """
    inverse = (wavelength_nm / 1000.0) ** -2
    return 0.008569 * inverse**2 * (1.0 + 0.0113 * inverse + 0.00013 * inverse**2)


def column_above(height_m: Tensor) -> Tensor:
    """Share of the vertical optical depth that lies above a height."""
    return (-height_m / SCALE_HEIGHT_M).exp()


def phase(cosine: Tensor) -> Tensor:
    """Rayleigh phase function of the cosine of the scattering angle, mean 1 over the sphere."""
    return 0.75 * (1.0 + cosine * cosine)


def single_scattering_source(cosine: Tensor, sun_cosine: Tensor, depth_above: Tensor) -> Tensor:
    """Source function of once-scattered sunlight, as a reflectance pi J / (mu0 F0).

    Args:
        cosine: Of the scattering angle.
        sun_cosine: mu0, cosine of the solar zenith angle.
        depth_above: Vertical molecular optical depth above the point.
    """
    return phase(cosine) / (4.0 * sun_cosine) * (-depth_above / sun_cosine).exp()


def depth_profile_per_m(height_m: Tensor) -> Tensor:
    """Extinction per unit of vertical optical depth [m^-1]; integrates to 1 from sea level upwards."""
    return column_above(height_m) / SCALE_HEIGHT_M
