"""What an image must be able to do without data: imports everything and calculates some known numbers.

`python selftest.py golden.json` compares, `--write` makes the file anew. The numbers must agree within what
processors and builds of torch differ by; that they are the right ones is what the project's tests are for.
"""

from __future__ import annotations

import importlib
import json
import math
import pkgutil
import sys
from pathlib import Path

import numpy as np
import torch

RELATIVE = 2e-5


def numbers() -> dict[str, list[float]]:
    """One thing of each kind that training and extraction are made of."""
    return {"rays": _rays(), "look-ups": _look_ups(), "integrals": _integrals(), "sunlight": _sunlight()}


def _rays() -> list[float]:
    from atmonr.geo.rays import trace

    lines = trace(
        [0.0, 45.0, -89.9], [0.0, 170.0, -60.0], 100.0, [0.0, 40.0, 70.0], [0.0, 120.0, 300.0], 20000.0
    )
    return [*lines.origin_ecef.ravel(), *lines.length_m]


def _look_ups() -> list[float]:
    from atmonr.fields.hashgrid import HashGrid

    grid = HashGrid([[2, 2, 1], [5, 5, 2], [17, 17, 5]], 6, 2)
    entries = torch.arange(grid.table.numel(), dtype=torch.float32)
    grid.table.data.copy_(torch.sin(entries).view_as(grid.table))
    points = torch.stack([torch.linspace(0.0, 1.0, 9) ** power for power in (1.0, 2.0, 0.5)], dim=1)
    features = grid(points)
    (features * torch.linspace(-1.0, 1.0, features.numel()).view_as(features)).sum().backward()
    gradient = grid.table.grad
    if gradient is None:
        raise SystemExit("look-ups: no gradient")
    return [*features.flatten().tolist(), *gradient[::7].flatten().tolist()]


def _integrals() -> list[float]:
    from atmonr.render.integrate import integrate

    depth = torch.linspace(0.0, 2.0, 24).view(3, 8)
    rendered = integrate(depth, torch.cos(depth) + 1.5)
    return [
        *rendered.radiance.tolist(),
        *rendered.transmittance.tolist(),
        *rendered.weights.flatten().tolist(),
    ]


def _sunlight() -> list[float]:
    from atmonr.render.transport import dark, illuminate

    shape = (6, 5, 5)
    where = torch.stack(torch.meshgrid(*(torch.linspace(-1.0, 1.0, size) for size in shape), indexing="ij"))
    cloud = 0.02 * torch.exp(-4.0 * (where**2).sum(0))
    sun = torch.tensor([math.sin(0.6), 0.0, math.cos(0.6)])[:, None, None].expand(3, *shape[1:])
    light = illuminate(cloud, 0.9, (100.0, 100.0, 80.0), sun, dark(shape, cloud.device), 3)
    return [float(value) for field in light for value in field.flatten()[::11]]


def check(found: dict[str, list[float]], golden: dict[str, list[float]]) -> list[str]:
    """Return the names of what differs."""
    return [
        name
        for name, expected in golden.items()
        if not np.allclose(found[name], expected, rtol=RELATIVE, atol=RELATIVE * np.abs(expected).max())
    ]


def import_everything() -> int:
    """Import all our modules; return how many there are."""
    names = []
    for package in (importlib.import_module(name) for name in ("atmonr", "launch")):
        names += [found.name for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")]
    # Programs, not modules.
    programs = {"atmonr.__main__", "atmonr.netcdf_visit", "atmonr.export.vdb_pipe"}
    for name in sorted(set(names) - programs):
        importlib.import_module(name)
    return len(names)


def main() -> None:
    """Command line."""
    path = Path(sys.argv[-1])
    found = numbers()
    if "--write" in sys.argv:
        path.write_text(
            json.dumps({name: list(map(float, row)) for name, row in found.items()}, indent=1) + "\n"
        )
        return
    print(f"{import_everything()} modules import")
    if wrong := check(found, json.loads(path.read_text())):
        raise SystemExit(f"other numbers than known: {', '.join(wrong)}")
    print(f"known numbers come out: {', '.join(found)}")


if __name__ == "__main__":
    main()
