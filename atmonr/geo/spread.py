"""Numbers that spread evenly."""

from __future__ import annotations

# Multiples of these fill a square evenly, however many there are: 1/p and 1/p^2 for p^3 = p + 1.
R2 = (0.7548776662466927, 0.5698402909980532)
