"""Counts the faults that tests inflict, such as a killed rank or a full disk, and how many did no harm.

A test takes the fixture `faults` and calls `faults.record(survived)` once for every fault. The counts travel
with the tests' reports, so that they also come back from the workers of pytest-xdist.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

_PROPERTY = "fault_survived"
_TOLD = "told"  # what a test has to say at the end: `record_property("told", line)`


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
    """Say at the end of the session what tests have told, and how many faults were tried, if any."""
    reports = [report for reports in terminalreporter.stats.values() for report in reports]
    # Of a test's three reports the last one knows everything.
    known = [
        item
        for report in reports
        if getattr(report, "when", None) == "teardown"
        for item in report.user_properties
    ]
    for line in (value for name, value in known if name == _TOLD):
        terminalreporter.write_line(line)
    if found := [survived for name, survived in known if name == _PROPERTY]:
        terminalreporter.write_line(f"faults: {len(found)} tried, {sum(found)} survived")
