"""explore_lock: look for a schedule that breaks a promise, and make it small."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from XME.testing._lab import Lab, Options, require_count
from XME.testing._plan import Plan, Token
from XME.testing._report import Report
from XME.testing._spec import LockSpec, Strategy
from XME.testing._steps import Explorer
from XME.testing._strategies import Search, has_hypothesis, usual


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
        workers: how many; 2, or 3 for a lock with readers or more.
        rounds: how often each takes the lock.
        budget_s: no new schedule is begun after so many seconds.
        options: see `Options`.

    Raises:
        LockTestFailed: the workers themselves do not work.
        ModuleNotFoundError: the strategy is Hypothesis', which is not installed.
        TypeError: make_lock makes nothing, or spec is none.
        ValueError: a number is below 1.

    >>> from XME.testing._broken import CheckThenSet
    >>> report = explore_lock(CheckThenSet, LockSpec.mutex(), strategy=Strategy.exhaustive(1), start_method="fork")
    >>> report.broke("MutualExclusion")
    True
    """
    wanted = Options(**options)
    require_count("runs", runs)
    require_count("rounds", rounds)
    chosen = strategy or usual()
    if chosen.name == "hypothesis" and not has_hypothesis():
        raise ModuleNotFoundError(
            "Strategy.hypothesis() needs Hypothesis: `pip install hypothesis`, or Strategy.pct(), which needs nothing"
        )
    lab = Lab(make_lock, spec, 1, f"explore_lock, {chosen.name}", wanted)
    count = workers or (3 if spec.read_write else spec.permits + 1)
    require_count("workers", count)
    lab.crew.workers = count
    with lab:
        search = Search(Explorer(lab), chosen, runs, time.monotonic() + budget_s)
        plan = search.find(base_plan(spec, count, rounds))
        lab.report.notes += search.notes
        if plan is not None:
            _report(lab, plan)
    return lab.report


def _report(lab: Lab, plan: Plan) -> None:
    """Run the smallest failing plan twice more, in workers that have seen nothing before, and report it."""
    lab.crew.close()
    explorer = Explorer(lab)
    first, failed, (history, outcomes) = explorer.run(plan)
    lab.crew.close()
    second, _, _ = explorer.run(plan)
    lab.report.uncontrolled = first.places[: first.controlled] != second.places[: second.controlled]
    text = f"smallest plan: {plan}" + (f" ({first.last_places()})" if failed else "")
    lab.report.add("the smallest schedule that was found", history, outcomes, text)
    if failed:
        lab.report.token = Token.of(lab, "explore_lock", plan=plan.to_dict())
    else:
        lab.report.notes.append("a schedule failed once and passed when it was run again: uncontrolled")


def replay_plan(lab: Lab, plan: dict[str, Any]) -> None:
    """Run one plan again."""
    read = Plan.from_dict(plan)
    steps, _, (history, outcomes) = Explorer(lab).run(read)
    lab.report.add("the replayed schedule", history, outcomes, f"{read} ({steps.last_places()})")
