"""Careful reading of netCDF-4 files: every failure is a `GranuleError` that names the file and the
variable."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

import netCDF4
import numpy as np
from numpy.typing import NDArray

from atmonr.errors import GpuMemoryError, GranuleError
from atmonr.netcdf_probe import deadly

# NASA ocean-colour files mark missing values with -32767, sometimes without saying so; no quantity gets
# there.
_FILL_LIMIT = -32000.0
_LARGEST = 1e30  # beyond are the netCDF library's own fill values


class NetcdfFile:
    """An open netCDF-4 file. Variables are named "group/variable".

    Args:
        path: the file.
        expected: what kind of file the caller wants, for messages.

    Raises:
        GranuleError: there is no such file, or it is not (or no longer) netCDF-4.
    """

    def __init__(self, path: Path, expected: str) -> None:
        self.path, self._expected = path, expected
        if not path.is_file():
            raise GranuleError(f"{path}: no such file; expected {expected}")
        if how := deadly(path):
            raise GranuleError(f"{path}: damaged: {how}; expected {expected}: fetch it again")
        try:
            self._file = netCDF4.Dataset(path)
        # A variable on a dimension that damage has hidden makes netCDF4 ask the parent of the root for it.
        except (OSError, RuntimeError, UnicodeDecodeError, AttributeError) as error:
            size = path.stat().st_size
            raise GranuleError(
                f"{path}: not readable as netCDF-4 ({size} bytes; {_reason(error)}); expected {expected},"
                " the file may be empty, truncated or of another format: fetch it again"
            ) from error
        # Unpacking is done here, because scale factors of real files have been wrong; so is masking, which
        # the library would do in many passes and, for attributes of another type, with a warning.
        self._file.set_auto_maskandscale(False)

    def close(self) -> None:
        """Close the file."""
        if self._file.isopen():
            # A damaged file may refuse; nothing was to be written.
            with suppress(RuntimeError):
                self._file.close()

    def attribute(self, name: str) -> str | float | None:
        """A global attribute, None if it is absent."""
        value = getattr(self._file, name, None)
        if value is None or isinstance(value, str):
            return value
        values = np.ravel(value)
        return float(values[0]) if values.size and np.issubdtype(values.dtype, np.number) else None

    def string(self, name: str) -> str | None:
        """The text of a string variable of one element, None if there is no such variable."""
        variable = self._find(name)
        if variable is None or variable.size != 1:
            return None
        try:
            return str(np.ravel(variable[...])[0])
        except (OSError, RuntimeError, ValueError):  # damaged, or no text
            return None

    def has(self, name: str) -> bool:
        """Whether the file has a variable."""
        return self._find(name) is not None

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of a variable.

        Raises:
            GranuleError: it is missing or not numeric.
        """
        return tuple(int(size) for size in self._variable(name).shape)

    def dimensions(self, name: str) -> tuple[str, ...]:
        """The names of a variable's dimensions.

        Raises:
            GranuleError: it is missing or not numeric.
        """
        return tuple(self._variable(name).dimensions)

    def text(self, name: str, attribute: str) -> str:
        """An attribute of a variable as text, empty if it is absent.

        Raises:
            GranuleError: the variable is missing or not numeric.
        """
        value = getattr(self._variable(name), attribute, "")
        return value if isinstance(value, str) else " ".join(str(number) for number in np.ravel(value))

    def is_packed(self, name: str) -> bool:
        """Whether a variable says that its values must be scaled."""
        return bool({"scale_factor", "add_offset"} & set(self._variable(name).ncattrs()))

    def read(self, name: str, index: Any = ..., *, unpack: bool = True) -> NDArray[np.float32]:
        """Values of a variable as float32 with NaN where they are missing.

        Missing is what the file's own attributes say, what is not finite, and everything up to -32000.

        Args:
            name: "group/variable".
            index: a NumPy index.
            unpack: apply the variable's scale and offset.

        Raises:
            GranuleError: the variable is missing or not numeric, or the file is damaged.
        """
        return self._values(name, index, np.float32, unpack).astype(np.float32, copy=False)

    def read_double(self, name: str, index: Any = ...) -> NDArray[np.float64]:
        """Like `read`, in float64."""
        return self._values(name, index, np.float64, True).astype(np.float64, copy=False)

    def _values(self, name: str, index: Any, dtype: type[np.floating[Any]], unpack: bool) -> NDArray[Any]:
        variable = self._variable(name)
        try:
            chunks = variable.chunking()
            if chunks and chunks != "contiguous" and chunks[0] == 1:
                # One image a chunk is decompressed once; by default 64 MiB of each variable would be kept.
                variable.set_var_chunk_cache(size=1 << 20)
            raw = np.asarray(variable[index])
        except MemoryError as error:
            raise GpuMemoryError(
                f"{self.path}: too little memory for {name}, of the shape {variable.shape}"
            ) from error
        except (OSError, RuntimeError, IndexError, ValueError) as error:
            raise GranuleError(
                f"{self.path}: cannot read {name} ({_reason(error)}); expected {self._expected},"
                " the file may be truncated: fetch it again"
            ) from error
        missing = _declared_missing(variable, raw)
        if raw.dtype == np.int16:
            missing |= raw <= _FILL_LIMIT  # wider integers may hold such values before they are scaled
        with np.errstate(over="ignore"):  # what is too large for the type becomes infinite, and then missing
            values = raw.astype(dtype, copy=False)
        if unpack and self.is_packed(name):
            if raw.dtype.kind == "f":
                missing |= raw <= _FILL_LIMIT
            values *= dtype(self._number(variable, name, "scale_factor", 1.0))  # in place: a copy is dear
            values += dtype(self._number(variable, name, "add_offset", 0.0))
        if values.size and not (values.min() > _FILL_LIMIT and values.max() <= _LARGEST):  # or NaN
            missing |= np.logical_not(values > _FILL_LIMIT)
            missing |= values > _LARGEST
        if missing.any():
            np.putmask(values, missing, np.nan)
        return values

    def _number(self, variable: netCDF4.Variable, name: str, attribute: str, default: float) -> float:
        value = getattr(variable, attribute, default)
        numbers = np.ravel(value)
        if numbers.size != 1 or numbers.dtype.kind not in "iuf" or not np.isfinite(numbers[0]):
            raise GranuleError(f"{self.path}: {name} has {attribute} {value!r}; expected one finite number")
        return float(numbers[0])

    def _variable(self, name: str) -> netCDF4.Variable:
        variable = self._find(name)
        if variable is None:
            raise GranuleError(f"{self.path}: has no variable {name}; expected {self._expected}")
        # The library's own types (compound, enumerated, of variable length) are of no NumPy type.
        if not isinstance(variable.datatype, np.dtype) or variable.datatype.kind not in "iuf":
            raise GranuleError(f"{self.path}: {name} has type {variable.datatype}; expected numbers")
        return variable

    def _find(self, name: str) -> netCDF4.Variable | None:
        *groups, last = name.split("/")
        here = self._file
        for group in groups:
            if group not in here.groups:
                return None
            here = here.groups[group]
        return here.variables.get(last)


