"""The Security storm: the mutex storm's controller, for one lock type, with readers where the type has them."""

from __future__ import annotations

import os
from typing import Any

from benchmarks.storm import guards
from benchmarks.storm import mutex as storms
from XME import Security
from XME._core import names
from XME.errors import XMEError

TYPES = ("MUTEX", "AUTHORISATION", "READWRITE", "SPIN")


class _Taken:
    """The lock, as the controller takes it after the storm."""

    def __init__(self, lock: Security.Security) -> None:
        self._lock = lock

    def acquire(self, seconds: float) -> bool:
        """Take the lock; False if that takes too long."""
        try:
            self._lock.holding(self._lock.ADMIN, seconds).__enter__()
        except XMEError:
            return False
        return True

    def __repr__(self) -> str:
        return repr(self._lock)


class SecurityStorm(storms.Storm):
    """The controller's side for one lock type."""

    def __init__(self, kind: str, seed: int, contenders: int, fault: str | None) -> None:
        super().__init__(seed, contenders, fault)
        lock = Security.Security(Security.LockType[kind])
        self.mutex = _Taken(lock)
        self.live = lambda _mutex, *args: guards.live(lock, *args)
        self.violation_texts = guards.VIOLATIONS
        self._domain = lock._guarded.domain.id
        self._names = self._names_now()

    def _names_now(self) -> set[str]:
        return {name for name in os.listdir(names.FOLDER) if self._domain in name}

    def end(self) -> None:
        """Look also for names that the dead have left."""
        super().end()
        left = self._names_now() - self._names
        if left:
            self.violations.append(f"names are left: {sorted(left)}")


def run(kind: str, kills: int, seed: int, contenders: int, fault: str | None, limit_ms: float) -> dict[str, Any]:
    """Run the storm for one lock type and return its counts, times and violations."""
    return {"type": kind, **storms.rage(SecurityStorm(kind, seed, contenders, fault), kills, seed, limit_ms)}
