"""Test anyone's lock: real processes, real kills, and checkers that show their proof.

Say what the lock promises, ``spec = LockSpec.mutex(owner_only=True, on_crash="recovers")``, and then:
``check_lock(make_lock, spec)`` at full speed with seeded pauses and kills, ``crash_sweep(make_lock, spec)`` with a kill
at every line, ``explore_lock(make_lock, spec)`` with chosen schedules; ``.raise_if_failed()``.
"""

from __future__ import annotations

from XME.errors import LockTestFailed, LockViolation
from XME.testing._adapt import LockLike, adapt
from XME.testing._checks import MutualExclusion, Permits, ReaderWriter, Tripwire
from XME.testing._checks_calls import NoFalseRefusal, OwnerOnly, Reentrancy
from XME.testing._checks_crash import CrashRecovery, NoLeak
from XME.testing._checks_time import BoundedWait, Progress
from XME.testing._crash_sweep import crash_sweep
from XME.testing._event import Call, Event, Hold, Kind, Op
from XME.testing._explore import explore_lock
from XME.testing._free import check_lock
from XME.testing._history import History
from XME.testing._lab import CHECKERS, Options
from XME.testing._linear import Linearizable, LockModel
from XME.testing._replay import replay
from XME.testing._report import Finding, Report
from XME.testing._room import Room
from XME.testing._spec import Faults, LockSpec, Strategy
from XME.testing._verdict import Checker, Outcome, Verdict, compose, judge

__all__ = [
    "CHECKERS", "BoundedWait", "Call", "Checker", "CrashRecovery", "Event", "Faults", "Finding", "History", "Hold",
    "Kind", "Linearizable", "LockLike", "LockModel", "LockSpec", "LockTestFailed", "LockViolation", "MutualExclusion",
    "NoFalseRefusal", "NoLeak", "Op", "Options", "Outcome", "OwnerOnly", "Permits", "Progress", "ReaderWriter",
    "Reentrancy", "Report", "Room", "Strategy", "Tripwire", "Verdict", "adapt", "check_lock", "compose", "crash_sweep",
    "explore_lock", "judge", "replay",
]  # fmt: skip
