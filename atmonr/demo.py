"""The main job from end to end on a small simulated scene, by the same commands that a user types."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from atmonr.errors import AtmonrError, UsageError
from atmonr.simulate.native import GRANULE_NAME
from atmonr.simulate.session import TRUTH_NAME

# Short, for two slow cores: coarse in space and few rays a step, otherwise the shipped method.
CONFIG = """\
[field]
method = "instant_ngp"
levels = 5
log2_table_size = 16

[render]
samples = 32
sampler = "pdf"

[loss]
mse = 0.5
dark = 2.0
sparsity = 2.5e-4
amount = 8e-6
departure = 1e-3

[light]
every_steps = 50

[train]
steps = 600
batch_rays = 1024
log_every_steps = 50
evaluate_every_steps = 300
"""
SIMULATE = ["--preset", "cumulus", "--surface", "ocean", "--rayleigh", "--noise", "0.01", "--seed", "7"]
TOP_HEIGHT_M = "6000"
STEPS = ["--horizontal-step-m", "160", "--vertical-step-m", "80"]

# What the recovered cloud must reach: name, where in score.json, at least or at most, limit.
LIMITS = (
    ("cloud mask IoU", "volume.iou_best", "at least", 0.5),
    ("optical depth, rank correlation", "volume.optical_depth_spearman_cloudy", "at least", 0.7),
    ("optical depth, clear / cloudy", "volume.clear_to_cloudy_optical_depth", "at most", 0.05),
    ("held-out PSNR, dB", "heldout.all.psnr_db", "at least", 30.0),
)


def demo(out: Path, *, ranks: int = 2, quiet: bool = False) -> None:
    """Simulates, ingests, trains, extracts, merges and evaluates, and judges the result.

    Args:
        out: Folder for everything, which must not exist.
        ranks: MPI ranks that share training and extraction.
        quiet: Show only the closing table.

    Raises:
        UsageError: `out` exists, or more than one rank is asked for and there is no mpiexec.
        AtmonrError: A stage failed, or the recovered cloud is wrong.
    """
    if out.exists():
        raise UsageError(f"{out}: exists already; choose another folder or remove it first")
    out.mkdir(parents=True)
    (out / "demo.toml").write_text(CONFIG, encoding="utf-8")
    console = Console(quiet=quiet)
    start = time.perf_counter()
    for name, command in _stages(out, ranks):
        console.rule(f"[bold]{name}[/bold]", align="left")
        _run(name, command, quiet)
    score = json.loads((out / "score.json").read_text(encoding="utf-8"))
    passed = _judge(score)
    pictures = sorted(out.glob("pictures/*.png")) + sorted(out.glob("run/scenes/*/pictures/*.png"))
    Console().print(f"{time.perf_counter() - start:.0f} s. Pictures:", *map(str, pictures), sep="\n  ")
    if not passed:
        raise AtmonrError(f"{out / 'score.json'}: the recovered cloud is wrong; see the table above")


def _stages(out: Path, ranks: int) -> list[tuple[str, list[str]]]:
    atmonr = [sys.executable, "-m", "atmonr"]
    many = [*_mpiexec(ranks), *atmonr]
    granule, truth = (str(out / "granule" / name) for name in (GRANULE_NAME, TRUTH_NAME))
    names = "scene.zarr", "run", "parts.zarr", "extract.nc"
    scene, run, parts, extract = (str(out / name) for name in names)
    score, drawn = str(out / "score.json"), str(out / "pictures")
    shared = ["--set", f"world.ranks_per_scene={ranks}"]
    return [
        ("simulate a granule of a known cloud", [*atmonr, "simulate", *SIMULATE, "-o", str(out / "granule")]),
        ("ingest it", [*atmonr, "ingest", granule, "-o", scene, "--top-height-m", TOP_HEIGHT_M]),
        (
            f"train on {ranks} ranks",
            [*many, "train", "-c", str(out / "demo.toml"), "--scene", scene, "--run", run, *shared],
        ),
        (
            f"extract on {ranks} ranks",
            [*many, "extract", "--run", run, "--grid", "voxel", *STEPS, "-o", parts],
        ),
        ("merge the shards", [*atmonr, "merge", parts, "-o", extract]),
        (
            "evaluate against truth",
            [*atmonr, "evaluate", extract, "--truth", truth, "--run", run, "-o", score, "--pictures", drawn],
        ),
    ]


def _mpiexec(ranks: int) -> list[str]:
    if ranks == 1:
        return []
    # Another MPI's launcher would start singletons: only the one beside this interpreter fits its mpi4py.
    launcher = Path(sys.executable).with_name("mpiexec")
    if not launcher.exists():
        raise UsageError(f"{launcher}: not found; install atmonr[mpi], or run the demo with --ranks 1")
    return [str(launcher), "-n", str(ranks)]


def _run(name: str, command: list[str], quiet: bool) -> None:
    done = subprocess.run(command, stdout=subprocess.DEVNULL if quiet else None, check=False)
    if done.returncode:
        raise AtmonrError(f"demo: '{name}' ended with exit code {done.returncode}: {' '.join(command)}")


def _judge(score: dict[str, Any]) -> bool:
    """Shows what was reached beside what must be; returns whether all of it was."""
    table = Table("score", "reached", "must be", "", title="The recovered cloud")
    passed = True
    for name, path, sense, limit in LIMITS:
        value: Any = score
        for key in path.split("."):
            value = value[key]
        good = value is not None and (value >= limit if sense == "at least" else value <= limit)
        passed &= good
        mark = "[green]yes[/green]" if good else "[red]no[/red]"
        table.add_row(name, f"{value:.3g}" if value is not None else "none", f"{sense} {limit:g}", mark)
    Console().print(table)
    return passed
