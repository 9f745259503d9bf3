"""Reading a TOML file into a strict section, with the errors that `atmonr.config` has."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import TypeVar

from pydantic import ValidationError

from atmonr.config import Section
from atmonr.config_errors import explain
from atmonr.errors import ConfigError

AnySection = TypeVar("AnySection", bound=Section)


def load_section(path: Path, section: type[AnySection]) -> AnySection:
    """Read and validate a TOML file.

    Raises:
        ConfigError: If it cannot be read, or anything in it is not valid.
    """
    try:
        with open(path, "rb") as stream:
            table = tomllib.load(stream)
    except OSError as error:
        raise ConfigError(f"{path}: cannot read: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path}: not valid TOML: {error}") from error
    try:
        return section.model_validate(table)
    except ValidationError as invalid:
        raise ConfigError(
            "; ".join(explain(error, section, str(path), {}) for error in invalid.errors())
        ) from None
