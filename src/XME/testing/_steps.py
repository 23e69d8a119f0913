"""Stepped runs: workers that stop at every line of the lock, and a controller that says who goes on."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from XME.testing import _gates
from XME.testing._crew import Hand, State
from XME.testing._event import TAKING, Kind, Op
from XME.testing._history import History
from XME.testing._lab import Lab
from XME.testing._plan import ROUNDS, Plan
from XME.testing._stage import RELEASE_OF, Stage, records_for
from XME.testing._verdict import Outcome, Verdict

SETTLE_S = 0.01
MAX_GATES = 20_000


class Chooser:
    """Who goes on at a gate; this one keeps to a plan, and without one to the worker who is running."""

    def __init__(self, plan: Plan) -> None:
        self._at = dict(plan.preemptions)

    def choose(self, gate: int, current: int, ready: list[int]) -> int:
        """Return one of ``ready``: the plan's, else the current one, else the next in turn."""
        wanted = self._at.get(gate)
        if wanted in ready:
            return wanted
        return default(current, ready)


def default(current: int, ready: list[int]) -> int:
    """Who goes on when nothing is planned: the same one as before, else the next in turn."""
    return current if current in ready else min(ready, key=lambda worker: (worker <= current, worker))


class Random(Chooser):
    """Anybody, at every gate."""

    def __init__(self, dice: random.Random) -> None:
        self._dice = dice

    def choose(self, gate: int, current: int, ready: list[int]) -> int:
        """Roll dice."""
        del gate, current
        return self._dice.choice(ready)


class Pct(Chooser):
    """Who has the highest priority; at depth - 1 gates the one who runs gets the lowest."""

    def __init__(self, dice: random.Random, workers: int, depth: int, gates: int) -> None:
        self._priorities = dice.sample(range(depth, depth + workers), workers)
        self._changes = {dice.randrange(1, max(2, gates)): k for k in range(depth - 1)}

    def choose(self, gate: int, current: int, ready: list[int]) -> int:
        """Compare priorities."""
        if gate in self._changes and current >= 0:
            self._priorities[current] = self._changes[gate]
        return max(ready, key=self._priorities.__getitem__)


