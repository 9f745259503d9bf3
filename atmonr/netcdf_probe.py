"""Looking into a netCDF file in another process first: damage can make the HDF5 library crash or loop.

No check of one's own replaces that, and no error handling helps, since both happen inside the C library. The
other process is a bare interpreter that calls the very library that the netCDF4 package uses; starting it
takes some 50 ms. It looks at all metadata and at the first value of every variable, at all values of small
ones. What is left is damage to further data of large variables.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

LIMIT_S = 60.0
_VISIT = Path(__file__).with_name("netcdf_visit.py")


def deadly(path: Path) -> str | None:
    """Return how the netCDF library fails on a file in a way that its user would not survive, else None."""
    import netCDF4._netCDF4 as extension

    # Alone (-I -S) the interpreter starts in a tenth of the time and runs nobody else's code.
    command = [sys.executable, "-I", "-S", str(_VISIT), extension.__file__, str(path)]
    try:
        ended = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=LIMIT_S,
        )
    except subprocess.TimeoutExpired:
        return f"the netCDF library comes to no end with it in {LIMIT_S:g} s"
    except OSError:  # no process to be had
        return None
    return f"it crashes the netCDF library (signal {-ended.returncode})" if ended.returncode < 0 else None
