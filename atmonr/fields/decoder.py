"""What fields of different scenes may have in common: how features become cloud, and how cloud scatters."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from atmonr.checkpoint_file import read_checkpoint
from atmonr.errors import ResumeError
from atmonr.fields.atmosphere import AtmosphereField
from atmonr.fields.hashgrid import HashGrid
from atmonr.run import Run

# Air and ground belong to a place; tables belong to a cloud.
_PRIVATE = ("air", "air_gain", "surface.")
# Even so, how another place's ground and air depend on direction is better to begin with than nothing.
_OWN_PLACE = ("surface.place", "surface.grid")


def decoder_of(field: AtmosphereField) -> dict[str, nn.Parameter]:
    """The parameters that scenes may share, by name."""
    return _without_tables(field, _PRIVATE)


def _without_tables(field: AtmosphereField, left_out: tuple[str, ...]) -> dict[str, nn.Parameter]:
    tables = {id(module.table) for module in field.modules() if isinstance(module, HashGrid)}
    return {
        name: value
        for name, value in field.named_parameters()
        if id(value) not in tables and not name.startswith(left_out)
    }


def start_warm(field: AtmosphereField, run: Path) -> None:
    """Gives an untrained field the decoder that another run has learned.

    And, to begin with, how that run's ground depends on direction and how bright its air is. How much air
    there is and how bright the ground are left to be guessed from the scene itself.

    Args:
        field: The field.
        run: Folder of a run of the same method and bands; if it has several scenes, of the first by name.

    Raises:
        ResumeError: The run has no checkpoint, or its decoder does not fit.
    """
    source = Run.open(run)
    scene = source.scene_names[0]
    if not source.latest(scene).is_file():
        raise ResumeError(f"{source.latest(scene)}: no checkpoint of scene '{scene}' yet; train first")
    path = source.checkpoint(scene, source.latest_step(scene))
    state = read_checkpoint(path)["module"]
    for name, parameter in _without_tables(field, _OWN_PLACE).items():
        if name not in state or state[name].shape != parameter.shape:
            raise ResumeError(
                f"{path}: its decoder does not fit ({name}); expected a run of the same method, widths and "
                "bands"
            )
        with torch.no_grad():
            parameter.copy_(state[name])
