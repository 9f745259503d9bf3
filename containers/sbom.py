"""Write a CycloneDX list of all packages of this image: `python sbom.py LOCK`.

Ready-made tools list either the packages of a Python environment or those of a distribution; those that do
both are not on PyPI. Nothing in it depends on time or place: equal images have equal lists.
"""

from __future__ import annotations

import json
import platform
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any
from urllib.parse import quote


def locked(lock: Path) -> dict[str, list[str]]:
    """{package: checksums of the files it may have come from}."""
    found: dict[str, list[str]] = {}
    for line in lock.read_text("utf-8").splitlines():
        if named := re.match(r"([\w.-]+)==", line):
            found[named[1]] = hashes = []
        elif sha := re.search(r"--hash=sha256:(\w+)", line):
            hashes.append(sha[1])
    return found


def python_packages(lock: Path) -> list[dict[str, Any]]:
    """Of the environment that runs this."""
    hashes, packages = locked(lock), []
    for found in metadata.distributions():
        name = re.sub(r"[-_.]+", "-", found.metadata["Name"]).lower()
        package = component(name, found.version, f"pkg:pypi/{name}@{quote(found.version)}")
        if "License-Expression" in found.metadata:
            package["licenses"] = [{"expression": found.metadata["License-Expression"]}]
        # One of these, depending on the processor.
        package["properties"] = [
            {"name": "atmonr:locked", "value": f"sha256:{sha}"} for sha in hashes.get(name, [])
        ]
        packages.append(package)
    return packages


def system_packages() -> list[dict[str, Any]]:
    """Of the distribution."""
    release = platform.freedesktop_os_release()
    distribution, version = release["ID"], release["VERSION_ID"]
    show = ["dpkg-query", "--show", "--showformat=${Package}\t${Version}\t${Architecture}\n"]
    rows = [line.split("\t") for line in subprocess.check_output(show, text=True).splitlines()]
    return [
        component(
            name,
            number,
            f"pkg:deb/{distribution}/{quote(name)}@{quote(number)}?arch={machine}&distro={distribution}-{version}",
        )
        for name, number, machine in rows
    ]


def component(name: str, version: str, purl: str) -> dict[str, Any]:
    """One entry."""
    return {"type": "library", "bom-ref": purl, "name": name, "version": version, "purl": purl}


def main() -> None:
    """Command line."""
    packages = [*python_packages(Path(sys.argv[1])), *system_packages()]
    unique = {package["bom-ref"]: package for package in packages}
    (own,) = (package for package in unique.values() if package["purl"].startswith("pkg:pypi/atmonr@"))
    subject = {**own, "type": "application", "bom-ref": "atmonr-image"}
    listing = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {"component": subject},
        "components": [unique[reference] for reference in sorted(unique)],
    }
    json.dump(listing, sys.stdout, indent=1)


if __name__ == "__main__":
    main()
