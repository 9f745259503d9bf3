"""From a campaign file to its tasks. Planning reads granules, and writes nothing."""

from __future__ import annotations

from dataclasses import dataclass

from atmonr.provenance import provenance
from launch.campaign_file import Campaign, Export, Variant
from launch.granules import Found, GranuleFile, find_granules
from launch.task import RUN, Stage, Task, key_of

CONFIGS = "configs"


@dataclass(frozen=True)
class Plan:
    """What a campaign comes to.

    Attributes:
        tasks: Scene tasks, then field tasks.
        found: The granules.
        code: Version of the code.
    """

    tasks: tuple[Task, ...]
    found: Found
    code: str


def make_plan(campaign: Campaign) -> Plan:
    """Work out all tasks of a campaign.

    Raises:
        UsageError: If the granules cannot be told apart.
        StoreError: If one of them cannot be read.
    """
    found, code = find_granules(campaign), code_version()
    scenes = [_scene_task(campaign, granule, code) for granule in found.granules]
    # Of each variant once, and not of each of thousands of tasks.
    variants = [(variant, config_name(variant), variant.config.digest) for variant in campaign.variants]
    fields = [_field_task(campaign, scene, *variant, code) for scene in scenes for variant in variants]
    return Plan((*scenes, *fields), found, code)


def code_version() -> str:
    """Version of atmonr, and the commit if this is a checkout."""
    origin = provenance()
    return " ".join(filter(None, (origin["atmonr"], origin["git_commit"])))


def config_name(variant: Variant) -> str:
    """File of a variant's resolved config, from the campaign folder."""
    return f"{CONFIGS}/{key_of({'toml': variant.config.toml()})}.toml"


def _scene_task(campaign: Campaign, granule: GranuleFile, code: str) -> Task:
    options = campaign.file.ingest_options
    facts = {"kind": "scene", "input": granule.fingerprint, "options": options, "code": code}
    key = key_of(facts)
    # Runs, extracts and mosaics name scenes by their file.
    scene = f"tasks/{key[:2]}/{key}/{granule.name}.zarr"
    ingest = Stage("ingest", ("ingest", str(granule.path), "-o", scene, "--quiet", *options), scene)
    more = {"path": str(granule.path), "size_bytes": granule.size_bytes, "scene": scene}
    pool = "cpu" if campaign.site.cpu is not None else "gpu"
    return Task(key, "scene", granule.name, "", pool, "", (ingest,), {**facts, **more})


def _field_task(
    campaign: Campaign, scene: Task, variant: Variant, config_file: str, digest: str, code: str
) -> Task:
    file, config = campaign.file, variant.config
    facts = {
        "kind": "field",
        "scene_task": scene.key,
        "config": digest,
        "steps": config.train.steps,
        "options": file.extract_options,
        "code": code,
    }
    key = key_of(facts)
    here = f"tasks/{key[:2]}/{key}"
    store = scene.facts["scene"]
    parts, extract = f"{here}/parts.zarr", f"{here}/extract.nc"
    train = ("train", "-c", config_file, "--scene", store, "--run", RUN, "--quiet")
    stages = [
        Stage("train", train),
        # Scenes are found from the folder that training was started in.
        Stage("extract", ("extract", "--run", RUN, "-o", parts, "--quiet", *file.extract_options)),
        Stage("merge", ("merge", parts, "-o", extract), extract),
        *_exports(file.export, here, extract),
    ]
    more = {
        "size_bytes": scene.facts["size_bytes"],
        "seed": config.train.seed,
        "batch_rays": config.train.batch_rays,
        "ray_chunks": config.train.ray_chunks,
        "config_file": config_file,
        "extract": extract,
        "parts": parts,
    }
    return Task(
        key, "field", scene.granule, variant.label, "gpu", scene.key, tuple(stages), {**facts, **more}
    )


def _exports(export: Export, here: str, extract: str) -> list[Stage]:
    stages = []
    if export.evaluate:
        score = f"{here}/score.json"
        pictures = f"{here}/pictures"
        scoring = ("evaluate", extract, "--run", RUN, "-o", score, "--pictures", pictures)
        stages.append(Stage("evaluate", scoring, score))
    if export.quicklook:
        sections = f"{here}/sections.png"
        stages.append(Stage("quicklook", ("quicklook", extract, "-o", sections, "--quiet"), sections))
    # One stage each: a film that was interrupted must not keep the others from being made.
    for wanted, name in ((export.vdb, "cloud.vdb"), (export.video, "cloud.mp4"), (export.html, "cloud.html")):
        if wanted:
            out = f"{here}/{name}"
            option = {"vdb": "--vdb", "mp4": "--video", "html": "--html"}[name.rpartition(".")[2]]
            command = ("export", extract, option, out, "--quiet")
            stages.append(Stage(name.replace(".", "-"), command, out))
    return stages
