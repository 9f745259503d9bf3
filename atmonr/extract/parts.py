"""The folder an extraction fills: one Zarr array, a plan, and a receipt for every finished shard.

    parts.zarr/
      plan.json                     grid, run and checkpoint it is made from; written first, never changed
      extinction/                   a Zarr v3 array, dimensions band and those of the grid [m-1]
      numbers/surface.9f86d081….npy what all shards share: the ground, ray counts, places of a file's grid
      receipts/0-3-5.9f86d081.json  shard 0-3-5 with a checksum of 9f86d081…; written after the shard

A shard is finished when its file has the checksum of one of its receipts, and never looks so before. Every
file is written whole under a temporary name and renamed. A shard may be written by two processes, when an old
job lives on beside the one that resumes it: they write whole files with receipts of different names, so
whichever comes last leaves a file with a receipt that fits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from atmonr.atomic import atomic_file, atomic_folder
from atmonr.errors import SceneError, StoreError, UsageError
from atmonr.extract import numbers, plan_file, shard_file
from atmonr.extract.grids.base import Grid, checksum
from atmonr.extract.grids.restore import restore
from atmonr.extract.receipts import AGAIN, Receipts
from atmonr.extract.shards import Shard, shards

_ARRAY = "extinction"
_PLAN = "plan.json"
_RECEIPTS = "receipts"
_NUMBERS = "numbers"


@dataclass(frozen=True)
class Parts:
    """An extraction on disk, finished or not.

    Attributes:
        path: The folder.
        plan: What plan.json holds: `format`, `grid`, `bands`, `source`, `array`.
    """

    path: Path
    plan: dict[str, Any]

    @classmethod
    def create_or_resume(cls, path: Path, grid: Grid, bands: int, source: dict[str, Any]) -> Parts:
        """Make the folder with an empty array, or open it if it is an extraction of the same thing.

        Opening mends what follows from the request itself: a damaged plan.json or zarr.json.

        Args:
            path: The folder.
            grid: Where the field is sampled.
            bands: 1 for an extinction shared by all bands, or the number of bands.
            source: JSON data that says what is extracted: run, scene, checkpoint, code version.

        Raises:
            UsageError: If `path` exists and is something else.
            StoreError: If it cannot be written.
        """
        plan = plan_file.make(grid, bands, source)
        if not path.exists():
            with atomic_folder(path) as folder:
                (folder / _RECEIPTS).mkdir()
                (folder / _ARRAY).mkdir()
                plan_file.write(folder / _PLAN, plan)
                new = cls(folder, plan)
                new._write_metadata()
                new._keep_grid(grid)
            return cls(path, plan)
        if not (path / _PLAN).is_file() and not (path / _RECEIPTS).is_dir():
            raise UsageError(
                f"{path}: exists and is not an extraction; choose another name or remove it first"
            )
        existing = cls(path, plan_file.mended(path / _PLAN, plan, Receipts(path / _RECEIPTS, {})))
        if not plan_file.same_request(existing.plan, plan):
            raise UsageError(
                f"{path}: holds an extraction of another run, checkpoint or grid; "
                "choose another name or remove it first"
            )
        if not existing._metadata_fits():
            existing._write_metadata()
        existing._sweep()
        existing._keep_grid(grid)
        return existing

    @classmethod
    def open(cls, path: Path) -> Parts:
        """Open an extraction.

        Raises:
            SceneError: If `path` is not one, or a file that describes it is damaged; names the file.
        """
        parts = cls(path, plan_file.read(path / _PLAN))
        if not parts.plan["source"].keys() >= {"identity", "scene", "config_toml", "atmonr_version"}:
            raise SceneError(f"{path / _PLAN}: does not say what was extracted; extract again")
        if not shard_file.fits(parts.plan["array"], parts.grid, parts.bands):
            raise SceneError(f"{path / _PLAN}: has an array that is not of its grid; extract again")
        if not parts._metadata_fits():
            raise SceneError(f"{parts._metadata_file}: missing or damaged Zarr array; {AGAIN} to repair it")
        return parts

    @cached_property
    def grid(self) -> Grid:
        """The grid the extraction is on."""
        try:
            expected = dict(self.plan["grid"].get("stored", {}))
            stored = {name: self.numbers(name) for name in expected}
            if {name: checksum(values) for name, values in stored.items()} != expected:
                raise ValueError("the stored places are of another grid")
            return restore(self.plan["grid"], stored)
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError, UsageError) as error:
            raise SceneError(f"{self.path / _PLAN}: no valid grid ({error!r}); extract again") from error

    @property
    def bands(self) -> int:
        """1 for an extinction shared by all bands, or the number of bands."""
        return int(self.plan["bands"])

    @cached_property
    def shards(self) -> list[Shard]:
        """Every shard of the grid."""
        return shards(self.grid)

    def keep(self, name: str, compute: Callable[[], NDArray[Any]]) -> None:
        """Write an array that belongs to all shards, unless it is there and whole.

        Raises:
            StoreError: If it cannot be written.
        """
        try:
            self.numbers(name)
        except SceneError:
            numbers.write(self.path / _NUMBERS, name, compute())

    def _keep_grid(self, grid: Grid) -> None:
        for name, values in grid.stored().items():
            self.keep(name, partial(np.asarray, values))

    def numbers(self, name: str) -> NDArray[Any]:
        """Return an array that belongs to all shards.

        Raises:
            SceneError: If it is missing or damaged.
        """
        return numbers.read(self.path / _NUMBERS, name)

    def write(
        self, shard: Shard, extinction: NDArray[np.float32], asked: NDArray[np.bool_] | None = None
    ) -> None:
        """Write a whole shard, then its receipt. Writing it again is harmless.

        Args:
            shard: The shard.
            extinction: [m^-1], shape (band, *grid) of the shard, finite where the field was asked, elsewhere
                NaN.
            asked: Where it was, what broadcasts to the shard's shape; everywhere by default.

        Raises:
            SceneError: If a value is negative or not finite, which means a broken model.
            StoreError: If it cannot be written.
        """
        known = np.ones(shard.shape, bool) if asked is None else np.broadcast_to(asked, shard.shape)
        if not ((extinction >= 0) & np.isfinite(extinction) | ~known).all():
            raise SceneError(
                f"{self.path}: shard {shard.name}: the field gave negative or non-finite extinction; "
                "the checkpoint is not usable"
            )
        content = shard_file.encode(self.plan["array"], shard, extinction)
        with atomic_file(self._file(shard)) as temporary:
            temporary.write_bytes(content)
        self._receipts.write(shard, content)

    def missing(self) -> list[Shard]:
        """Return the shards without a receipt."""
        known = {name.partition(".")[0] for name in self._receipts.names()}
        return [shard for shard in self.shards if shard.name not in known]

    def strangers(self) -> list[str]:
        """Return the names of receipts for shards that this grid does not have."""
        ours = {shard.name for shard in self.shards}
        return [name for name in self._receipts.names() if name.partition(".")[0] not in ours]

    def verify(self, shard: Shard) -> None:
        """Check that a shard's file fits a receipt of this extraction.

        Raises:
            SceneError: Otherwise; names the file and what is wrong with it.
        """
        self._verified_content(shard)

    def verified(self, shard: Shard) -> bool:
        """Return whether a shard is finished and intact."""
        try:
            self.verify(shard)
        except SceneError:
            return False
        return True

    def load(self, shard: Shard) -> zarr.Array[Any]:
        """Return the extinction [m^-1] of a shard that has been checked, in memory, compressed.

        Returns:
            The whole array (band, *grid), of which the cells of this shard alone are there.

        Raises:
            SceneError: If the shard does not fit its receipt.
        """
        with self._decoding(shard):
            return shard_file.decode(self.plan["array"], shard, self._verified_content(shard))

    def read(self, shard: Shard) -> NDArray[np.float32]:
        """Return a checked shard's extinction [m^-1], shape (band, *grid)."""
        return self.cells(self.load(shard), shard, shard.slices)

    def cells(self, loaded: zarr.Array[Any], shard: Shard, slices: tuple[slice, ...]) -> NDArray[np.float32]:
        """Return extinction [m^-1] of cells of a shard that `load` returned, all bands.

        Raises:
            SceneError: If it cannot be decoded, although it is what was written.
        """
        with self._decoding(shard):
            return np.asarray(loaded[(slice(None), *slices)], np.float32)

    @contextmanager
    def _decoding(self, shard: Shard) -> Iterator[None]:
        try:
            yield
        except shard_file.DAMAGE as error:
            raise SceneError(
                f"{self._file(shard)}: shard {shard.name} cannot be decoded ({error}); {AGAIN}"
            ) from error

    def _verified_content(self, shard: Shard) -> bytes:
        # Read once and whole: what is checked is what is used, even if the file is replaced meanwhile.
        file = self._file(shard)
        content = None
        with suppress(FileNotFoundError), _store_errors(file):
            content = file.read_bytes()
        self._receipts.refuse_unacknowledged(shard, file, content)
        return content or b""

    @cached_property
    def _receipts(self) -> Receipts:
        return Receipts(
            self.path / _RECEIPTS,
            {
                "plan_sha256": plan_file.digest(self.plan),
                "grid_sha256": self.grid.digest,
                "source": self.plan["source"]["identity"],
            },
        )

    @property
    def _metadata_file(self) -> Path:
        return self.path / _ARRAY / shard_file.METADATA

    def _metadata_fits(self) -> bool:
        expected = shard_file.metadata_text(self.plan["array"]).encode()
        return self._metadata_file.is_file() and self._metadata_file.read_bytes() == expected

    def _write_metadata(self) -> None:
        with atomic_file(self._metadata_file) as temporary:
            temporary.write_text(shard_file.metadata_text(self.plan["array"]), encoding="utf-8")

    def _sweep(self) -> None:
        """Remove what killed processes left under temporary names."""
        with _store_errors(self.path):
            for leftover in self.path.rglob(".*.tmp*"):
                leftover.unlink(missing_ok=True)

    def _file(self, shard: Shard) -> Path:
        return self.path / _ARRAY / shard_file.chunk_key(shard)


@contextmanager
def _store_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise
    except OSError as error:
        raise StoreError(f"{path}: {error.strerror or error}") from error
