"""Make the lock files of images (`make locks`), or check that they fit the project (`lock.py --check`).

A lock names every Python package of an image with the checksums of its files, for x86_64 and aarch64. `uv`
resolves them within the ranges of pyproject.toml at the versions of constraints.txt. What they were made from
is told by a checksum in their first line, so that a stale one is found without a network.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
CHECKOUT = HERE.parent
LOCKS = HERE / "locks"
EXTRAS = ("mpi", "fetch")
# What torch from PyPI brings for NVIDIA's GPUs, under names that are always the same.
CUDA = (
    "cuda-bindings",
    "cuda-toolkit",
    "nvidia-cudnn-cu13",
    "nvidia-cusparselt-cu13",
    "nvidia-nccl-cu13",
    "nvidia-nvshmem-cu13",
    "triton",
)
# PyTorch's build without CUDA, which PyPI does not have; its index is in install.sh. x86_64, aarch64.
CPU_TORCH = """\
torch==2.13.0 \\
    --hash=sha256:6746dbcbeb526eb61330b76b41ff1b4eb848951103a892eeb080dfa2b264667b \\
    --hash=sha256:84453b69508ec79902f899c5ed9495acb9e2bbe9fda5f1d5d6f19e3c3842e1a7
"""


@dataclass(frozen=True)
class Flavour:
    """One lock.

    Attributes:
        python: Version of the image's interpreter.
        without: Packages that are left out, with all that only they need.
        added: Locked by hand.
        requirements: Instead of those of the project.
    """

    python: str
    without: Sequence[str] = ()
    added: str = ""
    requirements: Sequence[str] = ()


FLAVOURS = {
    "cpu": Flavour("3.11", without=CUDA, added=CPU_TORCH),  # of Debian 12
    "cuda": Flavour("3.12"),  # of Ubuntu 24.04
    # The base has torch and what torch needs, built for ROCm.
    "rocm": Flavour("3.12", without=("torch", "triton")),
    # What builds tinycudann; its set-up imports a module that setuptools 82 no longer has.
    "tinycudann": Flavour("3.12", requirements=("setuptools<82", "wheel", "ninja")),
}


def requirements(flavour: Flavour) -> list[str]:
    """What is asked for."""
    if flavour.requirements:
        return list(flavour.requirements)
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text("utf-8"))["project"]
    extras = (requirement for extra in EXTRAS for requirement in project["optional-dependencies"][extra])
    # Builds the project itself in the image.
    return [*project["dependencies"], *extras, "setuptools", "wheel"]


def head(flavour: Flavour) -> str:
    """First line of a lock: a checksum of all that it is made from."""
    pins = (CHECKOUT / "constraints.txt").read_text("utf-8")
    made_from = [requirements(flavour), pins, flavour.python, list(flavour.without), flavour.added]
    return (
        f"# `make locks` made this from sha256:{hashlib.sha256(json.dumps(made_from).encode()).hexdigest()}\n"
    )


def resolve(flavour: Flavour, former: str) -> str:
    """Ask the index; versions of a former lock are kept where they still fit."""
    with tempfile.TemporaryDirectory() as folder:
        wanted, without, lock = (Path(folder) / name for name in ("wanted.in", "without.txt", "lock.txt"))
        wanted.write_text("\n".join(requirements(flavour)))
        without.write_text("\n".join(flavour.without))
        lock.write_text(former)
        command = [sys.executable, "-m", "uv", "pip", "compile", str(wanted), "--output-file", str(lock)]
        command += ["--constraints", str(CHECKOUT / "constraints.txt"), "--excludes", str(without)]
        command += ["--python-version", flavour.python, "--universal", "--no-build", "--generate-hashes"]
        command += ["--no-annotate", "--no-header", "--no-config", "--quiet"]
        if flavour.added:
            command += ["--no-emit-package", flavour.added.partition("==")[0]]
        subprocess.run(command, check=True)
        # Packages that only Windows or macOS need.
        text = re.sub(
            r"(?m)^\S+ ; sys_platform == '(?:win32|emscripten).*\n(?:    .*\n)+", "", lock.read_text()
        )
    return head(flavour) + re.sub(r"(?m)^#.*\n", "", text) + flavour.added


def stale() -> list[str]:
    """Names of locks that were made from something else than there is now."""
    return [
        name
        for name, flavour in FLAVOURS.items()
        if not (path := LOCKS / f"{name}.txt").is_file()
        or not path.read_text("utf-8").startswith(head(flavour))
    ]


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--check", action="store_true", help="change nothing; fail if a lock is stale")
    if parser.parse_args().check:
        if names := stale():
            print(f"stale: {', '.join(names)} of containers/locks; run make locks", file=sys.stderr)
        return 1 if names else 0
    LOCKS.mkdir(exist_ok=True)
    for name, flavour in FLAVOURS.items():
        path = LOCKS / f"{name}.txt"
        path.write_text(resolve(flavour, path.read_text("utf-8") if path.exists() else ""), "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
