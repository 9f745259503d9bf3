"""The folder an extraction fills: one Zarr array, a plan, and a receipt for every finished shard.

    parts.zarr/
      plan.json             grid, run and checkpoint it is made from; written first, never changed
      extinction/           a Zarr v3 array, dimensions band, altitude, y, x [m-1]
      receipts/0-3-5.json   one per shard, written after the shard is on disk

The folder is complete when every shard has a receipt that fits its file, and never looks so before.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from atmonr.atomic import atomic_file, atomic_folder, flush_to_disk, sha256
from atmonr.errors import SceneError, StoreError, UsageError
from atmonr.extract.grid import VoxelGrid
from atmonr.extract.shards import Shard, shards

_ARRAY = "extinction"
_FORMAT = 1


@dataclass(frozen=True)
class Parts:
    """An extraction on disk, finished or not.

    Attributes:
        path: The folder.
        plan: What plan.json holds: `format`, `grid`, `bands`, `source`.
    """

    path: Path
    plan: dict[str, Any]

    @classmethod
    def create_or_resume(cls, path: Path, grid: VoxelGrid, bands: int, source: dict[str, Any]) -> Parts:
        """Make the folder with an empty array, or open it if it is an extraction of the same thing.

        Args:
            path: The folder.
            grid: Where the field is sampled.
            bands: 1 for an extinction shared by all bands, or the number of bands.
            source: JSON data that says what is extracted: run, scene, checkpoint, code version.

        Raises:
            UsageError: If `path` exists and is something else.
            StoreError: If it cannot be written.
        """
        plan = {"format": _FORMAT, "grid": grid.to_json(), "bands": bands, "source": source}
        if not path.exists():
            with atomic_folder(path) as folder:
                (folder / "plan.json").write_text(json.dumps(plan, indent=2) + "\n", encoding="utf-8")
                (folder / "receipts").mkdir()
                _allocate(folder, grid, bands)
            return cls(path, plan)
        if not (path / "plan.json").is_file():
            raise UsageError(
                f"{path}: exists and is not an extraction; choose another name or remove it first"
            )
        existing = cls.open(path)
        if existing.plan != json.loads(json.dumps(plan)):
            raise UsageError(
                f"{path}: holds an extraction of another run, checkpoint or grid; "
                "choose another name or remove it first"
            )
        return existing

    @classmethod
    def open(cls, path: Path) -> Parts:
        """Open an extraction.

        Raises:
            SceneError: If `path` is not one; names what is missing.
        """
        plan = _read_json(path / "plan.json", "expected the output of atmonr extract")
        if plan.get("format") != _FORMAT:
            raise SceneError(
                f"{path}: format {plan.get('format')}, this version reads {_FORMAT}; extract again"
            )
        if not {"identity", "scene"} <= dict(plan.get("source", {})).keys() or "bands" not in plan:
            raise SceneError(f"{path}/plan.json: does not say what was extracted; extract again")
        return cls(path, plan)

    @cached_property
    def grid(self) -> VoxelGrid:
        """The grid the extraction is on."""
        try:
            return VoxelGrid.from_json(self.plan["grid"])
        except (KeyError, TypeError, ValueError) as error:
            raise SceneError(f"{self.path}/plan.json: no valid grid ({error!r}); extract again") from error

    @property
    def bands(self) -> int:
        """1 for an extinction shared by all bands, or the number of bands."""
        return int(self.plan["bands"])

    @cached_property
    def shards(self) -> list[Shard]:
        """Every shard of the grid."""
        return shards(self.grid)

    def write(self, shard: Shard, extinction: NDArray[np.float32]) -> None:
        """Write a whole shard, then its receipt. Writing it again is harmless.

        Args:
            shard: The shard, which no other process writes at the same time.
            extinction: [m^-1], shape (band, altitude, y, x) of the shard, finite.

        Raises:
            SceneError: If a value is negative or not finite, which means a broken model.
            StoreError: If it cannot be written.
        """
        if not (np.isfinite(extinction).all() and (extinction >= 0).all()):
            raise SceneError(
                f"{self.path}: shard {shard.name}: the field gave negative or non-finite extinction; "
                "the checkpoint is not usable"
            )
        file = self._file(shard)
        try:
            # Zarr completes a shard at the edge of the grid from the file, which a crash may have damaged.
            file.unlink(missing_ok=True)
            self._array[(slice(None), *shard.slices)] = extinction
            flush_to_disk(file)
            flush_to_disk(file.parent)
        except OSError as error:
            raise StoreError(f"{file}: cannot write: {error.strerror or error}") from error
        receipt = {**self._expected(shard), "sha256": sha256(file), "size_bytes": file.stat().st_size}
        with atomic_file(self._receipt(shard)) as temporary:
            temporary.write_text(json.dumps(receipt, indent=2) + "\n", encoding="utf-8")

    def missing(self) -> list[Shard]:
        """Return the shards without a receipt."""
        return [shard for shard in self.shards if not self._receipt(shard).exists()]

    def verify(self, shard: Shard) -> None:
        """Check that a shard's receipt belongs to this extraction and fits the shard's file.

        Raises:
            SceneError: Otherwise; names the file and what is wrong with it.
        """
        path = self._receipt(shard)
        receipt = _read_json(path, f"expected the receipt of shard {shard.name}")
        for key, expected in self._expected(shard).items():
            if receipt.get(key) != expected:
                raise SceneError(
                    f"{path}: {key} is {receipt.get(key)}, expected {expected}: the shard is of another "
                    "extraction; run atmonr extract again"
                )
        file = self._file(shard)
        if not file.is_file():
            raise SceneError(f"{file}: shard {shard.name} is missing though it has a receipt; extract again")
        if sha256(file) != receipt.get("sha256"):
            raise SceneError(
                f"{file}: shard {shard.name} is damaged: its checksum is not that of its receipt"
            )

    def verified(self, shard: Shard) -> bool:
        """Return whether a shard is finished and intact."""
        try:
            self.verify(shard)
        except SceneError:
            return False
        return True

    def read(self, shard: Shard) -> NDArray[np.float32]:
        """Return a shard's extinction [m^-1], shape (band, altitude, y, x)."""
        with self._zarr_errors():
            return np.asarray(self._array[(slice(None), *shard.slices)], np.float32)

    def _expected(self, shard: Shard) -> dict[str, Any]:
        return {
            "shard": shard.name,
            "start": list(shard.start),
            "stop": list(shard.stop),
            "plan_sha256": self._digest,
            "grid_sha256": self.grid.digest,
            "source": self.plan["source"]["identity"],
        }

    @cached_property
    def _digest(self) -> str:
        return hashlib.sha256(json.dumps(self.plan, sort_keys=True).encode()).hexdigest()

    @cached_property
    def _array(self) -> Any:
        with self._zarr_errors():
            return zarr.open_array(self.path / _ARRAY, mode="r+", zarr_format=3)

    def _file(self, shard: Shard) -> Path:
        return self.path / _ARRAY / self._array.metadata.encode_chunk_key((0, *shard.index))

    def _receipt(self, shard: Shard) -> Path:
        return self.path / "receipts" / f"{shard.name}.json"

    @contextmanager
    def _zarr_errors(self) -> Iterator[None]:
        try:
            yield
        # Zarr and its codecs raise many kinds for damaged files; what they say is kept.
        except Exception as error:
            raise SceneError(f"{self.path}/{_ARRAY}: damaged Zarr array ({error}); extract again") from error


def _allocate(folder: Path, grid: VoxelGrid, bands: int) -> None:
    """Write the metadata of the array; no values, so it costs nothing."""
    zarr.create_array(
        folder / _ARRAY,
        zarr_format=3,
        shape=(bands, *grid.shape),
        chunks=(1, *grid.chunk_shape),
        # All bands of a place in one shard: the field gives them together.
        shards=(bands, *grid.shard_shape),
        dtype="float32",
        # A shard that was never written must not read as clear air.
        fill_value=np.nan,
        dimension_names=("band", *grid.dims),
        attributes={"units": "m-1", "long_name": "volume extinction coefficient"},
    )


def _read_json(path: Path, expected: str) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise SceneError(f"{path}: {error.strerror or error}; {expected}") from error
    except (ValueError, TypeError) as error:
        raise SceneError(f"{path}: not a JSON object ({error}); {expected}") from error
