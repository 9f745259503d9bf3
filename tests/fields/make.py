"""Small settings and configs for tests of fields and tasks."""

from __future__ import annotations

from typing import Any

from atmonr.config import Config
from atmonr.fields.setting import Setting
from atmonr.geo.frame import Frame

SMALL_HASH = {
    "method": "instant_ngp",
    "levels": 3,
    "log2_table_size": 10,
    "coarsest_cell_pixels": 4.0,
    "coarsest_layer_pixels": 2.0,
    "finest_cell_pixels": 1.0,
    "finest_layer_pixels": 0.5,
    "hidden_width": 8,
}
SMALL_NERF = {"method": "nerf", "frequencies": 4, "hidden_width": 16, "depth": 2, "fine_samples": 12}


def make_setting(
    centre: tuple[float, float] = (18.0, -61.5),
    half_m: tuple[float, float] = (30_000.0, 40_000.0),
    sun: tuple[float, float, float] = (0.48, -0.36, 0.8),
) -> Setting:
    """A box of air, 20 km high, in four bands under a sun that is the same everywhere."""
    x, y = half_m
    return Setting(
        frame=Frame(*centre, (-x, -y, 0.0), (x, y, 20_000.0)),
        top_height_m=20_000.0,
        pixel_m=3000.0,
        wavelengths_nm=(441.0, 549.0, 669.0, 873.0),
        sun=[[component] for component in sun],
    )


def make_config(field: dict[str, Any] = SMALL_HASH, **sections: dict[str, Any]) -> Config:
    """A config of small tables, grids and batches; `sections` add to or replace what is small."""
    small: dict[str, dict[str, Any]] = {
        "light": {"cell_pixels": 4.0, "every_steps": 10},
        "surface": {"levels": 2, "log2_table_size": 8},
        "render": {"samples": 16},
        "train": {"steps": 60, "batch_rays": 64},
    }
    for name, values in sections.items():
        small[name] = small.get(name, {}) | values
    return Config.model_validate({"field": field, **small})
