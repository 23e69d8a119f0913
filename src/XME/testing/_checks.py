"""The checkers of exclusion: exact, for intervals in which a lock was certainly held.

The shortest time for which an owner can have held is from the answer of its acquire to the call of its release. If
these meet for two owners, every other choice of moments meets too, so no search is needed.
"""

from __future__ import annotations

from dataclasses import dataclass

from XME.testing._event import Event, Hold, Kind, Op
from XME.testing._history import History
from XME.testing._spec import LockSpec
from XME.testing._verdict import Outcome, failed, passed


def who(owner: tuple[int, int]) -> str:
    """Name a worker, and its life if it is not the first."""
    return f"worker {owner[0]}" + (f" (life {owner[1]})" if owner[1] else "")


def length(nanoseconds: int) -> str:
    """Say a time with a unit that suits it."""
    if nanoseconds < 1_000_000:
        return f"{nanoseconds / 1e3:.0f} µs"
    return f"{nanoseconds / 1e6:.1f} ms" if nanoseconds < 1_000_000_000 else f"{nanoseconds / 1e9:.2f} s"


def _both(first: Hold, second: Hold) -> tuple[str, tuple[Event, ...]]:
    assert first.sure_ns is not None
    assert second.sure_ns is not None
    meet = min(first.sure_ns[1], second.sure_ns[1]) - max(first.sure_ns[0], second.sure_ns[0])
    return f"{who(first.owner)} and {who(second.owner)} both held it for at least {length(meet)}", (
        *first.events, *second.events,
    )  # fmt: skip


def meeting(holds: list[Hold]) -> tuple[Hold, Hold] | None:
    """Return two holds of different owners that certainly meet, at least one of them writing."""
    ordered = sorted((hold for hold in holds if hold.sure_ns is not None), key=lambda hold: hold.sure_ns or (0, 0))
    open_holds: list[Hold] = []
    for hold in ordered:
        start = (hold.sure_ns or (0, 0))[0]
        # Intervals are closed and clocks are coarse: what ends when another begins does not meet it.
        open_holds = [other for other in open_holds if (other.sure_ns or (0, 0))[1] > start]
        for other in open_holds:
            if other.owner != hold.owner and (other.write or hold.write) and _is_longer(hold):
                return other, hold
        open_holds.append(hold)
    return None


def _is_longer(hold: Hold) -> bool:
    return hold.sure_ns is not None and hold.sure_ns[1] > hold.sure_ns[0]


@dataclass(frozen=True)
class MutualExclusion:
    """Certain holds of different owners are disjoint, also beside the dead. Exact.

    >>> from XME.testing import History, LockSpec
    >>> MutualExclusion().check(History.of([]), LockSpec.mutex()).verdict.name
    'PASS'
    """

    name: str = "MutualExclusion"
    exactness: str = "exact"

    def applies(self, spec: LockSpec) -> bool:
        """For everything but semaphores and readers."""
        return spec.excludes and not spec.read_write

    def check(self, history: History, spec: LockSpec) -> Outcome:
        """Look for two holds that meet."""
        del spec
        found = meeting(list(history.holds()))
        if found is None:
            return passed(self)
        sentence, witness = _both(*found)
        return failed(self, f"mutual exclusion broken: {sentence}", *witness)


@dataclass(frozen=True)
class ReaderWriter:
    """A certain write hold meets no other; readers may meet. Exact."""

    name: str = "ReaderWriter"
    exactness: str = "exact"

    def applies(self, spec: LockSpec) -> bool:
        """For locks with readers."""
        return spec.read_write

    def check(self, history: History, spec: LockSpec) -> Outcome:
        """Look for a writer that meets somebody."""
        del spec
        found = meeting(list(history.holds()))
        if found is None:
            return passed(self)
        sentence, witness = _both(*found)
        kinds = " and a ".join("writer" if hold.write else "reader" for hold in found)
        return failed(self, f"a {kinds} met: {sentence}", *witness)


@dataclass(frozen=True)
class Permits:
    """Never more certain holds at one instant than there are permits. Exact."""

    name: str = "Permits"
    exactness: str = "exact"

    def applies(self, spec: LockSpec) -> bool:
        """For semaphores."""
        return not spec.excludes

    def check(self, history: History, spec: LockSpec) -> Outcome:
        """Count the holds at the start of each."""
        open_holds: list[Hold] = []
        holds = [hold for hold in history.holds() if _is_longer(hold)]
        for hold in sorted(holds, key=lambda hold: hold.sure_ns or (0, 0)):
            start = (hold.sure_ns or (0, 0))[0]
            open_holds = [other for other in open_holds if (other.sure_ns or (0, 0))[1] > start]
            open_holds.append(hold)
            if len(open_holds) > spec.permits:
                sentence = f"{len(open_holds)} held it at once, and it has {spec.permits} permits"
                return failed(self, sentence, *(one.events[0] for one in open_holds))
        return passed(self)


# What a worker writes after a section in which it met somebody; the number of sections when a run has ended.
MET = "met "
COUNTED = "sections "


@dataclass(frozen=True)
class Tripwire:
    """The memory itself: my id is still there at the end of my section, and no unguarded ``count += 1`` was lost.

    A witness beside the history: it knows nothing of clocks. Exact.
    """

    name: str = "Tripwire"
    exactness: str = "exact"

    def applies(self, spec: LockSpec) -> bool:
        """For everything with a (writing) holder who is alone."""
        return spec.excludes

    def check(self, history: History, spec: LockSpec) -> Outcome:
        """Read what the sections found."""
        del spec
        done = 0
        for event in history.events:
            if event.op is not Op.SECTION:
                continue
            if event.kind is Kind.RAISED and event.detail.startswith(MET):
                text = f"{who(event.owner)} found the mark of {event.detail.removeprefix(MET)} in its section"
                return failed(self, text, *_own(history, event))
            done += event.kind is Kind.OK and event.detail == "counted"
        return self._count(history, done)

    def _count(self, history: History, done: int) -> Outcome:
        ends = [e for e in history.events if e.op is Op.END and e.detail.startswith(COUNTED)]
        if not ends:
            return passed(self)
        counted = int(ends[-1].detail.removeprefix(COUNTED))
        # What is lost makes the count smaller. It is larger when somebody has counted and not said so: he was killed in
        # between, or the run ended there.
        if counted >= done:
            return passed(self)
        return failed(self, f"{done} sections counted to {counted}: updates were lost", ends[-1])


def _own(history: History, event: Event) -> tuple[Event, ...]:
    return tuple(e for e in history.events if e.owner == event.owner and e.time_ns <= event.time_ns)[-3:]
