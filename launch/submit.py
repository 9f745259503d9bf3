"""Freezing a plan into the campaign folder, with all that is needed to know later where results came from."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from atmonr.atomic import sha256
from atmonr.errors import StoreError
from atmonr.provenance import provenance
from launch.campaign_file import Campaign, Fetch
from launch.folder import Folder
from launch.plan import Plan, config_name
from launch.task import Task


def freeze(campaign: Campaign, plan: Plan, *, limit: int | None = None) -> Folder:
    """Write the campaign folder, or bring it up to date; results in it are kept.

    Args:
        campaign: The campaign file.
        plan: Made from it.
        limit: Keep only so many granules.

    Raises:
        StoreError: If the file system refuses.
    """
    folder = Folder(campaign.folder)
    tasks = limited(plan.tasks, limit)
    configs = {config_name(variant): variant.config.toml() for variant in campaign.variants}
    folder.freeze(settings_of(campaign, tasks), configs, tasks)
    return folder


def limited(tasks: Sequence[Task], limit: int | None) -> list[Task]:
    """Keep the tasks of the first `limit` granules."""
    granules = list(dict.fromkeys(task.granule for task in tasks))[:limit]
    kept = set(granules)
    return [task for task in tasks if task.granule in kept]


def settings_of(campaign: Campaign, tasks: Sequence[Task] = ()) -> dict[str, Any]:
    """What workers and drivers go by, as JSON data.

    Args:
        campaign: The campaign file.
        tasks: What is to be done: an image must see the files.
    """
    site = campaign.site
    return {
        "name": campaign.file.name,
        "site": site.title,
        "scheduler": site.scheduler,
        "program": _program(campaign, tasks),
        "heartbeat_s": site.heartbeat_s,
        "lease_s": site.lease_s,
        "idle_s": site.idle_s,
        "care": campaign.file.care.model_dump(),
        "cost": site.cost.model_dump(),
        "pools": {name: pool.model_dump() for name, pool in site.pools.items()},
        "track_uri": campaign.file.track.uri,
        "lock": lock_of(campaign.image),
        "campaign_file": campaign.path.read_text(encoding="utf-8"),
    }


def lock_of(image: Path | None) -> dict[str, Any]:
    """What runs: code, interpreter, packages and image. Says nothing about machine or user."""
    origin = provenance()
    packages = sorted(
        {f"{found.metadata['Name']}=={found.version}" for found in metadata.distributions()}, key=str.lower
    )
    listing = "\n".join(packages)
    return {
        "atmonr": origin["atmonr"],
        "git_commit": origin["git_commit"],
        "python": origin["python"],
        "packages": packages,
        "packages_sha256": hashlib.sha256(listing.encode()).hexdigest(),
        "image": image.name if image is not None else None,
        "image_digest": f"sha256:{sha256(image)}" if image is not None else None,
        "frozen_utc": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def fetch_command(fetch: Fetch, here: Path) -> list[str]:
    """The command that brings granules, for the login node: compute nodes have no network as a rule."""
    command = [sys.executable, "-m", "atmonr", "fetch", "--product", fetch.product]
    command += ["--from", fetch.start, "--to", fetch.end]
    if fetch.bbox:
        command += ["--bbox", *map(str, fetch.bbox)]
    return [*command, "-o", str(here / fetch.into)]


def fetch_granules(campaign: Campaign) -> None:
    """Bring what the campaign file asks for; a second call continues the first.

    Raises:
        StoreError: If some files could not be fetched.
    """
    fetch = campaign.file.granules.fetch
    if fetch is not None:
        code = subprocess.run(fetch_command(fetch, campaign.path.parent), check=False).returncode
        if code:
            raise StoreError(f"atmonr fetch ended with exit code {code}; see above; submit again to continue")


def _program(campaign: Campaign, tasks: Sequence[Task]) -> list[str]:
    """How a node starts atmonr; [] for the Python of its worker."""
    image, site = campaign.image, campaign.site
    if image is None:
        return list(site.program)
    binds: list[str] = []
    if Path(site.container[0]).name in ("apptainer", "singularity"):
        granules = (Path(task.facts["path"]) for task in tasks if task.kind == "scene")
        # Names may be links: what they lead to must be there as well.
        places = {place for granule in granules for place in (granule.parent, granule.resolve().parent)}
        for folder in _outermost({campaign.folder, campaign.path.resolve().parent, *places}):
            binds += ["--bind", str(folder)]
    return [*site.container, *binds, str(image), "atmonr"]


def _outermost(folders: set[Path]) -> list[Path]:
    """Leave out folders that are inside of others."""
    return sorted(folder for folder in folders if not folders.intersection(folder.parents))
