"""The checkers of time: how long somebody waits, and whether anybody gets on at all."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from XME.testing._checks import length, who
from XME.testing._checks_calls import events_of
from XME.testing._event import FOREVER_NS, TAKING, Call, Hold, Kind
from XME.testing._history import History
from XME.testing._spec import LockSpec
from XME.testing._verdict import Outcome, failed, passed

Span = tuple[int, int]


def busy_spans(history: History) -> list[Span]:
    """Return when somebody had it: from a successful acquire to the end of its release, or of its owner."""
    spans = []
    for hold in history.holds():
        if hold.sure_ns is None:
            continue
        end = history.deaths[hold.owner][1] if hold.killed else min(hold.free_ns, history.end_ns)
        spans.append((hold.sure_ns[0], end))
    return sorted(spans)


def taken_spans(history: History, spec: LockSpec) -> list[Span]:
    """Return when there was nothing to be had: somebody had it, or all permits were taken."""
    spans = busy_spans(history)
    if spec.excludes:
        return spans
    # Spans are closed: what begins when another ends meets it, so beginnings come first.
    edges = sorted([(start, False) for start, _ in spans] + [(end, True) for _, end in spans])
    found, inside, since = [], 0, 0
    for moment, ends in edges:
        if ends and inside == spec.permits:
            found.append((since, moment))
        inside += -1 if ends else 1
        if not ends and inside == spec.permits:
            since = moment
    return found


def stop_spans(history: History) -> list[Span]:
    """Return when somebody was stopped: time that no lock can answer for."""
    return [(start, end) for _, start, end in history.stops]


def gaps(spans: list[Span], start: int, end: int) -> Iterator[Span]:
    """Give the parts of start..end that no span covers."""
    at = start
    for first, last in sorted(spans):
        if first >= end:
            break
        if first > at:
            yield at, first
        at = max(at, last)
    if at < end:
        yield at, end


def _covered(spans: list[Span], start: int, end: int) -> int:
    return end - start - sum(last - first for first, last in gaps(spans, start, end))


@dataclass(frozen=True)
class BoundedWait:
    """Nobody waits longer than declared, and nobody is passed more often. Measured: it needs a stated bound.

    Nobody is passed by more sections of all others together, of writers and of readers each; readers who are let in at
    the same moment pass as one.

    A worker counts as waiting from just before its call, so on a loaded machine somebody may pass it before it has
    come to the lock; a bound of time or number that is meant for users leaves room for that.
    """

    name: str = "BoundedWait"
    exactness: str = "measured"

    def applies(self, spec: LockSpec) -> bool:
        """If a bound is stated."""
        return spec.max_wait_s is not None or spec.max_bypass is not None

    def check(self, history: History, spec: LockSpec) -> Outcome:
        """Look at every acquire that waited."""
        stopped = stop_spans(history)
        for call in history.calls():
            if call.op not in TAKING or call.owner in history.deaths:
                continue
            end = min(call.end_ns, history.end_ns)
            if _covered(stopped, call.start_ns, end):
                continue
            if spec.max_wait_s is not None and end - call.start_ns > spec.max_wait_s * 1e9:
                text = f"{who(call.owner)} waited for {length(end - call.start_ns)}, longer than {spec.max_wait_s:g} s"
                return failed(self, text, *events_of(call))
            if spec.max_bypass is not None and call.kind in {Kind.OK, Kind.UNKNOWN}:
                outcome = self._passed_by(history, spec.max_bypass, call, end)
                if outcome is not None:
                    return outcome
        return passed(self)

    def _passed_by(self, history: History, bound: int, call: Call, end: int) -> Outcome | None:
        passing = [
            hold for hold in history.holds()
            if hold.owner != call.owner and hold.wanted_ns > call.start_ns and hold.free_ns < end
        ]  # fmt: skip
        written = [hold for hold in passing if hold.write]
        for kind, holds in (("", written), (" of readers", let_in_one_by_one([h for h in passing if not h.write]))):
            if len(holds) > bound:
                passed_by = f"{len(holds)} sections{kind} began and ended"
                text = f"{passed_by} while {who(call.owner)} waited; {bound} is the bound"
                first, last = holds[0].events[0], holds[-1].events[0]
                return failed(self, text, call.invoke, *dict.fromkeys((first, last)), *events_of(call)[1:])
        return None


def let_in_one_by_one(readers: list[Hold]) -> list[Hold]:
    """Return as many of these as cannot have been let in at the same moment; readers let in together pass as one.

    Who waits loses no more by ten readers who are inside together than by one of them.
    """
    found: list[Hold] = []
    for hold in sorted(readers, key=_let_in_at_the_latest):
        if not found or hold.wanted_ns > _let_in_at_the_latest(found[-1]):
            found.append(hold)
    return found


def _let_in_at_the_latest(hold: Hold) -> int:
    return hold.free_ns if hold.sure_ns is None else hold.sure_ns[0]


@dataclass(frozen=True)
class Progress:
    """A lock that is free goes to somebody who waits; a time limit ends; not all wait for each other. By deadline."""

    name: str = "Progress"
    exactness: str = "by deadline"

    def applies(self, spec: LockSpec) -> bool:
        """To every lock."""
        del spec
        return True

    def check(self, history: History, spec: LockSpec) -> Outcome:
        """Look at every wait for time in which nobody had the lock."""
        limit = round(spec.stuck_s * 1e9)
        excused = taken_spans(history, spec) + stop_spans(history) + _after_deaths(history, spec)
        for call in history.calls():
            if call.owner in history.deaths and call.answer is None:
                continue
            # The dead are CrashRecovery's: what comes after a death counts again when somebody has had it.
            if call.op not in TAKING:
                if history.end_ns - call.start_ns > limit and call.answer is None:
                    return failed(self, f"{who(call.owner)} hangs in {call.op.name.lower()}", call.invoke)
                continue
            outcome = self._late(history, call, limit) or self._free_meanwhile(history, excused, call, limit)
            if outcome is not None:
                return outcome
        return passed(self)

    def _late(self, history: History, call: Call, limit: int) -> Outcome | None:
        if call.invoke.timeout_s is None:
            return None
        end = min(call.end_ns, history.end_ns)
        late = end - call.start_ns - round(call.invoke.timeout_s * 1e9) - _covered(
            stop_spans(history), call.start_ns, end
        )
        if late <= limit:
            return None
        text = f"{who(call.owner)} wanted to wait for {call.invoke.timeout_s:g} s and waited {length(late)} longer"
        return failed(self, text, *events_of(call))

    def _free_meanwhile(self, history: History, excused: list[Span], call: Call, limit: int) -> Outcome | None:
        end = min(call.end_ns, history.end_ns)
        for first, last in gaps(excused, call.start_ns, end):
            if last - first > limit:
                all_wait = call.end_ns == FOREVER_NS and _everybody_waits(history)
                text = f"{who(call.owner)} waits, and nobody has had it for {length(last - first)}"
                text += ": all wait for each other" if all_wait else ": a wake-up was lost"
                before = [event for event in history.events if call.invoke.time_ns < event.time_ns <= first]
                return failed(self, text, call.invoke, *before[-2:])
        return None


def _after_deaths(history: History, spec: LockSpec) -> list[Span]:
    """Return from when to when a lock may suffer from a death, which is not judged here: until it is had in full."""
    taken, spans = taken_spans(history, spec), []
    for sent, reaped in history.deaths.values():
        # The dead holder of a permit counts among those who have one until his body is found.
        heirs = [first for first, _ in taken if first > (sent if spec.excludes else reaped)]
        spans.append((sent, min(heirs, default=history.end_ns)))
    return spans


def _everybody_waits(history: History) -> bool:
    last: dict[int, Call] = {}
    for call in history.calls():
        last[call.owner[0]] = call
    alive = [call for call in last.values() if call.owner not in history.deaths]
    return len(alive) > 1 and all(call.answer is None and call.op in TAKING for call in alive)
