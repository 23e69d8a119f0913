"""What a lock leaves behind: one worker makes it, takes it and closes it many times, and is looked at from outside.

What is opened once in a process and kept (a tracker's pipe, a library) is there after the first times, and no more
after the last ones: only what grows is a leak.
"""

from __future__ import annotations

from collections.abc import Callable

from XME.testing._event import Event, Kind, Op
from XME.testing._history import History
from XME.testing._lab import Lab
from XME.testing._stage import Stage
from XME.testing._verdict import Verdict, compose
from XME.testing._watch import GROWS, Watch

STRETCHES = 24
_ROUNDS = 3


def look(lab: Lab) -> Watch:
    """Let one worker use the lock in many stretches and report what has grown; the names are judged at the end."""
    watch = Watch()
    # What is handed over with the start of a process, or cannot be closed, is made once.
    once = lab.handed_over or not _can_be_closed(lab)
    name = "taken again and again" if once else "made and closed again and again"
    if once:
        history, left = _perform(lab, lambda stage: _take_in_stretches(stage, watch))
        grown = {what: min(count, left[what]) for what, count in watch.grown().items() if left[what] >= GROWS}
    else:
        for _ in range(STRETCHES):
            with watch.stretch():
                history, _ = _perform(lab, take_a_few_times)
            if compose(lab.judge(history)) is Verdict.FAIL:
                break
            watch.count(lab.crew.hands[0].pid)
        grown = watch.grown()
    texts = [f"{count} {what} more in a worker, {name}" for what, count in grown.items()]
    events = [Event(history.end_ns, 0, 0, 0, Op.LEFT, 0, Kind.OK, text) for text in texts]
    history = History.of([*history.events, *events], history.end_ns, permits=history.shared_by_one)
    lab.report.add(name, history, lab.judge(history))
    return watch


def _can_be_closed(lab: Lab) -> bool:
    found = []
    lab.perform(lambda stage: found.append(stage.hands[0].closes), 1)
    return found[0]


def _perform(lab: Lab, scene: Callable[[Stage], None]) -> tuple[History, dict[str, int]]:
    """Return the history, and what worker 0 had more after the lock was closed than before it was made."""
    stages: list[Stage] = []

    def play(stage: Stage) -> None:
        stages.append(stage)
        scene(stage)

    history = lab.perform(play, 1)
    return history, stages[0].left_open.get(0, {"descriptors": 0, "mappings": 0})


def take_a_few_times(stage: Stage) -> None:
    """Take it and give it back."""
    for _ in range(_ROUNDS):
        if stage.take(0) is not Kind.OK:
            return
        stage.do(0, Op.RELEASE)


def _take_in_stretches(stage: Stage, watch: Watch) -> None:
    for _ in range(STRETCHES):
        with watch.stretch():
            take_a_few_times(stage)
        watch.count(stage.hands[0].pid)
