"""Definitions of images that no test builds, and lock files: read, and compared with the image that is."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

DEFINITIONS = {"cpu": "containers/cpu.def", "rocm": "containers/rocm.def", "cuda": "Apptainer.def"}
LOCKS = ("cpu", "cuda", "rocm", "tinycudann")
HEADER = re.compile(r"(?m)^(Bootstrap|From|OSVersion|MirrorURL|Stage): *(.+)$")


def stages(checkout: Path, flavour: str) -> list[dict[str, str]]:
    """Sections and headers of a definition, stage by stage, without comments."""
    text = re.sub(r"(?m)^\s*#.*\n", "", (checkout / DEFINITIONS[flavour]).read_text("utf-8"))
    found = []
    for stage in re.split(r"(?m)^(?=Bootstrap:)", text)[1:]:
        head, *sections = re.split(r"(?m)^%", stage)
        parts = {"headers": head, **dict(HEADER.findall(head))}
        for section in sections:
            name, _, body = section.partition("\n")
            parts[f"%{name.strip()}"] = body.strip()
        found.append(parts)
    return found


def arguments(stage: dict[str, str]) -> dict[str, str]:
    return dict(line.strip().split("=", 1) for line in stage["%arguments"].splitlines())


@pytest.mark.parametrize("flavour", ["rocm", "cuda"])
def test_the_last_stage_does_what_that_of_the_tested_image_does(checkout: Path, flavour: str) -> None:
    tested, other = stages(checkout, "cpu")[-1], stages(checkout, flavour)[-1]
    for section in ("%setup", "%files", "%environment", "%runscript", "%test"):
        assert other[section] == tested[section], section


@pytest.mark.parametrize("flavour", DEFINITIONS)
def test_all_steps_are_those_of_the_shared_script(checkout: Path, flavour: str) -> None:
    steps = [line.strip() for stage in stages(checkout, flavour) for line in stage["%post"].splitlines()]
    ours = rf"(system|(python|atmonr) {flavour}( /opt/venv)?)"
    shared = re.compile(rf'(BASE="\{{\{{ BASE \}}\}}" )?bash /src/containers/install\.sh {ours}')
    others = [step for step in steps if not shared.fullmatch(step)]
    own = ['bash /src/containers/tinycudann.sh "{{ CUDA_ARCHITECTURES }}"'] if flavour == "cuda" else []
    assert others == own
    assert any(f"python {flavour}" in step for step in steps)
    assert any(f"atmonr {flavour}" in step for step in steps)


@pytest.mark.parametrize("flavour", ["rocm", "cuda"])
def test_bases_are_pinned_by_digest(checkout: Path, flavour: str) -> None:
    for stage in stages(checkout, flavour):
        assert stage["Bootstrap"] == "docker"
        (name,) = re.fullmatch(r"\{\{ (\w+) \}\}", stage["From"]).groups()
        # Both a tag and a digest is more than Apptainer takes.
        assert re.fullmatch(r"[\w/-]+@sha256:[0-9a-f]{64}", arguments(stage)[name])


def test_no_compiler_is_in_the_last_stage_of_the_cuda_image(checkout: Path) -> None:
    build, final = stages(checkout, "cuda")
    assert (build["Stage"], final["Stage"]) == ("build", "final")
    assert "tinycudann.sh" in build["%post"] and "tinycudann.sh" not in final["%post"]
    assert final["%files from build"] == "/opt/atmonr /opt/atmonr"
    shared = (checkout / "containers/install.sh").read_text("utf-8")
    assert not re.search(r"\b(g\+\+|gcc|build-essential|python3-dev)\b", shared)
    assert arguments(build)["CUDA_ARCHITECTURES"] == "80;86;89;90;100;120"


def test_sources_of_tinycudann_are_pinned(checkout: Path) -> None:
    script = (checkout / "containers/tinycudann.sh").read_text("utf-8")
    assert re.search(r"(?m)^commit=[0-9a-f]{40}$", script)
    assert len(re.findall(r'(?m)^(?:modules=")?[0-9a-f]{40} dependencies/\w+', script)) == 3
    assert not re.search(r"git clone|--branch|checkout master", script)


@pytest.mark.parametrize("flavour", ["rocm", "cuda"])
def test_apptainer_reads_the_definition_and_asks_for_the_pinned_base(
    checkout: Path, tmp_path: Path, flavour: str
) -> None:
    """Up to where a registry would answer, which none does without a network."""
    if shutil.which("apptainer") is None or subprocess.run(["unshare", "-n", "true"], check=False).returncode:
        pytest.skip("needs apptainer, and to be root")
    build = [
        "unshare",
        "-n",
        "apptainer",
        "build",
        "--fakeroot",
        str(tmp_path / "x.sif"),
        DEFINITIONS[flavour],
    ]
    done = subprocess.run(build, cwd=checkout, capture_output=True, text=True, timeout=120, check=False)
    assert "Fetching OCI image" in done.stderr
    assert "conveyor failed to get" in done.stderr


@pytest.mark.parametrize("name", LOCKS)
def test_every_locked_package_has_checksums(checkout: Path, name: str) -> None:
    lock = (checkout / f"containers/locks/{name}.txt").read_text("utf-8")
    entries = re.findall(
        r"(?m)^([\w.-]+)==(\S+?)(?: ;[^\\\n]*)? \\\n((?:    --hash=sha256:[0-9a-f]{64}(?: \\)?\n)+)", lock
    )
    assert len(entries) == len(re.findall(r"(?m)^\w", lock)) > 2
    assert "://" not in lock  # no index, which differs from place to place


def test_locks_are_of_this_project(checkout: Path) -> None:
    """What is locked is what is tested, and a lock that is not of pyproject.toml is noticed offline."""
    check = [sys.executable, "containers/lock.py", "--check"]
    assert subprocess.run(check, cwd=checkout, check=False).returncode == 0
    pins = dict(re.findall(r"(?m)^([\w.-]+)==(\S+)$", (checkout / "constraints.txt").read_text("utf-8")))
    for name in ("cpu", "cuda", "rocm"):
        lock = (checkout / f"containers/locks/{name}.txt").read_text("utf-8")
        locked = dict(re.findall(r"(?m)^([\w.-]+)==(\S+)", lock))
        assert ("torch" in locked) == (name != "rocm")
        for package, version in pins.items():
            assert locked.get(package.lower(), version) == version
    assert not re.search(
        r"(?m)^(nvidia|cuda|triton)", (checkout / "containers/locks/cpu.txt").read_text("utf-8")
    )


def test_a_stale_lock_fails(checkout: Path, tmp_path: Path) -> None:
    for name in ("pyproject.toml", "constraints.txt"):
        shutil.copy(checkout / name, tmp_path)
    shutil.copytree(checkout / "containers", tmp_path / "containers")
    check = [sys.executable, "containers/lock.py", "--check"]
    assert subprocess.run(check, cwd=tmp_path, check=False).returncode == 0
    project = (tmp_path / "pyproject.toml").read_text("utf-8")
    (tmp_path / "pyproject.toml").write_text(project.replace('"numpy>=2.0,<3"', '"numpy>=2.1,<3"'))
    done = subprocess.run(check, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "run make locks" in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "python", "machine"),
    [
        ("cuda", "3.12", "x86_64"),
        ("cuda", "3.12", "aarch64"),
        ("rocm", "3.12", "x86_64"),
        ("tinycudann", "3.12", "aarch64"),
    ],
)
def test_the_index_has_every_locked_file_for_the_platform(
    checkout: Path, tmp_path: Path, name: str, python: str, machine: str
) -> None:
    uv = [sys.executable, "-m", "uv", "pip", "install", "--dry-run", "--target", str(tmp_path), "--no-config"]
    uv += ["--python-version", python, "--python-platform", f"{machine}-manylinux_2_39", "--no-deps"]
    uv += ["--only-binary", ":all:", "--require-hashes", "-r", f"containers/locks/{name}.txt"]
    done = subprocess.run(uv, cwd=checkout, capture_output=True, text=True, timeout=300, check=False)
    if re.search("(?i)failed to fetch|dns error|connect", done.stderr):
        pytest.skip("no index answers")
    assert done.returncode == 0, done.stderr
    assert "Would install" in done.stderr


@pytest.mark.slow
def test_locking_anew_gives_the_same_versions(checkout: Path, tmp_path: Path) -> None:
    for name in ("pyproject.toml", "constraints.txt"):
        shutil.copy(checkout / name, tmp_path)
    shutil.copytree(checkout / "containers", tmp_path / "containers")
    make = [sys.executable, "containers/lock.py"]
    done = subprocess.run(make, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False)
    if re.search("(?i)failed to fetch|dns error|connect", done.stderr):
        pytest.skip("no index answers")
    assert done.returncode == 0, done.stderr
    for name in LOCKS:
        old, new = (
            re.findall(r"(?m)^\S+==[^\\\n]+", (folder / f"containers/locks/{name}.txt").read_text("utf-8"))
            for folder in (checkout, tmp_path)
        )
        assert new == old
