"""The campaign file: which granules, with which settings, where. Strict, like a run's config."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from atmonr.config import Config, Section, load
from atmonr.errors import ConfigError
from launch.site import Pool, Site, load_site
from launch.toml_file import load_section


class Fetch(Section):
    """What `atmonr fetch` is to bring, on the login node, before anything else."""

    product: Literal["L1B", "L1C"] = "L1B"
    start: str = Field(min_length=1)
    end: str = Field(min_length=1)
    bbox: list[float] = Field([])  # west, south, east, north [degrees]
    into: str = "granules"  # folder

    @field_validator("bbox")
    @classmethod
    def _four_numbers(cls, bbox: list[float]) -> list[float]:
        if len(bbox) not in (0, 4):
            raise ValueError("expected four numbers: west, south, east, north [degrees]")
        return bbox


class Granules(Section):
    """Which satellite files; all that are given count together."""

    files: list[str] = Field([])  # names and patterns such as "data/*.nc"
    list_file: str | None = Field(None, min_length=1)  # text file that names one file a line
    fetch: Fetch | None = None

    @model_validator(mode="after")
    def _something_is_named(self) -> Granules:
        if not self.files and self.list_file is None and self.fetch is None:
            raise ValueError("at least one of files, list_file and fetch is needed")
        return self


class Settings(Section):
    """The config of the runs."""

    file: str = Field(min_length=1)
    set: list[str] = Field([])  # as of `atmonr train --set`
    sweep: dict[str, list[Any]] = Field({})  # {key: values}; every combination is a task of its own


class Export(Section):
    """What is made of every extract."""

    evaluate: bool = True  # scores on held-out views, and pictures
    quicklook: bool = True  # a picture of sections and cloud tops
    vdb: bool = False
    video: bool = False
    html: bool = False


class PoolChanges(Section):
    """What of a site's pool is other for this campaign."""

    max_jobs: int | None = Field(None, ge=1)
    wall_minutes: int | None = Field(None, ge=2)
    slots: int | None = Field(None, ge=1)
    memory_gb: float | None = Field(None, ge=0)
    add_options: list[str] = Field([])


class Resources(Section):
    """How much of the site to use."""

    gpu: PoolChanges = PoolChanges()
    cpu: PoolChanges = PoolChanges()


class Care(Section):
    """When to begin with few, and when to stop."""

    canaries: int = Field(8, ge=0)  # tasks of each kind that go first; half of them must succeed
    breaker_least: int = Field(8, ge=1)  # ended tasks before the breaker may act
    breaker_share: float = Field(0.5, gt=0, le=1)  # of ended tasks that fail for one cause


class Track(Section):
    """Where `atmonr track sync` copies the campaign, unless told otherwise."""

    uri: str | None = Field(None, min_length=1)


class CampaignFile(Section):
    """The whole description of a campaign. Relative paths start from the file's folder."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")
    folder: str = Field(min_length=1)
    site: str = Field("laptop", min_length=1)
    image: str | None = Field(None, min_length=1)  # container image; without one, this Python
    granules: Granules
    config: Settings
    ingest_options: list[str] = Field([])  # of `atmonr ingest`, such as ["--max-view-angle", "45"]
    extract_options: list[str] = Field([])
    export: Export = Export()
    resources: Resources = Resources()
    care: Care = Care()
    track: Track = Track()


@dataclass(frozen=True)
class Variant:
    """One combination of a sweep.

    Attributes:
        label: Such as "train.seed=1"; "" without a sweep.
        config: Resolved settings.
    """

    label: str
    config: Config


@dataclass(frozen=True)
class Campaign:
    """A campaign file, read and resolved.

    Attributes:
        path: The file.
        file: What it holds.
        site: The site's profile, with the campaign's changes.
        variants: What every granule is trained with.
    """

    path: Path
    file: CampaignFile
    site: Site
    variants: tuple[Variant, ...]

    @property
    def folder(self) -> Path:
        """Where everything is written."""
        return (self.path.parent / self.file.folder).resolve()

    @property
    def image(self) -> Path | None:
        """The container image, if there is one."""
        return None if self.file.image is None else (self.path.parent / self.file.image).resolve()


def load_campaign(path: Path) -> Campaign:
    """Read a campaign file and all it names but the granules.

    Raises:
        ConfigError: If the file, its site or its config is not valid.
    """
    file = load_section(path, CampaignFile)
    site = load_site(file.site, path.parent)
    pools: dict[str, Pool] = {"gpu": _changed(site.gpu, file.resources.gpu)}
    if site.cpu is not None:
        pools["cpu"] = _changed(site.cpu, file.resources.cpu)
    campaign = Campaign(path, file, site.model_copy(update=pools), tuple(_variants(path, file.config)))
    if campaign.image is not None and not campaign.image.is_file():
        raise ConfigError(f"{path}: image: {campaign.image} does not exist; build it, or leave the key out")
    return campaign


def _changed(pool: Pool, changes: PoolChanges) -> Pool:
    given = changes.model_dump(exclude_none=True, exclude={"add_options"})
    return pool.model_copy(update={**given, "options": [*pool.options, *changes.add_options]})


def _variants(path: Path, settings: Settings) -> list[Variant]:
    """Every combination of the sweep's values, each a valid config of its own."""
    for key, values in settings.sweep.items():
        if not values:
            raise ConfigError(f"{path}: config.sweep.{key}: has no values; expected a list such as [0, 1, 2]")
    found: dict[str, Variant] = {}
    for chosen_values in itertools.product(*settings.sweep.values()):
        chosen = [f"{key}={_text(value)}" for key, value in zip(settings.sweep, chosen_values, strict=True)]
        # Runs of a campaign are copied to MLflow from their folders, by one process, and not while they
        # train.
        config = load(path.parent / settings.file, [*settings.set, *chosen, "track.uri=off"])
        found.setdefault(f"{config.digest}-{config.train.steps}", Variant(" ".join(chosen), config))
    return list(found.values())


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
