"""explore_lock: look for a schedule that breaks a promise, and make it small."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from XME.testing._lab import Lab, Options, require_count, require_workers
from XME.testing._plan import Plan, Token
from XME.testing._report import Report
from XME.testing._spec import LockSpec, Strategy, require_time
from XME.testing._steps import Explorer
from XME.testing._strategies import Found, Search, has_hypothesis, usual

_DRAWN_WORKERS = 4


def base_plan(spec: LockSpec, workers: int, rounds: int) -> Plan:
    """Return the plan without preemptions that the strategies start from; of readers and writers it has both."""
    kinds = ("take", "read") if spec.read_write else ("take",)
    return Plan(tuple(tuple(kinds[(j + k) % len(kinds)] for j in range(rounds)) for k in range(workers)))


def explore_lock(
    make_lock: Callable[..., Any],
    spec: LockSpec,
    *,
    strategy: Strategy | None = None,
    runs: int = 100,
    workers: int | None = None,
    rounds: int = 1,
    budget_s: float = 60.0,
    **options: Any,
) -> Report:
    """Choose who goes on at every line of the lock's Python code, and look for a schedule that breaks a promise.

    A failing schedule is run again to see whether it is really under control, then made as small as possible: fewer
    kills, fewer preemptions, fewer workers, fewer rounds. The report's ``token`` replays it.

    Args:
        make_lock: makes or opens the lock in a worker; it may take the `Room` of the run.
        spec: what the lock promises.
        strategy: how schedules are chosen; without one, Hypothesis draws them if it is installed, else PCT of depth 3.
        runs: how many schedules are tried, without those that shrink.
        workers: how many at most; without it 2, 3 for a lock with readers, one more than it has permits, and 4 where
            Hypothesis draws how many there are and what they do.
        rounds: how often each takes the lock.
        budget_s: no new schedule is begun after so many seconds.
        options: see `Options`.

    Raises:
        LockTestFailed: the workers themselves do not work.
        ModuleNotFoundError: the strategy is Hypothesis', which is not installed.
        TypeError: make_lock makes nothing, or spec is none.
        ValueError: a number is below 1, a time is not above 0, or there are more workers than 256.

    >>> from XME.testing._broken import CheckThenSet
    >>> report = explore_lock(CheckThenSet, LockSpec.mutex(), strategy=Strategy.exhaustive(1), start_method="fork")
    >>> report.broke("MutualExclusion")
    True
    """
    wanted = Options(**options)
    require_count("runs", runs)
    require_count("rounds", rounds)
    require_time("budget_s", budget_s)
    chosen = strategy or usual()
    if chosen.name == "hypothesis" and not has_hypothesis():
        raise ModuleNotFoundError(
            "Strategy.hypothesis() needs Hypothesis: `pip install hypothesis`, or Strategy.pct(), which needs nothing"
        )
    lab = Lab(make_lock, spec, 1, f"explore_lock, {chosen.name}", wanted)
    count = workers or (3 if spec.read_write else spec.permits + 1)
    require_count("workers", count)
    require_workers(count, f"workers={count}" if workers else f"permits={spec.permits} need one more than that")
    draws = chosen.name == "hypothesis" and not workers
    lab.crew.workers = max(count, _DRAWN_WORKERS) if draws else count
    with lab:
        search = Search(Explorer(lab), chosen, runs, time.monotonic() + budget_s)
        found = search.find(base_plan(spec, count, rounds))
        lab.report.notes += search.notes
        if found is not None:
            _report(lab, found)
    return lab.report


def _report(lab: Lab, found: Found) -> None:
    """Report a failing run: the smallest if that goes the same way twice too, else the one that was found first."""
    report = lab.report
    report.uncontrolled = found.again is None
    ran, which = found.again or found.first, "first" if report.uncontrolled else "smallest"
    if found.again is not None and found.plan != ran.steps.plan:
        explorer = Explorer(lab)
        one, two = explorer.run_afresh(found.plan), explorer.run_afresh(found.plan)
        if found.checker in one.failed and one.went_as(two):
            ran = one
        else:
            which = "first"
            report.notes.append("a smaller schedule that failed went another way when it was run again: it is left out")
    plan = ran.steps.as_plan()
    text = f"{which} plan: {plan} ({ran.steps.last_places()})"
    report.add(f"the {which} schedule that was found", ran.history, ran.outcomes, text)
    report.token = Token.of(lab, "explore_lock", plan=plan.to_dict())


def replay_plan(lab: Lab, plan: dict[str, Any]) -> None:
    """Run one plan again."""
    read = Plan.from_dict(plan)
    ran = Explorer(lab).run(read)
    lab.report.add("the replayed schedule", ran.history, ran.outcomes, f"{read} ({ran.steps.last_places()})")
