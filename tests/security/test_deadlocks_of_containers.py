"""Waiting in a circle for transactions, methods of objects and Securities alike is reported, once, and all get on."""

import itertools
import multiprocessing
import threading

import pytest

import XME
from XME import Security
from XME.errors import Deadlock

# What a busy machine may take; the benchmark deadlock_found measures it.
PATIENCE_S = 30


class Cell:
    """Runs a function inside its own method."""

    changes = 0

    def inside(self, function):
        self.changes += 1
        return function()


class HeldBySecurity:
    def __init__(self):
        self.lock = Security.Security(Security.MUTEX)

    def inside(self, function):
        with self.lock.holding("me"):
            return function()

    def is_free(self):
        return self.lock.statistics().holder is None


class HeldByList:
    def __init__(self):
        self.values = XME.xmem_list([0])

    def inside(self, function):
        with self.values.atomic():
            self.values[0] += 1
            return function()

    def done(self):
        return self.values[0]


class HeldByDict:
    def __init__(self):
        self.values = XME.xmem_dict(n=0)

    def inside(self, function):
        with self.values.atomic():
            self.values["n"] += 1
            return function()

    def done(self):
        return self.values["n"]


class HeldByObject:
    def __init__(self):
        self.cell = XME.xmem_object("cell", Cell)

    def inside(self, function):
        return self.cell.inside(function)

    def done(self):
        return self.cell.changes


KINDS = [HeldBySecurity, HeldByList, HeldByDict, HeldByObject]


def take_both(first, second, barrier, answers):
    """Meet the others inside the first, then want the second."""

    def inside():
        barrier.wait(PATIENCE_S)
        second.inside(lambda: None)

    try:
        first.inside(inside)
    except Deadlock as error:
        answers.put(("deadlock", len(error.cycle)))
    else:
        answers.put(("through", 0))


def circle(holders, barrier, answers, start):
    """Let everybody hold one and want the next; returns what became of each."""
    crew = [
        start(target=take_both, args=(one, holders[(k + 1) % len(holders)], barrier, answers), daemon=True)
        for k, one in enumerate(holders)
    ]
    for each in crew:
        each.start()
    found = sorted(answers.get(timeout=PATIENCE_S) for _ in crew)
    for each in crew:
        each.join(PATIENCE_S)
    return found


def by_processes(holders):
    context = multiprocessing.get_context("fork")
    return circle(holders, context.Barrier(len(holders)), context.Queue(), context.Process)


def by_threads(holders):
    import queue

    return circle(holders, threading.Barrier(len(holders)), queue.Queue(), threading.Thread)


PAIRS = list(itertools.combinations_with_replacement(KINDS, 2))


@pytest.mark.parametrize("run", [by_processes, pytest.param(by_threads, marks=pytest.mark.slow)])
@pytest.mark.parametrize("kinds", [*PAIRS, (HeldBySecurity, HeldByList, HeldByObject)], ids=lambda kinds: "-".join(
    kind.__name__.removeprefix("HeldBy") for kind in kinds
))  # fmt: skip
def test_one_gets_the_deadlock_and_changes_nothing_and_the_others_get_through(kinds, run):
    holders = [kind() for kind in kinds]
    assert run(holders) == [("deadlock", len(kinds)), *[("through", 0)] * (len(kinds) - 1)]
    # Whose wait was given up, his transaction was too; the others made two: their own, and inside somebody's else.
    changes = [holder.done() for holder in holders if not isinstance(holder, HeldBySecurity)]
    if len(changes) == len(holders):
        assert sum(changes) == 2 * (len(kinds) - 1)
    assert all(holder.is_free() for holder in holders if isinstance(holder, HeldBySecurity))
