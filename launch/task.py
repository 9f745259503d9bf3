"""What there is to do: tasks, each a few command lines run one after the other.

A scene task ingests a granule; a field task trains on that scene, extracts, merges and exports. A task is
known by a key made of everything that decides its result: submitting the same twice, or under another
campaign file, finds the same task.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from launch.policy import Adjustment

RUN = "{run}"  # in an argument: name of the run folder, which a retry with other settings has of its own


@dataclass(frozen=True)
class Stage:
    """One command line of a task.

    Attributes:
        name: Such as "train".
        arguments: Of atmonr. Paths start from the campaign folder.
        output: File or folder, written under another name and renamed, whose existence means that nothing is
            left to do; "" for a stage that continues what it finds.
    """

    name: str
    arguments: tuple[str, ...]
    output: str = ""


@dataclass(frozen=True)
class Task:
    """One unit of work.

    Attributes:
        key: Content key, 32 hexadecimal digits.
        kind: "scene" or "field".
        granule: Name of the granule.
        variant: Which combination of the sweep; "" without one.
        pool: Kind of job that does it, "cpu" or "gpu".
        needs: Key of the task that must be done before; "" for none.
        stages: What to run.
        facts: What the key was made of, and more, for provenance and cost.
    """

    key: str
    kind: str
    granule: str
    variant: str
    pool: str
    needs: str
    stages: tuple[Stage, ...]
    facts: Mapping[str, Any]

    @property
    def name(self) -> str:
        """For people; the key's beginning tells tasks of one name apart."""
        return " ".join(filter(None, (self.granule, self.variant)))

    @property
    def folder(self) -> str:
        """Of its records and results, from the campaign folder; folders hold at most some 1,000 entries."""
        return f"tasks/{self.key[:2]}/{self.key}"

    def to_json(self) -> dict[str, Any]:
        """JSON data that `from_json` turns back."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Task:
        """Turn back what `to_json` made."""
        stages = tuple(
            Stage(stage["name"], tuple(stage["arguments"]), stage["output"]) for stage in data["stages"]
        )
        return cls(**{**data, "stages": stages})


def key_of(facts: Mapping[str, Any]) -> str:
    """Content key of JSON data."""
    canonical = json.dumps(facts, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()[:32]


def arguments_of(stage: Stage, task: Task, folder: Path, adjustment: Adjustment) -> list[str]:
    """The command line of a stage, as it is to be run now, in the campaign folder.

    Args:
        stage: Of the task.
        task: Whose facts hold the config's seed and parts of a batch.
        folder: Campaign folder, to see whether a run is to be continued.
        adjustment: How this attempt differs from the first.
    """
    run = f"{task.folder}/run{adjustment.suffix}"
    arguments = [argument.replace(RUN, run) for argument in stage.arguments]
    if stage.name == "train":
        arguments += _changes(task.facts, adjustment)
        if (folder / run).exists():
            arguments.append("--resume")
    return arguments


def output_of(stage: Stage, task: Task, adjustment: Adjustment) -> str:
    """Path of a stage's output from the campaign folder; "" if it has none that tells."""
    return stage.output.replace(RUN, f"{task.folder}/run{adjustment.suffix}")


def _changes(facts: Mapping[str, Any], adjustment: Adjustment) -> Sequence[str]:
    changes: list[str] = []
    if adjustment.seed:
        changes += ["--set", f"train.seed={(facts['seed'] + adjustment.seed) % 2**32}"]
    if adjustment.doublings:
        changes += ["--set", f"train.ray_chunks={facts['ray_chunks'] << adjustment.doublings}"]
    return changes
