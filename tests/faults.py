"""Counts the faults that tests inflict, such as a killed rank or a full disk, and how many did no harm.

A test takes the fixture `faults` and calls `faults.record(survived)` once for every fault. The counts travel
with the tests' reports, so that they also come back from the workers of pytest-xdist.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

_PROPERTY = "fault_survived"


@dataclass(frozen=True)
class Faults:
    """Notes the faults of one test.

    Attributes:
        properties: What pytest reports of the test.
    """

    properties: list[tuple[str, Any]]

    def record(self, survived: bool) -> None:
        """Note one fault: `survived` says whether all that must hold after it did hold."""
        self.properties.append((_PROPERTY, bool(survived)))


@pytest.fixture
def faults(request: pytest.FixtureRequest) -> Faults:
    """Where a test records each fault that it inflicts."""
    return Faults(request.node.user_properties)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Say at the end of the session how many faults were tried, if any."""
    reports = [report for reports in terminalreporter.stats.values() for report in reports]
    found = [
        survived
        for report in reports
        # Of a test's three reports the last one knows everything.
        if getattr(report, "when", None) == "teardown"
        for name, survived in report.user_properties
        if name == _PROPERTY
    ]
    if found:
        terminalreporter.write_line(f"faults: {len(found)} tried, {sum(found)} survived")
