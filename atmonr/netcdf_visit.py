"""The program that `netcdf_probe` runs: looks at a netCDF file with the C library alone, and may die of that.

It looks at all metadata and at the first value of every variable, at all values of small ones; damage to
further data of large variables is not met. It imports little, because every start of it has to be waited for.
"""

from __future__ import annotations

import ctypes
import sys

_SMALL_VALUES = 8192
_TYPES = range(1, 13)  # numbers, characters and strings, none of more than 8 bytes; others are nowhere read
_GLOBAL = -1


class _Visitor:
    """Calls the C library; its errors do not matter here."""

    def __init__(self, library: str) -> None:
        # The extension module is linked with the library, whose functions are found through it.
        self._c = ctypes.CDLL(library)
        self._name = ctypes.create_string_buffer(1025)

    def look_at(self, path: str) -> None:
        """Open a file and look at everything in it."""
        file = ctypes.c_int()
        if self._c.nc_open(path.encode("utf-8", "surrogateescape"), 0, ctypes.byref(file)) == 0:
            self._group(file.value)
            if self._c.nc_close(file.value) != 0:
                self._c.nc_close(file.value)  # as netCDF4 does when it forgets a file that did not close

    def _group(self, group: int) -> None:
        count = ctypes.c_int()
        self._c.nc_inq_natts(group, ctypes.byref(count))
        self._attributes(group, _GLOBAL, count.value)
        for variable in self._ids("nc_inq_varids", group):
            self._variable(group, variable)
        for inner in self._ids("nc_inq_grps", group):
            self._group(inner)

    def _ids(self, name: str, group: int) -> list[int]:
        inquire = getattr(self._c, name)
        count = ctypes.c_int()
        if inquire(group, ctypes.byref(count), None) != 0 or count.value <= 0:
            return []
        ids = (ctypes.c_int * count.value)()
        return list(ids) if inquire(group, ctypes.byref(count), ids) == 0 else []

    def _variable(self, group: int, variable: int) -> None:
        kind, rank, attributes = ctypes.c_int(), ctypes.c_int(), ctypes.c_int()
        dimensions = (ctypes.c_int * 1024)()
        found = self._c.nc_inq_var(
            group,
            variable,
            self._name,
            ctypes.byref(kind),
            ctypes.byref(rank),
            dimensions,
            ctypes.byref(attributes),
        )
        if found != 0:
            return
        self._attributes(group, variable, attributes.value)
        values = 1
        for dimension in dimensions[: rank.value]:
            size = ctypes.c_size_t()
            self._c.nc_inq_dimlen(group, dimension, ctypes.byref(size))
            values *= size.value
        if kind.value not in _TYPES or not values:
            return
        buffer = (ctypes.c_uint64 * min(values, _SMALL_VALUES))()
        if values <= _SMALL_VALUES:
            self._c.nc_get_var(group, variable, buffer)
        else:
            self._c.nc_get_var1(group, variable, (ctypes.c_size_t * rank.value)(), buffer)

    def _attributes(self, group: int, variable: int, count: int) -> None:
        kind, size = ctypes.c_int(), ctypes.c_size_t()
        for number in range(count):
            if self._c.nc_inq_attname(group, variable, number, self._name) == 0:
                self._c.nc_inq_att(group, variable, self._name, ctypes.byref(kind), ctypes.byref(size))


if __name__ == "__main__":
    _Visitor(sys.argv[1]).look_at(sys.argv[2])
