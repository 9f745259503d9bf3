"""From a run folder to a trained field."""

from __future__ import annotations

import torch

from atmonr.checkpoint_file import read_checkpoint
from atmonr.errors import ResumeError
from atmonr.fields.atmosphere import AtmosphereField
from atmonr.fields.build import build_field
from atmonr.fields.setting import Setting
from atmonr.run import Run


def load_field(run: Run, scene: str, device: torch.device) -> AtmosphereField:
    """Rebuild a scene's field from its newest checkpoint, ready for evaluation.

    Raises:
        ResumeError: There is no checkpoint, it is damaged, or it does not fit the run's config.
    """
    latest = run.latest(scene)
    if not latest.is_file():
        raise ResumeError(f"{latest}: no checkpoint of scene '{scene}' yet; train first")
    path = run.checkpoints(scene) / latest.read_text(encoding="utf-8").strip()
    field = build_field(run.config, Setting.from_json(run.scene_info(scene)))
    try:
        field.load_state_dict(read_checkpoint(path)["module"])
    except (RuntimeError, KeyError) as error:
        reason = " ".join(str(error).split())
        raise ResumeError(f"{path}: does not fit the run's config: {reason}; train again") from error
    return field.to(device).eval()
