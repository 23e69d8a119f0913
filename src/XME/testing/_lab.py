"""What all modes have in common: one crew, one specification, one report."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from XME.testing._actor import MAX_WORKERS
from XME.testing._checks import MutualExclusion, Permits, ReaderWriter, Tripwire
from XME.testing._checks_calls import NoFalseRefusal, OwnerOnly, Reentrancy
from XME.testing._checks_crash import CrashRecovery, NoLeak
from XME.testing._checks_time import BoundedWait, Progress
from XME.testing._crew import Crew
from XME.testing._history import History
from XME.testing._report import Report
from XME.testing._room import Room
from XME.testing._spec import LockSpec
from XME.testing._stage import SETTLE_S, Stage
from XME.testing._verdict import Checker, Outcome, Verdict, judge
from XME.testing._watch import Watch
from XME.testing._worker import names_now, shared_names

CHECKERS: tuple[Checker, ...] = (
    MutualExclusion(), ReaderWriter(), Permits(), Tripwire(), OwnerOnly(), Reentrancy(), NoFalseRefusal(),
    BoundedWait(), Progress(), CrashRecovery(), NoLeak(),
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Options:
    """How the workers are made; the same for every mode.

    Args:
        start_method: spawn, fork or forkserver. With spawn, ``make_lock`` must be importable; fork starts far faster.
        handed_over: make the lock once, in this program, and hand it to the workers as they start, as locks of
            multiprocessing's want it; else each worker calls ``make_lock`` itself.
        gates: names of modules whose lines are gates too.
        verify: called with the lock in every section; raises if what the lock guards is broken.
        cleanup: called with the `Room` after each run, in this program.
        checkers: what judges; all that apply, if not given.
    """

    start_method: str = "spawn"
    handed_over: bool = False
    gates: tuple[str, ...] = ()
    verify: Callable[[Any], None] | None = None
    cleanup: Callable[[Room], None] | None = None
    checkers: tuple[Checker, ...] = CHECKERS


def require_count(name: str, count: int) -> None:
    """Refuse a number of workers, rounds or runs that would test nothing (ValueError)."""
    if count < 1:
        msg = f"{name}={count}: at least 1, or nothing is tested"
        raise ValueError(msg)


def require_workers(count: int, why: str) -> None:
    """Refuse more workers than there are places for on the board that they share (ValueError)."""
    if count > MAX_WORKERS:
        msg = f"{why}: {count} workers, and there are {MAX_WORKERS} at most"
        raise ValueError(msg)


def _require(make_lock: Any, spec: Any, options: Options) -> None:
    if not callable(make_lock):
        msg = f"make_lock is what makes the lock in each worker, a function or a class, and not a lock: {make_lock!r}"
        raise TypeError(msg)
    if not isinstance(spec, LockSpec):
        msg = f"spec is a LockSpec, such as LockSpec.mutex(), and not {spec!r}"
        raise TypeError(msg)
    if any(isinstance(checker, (str, type)) for checker in options.checkers):
        msg = f"checkers are objects, such as MutualExclusion(), and not {options.checkers!r}"
        raise TypeError(msg)


class Lab:
    """A crew for several runs, and the report on them; a context that ends everything."""

    def __init__(
        self, make_lock: Callable[..., Any], spec: LockSpec, workers: int, mode: str, options: Options
    ) -> None:
        """Nothing is started yet."""
        _require(make_lock, spec, options)
        self.make_lock = make_lock
        self.spec = spec
        self.options = options
        threads = spec.between == "threads"
        # Threads share what their process has; a lock between them is made there.
        self.handed_over = options.handed_over and not threads
        self.crew = Crew(make_lock, workers, options.start_method, threads, options.gates, options.verify)
        self.report = Report(spec, mode)
        self._began = time.monotonic()
        self._names_before = names_now()
        self.watch: Watch | None = None

    @property
    def looks_for_leaks(self) -> bool:
        """True if what is left behind is of interest."""
        return any(checker.name == "NoLeak" for checker in self.options.checkers)

    def stage(self, **how: Any) -> Stage:
        """Return a stage for one run."""
        how.setdefault("settle_s", SETTLE_S)
        return Stage(self.crew, self.spec, cleanup=self.options.cleanup, handed_over=self.handed_over, **how)

    def play(
        self, name: str, scene: Callable[[Stage], None], workers: int | None = None, plan: str = "", **how: Any
    ) -> Verdict:
        """Run a scene on a stage of its own and let the checkers judge what it left."""
        history = self.perform(scene, workers, **how)
        return self.report.add(name, history, self.judge(history), plan)

    def perform(self, scene: Callable[[Stage], None], workers: int | None = None, **how: Any) -> History:
        """Run a scene and return its history."""
        stepped = how.pop("stepped", False)
        stage = self.stage(**how)
        try:
            stage.open(workers, stepped=stepped)
            scene(stage)
            return stage.close()
        except BaseException:
            stage.abandon()
            raise

    def judge(self, history: History, checkers: Iterable[Checker] | None = None) -> tuple[Outcome, ...]:
        """Ask the checkers."""
        return judge(self.options.checkers if checkers is None else checkers, history, self.spec)

    def __enter__(self) -> Self:
        """Begin."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End every worker, and look at what is left."""
        self.crew.close()
        left = self.crew.outlived() + self.crew.names_left(self._names_before)
        if self.watch is not None:
            left += _called(self.watch.names_left(self.crew.own | shared_names()))
        self.report.seconds = time.monotonic() - self._began
        if left and self.looks_for_leaks and self.report.history is not None:
            outcome = Outcome("NoLeak", Verdict.FAIL, "left behind after the last run: " + "; ".join(left[:4]))
            self.report.add("the end", self.report.history, (outcome,))


def _called(names: list[str]) -> list[str]:
    text = f"{len(names)} names that came whenever a worker used the lock, such as {names[0]}" if names else ""
    return [text] if names else []
