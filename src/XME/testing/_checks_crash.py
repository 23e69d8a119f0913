"""The checkers of death: what a lock does when its holder is killed, and what is left when all is over."""

from __future__ import annotations

from dataclasses import dataclass

from XME.testing._checks import length, meeting, who
from XME.testing._checks_calls import events_of
from XME.testing._checks_time import gaps, stop_spans, taken_spans
from XME.testing._event import OWNER_DIED, TAKING, Call, Event, Hold, Kind, Op
from XME.testing._history import History
from XME.testing._spec import LockSpec
from XME.testing._verdict import Outcome, failed, passed


@dataclass(frozen=True)
class CrashRecovery:
    """After a holder's death the lock does what it says. Sound; the times are measured.

    It is to be had within ``recover_s``, all permits at the same time if it has several, by one successor, who is told
    of the death if the policy says so (and nobody else is); ``verify`` finds nothing wrong; or it stays locked.
    """

    name: str = "CrashRecovery"
    exactness: str = "sound"

    def applies(self, spec: LockSpec) -> bool:
        """If the lock says what happens after a death."""
        return spec.on_crash != "unspecified"

    def check(self, history: History, spec: LockSpec) -> Outcome:
        """Follow what came after each death."""
        for event in history.events:
            if event.op is Op.SECTION and event.detail.startswith("verify"):
                return failed(self, f"{who(event.owner)} found what it guards broken: {event.detail}", event)
        dead = [hold for hold in history.holds() if hold.killed]
        if spec.on_crash == "stays_locked":
            return self._stays_locked(history, spec, dead)
        return (
            self._recovered(history, spec)
            or (self._one_heir(history, dead) if spec.excludes else None)
            or (self._told(history, spec, dead) if spec.on_crash == "notifies" else None)
            or passed(self)
        )

    def _stays_locked(self, history: History, spec: LockSpec, dead: list[Hold]) -> Outcome:
        holders = [hold for hold in dead if hold.sure_ns is not None and hold.events[-1].op is Op.KILL_SENT]
        for hold in holders[spec.permits - 1 :]:
            for heir in history.holds():
                if heir.wanted_ns > history.deaths[hold.owner][1] and heir.sure_ns is not None:
                    text = f"{who(heir.owner)} got it after {who(hold.owner)} died with it, and it is to stay locked"
                    return failed(self, text, hold.events[-1], heir.events[0])
        return passed(self)

    def _recovered(self, history: History, spec: LockSpec) -> Outcome | None:
        spans = taken_spans(history, spec) + stop_spans(history)
        for call in history.calls():
            waits = call.op in TAKING and call.invoke.timeout_s is None and call.owner not in history.deaths
            end = min(call.end_ns, history.end_ns)
            for dead, (sent, reaped) in history.deaths.items() if waits else ():
                start = max(call.start_ns, reaped)
                # Later deaths are looked at in their own turn, and somebody's success ends the story of this one.
                if dead == call.owner or end <= start:
                    continue
                for first, last in gaps(spans, start, end):
                    if last - first > spec.recover_s * 1e9:
                        later = length(last - first)
                        text = f"{who(dead)} was killed, and {later} later {who(call.owner)} still waits"
                        return failed(self, text, *_killed(history, dead), call.invoke, *_before(history, dead, sent))
        return None

    def _one_heir(self, history: History, dead: list[Hold]) -> Outcome | None:
        for hold in dead:
            sent = history.deaths[hold.owner][0]
            found = meeting([one for one in history.holds() if one.sure_ns is not None and one.sure_ns[0] >= sent])
            if found is not None:
                heirs = f"{who(found[0].owner)} and {who(found[1].owner)}"
                text = f"{heirs} both succeeded {who(hold.owner)}, who was killed"
                return failed(self, text, *_killed(history, hold.owner), found[0].events[0], found[1].events[0])
        return None

    def _told(self, history: History, spec: LockSpec, dead: list[Hold]) -> Outcome | None:
        calls = [call for call in history.calls() if call.op in TAKING and call.kind is Kind.OK]
        taken = sorted(calls, key=lambda call: call.end_ns)
        told = [call for call in taken if _says_so(call)]
        # A reader leaves nothing half done: of his death nobody has to be told.
        certain = [
            hold for hold in dead if hold.write and hold.sure_ns is not None and hold.events[-1].op is Op.KILL_SENT
        ]
        if len(told) > len(history.deaths):
            text = f"{len(told)} owners were told of a death, and {len(history.deaths)} died"
            return failed(self, text, *(event for call in told[-2:] for event in events_of(call)[1:]))
        for hold in certain:
            sent, reaped = history.deaths[hold.owner]
            heirs = [call for call in taken if call.end_ns > sent]
            # Who took another permit is no heir; but when all are taken, somebody has the dead one's.
            full = min((first for first, _ in taken_spans(history, spec) if first > reaped), default=0)
            heirs = _to_a_writer(heirs) if spec.excludes else [call for call in heirs if call.end_ns <= full]
            heir = heirs[-1] if heirs else None
            if heir is None or any(_says_so(call) or _is_his_next_life(call, hold) for call in heirs):
                continue
            text = f"{who(heir.owner)} got it after the death of {who(hold.owner)}, and was not told"
            return failed(self, text, hold.events[-1], *events_of(heir))
        return None


def _to_a_writer(taken: list[Call]) -> list[Call]:
    """Return the calls up to the first writer's: readers who come before him may leave it to him to be told."""
    at = next((k for k, call in enumerate(taken) if call.op is Op.ACQUIRE), None)
    return [] if at is None else taken[: at + 1]


def _is_his_next_life(call: Call, dead: Hold) -> bool:
    return call.op is Op.ACQUIRE and call.owner[0] == dead.owner[0]


def _says_so(call: Call) -> bool:
    return call.answer is not None and call.answer.detail.startswith(OWNER_DIED)


def _killed(history: History, owner: tuple[int, int]) -> tuple[Event, ...]:
    return tuple(event for event in history.events if event.owner == owner and event.op is Op.KILL_SENT)


def _before(history: History, owner: tuple[int, int], moment: int) -> tuple[Event, ...]:
    return tuple(event for event in history.events if event.owner == owner and event.time_ns <= moment)[-2:-1]


@dataclass(frozen=True)
class NoLeak:
    """After the end there is no name, no descriptor and no process that was not there before. Exact on Linux.

    What a worker has open and mapped is counted after the lock was closed, against before it was made. What a process
    opens once for itself is no leak: only files of the run, or what grows when the lock is used again and again. Names
    that the testing program itself has made, to hand them over, may live as long as that program.
    """

    name: str = "NoLeak"
    exactness: str = "exact"

    def applies(self, spec: LockSpec) -> bool:
        """To every lock."""
        del spec
        return True

    def check(self, history: History, spec: LockSpec) -> Outcome:
        """Read what was found at the end."""
        del spec
        left = [event for event in history.events if event.op is Op.LEFT]
        if not left:
            return passed(self)
        return failed(self, "left behind: " + "; ".join(event.detail for event in left[:4]), *left[:4])