@dataclass
class Steps:
    """One stepped run, as it went; ``choices`` are the gates at which somebody else went on than by default."""

    plan: Plan
    chooser: Chooser
    gate: int = 0
    # How many of the places come before the last operation ended: after that, who polls how often is the clock's.
    controlled: int = 0
    choices: list[tuple[int, int]] = field(default_factory=list)
    options: list[tuple[int, list[int]]] = field(default_factory=list)
    places: list[tuple[int, str]] = field(default_factory=list)
    kills_done: list[tuple[int, int]] = field(default_factory=list)
    # By worker: as what it has the lock, and which operation it will begin next.
    _taken: dict[int, Op] = field(default_factory=dict)
    _ahead: dict[int, tuple[Op, float | None] | None] = field(default_factory=dict)

    def play(self, stage: Stage) -> None:
        """Let the workers do their rounds, one at a time between gates."""
        self._stage = stage
        self._todo = {worker: self._operations(rounds) for worker, rounds in enumerate(self.plan.rounds)}
        self._kills = dict(self.plan.kills)
        self._yielded: set[int] = set()
        self._last_done = time.monotonic()
        current = -1
        while self.gate < MAX_GATES:
            ready = self._ready()
            if not ready and not self._is_over():
                continue
            if not ready or self._all_look_in_vain(ready):
                return
            self.gate += 1
            # A kill moves nobody else, so it goes before the choice.
            if self._kills and self._kill(ready):
                continue
            current = self._choose(current, ready)
            self._step(stage.hands[current])

    def _operations(self, rounds: tuple[str, ...]) -> Iterator[tuple[Op, float | None]]:
        for name in rounds:
            yield ROUNDS[name]

    def _choose(self, current: int, ready: list[int]) -> int:
        awake = [worker for worker in ready if worker not in self._yielded]
        if not awake:
            # All look in turn whether something has changed.
            self._yielded.clear()
            awake = [worker for worker in ready if worker != current] or ready
        usual = default(current, awake)
        chosen = self.chooser.choose(self.gate, current, awake)
        self.options.append((self.gate, [worker for worker in awake if worker != usual]))
        if chosen != usual:
            self.choices.append((self.gate, chosen))
        return chosen

    def _ready(self) -> list[int]:
        """Who can take a step: stands at a gate, or has something left to do. Hears who has woken up by himself."""
        found = []
        for hand in self._stage.hands:
            if hand.state in {State.BLOCKED, State.RUNNING}:
                hand.hear(0)
            if hand.state is State.PARKED or (hand.state is State.IDLE and self._has_more(hand)):
                found.append(hand.worker)
        return found

    def _has_more(self, hand: Hand) -> bool:
        return self._next_op(hand) is not None

    def _next_op(self, hand: Hand) -> tuple[Op, float | None] | None:
        """Acquired: the section; then the release; then the next round."""
        op, answer = hand.op, hand.answer
        taken = self._taken.get(hand.worker)
        if op in TAKING and answer is not None and answer[0] is Kind.OK:
            self._taken[hand.worker] = op
            return Op.SECTION, None
        if op is Op.SECTION and taken is not None:
            return RELEASE_OF[taken], None
        if hand.worker not in self._ahead:
            self._ahead[hand.worker] = next(self._todo[hand.worker], None)
        return self._ahead[hand.worker]

    def _step(self, hand: Hand) -> None:
        if hand.state is State.PARKED:
            self.places.append((hand.worker, hand.place))
            hand.go_on(_gates.EVERY)
        else:
            operation = self._next_op(hand)
            assert operation is not None
            op, timeout_s = operation
            if op in TAKING:
                self._ahead.pop(hand.worker, None)
            self.places.append((hand.worker, f"begins {op.name.lower()}"))
            how = "read" if self._taken.get(hand.worker) is Op.ACQUIRE_READ else self._stage.how(op)
            hand.perform(op, timeout_s, _gates.EVERY, (how, 0.0) if op is Op.SECTION else None)
        hand.settle(self._stage.settle_s)
        if hand.state is State.PARKED and hand.is_idle:
            self._yielded.add(hand.worker)
        elif hand.state is State.IDLE:
            self._note_done()

    def _note_done(self) -> None:
        self.controlled = len(self.places)
        self._last_done = time.monotonic()
        self._yielded.clear()

    def _kill(self, ready: list[int]) -> bool:
        victim = self._kills.pop(self.gate, None)
        if victim is None or victim >= len(self._stage.hands) or victim not in ready:
            return False
        hand = self._stage.hands[victim]
        # Between its operations it holds nothing that a kill could leave behind, unless it is inside.
        self.kills_done.append((self.gate, victim))
        self.places.append((victim, f"killed at {hand.place}"))
        self._stage.kill(victim)
        self._todo[victim] = iter(())
        self._note_done()
        return True

    def _is_over(self) -> bool:
        """True if all are done, or nothing has moved for so long that nothing will."""
        busy = [hand for hand in self._stage.hands if hand.state in {State.BLOCKED, State.RUNNING}]
        if not busy or time.monotonic() - self._last_done > self._stage.patience_s:
            return True
        self._stage.hear_any(busy, time.monotonic() + 0.02)
        return False

    def _all_look_in_vain(self, ready: list[int]) -> bool:
        return self._yielded.issuperset(ready) and time.monotonic() - self._last_done > self._stage.patience_s

    def as_plan(self) -> Plan:
        """Return the plan that leads the same way, whoever chose."""
        return Plan(self.plan.rounds, tuple(self.choices), tuple(self.kills_done))

    def last_places(self) -> str:
        """Say where the preemptions and kills of this run were."""
        found = []
        for gate, chosen in self.choices:
            before = next((f"w{w} at {place}" for w, place in reversed(self.places[: gate - 1]) if w != chosen), "")
            found.append(f"gate {gate}: w{chosen} goes on" + (f" after {before}" if before else ""))
        found += [f"gate {gate}: w{victim} is killed" for gate, victim in self.kills_done]
        return "; ".join(found)


@dataclass(frozen=True)
class Ran:
    """A run of a plan: how it went, what it left, and what the checkers said of that."""

    steps: Steps
    history: History
    outcomes: tuple[Outcome, ...]

    @property
    def failed(self) -> list[str]:
        """The names of the checkers that failed."""
        return [outcome.checker for outcome in self.outcomes if outcome.verdict is Verdict.FAIL]

    def went_as(self, other: Ran) -> bool:
        """True if both went the same way: gate by gate, event by event (without their times), to the same end."""
        return self._way() == other._way()

    def _way(self) -> tuple[Any, ...]:
        steps = self.steps
        events: dict[int, list[tuple[Any, ...]]] = {}
        for event in self.history.events:
            # Of two who run at the same moment, one called and one woken up, the clock says whose record comes first:
            # each one's own records are compared.
            if event.op not in {Op.END, Op.LEFT}:
                events.setdefault(event.worker, []).append((event.life, event.call, event.op, event.kind))
        return steps.places[: steps.controlled], events, self.failed


@dataclass
class Explorer:
    """Runs plans and judges them."""

    lab: Lab

    def run(self, plan: Plan, chooser: Chooser | None = None) -> Ran:
        """Run a plan once."""
        steps = Steps(plan, chooser or Chooser(plan))
        records = records_for(max(map(len, plan.rounds)))
        history = self.lab.perform(steps.play, len(plan.rounds), stepped=True, settle_s=SETTLE_S, records=records)
        return Ran(steps, history, self.lab.judge(history))

    def run_afresh(self, plan: Plan) -> Ran:
        """Run a plan in workers that have seen nothing before."""
        self.lab.crew.close()
        return self.run(plan)
