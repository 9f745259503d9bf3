"""Words for what is wrong in a config: where, which key, what was expected, which name was probably meant."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, get_args

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

Section = type[BaseModel]


def explain(error: ErrorDetails, root: Section, path: str, sources: Mapping[str, str]) -> str:
    """Turn one validation error into one line, `where: key: what was wrong; what is valid`.

    Args:
        error: One entry of `ValidationError.errors()`.
        root: The model that was validated. Unions of sections are told apart by their key `method`.
        path: Where values come from.
        sources: {dotted key: where} of values that come from elsewhere, such as an override.
    """
    parts, siblings, info = _locate(root, [str(part) for part in error["loc"]])
    if error["type"].startswith("union_tag"):
        parts.append("method")
        what = f"missing or unknown method; valid: {', '.join(_sections(info))}"
    elif error["type"] == "extra_forbidden":
        what = f"unknown key{_suggestion(parts, siblings, root)}; valid: {', '.join(siblings)}"
    elif error["type"] == "missing":
        what = f"is missing; expected {_expected(info)}"
    elif error["type"] == "value_error":
        what = str(error["ctx"]["error"])
    else:
        what = f"{_shown(error['input'])} is not valid; expected {_expected(info)}"
    key = ".".join(parts)
    # The last override of a key, or of something in its section, is the one that counted.
    where = next(
        (text for name, text in reversed(list(sources.items())) if f"{name}.".startswith(f"{key}.")), path
    )
    return f"{where}: {key}: {what}"


def _shown(value: Any) -> str:
    try:
        return repr(value)
    except ValueError:  # Python refuses to write out integers of thousands of digits
        return "a number too long to show"


def _locate(
    root: Section, location: Sequence[str]
) -> tuple[list[str], Mapping[str, FieldInfo], FieldInfo | None]:
    """Follow an error's location through the sections.

    Returns:
        The key's parts, without the union tags that pydantic adds; the fields beside the key; its own field.
    """
    parts: list[str] = []
    fields = siblings = root.model_fields
    info: FieldInfo | None = None
    sections: dict[str, Section] = {}
    for part in location:
        if part in sections:  # a tag
            fields, sections = sections[part].model_fields, {}
            continue
        parts.append(part)
        siblings, info = fields, fields.get(part)
        sections = _sections(info)
        fields = next(iter(sections.values())).model_fields if sections else {}
    return parts, siblings, info


def _sections(info: FieldInfo | None) -> dict[str, Section]:
    """Return {tag: class} of the sections that a field may hold; {} for a plain value."""
    annotation = info.annotation if info else None
    candidates = get_args(annotation) or (annotation,)
    return {
        _tag(model): model for model in candidates if isinstance(model, type) and issubclass(model, BaseModel)
    }


def _tag(section: Section) -> str:
    method = section.model_fields.get("method")
    return str(get_args(method.annotation)[0]) if method else section.__name__


def _suggestion(parts: Sequence[str], siblings: Mapping[str, FieldInfo], root: Section) -> str:
    *sections, name = parts
    close = [".".join([*sections, key]) for key in difflib.get_close_matches(name, siblings, n=1)]
    # A key written without its section, or in the wrong one, is as common as a misspelt one.
    elsewhere = [key for key in _keys(root) if key.rpartition(".")[2] == name]
    return "".join(f", did you mean '{key}'?" for key in (close or elsewhere)[:1])


def _keys(section: Section) -> Iterator[str]:
    for name, info in section.model_fields.items():
        sections = _sections(info).values()
        yield from (f"{name}.{key}" for inner in sections for key in _keys(inner))
        if not sections:
            yield name


def _expected(info: FieldInfo | None) -> str:
    """Describe the values that a field takes, such as `a whole number, >= 1, <= 24`."""
    if info is None or _sections(info):
        return "a section"
    kinds = {int: "a whole number", float: "a number", bool: "true or false", list[str]: "a list of texts"}
    if info.annotation in kinds:
        signs = {"ge": ">=", "gt": ">", "le": "<=", "lt": "<"}
        bounds = [
            f"{sign} {getattr(limit, name)}"
            for limit in info.metadata
            for name, sign in signs.items()
            if hasattr(limit, name)
        ]
        return ", ".join([kinds[info.annotation], *bounds])
    choices = [repr(choice) for choice in get_args(info.annotation) if isinstance(choice, str)]
    return f"one of {', '.join(choices)}" if choices else "text"
