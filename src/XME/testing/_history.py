"""What happened to one lock: events of all workers in one order, the calls that they make up, and who held when.

A record is 64 bytes in a file that a worker maps and only it writes (_recorder.py)::

    0   time_ns  q     CLOCK_MONOTONIC, the same for all processes of the machine
    8   call     I     number of the call in this life, from 1
    12  thread   I     the kernel's number of the thread
    16  worker   H     from 0
    18  life     H     0, and one more after each death
    20  op       B     and 3 bytes of nothing
    24  timeout  d     seconds; NaN: waits for ever, or has none
    32  detail   31s   UTF-8, cut
    63  kind     B     written last: a torn record has 0, which is UNKNOWN

INVOKE is stamped before the call and its answer after it. That makes a call longer and the time for which the lock is
certainly held shorter: it can hide a violation, and never invent one.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from functools import cached_property

from XME.testing._event import FOREVER_NS, GIVING, TAKING, Call, Event, Hold, Kind, Op, in_order
from XME.testing._timeline import draw


@dataclass
class _Open:
    """A hold that is being read from the calls of its owner."""

    first: Call
    depth: int = 1
    deepest: int = 1
    events: list[Event] = field(default_factory=list)


@dataclass(frozen=True)
class History:
    """The merged records of all workers of one lock, in the order of time.

    >>> history = History.of(
    ...     [Event(1, 0, 0, 1, Op.ACQUIRE, 1, Kind.INVOKE), Event(2, 0, 0, 1, Op.ACQUIRE, 1, Kind.OK)], end_ns=9
    ... )
    >>> [hold.sure_ns for hold in history.holds()]
    [(2, 9)]
    """

    events: tuple[Event, ...]
    end_ns: int
    workers: int
    shared_by_one: bool = False
    """True if each acquire of one owner takes a permit more, instead of entering again."""

    @classmethod
    def of(cls, events: Iterable[Event], end_ns: int | None = None, *, permits: bool = False) -> History:
        """Merge events in any order; without ``end_ns`` the history ends with the last of them."""
        ordered = tuple(sorted(events, key=in_order))
        end = end_ns if end_ns is not None else max((event.time_ns for event in ordered), default=0)
        return cls(ordered, end, 1 + max((event.worker for event in ordered), default=-1), permits)

    # -- calls and holds -------------------------------------------------------------------------------------------

    @cached_property
    def _calls(self) -> tuple[Call, ...]:
        invoked: dict[tuple[int, int, int], Event] = {}
        answers: dict[tuple[int, int, int], Event] = {}
        for event in self.events:
            if event.op <= Op.SECTION:
                place = invoked if event.kind is Kind.INVOKE else answers
                place[event.worker, event.life, event.call] = event
        return tuple(Call(event, answers.get(key)) for key, event in invoked.items())

    def calls(self) -> tuple[Call, ...]:
        """Return every call of a worker, in the order in which they were invoked."""
        return self._calls

    @cached_property
    def deaths(self) -> dict[tuple[int, int], tuple[int, int]]:
        """Who was killed: owner -> (when the kill was sent, when the body was found)."""
        sent = {event.owner: event.time_ns for event in self.events if event.op is Op.KILL_SENT}
        reaped = {event.owner: event.time_ns for event in self.events if event.op is Op.REAPED}
        return {owner: (time_ns, reaped.get(owner, self.end_ns)) for owner, time_ns in sent.items()}

    @cached_property
    def stops(self) -> tuple[tuple[int, int, int], ...]:
        """When workers were stopped: (worker, from, to)."""
        began: dict[int, int] = {}
        found = []
        for event in self.events:
            if event.op is Op.STOPPED:
                began[event.worker] = event.time_ns
            elif event.op is Op.CONTINUED and event.worker in began:
                found.append((event.worker, began.pop(event.worker), event.time_ns))
        return (*found, *((worker, start, self.end_ns) for worker, start in began.items()))

    @cached_property
    def _holds(self) -> tuple[Hold, ...]:
        mine: defaultdict[tuple[int, int], list[Call]] = defaultdict(list)
        for call in self.calls():
            mine[call.owner].append(call)
        found = [hold for owner, calls in mine.items() for hold in self._holds_of(owner, calls)]
        return tuple(sorted(found, key=lambda hold: hold.wanted_ns))

    def holds(self) -> tuple[Hold, ...]:
        """Return who held the lock and when, in the order in which they asked for it."""
        return self._holds

    def _holds_of(self, owner: tuple[int, int], calls: list[Call]) -> Iterator[Hold]:
        stack: list[_Open] = []
        for call in calls:
            if call.op in TAKING and call.kind is Kind.OK:
                if stack and not self.shared_by_one:
                    stack[-1].depth += 1
                    stack[-1].deepest = max(stack[-1].deepest, stack[-1].depth)
                else:
                    stack.append(_Open(call))
            elif call.op in TAKING and call.kind is Kind.UNKNOWN and (self.shared_by_one or not stack):
                yield self._unanswered(call)
            elif call.op in GIVING and stack:
                stack[-1].depth -= 1
                if not stack[-1].depth:
                    yield self._ended(stack.pop(), call)
        for left in stack:
            yield self._left(owner, left)

    def _unanswered(self, call: Call) -> Hold:
        killed = call.owner in self.deaths
        return Hold(call.owner, call.op is Op.ACQUIRE, call.start_ns, None, FOREVER_NS, killed, (call.invoke,))

    def _ended(self, opened: _Open, release: Call) -> Hold:
        first = opened.first
        # A release that raised may have left it held, and one without an answer too.
        free = release.end_ns if release.kind is Kind.OK else FOREVER_NS
        killed = release.kind is Kind.UNKNOWN and release.owner in self.deaths
        events = (_answer(first), release.invoke)
        sure = (first.end_ns, release.start_ns)
        return Hold(first.owner, first.op is Op.ACQUIRE, first.start_ns, sure, free, killed, events, opened.deepest)

    def _left(self, owner: tuple[int, int], opened: _Open) -> Hold:
        first = opened.first
        death = self.deaths.get(owner)
        # Killed: it holds for certain only until the signal was on its way.
        until = self.end_ns if death is None else death[0]
        events = [_answer(first)]
        events += [event for event in self.events if event.op is Op.KILL_SENT and event.owner == owner]
        sure = (first.end_ns, max(until, first.end_ns))
        return Hold(
            owner, first.op is Op.ACQUIRE, first.start_ns, sure, FOREVER_NS, death is not None, tuple(events),
            opened.deepest,
        )  # fmt: skip

    # -- files and pictures ----------------------------------------------------------------------------------------

    def to_json(self) -> str:
        """Return it as text."""
        head = {"end_ns": self.end_ns, "workers": self.workers, "shared_by_one": self.shared_by_one}
        return json.dumps({**head, "events": [list(asdict(event).values()) for event in self.events]})

    @classmethod
    def from_json(cls, text: str) -> History:
        """Read what to_json() made."""
        read = json.loads(text)
        events = tuple(
            Event(time, worker, life, thread, Op(op), call, Kind(kind), detail, timeout)
            for time, worker, life, thread, op, call, kind, detail, timeout in read["events"]
        )
        return cls(events, read["end_ns"], read["workers"], read["shared_by_one"])

    def save(self, path: str) -> None:
        """Write it into a file."""
        with open(path, "w", encoding="utf-8") as file:
            file.write(self.to_json())

    @classmethod
    def load(cls, path: str) -> History:
        """Read a file that save() wrote.

        >>> import tempfile
        >>> with tempfile.NamedTemporaryFile() as file:
        ...     History.of([], 5).save(file.name)
        ...     History.load(file.name).end_ns
        5
        """
        with open(path, encoding="utf-8") as file:
            return cls.from_json(file.read())

    def timeline(self, witness: Iterable[Event] = ()) -> str:
        """Draw one line a worker; around the ``witness``, if one is given."""
        return draw(self, tuple(witness))


def _answer(call: Call) -> Event:
    assert call.answer is not None
    return call.answer
