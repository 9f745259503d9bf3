"""From a config to an untrained field."""

from __future__ import annotations

from atmonr.config import Config, InstantNgpConfig
from atmonr.fields.atmosphere import AtmosphereField
from atmonr.fields.medium import FourierMedium, HashMedium, Medium
from atmonr.fields.setting import Setting
from atmonr.geo.frame import Frame


def build_field(config: Config, setting: Setting, box: Frame | None = None) -> AtmosphereField:
    """A field for a scene, or for one box of it, with the weights that torch's default generator gives."""
    channels = len(setting.wavelengths_nm) if config.field.extinction == "per_band" else 1
    media: list[Medium]
    if isinstance(config.field, InstantNgpConfig):
        media = [HashMedium(setting.within(box or setting.frame), config.field, channels)]
    else:
        media = [FourierMedium(config.field, channels) for _ in ("coarse", "fine")]
    return AtmosphereField(setting, media, config.light, config.surface, box)
