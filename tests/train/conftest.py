"""What the tests of training share."""

from __future__ import annotations

import sys
from pathlib import Path

# The toy task is shared with other tests; tests are no package that could be imported.
sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1] / "tasks")]
