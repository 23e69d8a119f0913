"""The pytest plugin: the fixture ``lock_checker`` and the marker ``lock_runs``. Nothing of XME's imports this."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from XME.testing._report import Report
    from XME.testing._spec import LockSpec


class LockChecker:
    """The three modes; each fails the test if the lock does not keep its promises, and returns the report if it does.

    The marker ``lock_runs(n)`` is the number of rounds of each worker in `check`, and of schedules in `explore`.
    """

    def __init__(self, runs: int | None) -> None:
        self.runs = runs

    def check(self, make_lock: Callable[..., Any], spec: LockSpec, **options: Any) -> Report:
        """Real workers at full speed: `check_lock`."""
        from XME.testing import check_lock

        return self._judge(check_lock(make_lock, spec, **self._with_runs("rounds", options)))

    def crash_sweep(self, make_lock: Callable[..., Any], spec: LockSpec, **options: Any) -> Report:
        """A kill at every line: `crash_sweep`."""
        from XME.testing import crash_sweep

        return self._judge(crash_sweep(make_lock, spec, **options))

    def explore(self, make_lock: Callable[..., Any], spec: LockSpec, **options: Any) -> Report:
        """Chosen schedules: `explore_lock`."""
        from XME.testing import explore_lock

        return self._judge(explore_lock(make_lock, spec, **self._with_runs("runs", options)))

    def _with_runs(self, name: str, options: dict[str, Any]) -> dict[str, Any]:
        return options if self.runs is None else {name: self.runs, **options}

    def _judge(self, report: Report) -> Report:
        report.raise_if_failed()
        return report


@pytest.fixture
def lock_checker(request: pytest.FixtureRequest) -> LockChecker:
    """Test a lock: ``lock_checker.check(make_lock, spec)``, ``.crash_sweep(...)``, ``.explore(...)``."""
    marker = request.node.get_closest_marker("lock_runs")
    return LockChecker(marker.args[0] if marker is not None else None)


def pytest_configure(config: pytest.Config) -> None:
    """Make the marker known."""
    config.addinivalue_line("markers", "lock_runs(n): rounds of lock_checker.check, schedules of lock_checker.explore")
