"""From a run folder to a trained field."""

from __future__ import annotations

from pathlib import Path

import torch

from atmonr.checkpoint_file import read_checkpoint
from atmonr.errors import ResumeError
from atmonr.fields.atmosphere import AtmosphereField
from atmonr.fields.build import build_field
from atmonr.fields.setting import Setting
from atmonr.fields.tiled import TiledField, box_of, tile_name, tiling_of
from atmonr.run import Run


def load_field(run: Run, scene: str, device: torch.device) -> AtmosphereField | TiledField:
    """Rebuild a scene's field from its newest checkpoint, ready for evaluation; tiles load when needed.

    Raises:
        ResumeError: There is no checkpoint, it is damaged, or it does not fit the run's config.
    """
    latest = run.latest(scene)
    if not latest.is_file():
        raise ResumeError(f"{latest}: no checkpoint of scene '{scene}' yet; train first")
    step = run.latest_step(scene)
    config, info, setting = run.config, run.scene_info(scene), _setting(run, scene)
    if config.world.tiles == 1:
        return _loaded(build_field(config, setting), run.checkpoint(scene, step), device)
    tiling = tiling_of(setting, info["footprint_m"], config.world.tiles)

    def load(tile: int) -> AtmosphereField:
        path = run.checkpoint(scene, step, tile_name(tile))
        return _loaded(build_field(config, setting, box_of(setting, tiling, tile)), path, device)

    return TiledField(tiling, load)


def refuse_unusable(run: Run, scene: str) -> None:
    """Check what a run folder tells of a scene.

    Raises:
        ResumeError: Something is missing in it.
    """
    _setting(run, scene)
    if missing := sorted({"scene_id", "footprint_m"} - run.scene_info(scene).keys()):
        raise ResumeError(f"{run.scene_folder(scene)}: scene.json is damaged: no {missing[0]}; train again")


def _setting(run: Run, scene: str) -> Setting:
    info = run.scene_info(scene)
    try:
        return Setting.from_json(info)
    except (KeyError, TypeError, ValueError) as error:
        raise ResumeError(
            f"{run.scene_folder(scene)}: scene.json is damaged: {error}; train again"
        ) from error


def _loaded(field: AtmosphereField, path: Path, device: torch.device) -> AtmosphereField:
    try:
        field.load_state_dict(read_checkpoint(path)["module"])
    except (RuntimeError, KeyError, TypeError, AttributeError) as error:
        reason = " ".join(str(error).split())
        raise ResumeError(f"{path}: does not fit the run's config: {reason}; train again") from error
    return field.to(device).eval()