def _declared_missing(variable: netCDF4.Variable, raw: NDArray[Any]) -> NDArray[np.bool_]:
    """Which stored values the variable's own attributes call missing.

    Like the netCDF library, attributes that are not of the variable's type are ignored, and without a
    _FillValue the library's default one counts.
    """

    def stored(attribute: str) -> NDArray[Any]:
        value = np.ravel(getattr(variable, attribute, []))
        if value.dtype.kind not in "iuf":
            return raw.dtype.type([])
        with np.errstate(all="ignore"):
            same = value.astype(raw.dtype)
        return same[(same == value) | (np.isnan(value) if value.dtype.kind == "f" else False)]

    fills = [*stored("_FillValue"), *stored("missing_value")]
    if "_FillValue" not in variable.ncattrs() and raw.dtype.itemsize > 1:
        fills.append(raw.dtype.type(netCDF4.default_fillvals[raw.dtype.str[1:]]))
    if raw.dtype.kind == "f":  # large images: these are found without another pass
        fills = [fill for fill in fills if _FILL_LIMIT < fill <= _LARGEST]
    missing = np.zeros(raw.shape, dtype=bool)
    for fill in fills:
        missing |= raw == fill
    limits = stored("valid_range")
    lower, upper = limits if limits.size == 2 else (stored("valid_min"), stored("valid_max"))
    if np.size(lower) == 1:
        missing |= raw < lower
    if np.size(upper) == 1:
        missing |= raw > upper
    return missing


def _reason(error: Exception) -> str:
    """The library's own words, on one line and without the file name that the caller gives anyway."""
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return " ".join(text.split())
