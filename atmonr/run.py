"""A run folder: what was asked, where it came from, and everything that training writes.

    run/
      run.toml  provenance.json  mlflow.json  logs/  STOP
      scenes/<name>/ scene.json  metrics.jsonl  mlflow.json  heldout.json  done.json  failed.json  pictures/
                     checkpoints/ step-00001000.pt or step-00001000.tile-0003.pt …  latest

This is the only place that builds paths inside a run folder. Each scene's folder has one writer at a time.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from atmonr.atomic import atomic_folder, write_json, write_text
from atmonr.config import Config, load
from atmonr.errors import ConfigError, ResumeError, StoreError, UsageError
from atmonr.json_file import read_json, record_of, store_errors
from atmonr.scene_info import check_scene_info


@dataclass(frozen=True)
class Run:
    """One run folder.

    Attributes:
        path: The folder.
    """

    path: Path

    @classmethod
    def create(
        cls,
        path: Path,
        config: Config,
        scene_infos: Mapping[str, Mapping[str, Any]],
        provenance: Mapping[str, Any],
    ) -> Run:
        """Make a new run folder.

        Args:
            path: Folder, which must not exist.
            config: Written, with all defaults resolved, as run.toml.
            scene_infos: By scene name, what extraction needs to know of the scene (JSON data); `scene_id` is
                required.
            provenance: JSON data, from `atmonr.provenance.provenance`.

        Raises:
            UsageError: If the folder exists, or a scene's name cannot be a folder's.
            StoreError: If it cannot be written.
        """
        if Path(path).exists():
            raise UsageError(f"{path}: run folder exists; continue it with --resume or choose another folder")
        with atomic_folder(path) as folder:
            new = cls(folder)
            write_text(new.path / "run.toml", config.toml())
            write_json(new.path / "provenance.json", provenance)
            new.log(0).parent.mkdir()
            for name, info in scene_infos.items():
                _refuse_bad_name(name)
                new.checkpoints(name).mkdir(parents=True)
                new.pictures(name).mkdir()
                write_json(new.scene_folder(name) / "scene.json", info)
        return cls(Path(path))

    @classmethod
    def open(cls, path: Path) -> Run:
        """Open an existing run folder.

        Raises:
            ResumeError: If there is no run folder at `path`.
        """
        if not (Path(path) / "run.toml").is_file():
            raise ResumeError(
                f"{path}: not a run folder (no run.toml in it); expected one made by `atmonr train`"
            )
        return cls(Path(path))

    @classmethod
    def resume(cls, path: Path, config: Config, scene_infos: Mapping[str, Mapping[str, Any]]) -> Run:
        """Open a run folder to continue it, and record the settings that may change, such as more steps.

        Raises:
            ResumeError: If there is no run folder, or it belongs to another config or other scenes; says what
                differs.
        """
        run = cls.open(path)
        run._refuse_other_config(config)
        run._refuse_other_scenes(scene_infos)
        # What a killed process left half written under temporary names.
        for leftover in run.path.rglob(".*.tmp*"):
            leftover.unlink(missing_ok=True)
        write_text(run.path / "run.toml", config.toml())
        return run

    @property
    def config(self) -> Config:
        """The resolved config of the run.

        Raises:
            ResumeError: If this version of atmonr does not accept it.
        """
        try:
            return load(self.path / "run.toml")
        except ConfigError as error:
            raise ResumeError(f"{error}; the run was made by another version of atmonr") from error

    @property
    def provenance(self) -> dict[str, Any]:
        """Code version, command and time that made the run."""
        return read_json(self.path / "provenance.json")

    @property
    def scene_names(self) -> list[str]:
        """Names of the run's scenes, sorted."""
        return sorted(info.parent.name for info in self.path.glob("scenes/*/scene.json"))

    def scene_info(self, scene: str) -> dict[str, Any]:
        """Return what extraction needs to know of a scene.

        Raises:
            ResumeError: If the run has no such scene, or it is told what no scene has.
        """
        if scene not in self.scene_names:
            raise ResumeError(f"{self.path}: has no scene '{scene}'; it has: {', '.join(self.scene_names)}")
        path = self.scene_folder(scene) / "scene.json"
        info = read_json(path)
        try:
            check_scene_info(info)
        except ValueError as error:
            raise ResumeError(f"{path}: {error}") from error
        return info

    def scene_folder(self, scene: str) -> Path:
        """Folder of one scene."""
        return self.path / "scenes" / scene

    def checkpoints(self, scene: str) -> Path:
        """Folder of a scene's checkpoints."""
        return self.scene_folder(scene) / "checkpoints"

    def checkpoint(self, scene: str, step: int, part: str = "") -> Path:
        """File of one part of the checkpoint written after `step` steps; "" for a task of one part."""
        return self.checkpoints(scene) / f"step-{step:08d}{part and '.'}{part}.pt"

    def saved_steps(self, scene: str) -> list[int]:
        """Steps with at least one part of a checkpoint, newest first."""
        files = self.checkpoints(scene).glob("step-*.pt")
        return sorted({int(file.name[5:13]) for file in files}, reverse=True)

    def parts_of(self, scene: str, step: int) -> list[Path]:
        """Files of a checkpoint, sorted."""
        return sorted(self.checkpoints(scene).glob(f"step-{step:08d}*.pt"))

    def latest(self, scene: str) -> Path:
        """Text file that names the newest complete checkpoint, as if it were of one part."""
        return self.checkpoints(scene) / "latest"

    def latest_step(self, scene: str) -> int:
        """Step of the newest complete checkpoint.

        Raises:
            ResumeError: If `latest` does not name one.
        """
        name = self.latest(scene).read_text(encoding="utf-8", errors="replace").strip()
        if not (found := re.fullmatch(r"step-(\d{8})\.pt", name)):
            raise ResumeError(
                f"{self.latest(scene)}: names '{name[:80]}'; expected one such as step-00001000.pt"
            )
        return int(found[1])

    def metrics(self, scene: str) -> Path:
        """The scene's measurements, one JSON object a line."""
        return self.scene_folder(scene) / "metrics.jsonl"

    def heldout(self, scene: str) -> Path:
        """Scores on the scene's held-out rays, JSON, written when training is complete."""
        return self.scene_folder(scene) / "heldout.json"

    def tracking(self, scene: str | None = None) -> Path:
        """JSON file that remembers which MLflow run copies the scene, or the run folder as a whole."""
        return (self.path if scene is None else self.scene_folder(scene)) / "mlflow.json"

    def pictures(self, scene: str) -> Path:
        """Folder of a scene's pictures."""
        return self.scene_folder(scene) / "pictures"

    @property
    def stop_file(self) -> Path:
        """File whose existence asks every rank of the run to save and stop."""
        return self.path / "STOP"

    def log(self, rank: int) -> Path:
        """Log file of one rank."""
        return self.path / "logs" / f"rank-{rank:05d}.log"

    def append_metrics(self, scene: str, record: Mapping[str, Any]) -> None:
        """Add one line to the scene's metrics; values that JSON cannot hold (infinite, NaN) become null.

        Raises:
            StoreError: If it cannot be written.
        """
        line = json.dumps({key: _finite(value) for key, value in record.items()}, allow_nan=False) + "\n"
        with store_errors(self.metrics(scene)), open(self.metrics(scene), "a", encoding="utf-8") as stream:
            stream.write(line)

    def read_metrics(self, scene: str) -> list[dict[str, Any]]:
        """Return the scene's metrics; a last line torn by a kill is left out.

        Raises:
            StoreError: If the file cannot be read or another line is damaged.
        """
        path = self.metrics(scene)
        if not path.exists():
            return []
        with store_errors(path):
            # What follows the last line end is empty or torn.
            lines = path.read_text(encoding="utf-8", errors="replace").split("\n")[:-1]
        try:
            return [record_of(json.loads(line), "step", "wall_s") for line in lines]
        except (ValueError, RecursionError) as error:
            raise StoreError(f"{path}: expected one JSON object a line: {error}") from error

    def truncate_metrics(self, scene: str, step: int) -> None:
        """Drop records of steps after `step` (which a resumed run repeats) and a torn last line."""
        kept = [record for record in self.read_metrics(scene) if record.get("step", 0) <= step]
        write_text(self.metrics(scene), "".join(json.dumps(record) + "\n" for record in kept))

    def mark_done(self, scene: str, record: Mapping[str, Any]) -> None:
        """Record that a scene's training is complete; an earlier failure is then past."""
        write_json(self.scene_folder(scene) / "done.json", record)
        with store_errors(self._failed(scene)):
            self._failed(scene).unlink(missing_ok=True)

    def done(self, scene: str) -> dict[str, Any] | None:
        """Return what `mark_done` recorded; None while training is not complete."""
        return _read_record(self.scene_folder(scene) / "done.json", "steps")

    def mark_failed(self, scene: str, record: Mapping[str, Any]) -> None:
        """Record why a scene's training failed."""
        write_json(self._failed(scene), record)

    def failed(self, scene: str) -> dict[str, Any] | None:
        """Return what `mark_failed` recorded last; None if nothing failed or training is complete since."""
        return _read_record(self._failed(scene), "step")

    def _failed(self, scene: str) -> Path:
        return self.scene_folder(scene) / "failed.json"

    def _refuse_other_config(self, config: Config) -> None:
        was, now = self.config.identity(), config.identity()
        changed = [key for key in sorted(was | now) if was.get(key) != now.get(key)]
        if changed:
            differences = ", ".join(f"{key} was {was.get(key)}, now {now.get(key)}" for key in changed)
            raise ResumeError(f"{self.path}: made with another config: {differences}; use another run folder")

    def _refuse_other_scenes(self, scene_infos: Mapping[str, Mapping[str, Any]]) -> None:
        if sorted(scene_infos) != self.scene_names:
            had, given = ", ".join(self.scene_names), ", ".join(sorted(scene_infos))
            raise ResumeError(f"{self.path}: made with scenes {had}; now {given}; use another run folder")
        for name, info in scene_infos.items():
            was = self.scene_info(name).get("scene_id")
            if was != info["scene_id"]:
                raise ResumeError(
                    f"{self.path}: scene '{name}' is not the one the run was made with "
                    f"(scene_id was {was}, now {info['scene_id']}); use another run folder"
                )


def _refuse_bad_name(name: str) -> None:
    if not name or name.startswith(".") or os.sep in name:
        raise UsageError(f"scene name '{name}': cannot be a folder name; rename the scene file")


def _read_record(path: Path, *numbers: str) -> dict[str, Any] | None:
    if not path.exists():
        return None
    try:
        return record_of(read_json(path), *numbers)
    except ValueError as error:
        raise ResumeError(f"{path}: {error}") from error


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
