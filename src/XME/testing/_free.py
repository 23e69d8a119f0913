"""check_lock: real processes at full speed, with seeded pauses and kills; after the drills."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from XME.testing._crew import Hand, State
from XME.testing._drills import drills_for
from XME.testing._event import GIVING, TAKING, Kind, Op
from XME.testing._lab import Lab, Options, require_count, require_workers
from XME.testing._leaks import look
from XME.testing._report import Report
from XME.testing._spec import Faults, LockSpec, require_time
from XME.testing._stage import RELEASE_OF, Stage, records_for

_RECORDS_A_ROUND = 20
_STOP_S = 0.02
_HUNT_S = 0.02


@dataclass(frozen=True)
class FreeJob:
    """What a worker does by itself."""

    rounds: int
    seed: str
    pause_s: tuple[float, float]
    pauses: tuple[bool, bool]
    spec: LockSpec

    def run(self, actor: Any) -> None:
        """Take it, be inside and give it back, as often as is left of the rounds after earlier lives."""
        board = actor.board
        dice = random.Random(f"{self.seed} {actor.worker} {actor.life}")  # noqa: S311 - to be repeated, not secret
        for _ in range(self.rounds - board.rounds(actor.worker)):
            self._one_round(actor, dice)
            actor.count_round()

    def _one_round(self, actor: Any, dice: random.Random) -> None:
        self._pause(dice, self.pauses[0])
        op = Op.ACQUIRE_READ if self.spec.read_write and dice.random() < 0.6 else Op.ACQUIRE
        kind, _ = actor.perform(op, self._limit(actor, dice))
        if kind is not Kind.OK:
            return
        how = "read" if op is Op.ACQUIRE_READ else "write" if self.spec.excludes else "shared"
        depth = 1
        if self.spec.reentrant and self.spec.depth > 1 and op is Op.ACQUIRE and dice.random() < 0.3:
            depth += actor.perform(op, None)[0] is Kind.OK
        actor.perform(Op.SECTION, None, inside=(how, self._length(dice, self.pauses[1])))
        for _ in range(depth):
            actor.perform(RELEASE_OF[op], None)

    def _limit(self, actor: Any, dice: random.Random) -> float | None:
        chance = dice.random()
        if chance < 0.15 and actor.lock.tries:
            return 0.0
        return dice.uniform(0.001, 0.02) if chance > 0.85 and actor.lock.waits else None

    def _length(self, dice: random.Random, is_on: bool) -> float:
        # Most are short, and some are not: nobody finds a race in a section that always takes equally long.
        return dice.uniform(*self.pause_s) if is_on and dice.random() < 0.5 else 0.0

    def _pause(self, dice: random.Random, is_on: bool) -> None:
        seconds = self._length(dice, is_on)
        if seconds:
            time.sleep(seconds)


def check_lock(
    make_lock: Callable[..., Any],
    spec: LockSpec,
    *,
    workers: int = 4,
    rounds: int = 200,
    seed: int = 0,
    faults: Faults | None = None,
    deadline_s: float = 30.0,
    repeats: int = 1,
    all_failures: bool = False,
    **options: Any,
) -> Report:
    """Test a lock with real workers at full speed; the everyday call.

    First short drills bring it into the situations that its promises are about; then ``workers`` take it ``rounds``
    times each, as fast as they can between pauses, while some are killed or stopped.

    Args:
        make_lock: makes or opens the lock in a worker; it may take the `Room` of the run.
        spec: what the lock promises.
        workers: how many use it.
        rounds: how often each takes it.
        seed: of pauses, choices and kills. The same seed does not give the same run: processes race.
        faults: what befalls the workers.
        deadline_s: a run that takes longer is ended, and judged by what it left; what it did not come to stands in the
            report's notes.
        repeats: how many runs at full speed.
        all_failures: go on after a violation.
        options: see `Options`.

    Returns:
        The report; ``report.raise_if_failed()`` is what a test wants.

    Raises:
        LockTestFailed: the workers themselves do not work.
        TypeError: make_lock makes nothing, or spec is none.
        ValueError: the faults contradict the specification, a number is below 1, a time is not above 0, or
            there are more workers than 256.

    >>> import threading
    >>> spec = LockSpec.mutex(between="threads")
    >>> check_lock(threading.Lock, spec, workers=2, rounds=20, start_method="fork").ok
    True
    """
    wanted = Options(**options)
    for name, count in {"workers": workers, "rounds": rounds, "repeats": repeats}.items():
        require_count(name, count)
    require_time("deadline_s", deadline_s)
    faults = Faults() if faults is None else faults
    lab = Lab(make_lock, spec, workers, "check_lock", wanted)
    kills = faults.kills(spec, workers * rounds)
    require_workers(workers, f"workers={workers}")
    needed = max(drill.workers for drill in drills_for(spec))
    require_workers(needed, f"permits={spec.permits} need one more than that")
    lab.crew.workers = max(workers, needed)
    with lab:
        for drill in drills_for(spec):
            lab.play(f"the drill {drill.name!r}", drill.play, drill.workers, records=records_for(spec.depth))
            if lab.report.violations and not all_failures:
                return lab.report
        if lab.looks_for_leaks:
            lab.watch = look(lab)
        for number in range(repeats):
            if lab.report.violations and not all_failures:
                break
            storm = _Storm(spec, rounds, f"{seed}.{number}", faults, kills, deadline_s)
            records = 4 + _RECORDS_A_ROUND * (rounds + kills)
            name = f"free run, seed {seed}, number {number}"
            lab.play(name, storm.play, workers, records=records)
            if storm.left:
                lab.report.notes.append(f"{name}: left out {storm.left}")
    return lab.report


def _rounds(stage: Stage) -> int:
    return sum(stage.board.rounds(hand.worker) for hand in stage.hands)


class _Storm:
    """One run at full speed, and who disturbs it."""

    def __init__(
        self, spec: LockSpec, rounds: int, seed: str, faults: Faults, kills: int, deadline_s: float
    ) -> None:
        self._dice = random.Random(f"storm {seed}")  # noqa: S311 - to be repeated, not secret
        # Which faults there are is drawn once for the run, so that each is also left alone sometimes.
        pauses = (self._dice.random() < 0.75, self._dice.random() < 0.75)
        self._job = FreeJob(rounds, seed, faults.pause_s, pauses, spec)
        self._kills = kills
        stops = self._dice.random() < 0.75
        self._stop_share = faults.stop_continue if stops else 0.0
        self._deadline_s = deadline_s
        # What the run did not come to, in words.
        self.left = ""

    def play(self, stage: Stage) -> None:
        """Let all go, disturb them, and wait until they are done or the deadline has come."""
        for hand in stage.hands:
            self._let_go(hand)
        total = self._job.rounds * len(stage.hands)
        stops = round(self._stop_share * total)
        moments = sorted(self._dice.random() * 0.95 for _ in range(self._kills + stops))
        kinds = [True] * self._kills + [False] * stops
        self._dice.shuffle(kinds)
        self._go_on(stage, total, moments, kinds)
        counts = {
            f"of {total} rounds": total - _rounds(stage), f"of {self._kills} kills": sum(kinds),
            f"of {stops} stops": len(kinds) - sum(kinds),
        }  # fmt: skip
        self.left = ", ".join(f"{count} {of}" for of, count in counts.items() if count)

    def _go_on(self, stage: Stage, total: int, moments: list[float], kinds: list[bool]) -> None:
        """Wait for the end, and take from ``kinds`` what has befallen somebody (True: he was killed)."""
        limit = time.monotonic() + self._deadline_s
        moved = rounds = 0.0
        while time.monotonic() < limit and self._is_going_on(stage):
            before, rounds = rounds, _rounds(stage)
            moved = time.monotonic() if rounds != before or not moved else moved
            # Nobody has come round for so long: the rest of the time would not change that.
            if time.monotonic() - moved > stage.patience_s + 2 * self._job.pause_s[1]:
                return
            done = rounds / max(1, total)
            if moments and done >= moments[0]:
                moments.pop(0)
                self._disturb(stage, kinds)
            elif moments:
                time.sleep(0.0005)

    def _let_go(self, hand: Hand) -> None:
        hand.answer, hand.state, hand.op = None, State.RUNNING, None
        hand.send("free", self._job)

    def _is_going_on(self, stage: Stage) -> bool:
        for hand in stage.hands:
            if hand.state is State.RUNNING:
                hand.hear(0.002)
        return any(hand.state is State.RUNNING for hand in stage.hands)

    def _disturb(self, stage: Stage, kinds: list[bool]) -> None:
        victim = self._find(stage)
        if victim is None:
            return
        if kinds.pop():
            stage.kill(victim.worker)
            stage.revive(victim.worker)
            self._let_go(stage.hands[victim.worker])
        else:
            stage.stop(victim.worker)
            time.sleep(_STOP_S)
            stage.cont(victim.worker)

    def _find(self, stage: Stage) -> Hand | None:
        """Choose somebody who is in acquire, in the section, or in release, or after a moment anybody."""
        running = [hand for hand in stage.hands if hand.state is State.RUNNING]
        if not running:
            return None
        wanted = self._dice.choice([TAKING, frozenset({Op.SECTION}), GIVING])
        limit = time.monotonic() + _HUNT_S
        while time.monotonic() < limit:
            for hand in self._dice.sample(running, len(running)):
                if stage.board.doing(hand.worker) in wanted:
                    return hand
        return self._dice.choice(running)
