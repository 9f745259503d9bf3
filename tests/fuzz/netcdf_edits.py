"""Harm to netCDF files that remain netCDF files."""

from __future__ import annotations

import random
import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import netCDF4
import numpy as np

from tests.fuzz import hostile

_TELLING = (
    "_FillValue",
    "missing_value",
    "scale_factor",
    "add_offset",
    "valid_min",
    "valid_range",
    "units",
    "calendar",
    "coordinates",
    "_Unsigned",
    "flag_masks",
    "bounds",
    "dtype",
    "_Encoding",
)
_MOST_VALUES = 20_000
_LIBRARY_ERRORS = (OSError, RuntimeError, ValueError, TypeError, AttributeError, KeyError, IndexError)


def edit(path: Path, chance: random.Random) -> None:
    """Change one attribute, variable, dimension or group, or the format of the whole file."""
    if chance.random() < 0.03:
        _other_format(path, chance)
        return
    # In a copy: after an error the library may keep a file open, and write to it later.
    copy = path.with_name("edited")
    shutil.copyfile(path, copy)
    # The library has its own opinion of what may be named or stored; then nothing more changes.
    with suppress(*_LIBRARY_ERRORS), netCDF4.Dataset(copy, "a") as file:
        file.set_auto_maskandscale(False)
        chance.choice(_EDITS)(file, chance)
    path.write_bytes(copy.read_bytes())
    copy.unlink()


def _groups(group: Any) -> Iterator[Any]:
    yield group
    for inner in group.groups.values():
        yield from _groups(inner)


def _some_variable(file: Any, chance: random.Random) -> tuple[Any, str, Any]:
    """A group, a name and the variable of that name."""
    found = [(group, name, group[name]) for group in _groups(file) for name in sorted(group.variables)]
    return chance.choice(found)


def _set_attribute(file: Any, chance: random.Random) -> None:
    holder = chance.choice((file, chance.choice(list(_groups(file))), _some_variable(file, chance)[2]))
    name = chance.choice((*holder.ncattrs(), *holder.ncattrs(), *_TELLING, *hostile.NAMES))
    holder.setncattr(name, hostile.attribute(chance))


def _remove_attribute(file: Any, chance: random.Random) -> None:
    holder = chance.choice((file, _some_variable(file, chance)[2]))
    holder.delncattr(chance.choice(holder.ncattrs()))


def _lose_variable(file: Any, chance: random.Random) -> None:
    group, name, _ = _some_variable(file, chance)
    group.renameVariable(name, f"lost_{chance.randrange(100)}")


def _exchange_variables(file: Any, chance: random.Random) -> None:
    one, a, _ = _some_variable(file, chance)
    other, b, _ = _some_variable(file, chance)
    one.renameVariable(a, "kept_for_a_moment")
    other.renameVariable(b, a)
    one.renameVariable("kept_for_a_moment", b)


def _replace_variable(file: Any, chance: random.Random) -> None:
    """Another type, other dimensions, other values, under the old name."""
    group, name, old = _some_variable(file, chance)
    dimensions = list(old.dimensions)
    kind = chance.choice((old.dtype.str[1:] if isinstance(old.dtype, np.dtype) else "f4", *hostile.KINDS))
    if chance.random() < 0.4:
        dimensions = _other_dimensions(file, dimensions, chance)
    attributes = {key: old.getncattr(key) for key in old.ncattrs() if key != "_FillValue"}
    fill = hostile.values(chance, (), kind)[()] if kind[0] in "iuf" and chance.random() < 0.3 else None
    group.renameVariable(name, f"old_{chance.randrange(1000)}")
    sizes = [len(_dimension(group, dimension)) for dimension in dimensions]
    chunks = [min(max(size, 1), 8) for size in sizes] or None
    packing = {"zlib": True} if chance.random() < 0.2 and kind != "str" and chunks else {}
    # In chunks, none of which is written for a size that no disk could hold.
    new = group.createVariable(
        name, str if kind == "str" else kind, dimensions, fill_value=fill, chunksizes=chunks, **packing
    )
    new.set_auto_maskandscale(False)
    new.setncatts(attributes)
    if np.prod(sizes, dtype=float) <= _MOST_VALUES:
        new[...] = hostile.values(chance, tuple(sizes), kind)


