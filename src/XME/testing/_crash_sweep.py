"""crash_sweep: SIGKILL at the first gate of an operation, at the second, and so on until there is none left.

As SQLite's anomaly tests do: the n-th step fails, n = 1, 2, 3, ..., and after each the rest must still be right. Only
the victim stops at gates; everybody else runs free. Nobody counts in advance which gates there are: each victim goes as
far as the first one where none has been killed yet, so that a way which is taken now and then is not missed.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from XME.testing import _gates
from XME.testing._crew import Hand, State
from XME.testing._drills import give_back, try_all
from XME.testing._event import Kind, Op
from XME.testing._lab import Lab, Options, require_count
from XME.testing._plan import Token
from XME.testing._report import Report
from XME.testing._spec import LockSpec
from XME.testing._stage import RELEASE_OF, Stage

PHASES = ("acquire", "hold", "release")
# A loop is killed in when it comes to a place for the first, the second and the third time.
VISITS = 3
# Who was seen once to wait in a scene is given only so long the next time.
_WAITS_S = 0.3


@dataclass(frozen=True)
class Scene:
    """How the victim comes to the operation in which it is killed.

    ``others``: nobody, somebody who holds it (the victim waits), somebody who waits (the victim holds), or one who died
    holding it (the victim recovers it).
    """

    phase: str
    op: Op
    others: str

    def __str__(self) -> str:
        """Name it."""
        reader = "a reader's " if self.op is Op.ACQUIRE_READ else ""
        return f"{reader}{self.phase}, {self.others}"


ALONE, HELD, AWAITED, DEAD = "alone", "while another holds it", "while another waits", "after another died"


def scenes_for(spec: LockSpec, phases: tuple[str, ...]) -> Iterator[Scene]:
    """Give the scenes of these phases."""
    ops = (Op.ACQUIRE, Op.ACQUIRE_READ) if spec.read_write else (Op.ACQUIRE,)
    for op in ops:
        for phase in phases:
            yield Scene(phase, op, ALONE)
            if phase == "acquire" and spec.excludes:
                yield Scene(phase, op, HELD)
                if spec.survives:
                    yield Scene(phase, op, DEAD)
            elif spec.excludes:
                yield Scene(phase, op, AWAITED)


@dataclass
class Kill:
    """One run: a scene, and where its victim is to stop and die."""

    scene: Scene
    stops: _gates.Stops
    waits_s: float | None = None
    place: str = ""
    gate: int = 0
    reached: bool = False
    waited: bool = False

    def __str__(self) -> str:
        """Say where it was."""
        if not self.reached:
            return f"killed while it waits in {self.scene}" if self.waited else f"nobody killed in {self.scene}"
        visit = self.stops.done.get(self.place, 0) + 1
        times = f", visit {visit}" if visit > 1 else ""
        return f"killed at gate {self.gate} of {self.scene}{times}: {self.place}"

    def play(self, stage: Stage) -> None:
        """Bring the victim to its gate, kill it there, and let the others try."""
        self._prepare(stage)
        if stage.hands[0].state is State.IDLE:
            self._run(stage)
        hand = stage.hands[0]
        self.reached = hand.state is State.PARKED
        self.waited = hand.state is State.BLOCKED
        if self.reached:
            self.place, self.gate = hand.place, hand.gates
        if self.reached or self.waited:
            stage.kill(0)
        elif hand.state is State.IDLE:
            give_back(stage, 0)
        self._go_on(stage)

    def _prepare(self, stage: Stage) -> None:
        scene = self.scene
        if scene.others == HELD:
            stage.take(1)
        if scene.others == DEAD:
            stage.take(1)
            stage.kill(1)
        if scene.phase != "acquire":
            stage.take(0, scene.op)
            if scene.others == AWAITED:
                stage.do(1, Op.ACQUIRE)

    def _run(self, stage: Stage) -> None:
        scene, hand = self.scene, stage.hands[0]
        op = {"acquire": scene.op, "hold": Op.SECTION, "release": RELEASE_OF[scene.op]}[scene.phase]
        stage.do(0, op, mode=self._mode())
        self._walk(stage, hand)
        if scene.phase == "hold" and stage.answer(0) is Kind.OK:
            stage.do(0, RELEASE_OF[scene.op])

    def _mode(self) -> _gates.Mode:
        return self.stops

    def _walk(self, stage: Stage, hand: Hand) -> None:
        """It sleeps, or is in a loop: that may be its own business, after which it goes on."""
        if hand.state is State.BLOCKED:
            hand.hear(self._patience(stage))

    def _patience(self, stage: Stage) -> float:
        return stage.patience_s if self.waits_s is None else self.waits_s

    def _go_on(self, stage: Stage) -> None:
        if self.scene.others == HELD:
            give_back(stage, 1)
        if stage.spec.on_crash == "stays_locked":
            return
        for worker in (1, 2):
            if stage.answer(worker) is None and stage.hands[worker].state in {State.BLOCKED, State.RUNNING}:
                stage.wait_for(worker, stage.patience_s)
        for worker in (0, 1):
            if stage.hands[worker].state is State.DEAD:
                stage.revive(worker)
        stage.drain()
        try_all(stage)


@dataclass
class Look(Kill):
    """A run in which the victim is let through every gate, to see which there are, and where it waits at the end."""

    visits: Counter[str] = field(default_factory=Counter)

    def _mode(self) -> _gates.Mode:
        return _gates.EVERY

    def _walk(self, stage: Stage, hand: Hand) -> None:
        patience = self._patience(stage)
        news = time.monotonic()
        while hand.state not in {State.IDLE, State.DEAD} and time.monotonic() - news < patience:
            if hand.state is not State.PARKED:
                hand.hear(0.02)
                continue
            self.place = hand.place
            self.visits[hand.place] += 1
            if self.visits[hand.place] <= VISITS:
                news = time.monotonic()
            hand.go_on(_gates.EVERY)
            hand.settle(stage.settle_s)
        if hand.state not in {State.IDLE, State.DEAD}:
            # Wherever it stands: it is one who waits, and is killed as such.
            hand.state = State.BLOCKED

    def left(self, done: Counter[str]) -> list[str]:
        """Return the places of all visits at which it would have been killed, less those that are done."""
        return [place for place, seen in self.visits.items() for _ in range(done[place], min(seen, VISITS))]


def crash_sweep(
    make_lock: Callable[..., Any],
    spec: LockSpec,
    *,
    phases: tuple[str, ...] = PHASES,
    max_gates: int = 1000,
    all_failures: bool = False,
    **options: Any,
) -> Report:
    """Kill a user of the lock at every line of its Python code, one kill a run, and see what becomes of the rest.

    The victim is killed alone, while it waits, while another waits for it, and (if the lock recovers) while it is
    recovering from another death: at every line on its way, and in a loop at the first three visits of a line. Where
    it waits for somebody, its way ends, and the report's notes say so. Costs one run a kill, about 0.1 s with fork and
    0.3 s with spawn. The report's ``places`` are those where somebody was killed.

    Args:
        make_lock: makes or opens the lock in a worker; it may take the `Room` of the run.
        spec: what the lock promises; its ``on_crash`` is what this is about.
        phases: of acquire, hold and release, those in which it is killed.
        max_gates: after so many kills a scene is left; lines where nobody was killed yet come first, and what is left
            out is counted in the report's notes.
        all_failures: go on after a violation.
        options: see `Options`.

    Raises:
        LockTestFailed: the workers themselves do not work.
        ValueError: the lock is between threads, a phase does not exist, or max_gates is below 1.

    >>> from XME.testing._broken import Kernel
    >>> crash_sweep(Kernel, LockSpec.mutex(on_crash="recovers"), phases=("hold",), start_method="fork").ok
    True
    """
    if spec.between == "threads":
        raise ValueError("a thread cannot be killed alone: crash_sweep is for locks between processes")
    if not set(phases) <= set(PHASES):
        msg = f"phases={phases!r}: some of {PHASES}"
        raise ValueError(msg)
    require_count("max_gates", max_gates)
    wanted = Options(**options)
    with Lab(make_lock, spec, 3, "crash_sweep", wanted) as lab:
        for scene in scenes_for(spec, phases):
            if not _Sweep(lab, scene, max_gates).run(all_failures):
                break
    return lab.report


@dataclass
class _Sweep:
    """All kills of one scene; ``done`` is how many visits of a place somebody was killed at."""

    lab: Lab
    scene: Scene
    max_gates: int
    done: Counter[str] = field(default_factory=Counter)
    waits: bool = False

    def run(self, all_failures: bool) -> bool:
        """Kill at first visits, then at second ones, and so on; False if that is enough, since one has failed."""
        for visits in range(1, VISITS + 1):
            while self.done.total() < self.max_gates:
                kill = Kill(self.scene, _gates.Stops(dict(self.done), visits), _WAITS_S if self.waits else None)
                if self._fails(kill) and not all_failures:
                    return False
                if not kill.reached:
                    self.waits |= kill.waited
                    break
        self._note()
        return True

    def _fails(self, kill: Kill) -> bool:
        lab = self.lab
        history = lab.perform(kill.play, 3, stepped=True)
        failed = lab.report.add(str(kill), history, lab.judge(history)).name == "FAIL"
        if failed and lab.report.token is None:
            scene = [kill.scene.phase, kill.scene.op, kill.scene.others]
            visit = kill.stops.done.get(kill.place, 0) + 1
            lab.report.token = Token.of(lab, "crash_sweep", scene=scene, place=kill.place, visit=visit)
        if kill.reached:
            self.done[kill.place] += 1
            lab.report.places.setdefault(str(self.scene), []).append(kill.place)
        return failed

    def _note(self) -> None:
        """Say what was left out, and why."""
        is_full = self.done.total() >= self.max_gates
        if not is_full and not self.waits:
            return
        look = Look(self.scene, _gates.Stops(), _WAITS_S if self.waits else None)
        self.lab.perform(look.play, 3, stepped=True)
        left = look.left(self.done)
        notes = self.lab.report.notes
        if left and is_full:
            new = len(set(left) - self.done.keys())
            notes.append(
                f"{self.scene}: left after max_gates={self.max_gates} kills; nobody was killed at {new} more places, "
                f"nor at {len(left) - new} more visits of others: max_gates={self.max_gates + len(left)} does that too"
            )
        if self.waits or look.waited:
            where = f" ({look.place})" if look.waited else ""
            notes.append(f"{self.scene}: its way ends where it waits{where}; nobody was killed behind that")


def replay_kill(lab: Lab, scene: list[Any], place: str, visit: int) -> None:
    """Do one run of a sweep again; without a place, the one that was killed while it waited."""
    phase, op, others = scene
    kill = Kill(Scene(phase, Op(op), others), _gates.Stops({place: visit - 1}, visit if place else 0, place))
    history = lab.perform(kill.play, 3, stepped=True)
    lab.report.add(str(kill), history, lab.judge(history))
