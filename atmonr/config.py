"""One strict, frozen description of a run, read from a short TOML file.

A file holds only what differs from the defaults below. An unknown key, a wrong type or a value out of range
is refused with the file, the full key, the nearest valid name and the valid range, because a setting that is
silently ignored costs a training run.
"""

from __future__ import annotations

import hashlib
import json
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

import tomli_w
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from atmonr.config_errors import explain
from atmonr.errors import ConfigError

# What may change between a run and its resumption: where and in how many parts it runs, how often it writes,
# how long it goes on.
# Everything else decides what is learned and how each step is computed, and so is the run's identity.
# train.steps is here so that --resume with more steps extends a run.
NOT_IDENTITY: dict[str, Any] = {
    "track": True,
    "world": {"ranks_per_scene"},
    "train": {
        "steps",
        "ray_chunks",
        "checkpoint_every_steps",
        "checkpoint_every_minutes",
        "keep_checkpoints",
        "log_every_steps",
        "evaluate_every_steps",
        "device",
    },
}


class Section(BaseModel):
    """Base of all sections: no unknown keys, no silent conversion, no later change."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    @field_validator("*")
    @classmethod
    def _of_at_most_64_bits(cls, value: object) -> object:
        # TOML asks for no more, and Python refuses to write out integers of thousands of digits.
        if isinstance(value, int) and not -(2**63) <= value < 2**63:
            raise ValueError("a whole number of more than 64 bits; expected one of at most 64")
        return value


class InstantNgpConfig(Section):
    """A multi-resolution hash grid and small networks (Mueller et al. 2022, doi:10.1145/3528223.3530127)."""

    method: Literal["instant_ngp"]
    levels: int = Field(6, ge=1, le=24)
    features_per_level: int = Field(2, ge=1, le=8)
    log2_table_size: int = Field(18, ge=8, le=24)
    # Width and height of cells in pixels of the scene: the same file then suits every sensor.
    coarsest_cell_pixels: float = Field(16.0, gt=0)
    coarsest_layer_pixels: float = Field(8.0, gt=0)
    finest_cell_pixels: float = Field(1.0, gt=0)
    finest_layer_pixels: float = Field(0.5, gt=0)
    hidden_width: int = Field(32, ge=4, le=1024)
    extinction: Literal["shared", "per_band"] = "shared"
    initial_optical_depth: float = Field(0.1, gt=0)


class NerfConfig(Section):
    """Two plain networks, coarse and fine, on Fourier features (Mildenhall et al. 2020, arXiv 2003.08934)."""

    method: Literal["nerf"]
    frequencies: int = Field(10, ge=1, le=20)
    hidden_width: int = Field(128, ge=4, le=1024)
    depth: int = Field(6, ge=1, le=16)
    fine_samples: int = Field(64, ge=1, le=4096)
    extinction: Literal["shared", "per_band"] = "shared"
    initial_optical_depth: float = Field(0.1, gt=0)


class LightConfig(Section):
    """Sunlight inside clouds: how it is solved for and how far the learned light may depart from it."""

    # Of cloud droplets in visible light; they turn the extinction that light obeys into the true one.
    asymmetry: float = Field(0.86, ge=0, lt=1)
    single_scattering_albedo: float = Field(1.0, ge=0, le=1)
    cell_pixels: float = Field(2.0, gt=0)
    layer_pixels: float = Field(1.0, gt=0)
    max_points: int = Field(1_000_000, ge=1000)
    every_steps: int = Field(100, ge=1)
    orders: int = Field(2, ge=1, le=64)
    departure_limit: float = Field(0.3, ge=0, le=5)  # of the logarithm of the source function


class SurfaceConfig(Section):
    """How finely the ground's reflectance may vary."""

    levels: int = Field(5, ge=1, le=24)
    coarsest_cell_pixels: float = Field(16.0, gt=0)
    finest_cell_pixels: float = Field(1.0, gt=0)
    log2_table_size: int = Field(18, ge=8, le=24)


class RenderConfig(Section):
    """How many points a ray is sampled at, and where they lie."""

    samples: int = Field(64, ge=4, le=4096)
    sampler: Literal["uniform", "biased", "pdf"] = "uniform"
    pdf_floor: float = Field(0.3, gt=0, le=1)  # share of the samples that a pdf leaves spread over the ray


class LossConfig(Section):
    """Weights of the loss terms; those on reflectance must not all be zero."""

    mse: float = Field(1.0, ge=0)
    l1: float = Field(0.0, ge=0)
    hdr: float = Field(0.0, ge=0)
    dark: float = Field(0.0, ge=0)
    # Per optical depth along a ray, of haze that is seen and of all cloud: in the end. They grow from a tenth
    # over the whole training.
    sparsity: float = Field(0.0, ge=0)
    amount: float = Field(0.0, ge=0)
    # Optical depth that the scene's whole height would have, above which cloud is held down less than haze.
    haze: float = Field(3.0, gt=0)
    departure: float = Field(0.0, ge=0)  # per squared departure from the solved light

    @model_validator(mode="after")
    def _some_term_compares_images(self) -> LossConfig:
        if self.mse + self.l1 + self.hdr + self.dark <= 0:
            raise ValueError("at least one of mse, l1, hdr, dark must be greater than 0")
        return self


