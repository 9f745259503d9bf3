"""Every error a user can cause or meet, each with the exit code the command line ends with.

A message is one line: what is wrong, in which file and variable, what was expected, what to do.
The codes follow BSD sysexits(3) where it has a fitting one, so that a batch system can tell "fix the
input" (65, 78) from "run it again" (75).
"""

from __future__ import annotations

import traceback

_LONGEST = 2000


class AtmonrError(Exception):
    """Base of all errors raised on purpose; the command line shows its message without a traceback.

    Attributes:
        exit_code: What the process ends with.
        everywhere: Whether all ranks that share the work raise it together, and so can go on together.
    """

    exit_code = 1
    everywhere = False

    def __init__(self, message: str) -> None:
        super().__init__(_one_line(message))


class UsageError(AtmonrError):
    """The command asks for something that cannot be done, such as writing over an existing output."""

    exit_code = 2


class GranuleError(AtmonrError):
    """A satellite file is unreadable, truncated, or not what its reader expects."""

    exit_code = 65


class SceneError(AtmonrError):
    """A scene, shard, receipt, extract or truth file is missing, damaged, or inconsistent."""

    exit_code = 65


class ResumeError(AtmonrError):
    """A run folder belongs to another config or scene, or its checkpoints cannot be read."""

    exit_code = 65


class DivergedError(AtmonrError):
    """Training produced a non-finite loss; the last good checkpoint is kept."""

    exit_code = 70


class StoreError(AtmonrError):
    """Reading or writing a file failed: disk full, no permission, network file system gone."""

    exit_code = 74


class StoppedError(AtmonrError):
    """Stopped by a signal after saving; the same command, of a training with --resume, continues."""

    exit_code = 75


class GpuMemoryError(AtmonrError):
    """The GPU, or the host, has too little memory for the requested sizes."""

    exit_code = 76


class CredentialsMissing(AtmonrError):
    """A data archive needs credentials and got none, or refused them; more attempts may lock the account."""

    exit_code = 77


class ConfigError(AtmonrError):
    """A configuration file or override has an unknown key, a wrong type or a value out of range."""

    exit_code = 78


class WorldError(AtmonrError):
    """The ranks of a distributed run do not fit together, or the requested device is absent."""

    exit_code = 78


class LostRankError(WorldError):
    """Another rank has died or cannot be reached; what is saved can be continued with --resume."""

    exit_code = 75


class PeerFailedError(LostRankError):
    """Another rank has ended with an error of its own, whose exit code this one takes over."""


def _one_line(message: str) -> str:
    """A message that may quote anything from a file, as one line that is safe to show on a terminal."""
    line = " ".join(str(message).split())
    if not line.isprintable():
        line = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in line)
    # The file is named at the beginning, the remedy at the end.
    return line if len(line) <= _LONGEST else f"{line[: _LONGEST // 2]} [...] {line[-_LONGEST // 2 :]}"


def forget_locals(error: BaseException | None) -> None:
    """Let go of the tensors and groups that the traceback of an error, kept by whoever reports it, holds."""
    while error is not None:
        traceback.clear_frames(error.__traceback__)
        error = error.__cause__ or error.__context__
