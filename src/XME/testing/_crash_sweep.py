"""crash_sweep: SIGKILL at the first gate of an operation, at the second, and so on until there is none left.

As SQLite's anomaly tests do: the n-th step fails, n = 1, 2, 3, ..., and after each the rest must still be right. Only
the victim stops at gates; everybody else runs free.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from XME.testing._crew import State
from XME.testing._drills import give_back, try_all
from XME.testing._event import Kind, Op
from XME.testing._lab import Lab, Options
from XME.testing._plan import Token
from XME.testing._report import Report
from XME.testing._spec import LockSpec
from XME.testing._stage import RELEASE_OF, Stage

PHASES = ("acquire", "hold", "release")
# A place that comes round so often is a loop that waits for somebody.
_ROUNDS_OF_A_LOOP = 3


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
    """One run: a scene, and the gate at which its victim dies."""

    scene: Scene
    gate: int
    place: str = ""
    reached: bool = False
    waited: bool = False

    def play(self, stage: Stage) -> None:
        """Bring the victim to its gate, kill it there, and let the others try."""
        scene = self.scene
        self._prepare(stage)
        if stage.hands[0].state is State.IDLE:
            self._run_to_gate(stage, scene)
        hand = stage.hands[0]
        self.reached = hand.state is State.PARKED
        self.waited = hand.state is State.BLOCKED
        self.place = hand.place if self.reached else ""
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

    def _run_to_gate(self, stage: Stage, scene: Scene) -> None:
        op = {"acquire": scene.op, "hold": Op.SECTION, "release": RELEASE_OF[scene.op]}[scene.phase]
        stage.do(0, op, mode=self.gate)
        if scene.phase == "hold" and stage.answer(0) is Kind.OK:
            stage.do(0, RELEASE_OF[scene.op])

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


def crash_sweep(
    make_lock: Callable[..., Any],
    spec: LockSpec,
    *,
    phases: tuple[str, ...] = PHASES,
    max_gates: int = 200,
    all_failures: bool = False,
    **options: Any,
) -> Report:
    """Kill a user of the lock at every line of its Python code, one kill a run, and see what becomes of the rest.

    The victim is killed alone, while it waits, while another waits for it, and (if the lock recovers) while it is
    recovering from another death. Costs one run a gate, about 0.1 s with fork and 0.3 s with spawn.

    Args:
        make_lock: makes or opens the lock in a worker; it may take the `Room` of the run.
        spec: what the lock promises; its ``on_crash`` is what this is about.
        phases: of acquire, hold and release, those in which it is killed.
        max_gates: a phase with more gates than this is left there.
        all_failures: go on after a violation.
        options: see `Options`.

    Raises:
        LockTestFailed: the workers themselves do not work.
        ValueError: the lock is between threads, or a phase does not exist.

    >>> from XME.testing._broken import Kernel
    >>> crash_sweep(Kernel, LockSpec.mutex(on_crash="recovers"), phases=("hold",), start_method="fork").ok
    True
    """
    if spec.between == "threads":
        raise ValueError("a thread cannot be killed alone: crash_sweep is for locks between processes")
    if not set(phases) <= set(PHASES):
        msg = f"phases={phases!r}: some of {PHASES}"
        raise ValueError(msg)
    wanted = Options(**options)
    with Lab(make_lock, spec, 3, "crash_sweep", wanted) as lab:
        for scene in scenes_for(spec, phases):
            if not _sweep(lab, scene, max_gates, all_failures):
                break
    return lab.report


def _sweep(lab: Lab, scene: Scene, max_gates: int, all_failures: bool) -> bool:
    places: Counter[str] = Counter()
    for gate in range(1, max_gates + 1):
        kill = Kill(scene, gate)
        history = lab.perform(kill.play, 3, stepped=True)
        at = kill.place or ("while it waits" if kill.waited else "nowhere")
        failed = lab.report.add(
            f"killed at gate {gate} of {scene}: {at}", history, lab.judge(history),
        ).name == "FAIL"  # fmt: skip
        if failed and lab.report.token is None:
            lab.report.token = Token.of(lab, "crash_sweep", scene=[scene.phase, scene.op, scene.others], gate=gate)
        if failed and not all_failures:
            return False
        places[kill.place] += 1
        if not kill.reached or places[kill.place] > _ROUNDS_OF_A_LOOP:
            return True
    lab.report.notes.append(f"{scene}: left at gate {max_gates}; there are more")
    return True


def replay_kill(lab: Lab, scene: list[Any], gate: int) -> None:
    """Do one run of a sweep again."""
    phase, op, others = scene
    kill = Kill(Scene(phase, Op(op), others), gate)
    lab.play(f"killed at gate {gate} of {kill.scene}", kill.play, 3, stepped=True)
