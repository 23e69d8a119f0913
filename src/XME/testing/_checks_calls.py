"""The checkers of single calls: who may release, who may enter again, and who may be refused."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from XME.testing._checks import length, meeting, who
from XME.testing._event import FOREVER_NS, GIVING, TAKING, Call, Event, Hold, Kind, Op
from XME.testing._history import History
from XME.testing._spec import LockSpec
from XME.testing._verdict import Outcome, failed, passed


def with_depth(history: History) -> Iterator[tuple[Call, int]]:
    """Give each call with how often its owner had the lock when it was called."""
    depths: dict[tuple[int, int], int] = {}
    for call in history.calls():
        depth = depths.get(call.owner, 0)
        yield call, depth
        if call.op in TAKING and call.kind is Kind.OK:
            depths[call.owner] = depth + 1
        elif call.op in GIVING:
            depths[call.owner] = max(0, depth - 1)


def events_of(call: Call) -> tuple[Event, ...]:
    """Return the one or two records of a call."""
    return (call.invoke,) if call.answer is None else (call.invoke, call.answer)


@dataclass(frozen=True)
class OwnerOnly:
    """A release by somebody who does not hold it raises; a release by the owner succeeds. Exact."""

    name: str = "OwnerOnly"
    exactness: str = "exact"

    def applies(self, spec: LockSpec) -> bool:
        """If the lock says so."""
        return spec.owner_only is True

    def check(self, history: History, spec: LockSpec) -> Outcome:
        """Look at every release."""
        del spec
        for call, depth in with_depth(history):
            if call.op not in GIVING:
                continue
            if not depth and call.kind is Kind.OK:
                text = f"{who(call.owner)} released what it did not hold, and no exception said so"
                return failed(self, text, *events_of(call), *_held_by_another(history, call))
            if depth and call.kind is Kind.RAISED:
                assert call.answer is not None
                text = f"{who(call.owner)} could not release what it held: {call.answer.detail}"
                return failed(self, text, *events_of(call))
        return passed(self)


def _held_by_another(history: History, call: Call) -> tuple[Event, ...]:
    for hold in history.holds():
        if hold.owner != call.owner and hold.sure_ns and hold.sure_ns[0] <= call.start_ns <= hold.sure_ns[1]:
            return hold.events[:1]
    return ()


@dataclass(frozen=True)
class Reentrancy:
    """The owner may enter again to the declared depth, and has it until as many releases; or may not. Exact."""

    name: str = "Reentrancy"
    exactness: str = "exact"

    def applies(self, spec: LockSpec) -> bool:
        """If the lock says whether it is reentrant."""
        return spec.reentrant is not None and spec.excludes

    def check(self, history: History, spec: LockSpec) -> Outcome:
        """Look at every acquire of an owner, and at whom he met after he had entered again."""
        for call, depth in with_depth(history):
            if call.op in TAKING and depth:
                text = self._wrong(history, spec, call, depth)
                if text:
                    return failed(self, f"{who(call.owner)} {text}", *events_of(call))
        return self._kept_until_the_last_release(history)

    def _wrong(self, history: History, spec: LockSpec, call: Call, depth: int) -> str:
        may = spec.reentrant is True and depth < spec.depth
        if call.kind is Kind.UNKNOWN:
            hangs = call.owner not in history.deaths and history.end_ns - call.start_ns > spec.stuck_s * 1e9
            return f"hangs in taking again what it has {depth} times" if hangs else ""
        if may and call.kind is not Kind.OK:
            return f"may have it {spec.depth} times and was refused the {depth + 1}th"
        if spec.reentrant is False and call.kind is Kind.OK:
            return "took again a lock that is not reentrant"
        return ""

    def _kept_until_the_last_release(self, history: History) -> Outcome:
        holds = list(history.holds())
        for hold in holds:
            if hold.depth > 1:
                found = meeting([hold, *(other for other in holds if other.owner != hold.owner)])
                if found is not None and hold in found:
                    other = found[1] if found[0] is hold else found[0]
                    text = f"{who(hold.owner)} had taken it {hold.depth} times and not released it as often"
                    return failed(self, f"{text} when {who(other.owner)} got it", *hold.events, *other.events[:1])
        return passed(self)


# A clock that ticks coarsely, and a wait that rounds down.
EARLY_NS = 2_000_000


@dataclass(frozen=True)
class NoFalseRefusal:
    """Who is refused met somebody who may have held it; and a time limit is not cut short. Sound.

    A reader may also be refused for the sake of somebody who waits to write, as long as he is kept out himself.
    """

    name: str = "NoFalseRefusal"
    exactness: str = "sound"

    def applies(self, spec: LockSpec) -> bool:
        """To every lock that can refuse."""
        del spec
        return True

    def check(self, history: History, spec: LockSpec) -> Outcome:
        """Look at every acquire that was refused."""
        for call, depth in with_depth(history):
            if call.op not in TAKING or call.answer is None or depth:
                continue
            if call.invoke.timeout_s is None and call.kind in {Kind.REFUSED, Kind.RAISED}:
                text = f"{who(call.owner)} wanted to wait for ever, and its acquire gave up"
                return failed(self, f"{text}: {call.answer.detail}".rstrip(": "), *events_of(call))
            if call.kind is not Kind.REFUSED:
                continue
            waited = call.end_ns - call.start_ns
            if call.invoke.timeout_s and waited < call.invoke.timeout_s * 1e9 - EARLY_NS:
                text = f"{who(call.owner)} wanted to wait for {call.invoke.timeout_s:g} s and was refused after "
                return failed(self, text + length(waited), *events_of(call))
            if not _excused(history, spec, call):
                text = f"{who(call.owner)} was refused, and nobody can have held it"
                return failed(self, text, *events_of(call))
        return passed(self)


def _excused(history: History, spec: LockSpec, call: Call) -> bool:
    """True if at some moment of the call all permits may have been taken, or a reader stood back for a writer."""
    near = [hold for hold in history.holds() if _is_in_the_way(hold, call)]
    moments = {call.start_ns} | {hold.wanted_ns for hold in near if hold.wanted_ns > call.start_ns}
    if any(sum(hold.wanted_ns <= moment <= hold.free_ns for hold in near) >= spec.permits for moment in moments):
        return True
    return call.op is Op.ACQUIRE_READ and _stands_back(history, call)


def _stands_back(history: History, call: Call) -> bool:
    """True if during a reader's call somebody asked to write who may have been kept out himself."""
    writers = [
        other for other in history.calls()
        if other.op is Op.ACQUIRE and other.owner != call.owner
        and other.start_ns <= call.end_ns and other.end_ns >= call.start_ns
    ]  # fmt: skip
    # The whole call of the writer counts: his mark may outlast the hold that he met, until he sees that time is over.
    return any(
        hold.wanted_ns <= writer.end_ns and hold.free_ns >= writer.start_ns
        for writer in writers
        for hold in history.holds()
    )


def _is_in_the_way(hold: Hold, call: Call) -> bool:
    if hold.owner == call.owner or (call.op is Op.ACQUIRE_READ and not hold.write):
        return False
    return hold.wanted_ns <= call.end_ns and hold.free_ns >= call.start_ns


def is_waiting(call: Call, moment_ns: int) -> bool:
    """True if a call that waits without a limit was under way at a moment."""
    limitless = call.op in TAKING and call.invoke.timeout_s is None
    return limitless and call.start_ns <= moment_ns < min(call.end_ns, FOREVER_NS)
