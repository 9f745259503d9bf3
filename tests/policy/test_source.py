"""Rules that hold for every source file."""

from __future__ import annotations

import ast
import re
import shutil
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from atmonr.config import load
from launch.campaign_file import load_campaign
from launch.site import load_site

RANK_VARIABLES = re.compile(
    r"^(RANK|WORLD_SIZE|LOCAL_RANK|MASTER_ADDR|MASTER_PORT|PMI_\w+|PMIX_\w+|OMPI_\w+|PALS_\w+|SLURM_\w+|MPI_LOCAL\w+)$"
)
RUN_NAMES = re.compile(
    r"(^|/)(run\.toml|provenance\.json|metrics\.jsonl|scene\.json|done\.json|checkpoints|latest)$|step-.*\.pt"
)


@cache  # of one checkout; parsing takes half a second
def sources(checkout: Path) -> dict[str, ast.Module]:
    files = [*(checkout / "atmonr").rglob("*.py"), *(checkout / "launch").rglob("*.py")]
    return {str(path.relative_to(checkout)): ast.parse(path.read_text("utf-8")) for path in sorted(files)}


def calls(tree: ast.Module) -> Iterator[tuple[str, ast.Call]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), node


def texts(tree: ast.Module) -> Iterator[str]:
    """Yield string constants, docstrings left out."""
    prose = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in prose:
            yield node.value


def test_input_is_never_checked_by_assert(checkout: Path) -> None:
    """`python -O` removes asserts, and with them the check."""
    assert [
        name
        for name, tree in sources(checkout).items()
        if any(isinstance(node, ast.Assert) for node in ast.walk(tree))
    ] == []


def test_the_library_does_not_print(checkout: Path) -> None:
    found = [
        name
        for name, tree in sources(checkout).items()
        if any(called == "print" for called, _ in calls(tree))
    ]
    assert found == []


def test_checkpoints_are_read_in_one_place_and_cannot_run_code(checkout: Path) -> None:
    loads = [
        (name, call)
        for name, tree in sources(checkout).items()
        for called, call in calls(tree)
        if called == "torch.load"
    ]
    assert len({name for name, _ in loads}) <= 1
    for _, call in loads:
        assert {"weights_only": "True"}.items() <= {
            k.arg: ast.unparse(k.value) for k in call.keywords
        }.items()


def test_nothing_is_pickled(checkout: Path) -> None:
    for name, tree in sources(checkout).items():
        imported = {
            alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names
        }
        assert not imported & {"pickle", "cloudpickle", "dill", "joblib", "shelve"}, name


def test_only_launchers_reads_rank_variables(checkout: Path) -> None:
    found = {
        name for name, tree in sources(checkout).items() if any(RANK_VARIABLES.match(t) for t in texts(tree))
    }
    assert found == {"atmonr/launchers.py"}


def test_only_run_builds_names_inside_a_run_folder(checkout: Path) -> None:
    found = {
        name for name, tree in sources(checkout).items() if any(RUN_NAMES.search(t) for t in texts(tree))
    }
    assert found == {"atmonr/run.py"}


def test_files_stay_small(checkout: Path) -> None:
    files = [*(checkout / "atmonr").rglob("*.py"), *(checkout / "launch").rglob("*.py")]
    assert [str(path) for path in files if len(path.read_text("utf-8").splitlines()) > 300] == []


def test_every_shipped_config_loads(checkout: Path) -> None:
    configs = sorted((checkout / "configs").glob("*.toml"))
    assert {path.stem for path in configs} >= {"instant_ngp", "nerf"}
    for path in configs:
        load(path)


def test_every_shipped_campaign_loads(checkout: Path, tmp_path: Path) -> None:
    (tmp_path / "configs").symlink_to(checkout / "configs")
    campaigns = sorted((checkout / "configs" / "campaigns").glob("*.toml"))
    assert campaigns
    for path in campaigns:
        load_campaign(Path(shutil.copy(path, tmp_path)))


def test_every_shipped_site_loads(checkout: Path) -> None:
    sites = sorted((checkout / "configs" / "sites").glob("*.toml"))
    assert {path.stem for path in sites} >= {"laptop", "slurm", "pbs"}
    for path in sites:
        site = load_site(path.stem, checkout)
        assert site.tested or "untested" in site.title


def test_constraints_lie_within_the_declared_ranges(checkout: Path) -> None:
    requirements = pytest.importorskip("packaging.requirements")
    project = tomllib.loads((checkout / "pyproject.toml").read_text("utf-8"))["project"]
    declared = [
        *project["dependencies"],
        *(r for extra in project["optional-dependencies"].values() for r in extra),
    ]
    pins = dict(
        line.split("==")
        for line in (checkout / "constraints.txt").read_text("utf-8").splitlines()
        if line and not line.startswith("#")
    )
    parsed = [requirements.Requirement(text) for text in declared]
    assert {requirement.name for requirement in parsed} == set(pins)
    for requirement in parsed:
        assert requirement.specifier.contains(pins[requirement.name]), requirement


def test_links_in_the_documents_lead_somewhere(checkout: Path) -> None:
    documents = [
        *checkout.glob("*.md"),
        *(checkout / "docs").rglob("*.md"),
        *checkout.glob("containers/*.md"),
    ]
    broken = [
        f"{document.name}: {target}"
        for document in documents
        for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", document.read_text("utf-8"))
        if "://" not in target
        and not target.startswith("mailto:")
        and not (document.parent / target).exists()
    ]
    assert broken == []


def test_no_path_or_host_of_a_developer_is_in_the_tree(checkout: Path) -> None:
    suffixes = {".py", ".toml", ".md", ".txt", ".yml", ".yaml", ".def", ".sh"}
    folders = ("atmonr", "launch", "tests", "configs", "docs", "containers")
    files = [path for folder in folders for path in (checkout / folder).rglob("*") if path.suffix in suffixes]
    private = re.compile(r"/(?:home|root|work)/\w")
    assert [str(path) for path in files if private.search(path.read_text("utf-8"))] == []