class TrainConfig(Section):
    """Length of training, its random numbers, and how often it saves, logs and evaluates."""

    steps: int = Field(5000, ge=1)
    batch_rays: int = Field(1024, ge=1)  # of each scene
    ray_chunks: int = Field(1, ge=1)  # parts of a batch, one after the other: less memory, the same step
    warm_start: str | None = Field(None, min_length=1)  # folder of a run whose decoder to begin with
    learning_rate: float = Field(3e-3, gt=0, le=1)
    table_learning_rate: float = Field(2e-2, gt=0, le=1)  # of hash tables, whose entries few rays touch
    seed: int = Field(0, ge=0, lt=2**32)
    checkpoint_every_steps: int = Field(1000, ge=1)
    checkpoint_every_minutes: float = Field(5.0, gt=0)
    keep_checkpoints: int = Field(2, ge=2)  # the newest may be the one a full disk has damaged
    log_every_steps: int = Field(50, ge=1)
    evaluate_every_steps: int = Field(1000, ge=1)
    device: Literal["auto", "cpu", "cuda"] = "auto"


class WorldConfig(Section):
    """How ranks share scenes: all rays of a batch, or tiles of space, each with a field of its own."""

    ranks_per_scene: int = Field(1, ge=1)
    tiles: int = Field(1, ge=1)
    shared_decoder: bool = False  # train all scenes at once, each with tables of its own


class TrackConfig(Section):
    """Where MLflow mirrors the run; without a URI, or with "off", nothing is sent."""

    uri: str | None = Field(None, min_length=1)
    experiment: str = Field("atmonr", min_length=1)

    @field_validator("uri")
    @classmethod
    def _off_or_without_credentials(cls, uri: str | None) -> str | None:
        if uri == "off":
            return None
        # The config is written to the run folder, which is shared and archived.
        if uri and "@" in urlsplit(uri).netloc:
            raise ValueError(
                "must hold no user name or password; "
                "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD instead"
            )
        return uri


class Config(Section):
    """The whole description of a run."""

    task: Literal["tomography"] = "tomography"
    field: InstantNgpConfig | NerfConfig = Field(discriminator="method")
    light: LightConfig = LightConfig()
    surface: SurfaceConfig = SurfaceConfig()
    render: RenderConfig = RenderConfig()
    loss: LossConfig = LossConfig()
    train: TrainConfig = TrainConfig()
    world: WorldConfig = WorldConfig()
    track: TrackConfig = TrackConfig()

    @model_validator(mode="after")
    def _tiles_need_samples_that_do_not_depend_on_other_tiles(self) -> Config:
        if self.world.tiles > 1 and isinstance(self.field, NerfConfig):
            raise ValueError(
                'world.tiles > 1 needs field.method = "instant_ngp": where the fine network of a '
                "nerf looks depends on the coarse one along the whole ray"
            )
        return self

    @model_validator(mode="after")
    def _scenes_that_share_a_decoder_are_whole(self) -> Config:
        if self.world.shared_decoder and (self.world.tiles > 1 or self.world.ranks_per_scene > 1):
            raise ValueError(
                "world.shared_decoder trains whole scenes, each on one rank: leave out world.tiles and "
                "world.ranks_per_scene"
            )
        if self.train.warm_start is not None and (self.world.tiles > 1 or self.world.shared_decoder):
            raise ValueError("train.warm_start is for scenes on their own, not for tiles or a shared decoder")
        return self

    def toml(self) -> str:
        """Return the resolved config, defaults included, as TOML that loads to an equal Config."""
        return tomli_w.dumps(self.model_dump(mode="json", exclude_none=True))

    def identity(self) -> dict[str, Any]:
        """Return {dotted key: value} of all settings that decide what is learned and how."""
        return dict(_flatten(self.model_dump(mode="json", exclude=NOT_IDENTITY)))

    @property
    def digest(self) -> str:
        """SHA-256 of `identity`; equal digests mean that one run may continue the other."""
        canonical = json.dumps(self.identity(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()


def load(path: Path, overrides: Sequence[str] = ()) -> Config:
    """Read and validate a config file.

    Args:
        path: TOML file.
        overrides: `a.b=c` strings that replace or add single keys; `c` is read as a TOML value and, failing
            that, as a plain string.

    Raises:
        ConfigError: If the file cannot be read, or anything in it or in `overrides` is not valid.
    """
    try:
        with open(path, "rb") as stream:
            table = tomllib.load(stream)
    except OSError as error:
        raise ConfigError(f"{path}: cannot read: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:  # also a number of thousands of digits
        raise ConfigError(f"{path}: not valid TOML: {error}") from error
    sources: dict[str, str] = {}
    for override in overrides:
        sources[_apply(table, override)] = f"--set {override}"
    try:
        return Config.model_validate(table)
    except ValidationError as invalid:
        messages = [explain(error, Config, str(path), sources) for error in invalid.errors()]
        raise ConfigError("; ".join(messages)) from None


def _apply(table: dict[str, Any], override: str) -> str:
    """Set one `a.b=c` in `table`; return the dotted key."""
    key, equals, text = override.partition("=")
    parts = key.strip().split(".")
    if not equals or not all(parts):
        raise ConfigError(f"--set {override}: expected key.name=value, such as train.steps=2000")
    for part in parts[:-1]:
        table = table.setdefault(part, {})
        if not isinstance(table, dict):
            raise ConfigError(f"--set {override}: '{part}' is a single value, not a section")
    table[parts[-1]] = _value(text.strip())
    return ".".join(parts)


def _value(text: str) -> Any:
    try:
        parsed = tomllib.loads(f"value = {text}")
    except (ValueError, RecursionError):
        return text
    return parsed["value"] if parsed.keys() == {"value"} else text


def _flatten(table: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in table.items():
        if isinstance(value, dict):
            yield from _flatten(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value
