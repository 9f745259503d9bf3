from __future__ import annotations

import pytest

from atmonr import errors


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("UsageError", 2),
        ("GranuleError", 65),
        ("SceneError", 65),
        ("ResumeError", 65),
        ("DivergedError", 70),
        ("PeerFailedError", 75),
        ("StoreError", 74),
        ("StoppedError", 75),
        ("GpuMemoryError", 76),
        ("CredentialsMissing", 77),
        ("ConfigError", 78),
        ("WorldError", 78),
        ("LostRankError", 75),
    ],
)
def test_exit_codes_are_what_job_scripts_rely_on(name: str, code: int) -> None:
    error = getattr(errors, name)
    assert issubclass(error, errors.AtmonrError)
    assert error("message").exit_code == code


def test_every_error_is_listed_above() -> None:
    defined = {name for name, value in vars(errors).items() if isinstance(value, type)}
    assert len(defined) == 14


def test_a_message_is_one_short_printable_line_whatever_it_quotes() -> None:
    message = str(errors.SceneError("a.nc: title is 'x\n\x1b[2J\udcff é' " + "y" * 5000 + "; fetch it again"))
    assert message.isprintable() and len(message) < 2100
    assert message.startswith(r"a.nc: title is 'x \x1b[2J\udcff é'") and message.endswith("; fetch it again")
