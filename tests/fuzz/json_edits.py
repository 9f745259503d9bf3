"""Harm to JSON, that of Zarr included, and the signing of plans that were harmed."""

from __future__ import annotations

import hashlib
import json
import random
from pathlib import Path
from typing import Any

from tests.fuzz import hostile

_MARK = "here another text goes"


def edit(path: Path, chance: random.Random) -> None:
    """Change one value, name or text of a file that holds one JSON value."""
    path.write_text(_edited(_text(path), chance), encoding="utf-8", errors="surrogatepass")


def edit_lines(path: Path, chance: random.Random) -> None:
    """Change one line of a file of JSON values, or the order of lines."""
    lines = _text(path).split("\n")
    index = chance.randrange(len(lines))
    if chance.random() < 0.2:
        chance.shuffle(lines)
    elif chance.random() < 0.2:
        lines.insert(index, chance.choice(("", "{}", "[]", "1", "null", "{")))
    else:
        lines[index] = _edited(lines[index], chance, indent=None)
    path.write_text("\n".join(lines), encoding="utf-8", errors="surrogatepass")


def sign_plans(case: Path) -> None:
    """Let plans, metadata and receipts of extractions fit one another again, as an attacker would."""
    for path in sorted(case.rglob("plan.json")):
        try:
            plan = dict(json.loads(path.read_text(encoding="utf-8")))
            plan.pop("sha256", None)
            digest = hashlib.sha256(json.dumps(plan, sort_keys=True).encode()).hexdigest()
            path.write_text(json.dumps({**plan, "sha256": digest}, indent=2) + "\n", encoding="utf-8")
            array = path.parent / "extinction"
            (array / "zarr.json").write_text(json.dumps(plan.get("array"), indent=2) + "\n", encoding="utf-8")
            _sign_receipts(path.parent, plan, digest)
        except (OSError, ValueError, TypeError, RecursionError):
            continue  # harmed beyond that


def _sign_receipts(folder: Path, plan: dict[str, Any], digest: str) -> None:
    grid = hashlib.sha256(json.dumps(plan.get("grid"), sort_keys=True).encode()).hexdigest()
    source = plan.get("source")
    identity = source.get("identity") if isinstance(source, dict) else None
    for path in sorted((folder / "receipts").glob("[0-9]*.json")):
        receipt = dict(json.loads(path.read_text(encoding="utf-8")))
        name = path.name.partition(".")[0]
        content = (folder / "extinction" / "c" / "0" / name.replace("-", "/")).read_bytes()
        checksum = hashlib.sha256(content).hexdigest()
        receipt |= {"plan_sha256": digest, "grid_sha256": grid, "source": identity}
        receipt |= {"sha256": checksum, "size_bytes": len(content)}
        path.unlink()
        text = json.dumps(receipt, indent=2) + "\n"
        path.with_name(f"{name}.{checksum[:16]}.json").write_text(text, encoding="utf-8")


def _text(path: Path) -> str:
    return path.read_bytes().decode("utf-8", "replace")


def _edited(text: str, chance: random.Random, indent: int | None = 2) -> str:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return chance.choice(hostile.JSON_TEXTS)
    places = list(_places(value))
    if not places or chance.random() < 0.05:
        return chance.choice((*hostile.JSON_TEXTS, json.dumps(hostile.json_value(chance))))
    holder, key = chance.choice(places)
    raw = None
    kind = chance.randrange(6)
    if kind == 0:
        del holder[key]
    elif kind == 1 and isinstance(holder, dict):
        holder[chance.choice(hostile.NAMES)] = hostile.json_value(chance)
    elif kind == 2:
        raw, holder[key] = chance.choice(hostile.JSON_TEXTS), _MARK
    elif kind == 3:
        holder[key] = json.loads(json.dumps(chance.choice([where[name] for where, name in places])))
    else:
        # Frames and the like are JSON in a JSON text.
        inner = isinstance(holder[key], str) and holder[key][:1] in "{[" and chance.random() < 0.8
        holder[key] = _edited(holder[key], chance) if inner and holder[key] else hostile.json_value(chance)
    # What is nested too deep to be written is a text already.
    made = json.dumps(value, indent=indent)
    return made if raw is None else made.replace(f'"{_MARK}"', raw)


def _places(value: Any) -> Any:
    """Yield (container, key) of everything in a JSON value."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield value, key
        yield from _places(inner)