def _other_dimensions(file: Any, dimensions: list[str], chance: random.Random) -> list[str]:
    kind = chance.randrange(5)
    if kind == 0:
        chance.shuffle(dimensions)
    elif kind == 1 and dimensions:
        dimensions.pop(chance.randrange(len(dimensions)))
    elif kind == 2:
        dimensions.append(chance.choice(list(file.dimensions)))
    else:
        size = chance.choice((0, 1, 1, 2, 1000, 50_000, 2**31 - 1, 2**40))
        name = f"new_{chance.randrange(10**6)}"
        file.createDimension(name, size or None)
        if dimensions and kind == 3:
            dimensions[chance.randrange(len(dimensions))] = name
        else:
            dimensions.append(name)
    return dimensions


def _dimension(group: Any, name: str) -> Any:
    return group.dimensions[name] if name in group.dimensions else _dimension(group.parent, name)


def _spoil_values(file: Any, chance: random.Random) -> None:
    _, _, variable = _some_variable(file, chance)
    if not isinstance(variable.dtype, np.dtype) or np.prod(variable.shape, dtype=float) > _MOST_VALUES:
        return
    kind = variable.dtype.str[1:]
    if chance.random() < 0.5 and variable.size:
        values = variable[...].ravel()
        for _ in range(chance.choice((1, 1, 5))):
            values[chance.randrange(values.size)] = hostile.values(chance, (), kind)
        variable[...] = values.reshape(variable.shape)
    else:
        variable[...] = hostile.values(chance, variable.shape, kind)


def _scale_values(file: Any, chance: random.Random) -> None:
    _, _, variable = _some_variable(file, chance)
    with np.errstate(all="ignore"):
        factor = chance.choice((-1.0, 0.0, 2.0, 1e3, 1e20, 1e200))
        variable[...] = (variable[...] * factor).astype(variable.dtype)


def _add_variable(file: Any, chance: random.Random) -> None:
    group = chance.choice(list(_groups(file)))
    name = chance.choice((*hostile.NAMES, *hostile.TEXTS[:9]))
    dimensions = [chance.choice(list(file.dimensions))] if file.dimensions and chance.random() < 0.7 else []
    kind = chance.choice(hostile.KINDS)
    variable = group.createVariable(name, str if kind == "str" else kind, dimensions)
    variable[...] = hostile.values(chance, variable.shape, kind)


def _add_odd_type(file: Any, chance: random.Random) -> None:
    """A variable of a compound, enumerated or variable-length type in the place of another."""
    group, name, old = _some_variable(file, chance)
    dimensions = old.dimensions
    group.renameVariable(name, f"plain_{chance.randrange(1000)}")
    label = f"type_{chance.randrange(1000)}"
    made = (
        lambda: file.createCompoundType(np.dtype([("a", "f4"), ("b", "i2")]), label),
        lambda: file.createEnumType(np.int8, label, {"no": 0, "yes": 1}),
        lambda: file.createVLType(np.float32, label),
    )
    group.createVariable(name, chance.choice(made)(), dimensions)


def _rename_dimension(file: Any, chance: random.Random) -> None:
    group = chance.choice([group for group in _groups(file) if group.dimensions])
    group.renameDimension(chance.choice(list(group.dimensions)), chance.choice(hostile.NAMES))


def _rename_group(file: Any, chance: random.Random) -> None:
    file.renameGroup(chance.choice(list(file.groups)), chance.choice(hostile.NAMES))


def _add_groups(file: Any, chance: random.Random) -> None:
    group = file
    for _ in range(chance.choice((1, 3, 60))):
        group = group.createGroup(chance.choice(hostile.NAMES))


_EDITS = (
    *(
        _set_attribute,
        _set_attribute,
        _set_attribute,
        _remove_attribute,
        _replace_variable,
        _replace_variable,
    ),
    *(_replace_variable, _spoil_values, _spoil_values, _scale_values, _lose_variable, _exchange_variables),
    *(_add_variable, _add_odd_type, _rename_dimension, _rename_group, _add_groups),
)


def _other_format(path: Path, chance: random.Random) -> None:
    """An older format with the variables of the root group."""
    kind = chance.choice(("NETCDF3_CLASSIC", "NETCDF3_64BIT_DATA", "NETCDF4_CLASSIC"))
    copy = path.with_name("other_format")
    with (
        suppress(*_LIBRARY_ERRORS),
        netCDF4.Dataset(path) as old,
        netCDF4.Dataset(copy, "w", format=kind) as new,
    ):
        new.setncatts({key: value for key, value in old.__dict__.items() if isinstance(value, str)})
        for name, dimension in old.dimensions.items():
            new.createDimension(name, len(dimension))
        for name, variable in old.variables.items():
            new.createVariable(name, variable.dtype, variable.dimensions)[...] = variable[...]
    if copy.exists():
        copy.replace(path)
