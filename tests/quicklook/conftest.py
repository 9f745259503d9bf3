from __future__ import annotations

from tests.evaluate.conftest import write_extract, write_truth  # noqa: F401
