"""How schedules are looked for, and how a failing one is made small."""

from __future__ import annotations

import importlib.util
import random
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from XME.testing._plan import Plan, kinds_for
from XME.testing._room import address_of
from XME.testing._spec import LockSpec, Strategy
from XME.testing._steps import Chooser, Explorer, Pct, Ran, Random, Steps

_SHRINK_S = 20.0
_KILLS = 0.4


def has_hypothesis() -> bool:
    """True if it is installed."""
    return importlib.util.find_spec("hypothesis") is not None


def usual() -> Strategy:
    """Hypothesis if it is installed, else PCT."""
    return Strategy.hypothesis() if has_hypothesis() else Strategy.pct()


@dataclass(frozen=True)
class Found:
    """What a search found: a run that failed, by which checker, and the smallest plan that does the same.

    ``again`` is the first run's plan, run once more; None if it does not go the same way twice, and is not shrunk.
    """

    first: Ran
    again: Ran | None
    checker: str
    plan: Plan


@dataclass
class Search:
    """One search for a failing plan."""

    explorer: Explorer
    strategy: Strategy
    runs: int
    deadline: float
    notes: list[str] = field(default_factory=list)
    done: int = 0
    checker: str = ""
    first: Ran | None = None
    again: Ran | None = None
    # What kept a run from being judged at all.
    broken: Exception | None = None

    @property
    def most(self) -> int:
        """How many workers a plan has at most."""
        return self.explorer.lab.crew.workers

    @property
    def spec(self) -> LockSpec:
        """What the lock promises."""
        return self.explorer.lab.spec

    def find(self, base: Plan) -> Found | None:
        """Return a failing run and a small plan that fails like it, None if none was found."""
        search = {"exhaustive": self._exhaustive, "hypothesis": self._by_hypothesis}.get(
            self.strategy.name, self._by_dice
        )
        plan = search(base)
        if plan is None:
            return None
        assert self.first is not None
        return Found(self.first, self.again, self.checker, plan)

    def fails(self, plan: Plan, chooser: Chooser | None = None) -> tuple[Steps, bool]:
        """Run a plan; the second is True if a checker failed (later: the one that failed first)."""
        self.done += 1
        ran = self.explorer.run(plan, chooser)
        if not ran.failed:
            self.explorer.lab.report.add("a schedule", ran.history, ran.outcomes)
            return ran.steps, False
        if self.first is None:
            self.first, self.checker = ran, ran.failed[0]
        return ran.steps, self.checker in ran.failed

    def _is_controlled(self) -> bool:
        """Run the plan that failed first twice more: True if both fail like it, and go the same way."""
        assert self.first is not None
        plan = self.first.steps.as_plan()
        one, two = self.explorer.run_afresh(plan), self.explorer.run_afresh(plan)
        if self.checker in one.failed and one.went_as(two):
            self.again = one
        return self.again is not None

    def _small(self, plan: Plan) -> Plan:
        """Make the plan that failed first as small as can be; what is not under control is left as it is."""
        return self._shrunk(plan) if self._is_controlled() else plan

    def _is_time(self) -> bool:
        return self.done < self.runs and time.monotonic() < self.deadline

    # -- every schedule, those with fewer preemptions first --------------------------------------------------------

    def _exhaustive(self, base: Plan) -> Plan | None:
        waiting = deque([base])
        while waiting and self._is_time():
            plan = waiting.popleft()
            steps, failed = self.fails(plan)
            if failed:
                # Those with fewer preemptions have all passed: nothing is left to be made smaller.
                self._is_controlled()
                return steps.as_plan()
            waiting.extend(self._children(plan, steps))
        bound = f"with {self.strategy.max_preemptions} preemptions or fewer"
        left = f"at least {len(waiting)} are left" if waiting else "none is left"
        self.notes.append(f"{self.done} schedules {bound} were tried, {left}")
        return None

    def _children(self, plan: Plan, steps: Steps) -> Iterator[Plan]:
        if len(plan.preemptions) == self.strategy.max_preemptions:
            return
        last = plan.preemptions[-1][0] if plan.preemptions else 0
        for gate, others in steps.options:
            if gate > last:
                for other in others:
                    yield replace(plan, preemptions=(*plan.preemptions, (gate, other)))

    # -- by dice ---------------------------------------------------------------------------------------------------

    def _by_dice(self, base: Plan) -> Plan | None:
        dice = random.Random(self.strategy.seed)  # noqa: S311 - to be repeated, not secret
        steps, failed = self.fails(base)
        if failed:
            return self._small(steps.as_plan())
        gates, workers = max(2, steps.gate), len(base.rounds)
        while self._is_time():
            plan = base
            if self.spec.survives and dice.random() < _KILLS:
                plan = replace(base, kills=((dice.randrange(1, gates), dice.randrange(workers)),))
            by_chance = Random(dice) if self.strategy.name == "random" else None
            steps, failed = self.fails(plan, by_chance or Pct(dice, workers, self.strategy.depth, gates))
            if failed:
                return self._small(steps.as_plan())
        if self.strategy.name == "pct":
            self.notes.append(_chance_to_miss(workers, gates, self.strategy.depth, self.done))
        return None

    def _shrunk(self, plan: Plan) -> Plan:
        limit = time.monotonic() + _SHRINK_S
        plan = self._without_the_rest(plan, limit)
        if len(plan.preemptions) > 1:
            plan = self._without_the_rest(self._with_one_preemption(plan, limit), limit)
        return plan

    def _without_the_rest(self, plan: Plan, limit: float) -> Plan:
        """Leave out what is not needed, again and again."""
        smaller = True
        while smaller and time.monotonic() < limit:
            smaller = False
            for candidate in _smaller(plan):
                if time.monotonic() > limit:
                    break
                steps, failed = self.fails(candidate)
                if failed and steps.as_plan().size < plan.size:
                    plan, smaller = steps.as_plan(), True
                    break
        return plan

    def _with_one_preemption(self, plan: Plan, limit: float) -> Plan:
        """Two that need each other cannot be left out one by one: perhaps one elsewhere does what both do."""
        alone = replace(plan, preemptions=())
        steps, failed = self.fails(alone)
        if failed:
            return alone
        for candidate in [replace(alone, preemptions=((gate, k),)) for gate, others in steps.options for k in others]:
            if time.monotonic() > limit:
                break
            steps, failed = self.fails(candidate)
            if failed:
                return steps.as_plan()
        return plan

    # -- by Hypothesis ---------------------------------------------------------------------------------------------

    def _by_hypothesis(self, base: Plan) -> Plan | None:
        from hypothesis import errors

        steps, failed = self.fails(base)
        if failed:
            return self._small(steps.as_plan())
        found: list[Plan] = []
        gates = -(-steps.gate // sum(map(len, base.rounds)))
        tries, waits, _ = self.explorer.lab.crew.hands[0].can
        drawn = plans(self.most, max(2, *map(len, base.rounds)), gates, self.spec, kinds_for(self.spec, tries, waits))
        try:
            self._hypothesis_test(drawn, found)()
        except (_FoundError, _EnoughError, errors.Flaky):
            # Flaky: a smaller plan failed and later passed. The smallest is run twice more before it is reported.
            pass
        if self.broken is not None:
            raise self.broken
        if not found:
            return None
        smallest = min(found, key=lambda plan: (plan.size, plan.preemptions, plan.kills))
        # Hypothesis leaves out and makes smaller, but two preemptions that need each other it keeps; and an example of
        # an earlier run it takes as it is.
        return self._shrunk(smallest) if self.again is not None else smallest

    def _hypothesis_test(self, drawn: Any, found: list[Plan]) -> Callable[[], None]:
        import hypothesis

        limit = time.monotonic() + _SHRINK_S

        def test(plan: Plan) -> None:
            nonlocal limit
            if not found and time.monotonic() > self.deadline:
                return
            if found and time.monotonic() > limit:
                raise _EnoughError
            if not self._fails_as_drawn(plan, found):
                return
            if len(found) == 1:
                if self.again is None:
                    raise _EnoughError
                limit = time.monotonic() + _SHRINK_S
            raise _FoundError(self.checker)

        # The database of examples knows tests by their names: each lock has its own.
        test.__qualname__ = f"explore {address_of(self.explorer.lab.make_lock)}"
        settings = hypothesis.settings(
            max_examples=self.runs, deadline=None, report_multiple_bugs=False, print_blob=False,
            verbosity=hypothesis.Verbosity.quiet, suppress_health_check=list(hypothesis.HealthCheck),
            phases=[hypothesis.Phase.reuse, hypothesis.Phase.generate, hypothesis.Phase.shrink],
        )  # fmt: skip
        seed: Any = hypothesis.seed
        given: Any = hypothesis.given
        wrapped: Callable[[], None] = settings(seed(self.strategy.seed)(given(drawn)(test)))
        return wrapped

    def _fails_as_drawn(self, plan: Plan, found: list[Plan]) -> bool:
        """Run a plan that Hypothesis drew, and keep it if it failed; the first is also run twice more.

        Hypothesis would take an exception for a failing example, and forget it if it does not come again.
        """
        try:
            steps, failed = self.fails(plan)
            if failed:
                found.append(steps.as_plan())
            if failed and len(found) == 1:
                self._is_controlled()
        except Exception as error:
            self.broken = error
            raise _EnoughError from error
        return failed


class _FoundError(Exception):
    """The outcome for Hypothesis: nothing in it but the checker's name, since times differ from run to run."""


class _EnoughError(BaseException):
    """Time to shrink is over, or there is nothing to be shrunk; no Exception, so that Hypothesis lets it through."""


def plans(workers: int, rounds: int, gates: int, spec: LockSpec, kinds: list[str]) -> Any:
    """Return the Hypothesis strategy that draws plans; the simplest is two workers, no preemption, and no kill.

    ``gates`` is how many a round has, about.
    """
    from hypothesis import strategies as st

    one = st.lists(st.sampled_from(kinds), min_size=1, max_size=rounds).map(tuple)
    every = st.lists(one, min_size=min(2, workers), max_size=workers).map(tuple)

    def with_switches(drawn: tuple[tuple[str, ...], ...]) -> Any:
        last = max(2, gates * sum(map(len, drawn)) * 3 // 2)
        switches = st.tuples(st.integers(1, last), st.integers(0, len(drawn) - 1))
        preemptions = st.lists(switches, max_size=4, unique_by=lambda switch: switch[0])
        kills = st.lists(switches, max_size=1 if spec.survives else 0)
        return st.builds(Plan, st.just(drawn), preemptions.map(lambda found: tuple(sorted(found))), kills.map(tuple))

    return every.flatmap(with_switches)


def _smaller(plan: Plan) -> Iterator[Plan]:
    for k in range(len(plan.kills)):
        yield replace(plan, kills=plan.kills[:k] + plan.kills[k + 1 :])
    for length in (len(plan.preemptions) // 2, 1):
        for k in range(0, len(plan.preemptions), length or 1):
            yield replace(plan, preemptions=plan.preemptions[:k] + plan.preemptions[k + max(1, length) :])
    for worker in reversed(range(len(plan.rounds))):
        if len(plan.rounds[worker]) > 1:
            yield replace(plan, rounds=_with(plan.rounds, worker, plan.rounds[worker][:-1]))
        if plan.rounds[worker] and sum(map(bool, plan.rounds)) > 1:
            yield replace(plan, rounds=_with(plan.rounds, worker, ()))
        for k, kind in enumerate(plan.rounds[worker]):
            for plainer in _PLAINER.get(kind, ()):
                rounds = plan.rounds[worker]
                yield replace(plan, rounds=_with(plan.rounds, worker, (*rounds[:k], plainer, *rounds[k + 1 :])))


# What every lock can do that can do the other.
_PLAINER = {
    "try": ("take",), "wait": ("take",), "read": ("take",), "try read": ("take", "read"), "wait read": ("take", "read"),
}  # fmt: skip


def _with(rounds: tuple[tuple[str, ...], ...], worker: int, new: tuple[str, ...]) -> tuple[tuple[str, ...], ...]:
    return (*rounds[:worker], new, *rounds[worker + 1 :])


def _chance_to_miss(workers: int, gates: int, depth: int, runs: int) -> str:
    chance = (1 - 1 / (workers * gates ** (depth - 1))) ** runs
    formula = f"(1 - 1/({workers}*{gates}^{depth - 1}))^{runs}"
    return (
        f"a bug of depth {depth}, if there is one, was missed with p <= {formula} = {chance:.2f}; an estimate, since "
        "who is blocked is inferred and not known"
    )
