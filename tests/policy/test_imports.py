"""Which part may use which, and what must be importable where little is installed."""

from __future__ import annotations

import ast
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

Launch = Callable[..., subprocess.CompletedProcess[str]]

# What each part may import, beside itself and what EVERYBODY may. A name with a dot allows that module alone.
MAY_IMPORT: dict[str, set[str]] = {
    "atomic": set(),
    "checkpoint_file": set(),
    "compiled": set(),
    "config_errors": set(),
    "device": set(),
    "doctor": set(),
    "errors": set(),
    "geo": set(),
    "json_file": set(),
    "launchers": set(),
    "layout": set(),
    "liveness": set(),
    "meeting": {"launchers", "network"},
    "netcdf_probe": set(),
    "netcdf_visit": set(),  # a program of its own
    "network": set(),
    "provenance": set(),
    "rank_report": {"launchers", "seats", "world"},
    "render": set(),
    "scene_info": set(),
    "stop": set(),
    "sensors": {"geo.datum"},  # what altitudes are measured from is said where they are read
    "fields": {"geo.frame", "geo.sun", "geo.tiles", "render", "config", "run", "checkpoint_file"},
    "store": {"sensors", "geo"},
    "feed": {"store", "geo"},
    "simulate": {"render", "geo", "sensors"},
    "tasks": {"config", "layout", "feed", "fields", "render", "geo", "store", "evaluate"},
    "train": {"checkpoint_file", "config", "layout", "provenance", "run", "stop", "tasks.base", "world"},
    # The places of some grids come from files that only sensors can read.
    "extract": {"fields", "geo", "provenance", "run", "sensors", "stop", "store", "world"},
    "evaluate": {"geo", "run", "sensors"},  # a lidar's profiles are compared with
    "export": {"evaluate", "geo", "render"},
    "quicklook": {"evaluate", "geo", "run", "sensors", "store"},
    "config": {"config_errors"},
    "run": {"config"},
    "seats": {"device", "meeting", "network"},
    "world": {"device", "launchers", "liveness", "meeting", "seats"},
}
FREE = {"cli", "__main__", "demo", "bench", "bench_ingest", "bench_ranks"}  # they put everything together
# "" is atmonr itself: its version.
EVERYBODY = {"errors", "atomic", "compiled", "json_file", "netcdf_probe", "scene_info", ""}
# Strict TOML needs the words for what is wrong in it, and provenance is the run's own.
LAUNCH_MAY_IMPORT = {"config", "run", "errors", "", "atomic", "json_file", "config_errors", "provenance"}

FOREIGN = {"store": {"torch"}, "sensors": {"torch"}, "evaluate": {"torch"}, "quicklook": {"torch"}}
HEAVY = ("torch", "mpi4py", "netCDF4", "mlflow", "xarray", "zarr")

BLOCKER = f"""
import sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {HEAVY}:
            raise ImportError(f"{{name}} is blocked")

sys.meta_path.insert(0, Blocker())
"""


def imports(path: Path) -> Iterator[str]:
    """Yield the dotted names that a file imports, inside functions too; `from a import b` counts as a.b."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports hide where a name comes from"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def modules(checkout: Path) -> dict[str, Path]:
    """Return {name below atmonr: file}, such as {"geo.frame": …}; packages are named by their folder."""
    names = {}
    for path in sorted((checkout / "atmonr").rglob("*.py")):
        parts = path.relative_to(checkout / "atmonr").with_suffix("").parts
        names[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return names


def our_imports(path: Path, known: dict[str, Path]) -> set[str]:
    """Return the modules of atmonr that a file imports, as named by `modules`."""
    found = set()
    for name in imports(path):
        head, _, rest = name.partition(".")
        if head == "atmonr":
            # What comes last may be a function: `from atmonr.geo.frame import Frame` is the module geo.frame.
            while rest not in known:
                rest = rest.rpartition(".")[0]
            found.add(rest)
    return found


def allowed(name: str, permitted: set[str]) -> bool:
    return name in EVERYBODY or any(name == entry or name.startswith(f"{entry}.") for entry in permitted)


def test_every_part_has_its_place_in_the_table(checkout: Path) -> None:
    parts = {name.partition(".")[0] for name in modules(checkout)} - {""}
    assert parts - FREE <= set(MAY_IMPORT)


def test_imports_point_one_way(checkout: Path) -> None:
    known = modules(checkout)
    wrong = [
        f"{name} imports {other}"
        for name, path in known.items()
        if (part := name.partition(".")[0]) not in FREE and part
        for other in our_imports(path, known)
        if not allowed(other, MAY_IMPORT.get(part, set()) | {part})
    ]
    assert wrong == []


def test_no_module_imports_itself_in_a_circle(checkout: Path) -> None:
    known = modules(checkout)
    graph = {name: our_imports(path, known) - {""} for name, path in known.items()}
    # What nobody in the graph imports any more cannot be in a circle; peel until nothing changes.
    while loose := [name for name in graph if not any(name in others for others in graph.values())]:
        for name in loose:
            del graph[name]
    while ends := [name for name, others in graph.items() if not others & graph.keys()]:
        for name in ends:
            del graph[name]
    assert sorted(graph) == []


def test_files_and_scores_need_no_torch(checkout: Path) -> None:
    wrong = [
        f"{name} imports {other}"
        for name, path in modules(checkout).items()
        for other in imports(path)
        if other.partition(".")[0] in FOREIGN.get(name.partition(".")[0], set())
    ]
    assert wrong == []


def test_launch_knows_little_of_atmonr_and_atmonr_nothing_of_launch(checkout: Path) -> None:
    known = modules(checkout)
    used = set().union(*(our_imports(path, known) for path in (checkout / "launch").rglob("*.py")))
    assert {name.partition(".")[0] for name in used} <= LAUNCH_MAY_IMPORT
    assert not [name for name, path in known.items() if any(i.startswith("launch") for i in imports(path))]


@pytest.mark.parametrize(
    "script",
    [
        "import atmonr, atmonr.config, atmonr.run, atmonr.world, atmonr.errors",
        "import launch, pkgutil\n"
        "for found in pkgutil.walk_packages(launch.__path__, 'launch.'): __import__(found.name)",
        "import sys; sys.argv = ['atmonr', '--help']\nfrom atmonr.cli import main\nmain()",
    ],
)
def test_a_login_node_needs_no_gpu_stack(python: Launch, script: str) -> None:
    done = python("-c", BLOCKER + script)
    assert done.returncode == 0, done.stderr


def test_the_blocker_blocks(python: Launch) -> None:
    assert "torch is blocked" in python("-c", BLOCKER + "import torch").stderr


@pytest.mark.slow
@pytest.mark.alone
def test_help_answers_in_half_a_second() -> None:
    command = [str(Path(sys.executable).with_name("atmonr")), "--help"]
    seconds = []
    for _ in range(6):  # the first compiles the byte code, and others may be held up by what else runs here
        start = time.perf_counter()
        subprocess.run(command, capture_output=True, check=True)
        seconds.append(time.perf_counter() - start)
    assert min(seconds) <= 0.5
