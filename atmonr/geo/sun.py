"""The direction of the sun over a scene, as a low-order polynomial in the frame's coordinates."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from atmonr.geo.ellipsoid import Floats, direction_to_ecef
from atmonr.geo.frame import Frame

_TERMS = 6  # 1, x, y, x^2, x y, y^2
_STEP_M = 100.0  # for finite differences: far above rounding, far below the scale on which the frame bends


def sun_polynomial(
    frame: Frame,
    latitude_deg: ArrayLike,
    longitude_deg: ArrayLike,
    solar_zenith_deg: ArrayLike,
    solar_azimuth_deg: ArrayLike,
) -> Floats:
    """Fit the direction to the sun over a scene.

    Args:
        frame: the scene's frame.
        latitude_deg: (N,) geodetic latitude of sample pixels [degrees].
        longitude_deg: (N,) longitude of sample pixels [degrees].
        solar_zenith_deg: (N,) angle from the ellipsoid's normal to the sun [degrees].
        solar_azimuth_deg: (N,) direction to the sun clockwise from north [degrees].

    Returns:
        (3, 6) coefficients for `sun_direction`, or (3, 1), the mean direction, when the samples are too few
        or too close to a line to determine a surface of second degree.

    Raises:
        ValueError: there is no sample, or one of them is not finite.
    """
    places = frame.from_geodetic(latitude_deg, longitude_deg)
    towards_sun = direction_to_ecef(latitude_deg, longitude_deg, solar_zenith_deg, solar_azimuth_deg)
    targets = local_directions(frame, places, towards_sun)
    if len(targets) == 0 or not np.isfinite(targets).all():
        raise ValueError("sun direction: expected at least one sample, all of them finite")
    unit = frame.unit(places)
    design = np.stack(np.broadcast_arrays(*_terms(unit[:, 0], unit[:, 1])), axis=-1)
    coefficients, _, rank, _ = np.linalg.lstsq(design, targets, rcond=1e-3)
    if rank < _TERMS:
        return targets.mean(axis=0)[:, None]
    return coefficients.T


def sun_direction(
    coefficients: Sequence[Sequence[float]] | Floats, unit_x: Any, unit_y: Any
) -> tuple[Any, Any, Any]:
    """Direction to the sun at places of a scene.

    Args:
        coefficients: (3, 6) or (3, 1) from `sun_polynomial`.
        unit_x: (...) x in the frame's unit box, a NumPy array or a torch tensor.
        unit_y: (...) y in the frame's unit box, likewise.

    Returns:
        x, y and upward components of the unit vector to the sun, each (...) like `unit_x`.
    """
    terms = _terms(unit_x, unit_y)
    x, y, up = (
        sum(float(factor) * term for factor, term in zip(row, terms[: len(row)], strict=True))
        for row in coefficients
    )
    length = (x * x + y * y + up * up) ** 0.5
    return x / length, y / length, up / length


def local_directions(frame: Frame, places_m: Floats, direction_ecef: Floats) -> Floats:
    """Earth-centred unit directions at places, along the frame's own axes there.

    The axes are those of growing x, growing y and height in the column of each place, found by moving a short
    way along the direction; east and north, which turn quickly near a pole, play no part.

    Args:
        frame: the scene's frame.
        places_m: (..., 3) x, y, height [m].
        direction_ecef: (..., 3) unit vectors.

    Returns:
        (..., 3) unit vectors in x, y, height.
    """
    here = frame.to_ecef(places_m)
    moved = frame.from_ecef(here + _STEP_M * direction_ecef) - frame.from_ecef(here)
    return moved / np.linalg.norm(moved, axis=-1, keepdims=True)


def _terms(x: Any, y: Any) -> list[Any]:
    # Centred on the box, so that the six terms are nearly independent over it.
    x, y = 2.0 * x - 1.0, 2.0 * y - 1.0
    return [0.0 * x + 1.0, x, y, x * x, x * y, y * y]
