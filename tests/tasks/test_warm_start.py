"""What a new scene gains from the decoder of others."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
import torch

from atmonr.config import Config
from atmonr.demo import CONFIG
from atmonr.sensors.harp2 import open_harp2
from atmonr.simulate.session import simulate
from atmonr.store.ingest import ingest
from atmonr.store.scene import open_scene
from atmonr.tasks.base import Alone
from atmonr.tasks.recipe import RECIPE
from atmonr.tasks.tomography import Tomography
from atmonr.train.loop import WARMUP_STEPS, StepReport, fit
from atmonr.train.session import train
from atmonr.world import World

ALONE = World.single("cpu")
STEPS, LOOK_EVERY = 300, 5


def cumulus(folder: Path, seed: int) -> Path:
    out = folder / f"seed-{seed}.zarr"
    granule, _ = simulate(
        "cumulus",
        folder / f"{seed}",
        lines=20,
        pixels=20,
        surface="ocean",
        rayleigh=True,
        noise=0.01,
        seed=seed,
    )
    with open_harp2(granule) as opened:
        return ingest(opened, out, top_height_m=6000.0)


def config_of(**train: object) -> Config:
    settings = tomllib.loads(CONFIG)
    settings["train"].update({"steps": STEPS, **train})
    return Config.model_validate({**settings, "track": {"uri": "off"}})


def learned(scene: Path, config: Config) -> list[float]:
    """Held-out PSNR after every few steps."""
    torch.manual_seed(config.train.seed)
    task = Tomography(config, open_scene(scene), ALONE.device, Alone())
    task.begin()
    scores = []

    def look(report: StepReport) -> None:
        if report.step % LOOK_EVERY == 0:
            scores.append(task.evaluate(report.step)["heldout_psnr_db"])

    warmup = 0 if config.train.warm_start else WARMUP_STEPS
    fit(task, steps=STEPS, start_step=0, world=ALONE, at_boundary=look, warmup_steps=warmup)
    return scores


def steps_to(scores: list[float], psnr_db: float) -> int:
    return LOOK_EVERY * (1 + next(n for n, score in enumerate(scores) if score >= psnr_db))


@pytest.mark.slow
def test_a_warm_start_needs_half_the_steps_of_a_cold_one(tmp_path: Path) -> None:
    """To what the cold one ends with, less than half; so early in a training, little more to any score."""
    others = [cumulus(tmp_path, seed) for seed in (1, 2)]
    shared = Config.model_validate({**config_of().model_dump(), "world": {"shared_decoder": True}})
    train(shared, others, tmp_path / "run", recipe=RECIPE, resume=False, world=ALONE, quiet=True)
    scene = cumulus(tmp_path, 11)
    cold = learned(scene, config_of())
    warm = learned(scene, config_of(warm_start=str(tmp_path / "run")))
    levels = [25.0, 27.0, 29.0, 31.0, 33.0, max(cold)]
    ratios = [steps_to(warm, level) / steps_to(cold, level) for level in levels]
    assert ratios[-1] <= 0.5
    assert max(ratios) <= 0.6
