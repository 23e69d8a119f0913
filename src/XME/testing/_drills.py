"""Drills: short scenes, one operation after the other, that bring a lock into the situations its promises are about.

A drill judges nothing. It leaves a history, which the checkers judge like any other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from XME.testing._crew import State
from XME.testing._event import Kind, Op
from XME.testing._spec import LockSpec
from XME.testing._stage import Stage

A, R, AR, RR = Op.ACQUIRE, Op.RELEASE, Op.ACQUIRE_READ, Op.RELEASE_READ
_TIMED_S = 0.15
_OVERTAKINGS = 4


@dataclass(frozen=True)
class Drill:
    """A scene, and how many workers it needs."""

    name: str
    workers: int
    play: Callable[[Stage], None]


def drills_for(spec: LockSpec) -> Iterator[Drill]:
    """Give the scenes for what a specification promises."""
    yield Drill("hand over", 3, hand_over)
    yield Drill("try and wait", spec.permits + 1, try_and_wait)
    if spec.owner_only:
        yield Drill("strangers release", 2, strangers_release)
    if spec.reentrant is not None and spec.excludes:
        yield Drill("take again", 2, take_again)
    if spec.read_write:
        yield Drill("readers and a writer", 3, readers_and_a_writer)
    if spec.read_write and spec.max_bypass is not None:
        yield Drill("readers pass a writer", 3, readers_pass_a_writer)
    if spec.on_crash == "stays_locked":
        yield Drill("holder dies", spec.permits + 1, holders_die_for_good)
    if spec.survives and not spec.excludes:
        yield Drill("a holder dies", spec.permits + 1, one_of_many_dies)
        yield Drill("all holders die", spec.permits + 1, all_holders_die)
        yield Drill("who waits for a permit dies", spec.permits + 1, waiter_for_a_permit_dies)
    if spec.survives and spec.excludes:
        yield Drill("holder dies", 3, holder_dies)
        yield Drill("two wait when the holder dies", 3, two_heirs)
        yield Drill("who waits dies", 3, waiter_dies)
        yield Drill("the holder is born again", 2, born_again)
        yield Drill("the dead one has a successor", 2, known_dead)
        if spec.read_write:
            yield Drill("a reader dies", 3, reader_dies)


def hand_over(stage: Stage) -> None:
    """All want it at once; each that gets it gives it on."""
    for worker in range(3):
        stage.do(worker, A)
    stage.drain()


def try_and_wait(stage: Stage) -> None:
    """One more than it has permits for tries, waits with a limit, and gets it when it is free."""
    stranger = len(stage.hands) - 1
    tries, waits, _ = stage.hands[0].can
    for worker in range(stranger):
        stage.take(worker)
    if tries:
        stage.do(stranger, A, 0.0)
    if waits and stage.hands[stranger].state is State.IDLE:
        stage.do(stranger, A, _TIMED_S)
    for worker in range(stranger):
        give_back(stage, worker)
    if stage.hands[stranger].state is State.IDLE and stage.answer(stranger) is not Kind.OK:
        if tries:
            stage.do(stranger, A, 0.0)
        else:
            stage.take(stranger)
    give_back(stage, stranger)


def give_back(stage: Stage, worker: int) -> None:
    """Let a worker who has just taken it walk through a section and give it back; another does nothing."""
    hand = stage.hands[worker]
    if hand.state is State.IDLE and hand.op in {A, AR} and stage.answer(worker) is Kind.OK:
        stage.pass_through(worker)


def strangers_release(stage: Stage) -> None:
    """Somebody releases what another holds, what nobody holds, and what he has released already."""
    stage.do(1, R)
    stage.take(0)
    stage.do(1, R)
    can_try = stage.hands[1].state is State.IDLE and stage.hands[1].can[0]
    if can_try and stage.do(1, A, 0.0) is Kind.OK:
        stage.do(1, Op.SECTION)
        stage.do(1, R)
    stage.do(0, R)
    stage.do(0, R)
    stage.take(1)
    give_back(stage, 1)


def take_again(stage: Stage) -> None:
    """The owner takes it again, to the declared depth or not at all; another looks each time whether it is free."""
    tries, waits, _ = stage.hands[0].can
    stage.take(0)
    entered = 1
    if stage.spec.reentrant:
        for _ in range(stage.spec.depth - 1):
            entered += stage.take(0) is Kind.OK
    elif tries:
        entered += stage.do(0, A, 0.0) is Kind.OK
        if waits and stage.hands[0].state is State.IDLE:
            entered += stage.do(0, A, _TIMED_S) is Kind.OK
    for left in range(entered, 0, -1):
        if stage.hands[0].state is not State.IDLE:
            return
        if tries and (left < 4 or left == entered) and stage.do(1, A, 0.0) is Kind.OK:
            stage.do(1, R)
        stage.do(0, R)
    stage.take(1)
    give_back(stage, 1)


def readers_and_a_writer(stage: Stage) -> None:
    """Readers share; a writer waits for them, and they for him."""
    stage.take(0, AR)
    stage.do(1, AR)
    stage.do(2, A)
    stage.do(0, RR)
    stage.drain()
    stage.take(2, A)
    stage.do(0, AR)
    stage.do(1, AR)
    stage.drain()


def readers_pass_a_writer(stage: Stage) -> None:
    """Two readers take turns, so that one of them always has it, while a writer waits."""
    stage.take(0, AR)
    stage.do(2, A)
    first, second = 0, 1
    for _ in range(2 * _OVERTAKINGS):
        if stage.do(second, AR) is not Kind.OK:
            break
        stage.do(first, RR)
        first, second = second, first
    stage.drain()


# -- deaths ------------------------------------------------------------------------------------------------------------


def try_all(stage: Stage) -> None:
    """Everybody who can takes it once, and gives it back; if it recovers, all permits are taken at once before."""
    if stage.spec.survives and not stage.spec.excludes:
        all_at_once(stage)
    for hand in list(stage.hands):
        if hand.state is State.IDLE and stage.take(hand.worker) is Kind.OK:
            give_back(stage, hand.worker)
    stage.drain()


def all_at_once(stage: Stage) -> None:
    """As many as there are permits take one each and keep it, until all have one; a lost permit is missing here."""
    able = [hand.worker for hand in stage.hands if hand.state is State.IDLE]
    inside = []
    for worker in able[: stage.spec.permits]:
        inside.append(worker)
        if stage.take(worker) is not Kind.OK:
            break
    for worker in inside:
        give_back(stage, worker)
    stage.drain()


def one_of_many_dies(stage: Stage) -> None:
    """The holder of one permit is killed; the others take all of them at once, and again with his next life."""
    stage.take(0)
    stage.kill(0)
    all_at_once(stage)
    stage.revive(0)
    try_all(stage)


def all_holders_die(stage: Stage) -> None:
    """The holders of all permits are killed; one takes one, and then their next lives take all."""
    heir = len(stage.hands) - 1
    for worker in range(heir):
        stage.take(worker)
    for worker in range(heir):
        stage.kill(worker)
    stage.take(heir)
    give_back(stage, heir)
    for worker in range(heir):
        stage.revive(worker)
    try_all(stage)


def waiter_for_a_permit_dies(stage: Stage) -> None:
    """All permits are held, and one who waits for one is killed; the holders live."""
    waiter = len(stage.hands) - 1
    for worker in range(waiter):
        stage.take(worker)
    stage.do(waiter, A)
    stage.kill(waiter)
    for worker in range(waiter):
        give_back(stage, worker)
    all_at_once(stage)
    stage.revive(waiter)
    try_all(stage)


def holders_die_for_good(stage: Stage) -> None:
    """All permits are held by the dead."""
    heir = len(stage.hands) - 1
    for worker in range(heir):
        stage.take(worker)
    for worker in range(heir):
        stage.kill(worker)
    if stage.hands[heir].can[1]:
        stage.do(heir, A, _TIMED_S)
    else:
        stage.do(heir, A)


def holder_dies(stage: Stage) -> None:
    """The holder is killed; another takes it, and then the next life of the dead."""
    stage.take(0)
    stage.kill(0)
    stage.take(1)
    give_back(stage, 1)
    stage.revive(0)
    try_all(stage)


def two_heirs(stage: Stage) -> None:
    """Two wait when the holder dies; the first who gets it keeps it for a while."""
    stage.take(0)
    stage.do(1, A)
    stage.do(2, A)
    stage.kill(0)
    stage.wait_for(1, stage.patience_s / 2) or stage.wait_for(2, stage.patience_s / 2)
    # Time for the second, who is to get nothing meanwhile.
    for worker in (1, 2):
        if stage.answer(worker) is None:
            stage.wait_for(worker, 0.2)
    stage.drain()


def waiter_dies(stage: Stage) -> None:
    """One who waits is killed; the holder lives."""
    stage.take(0)
    stage.do(1, A)
    stage.kill(1)
    if stage.hands[2].can[0]:
        stage.do(2, A, 0.0)
    give_back(stage, 0)
    stage.take(2)
    give_back(stage, 2)
    stage.revive(1)
    try_all(stage)


def born_again(stage: Stage) -> None:
    """The holder is killed, and its next life is there before anybody has looked."""
    stage.take(0)
    stage.kill(0)
    stage.revive(0)
    stage.take(1)
    give_back(stage, 1)
    stage.drain()


def known_dead(stage: Stage) -> None:
    """The next life of one who died holding it holds it itself: what was known of the dead is not true of it."""
    stage.take(0)
    stage.kill(0)
    stage.take(1)
    give_back(stage, 1)
    stage.revive(0)
    if stage.hands[1].state is State.IDLE and stage.take(0) is Kind.OK:
        if stage.do(1, A) is Kind.OK:
            stage.do(1, Op.SECTION)
        give_back(stage, 0)
        stage.drain()


def reader_dies(stage: Stage) -> None:
    """A reader is killed, alone and beside another, and a writer wants it."""
    stage.take(0, AR)
    stage.take(1, AR)
    stage.kill(0)
    stage.do(2, A)
    give_back(stage, 1)
    if stage.answer(2) is None:
        stage.wait_for(2, stage.patience_s)
    stage.drain()
