"""The generic check: is there any order of the calls, each at one moment between call and answer, that a model allows?

The search of Wing and Gong, with the memory of Lowe ("Testing for linearizability"): who has been tried with the same
calls done and the same state of the model is not tried again. It can take exponential time, so it has a budget and may
not know. The interval checkers say the same of locks at once, and the tests hold them against this.
"""

from __future__ import annotations

import time
from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Protocol

from XME.testing._event import GIVING, TAKING, Call, Event, Kind, Op
from XME.testing._history import History
from XME.testing._spec import LockSpec
from XME.testing._verdict import Outcome, Verdict, failed, passed


class Model(Protocol):
    """A pure description of what a lock may answer."""

    def initial(self) -> Hashable:
        """Return the state at the beginning."""

    def step(self, state: Hashable, call: Call) -> Hashable | None:
        """Return the state after a call that answered as it did, or None if it could not have."""


@dataclass(frozen=True)
class LockModel:
    """Owners and how often each has it; made from the promises of a specification.

    A refusal is always allowed here: NoFalseRefusal judges those.

    >>> LockModel(LockSpec.mutex()).initial()
    ()
    """

    spec: LockSpec

    def initial(self) -> Hashable:
        """Nobody has it."""
        return ()

    def step(self, state: Hashable, call: Call) -> Hashable | None:
        """Take or give back; anything that raised or was refused changes nothing."""
        held = dict(state) if isinstance(state, tuple) else {}
        if call.kind in {Kind.REFUSED, Kind.RAISED}:
            return state
        if call.op in TAKING:
            return self._take(held, call)
        owner = call.owner
        if owner not in held:
            return None if self.spec.owner_only else state
        write, depth = held.pop(owner)
        if depth > 1:
            held[owner] = (write, depth - 1)
        return tuple(sorted(held.items()))

    def _take(self, held: dict[tuple[int, int], tuple[bool, int]], call: Call) -> Hashable | None:
        write = call.op is Op.ACQUIRE
        mine = held.pop(call.owner, None)
        depth = mine[1] if mine else 0
        if mine and self.spec.excludes and self.spec.reentrant is False:
            return None
        meets = [other for other, _ in held.values() if other or write]
        if self.spec.excludes and meets:
            return None
        if sum(count for _, count in held.values()) + depth >= self.spec.permits and not self.spec.excludes:
            return None
        held[call.owner] = (mine[0] if mine else write, depth + 1)
        return tuple(sorted(held.items()))


@dataclass
class _Search:
    model: Model
    calls: list[Call]
    deaths: dict[tuple[int, int], tuple[int, int]]
    deadline: float
    tried: set[tuple[frozenset[int], Hashable]] = field(default_factory=set)
    best: int = 0

    def run(self) -> bool | None:
        """Return True: there is an order; False: there is none; None: the budget is used up."""
        stack: list[tuple[frozenset[int], Hashable]] = [(frozenset(), self.model.initial())]
        while stack:
            if time.monotonic() > self.deadline:
                return None
            done, state = stack.pop()
            if (done, state) in self.tried:
                continue
            self.tried.add((done, state))
            self.best = max(self.best, len(done))
            left = [k for k in range(len(self.calls)) if k not in done]
            if all(self.calls[k].answer is None for k in left):
                return True
            horizon = min(self.calls[k].end_ns for k in left)
            for k in left:
                # What began when another had answered comes after it; equal times are at the same time.
                if self.calls[k].start_ns <= horizon:
                    after = self.model.step(self._without_dead(state, self.calls[k]), self.calls[k])
                    if after is not None:
                        stack.append((done | {k}, after))
        return False

    def _without_dead(self, state: Hashable, call: Call) -> Hashable:
        """A dead owner has nothing more for a call that ended after the kill was sent."""
        if not self.deaths or not isinstance(state, tuple):
            return state
        return tuple(
            item for item in state
            if item[0] == call.owner or item[0] not in self.deaths or self.deaths[item[0]][0] > call.end_ns
        )  # fmt: skip


@dataclass(frozen=True)
class Linearizable:
    """There is an order of all calls that the model allows. Exact, but a search: it may give up after ``budget_s``.

    >>> from XME.testing import History
    >>> Linearizable().check(History.of([]), LockSpec.mutex()).verdict.name
    'PASS'
    """

    model: Model | None = None
    budget_s: float = 5.0
    name: str = "Linearizable"
    exactness: str = "exact"

    def applies(self, spec: LockSpec) -> bool:
        """To everything: without a model of its own, the one that the specification describes."""
        del spec
        return True

    def check(self, history: History, spec: LockSpec) -> Outcome:
        """Search."""
        calls = [call for call in history.calls() if call.op in TAKING | GIVING]
        model: Model = self.model or LockModel(spec)
        search = _Search(model, calls, history.deaths, time.monotonic() + self.budget_s)
        found = search.run()
        if found is None:
            return Outcome(self.name, Verdict.UNKNOWN, f"no answer within {self.budget_s:g} s")
        if found:
            return passed(self)
        text = f"no order of the {len(calls)} calls is allowed; the longest allowed one has {search.best}"
        return failed(self, text, *_first_stuck(calls, search.best))


def _first_stuck(calls: list[Call], best: int) -> tuple[Event, ...]:
    ordered = sorted(calls, key=lambda call: call.end_ns)
    near = ordered[max(0, best - 1) : best + 1]
    return tuple(event for call in near for event in (call.invoke, call.answer) if event)
