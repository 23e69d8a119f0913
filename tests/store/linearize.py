"""Small concurrent histories of one shared container, and whether each of them is one of the plain type.

A history is linearizable if its operations can be put in one order, in which each stands between its call and its
return, and in which the plain type answers the same. The search is that of Wing and Gong (1993), with the memory of
states that were seen (Lowe 2017): exact, and fast for a dozen operations.
"""

import copy
import mmap
import os
import tempfile
import time
from typing import Any, NamedTuple

import pytest

from tests.core.crew import Child
from tests.store import stores
from tests.store.crash_sweep import Ways, atomic, made, target_of
from XME._containers import opening
from XME._core import domain as domains
from XME._core import layout, program

# Values from here on are large: a segment each.
LARGE_FROM = 1000
_LARGE_BYTES = 33_000
_STALL_S = 0.0003


class Done(NamedTuple):
    """An operation as its process saw it: what, when it was called and when it returned, and what came of it."""

    operation: Any
    began: int
    ended: int
    outcome: Any


class Account(Ways):
    """What is shared as an object."""

    def two(self):
        self.a += 1
        self.b += 1
        return self.a, self.b

    def swap(self):
        self.a, self.b = self.b, self.a

    def put(self, value):
        self.items.append(value)
        self.a += 1
        return len(self.items)

    def take(self):
        self.b = self.items[-1]
        return self.items.pop()

    def fail(self):
        self.a = self.items = None
        raise ValueError

    def both(self):
        return self.a, self.b

    def everything(self):
        return sorted(vars(self).items())


# -- operations --------------------------------------------------------------------------------------------------------


def _swap(target, one, other):
    with atomic(target):
        found = target[one], target[other]
        target[one], target[other] = found[1], found[0]
    return found


def _move(target, value):
    with atomic(target):
        target.append(value)
        return target.pop(0)


def _refill(target, pairs):
    with atomic(target):
        target.clear()
        target.update(pairs)
        return len(target)


def _assign(target, first, last, values):
    target[first:last] = values


def _delete(target, first, last, step):
    del target[first:last:step]


def _increment(target, key):
    if hasattr(target, "increment"):
        return target.increment(key)
    target[key] = (target[key] if isinstance(target, list) else target.get(key, 0)) + 1
    return target[key]


def _refund(target):
    with atomic(target):
        target.a -= 1
        target.b = target.a
        return target.both()


def _all(target):
    if isinstance(target, Account):
        return target.everything()
    return list(target.items()) if hasattr(target, "items") else list(target)


SPECIAL = {
    "get": lambda target, name: getattr(target, name, None),
    "set": setattr,
    "drop": delattr,
    "refund": _refund,
    "swap": _swap,
    "move": _move,
    "refill": _refill,
    "assign": _assign,
    "delete": _delete,
    "increment": _increment,
    "all": _all,
    "len": len,
}


def perform(target, operation):
    """Do an operation, on the shared or on the plain one; returns what it returns or raises."""
    name, *args = operation
    try:
        if name in SPECIAL:
            return "gives", _coded(SPECIAL[name](target, *map(_real, args)))
        return "gives", _coded(getattr(target, name)(*map(_real, args)))
    except (AttributeError, KeyError, IndexError, ValueError, TypeError) as error:
        return "raises", type(error).__name__


def _real(value):
    """Return the value that a number stands for."""
    if type(value) is int and value >= LARGE_FROM:
        return value.to_bytes(2, "little") * _LARGE_BYTES
    if isinstance(value, (list, tuple)):
        return type(value)(map(_real, value))
    return value


def _coded(value):
    """Return the number that stands for a value."""
    if isinstance(value, bytes):
        # Whole, or of two values.
        assert value == value[:2] * _LARGE_BYTES, "torn"
        return int.from_bytes(value[:2], "little")
    if isinstance(value, (list, tuple)):
        return tuple(map(_coded, value))
    return value


# -- the search --------------------------------------------------------------------------------------------------------


def is_linearizable(history, first):
    """True if there is an order of the operations in which a plain list or dict that begins as `first` answers so."""
    seen = set()

    def search(left, state):
        if not left:
            return True
        key = left, perform(state, ("all",))
        if key in seen:
            return False
        seen.add(key)
        # What was called after another one that is left has returned must come after that one.
        bound = min(history[k].ended for k in left)
        for k in left:
            if history[k].began <= bound:
                after = copy.deepcopy(state)
                outcome = perform(after, history[k].operation)
                # What raises has changed nothing, also where the plain type is half through.
                if outcome == history[k].outcome and search(left - {k}, state if outcome[0] == "raises" else after):
                    return True
        return False

    return search(frozenset(range(len(history))), _real_content(first))


# -- the crew ----------------------------------------------------------------------------------------------------------


class Crew:
    """Processes that do programs at the same time, one container a history.

    Args:
        size: how many.
        plant: a fault, called in each of them.
        seeds: for each that is a program started anew, its PYTHONHASHSEED; the others are forked.
    """

    def __init__(self, size, plant=None, seeds=()):
        self.domain = domains.create(layout.PROGRAM, "histories", 8)
        program.remember(self.domain)
        with tempfile.NamedTemporaryFile(prefix="gate-") as file:
            file.truncate(8)
            self.gate = _gate(file.name)
            self.members = [Child(_work, self.domain.id, file.name, plant) for _ in range(size - len(seeds))]
            for seed in seeds:
                with pytest.MonkeyPatch.context() as patch:
                    patch.setenv("PYTHONHASHSEED", seed)
                    self.members.append(Child(_work, self.domain.id, file.name, plant, method="spawn"))
            for member in self.members:
                assert member.hear(40) == "ready"

    def __enter__(self):
        return self

    def __exit__(self, *exc_info):
        for member in self.members:
            member.__exit__(*exc_info)
        program.leave(self.domain)

    def history(self, first, programs):
        """Let each process do its program, all on one container; returns what was done.

        Args:
            first: the list, dict or Account that it begins as.
            programs: for each process pairs of an operation and the number of the look or store at which it stalls.
        """
        shared = made(_real_content(first), self.domain)
        crew = self.members[: len(programs)]
        for member, operations in zip(crew, programs, strict=True):
            member.tell((shared.kind, shared.serial, operations))
        for member in crew:
            assert member.hear() == "here"
        # All begin at once.
        self.gate[0] += 1
        found = [done for member in crew for done in member.hear()]
        shared._check()
        # Also what is there in the end must be right.
        found.append(Done(("all",), time.monotonic_ns(), time.monotonic_ns(), perform(target_of(shared), ("all",))))
        shared.unlink()
        return found


def _real_content(first):
    if isinstance(first, Account):
        return Account(**{name: _real(value) for name, value in vars(first).items()})
    return {key: _real(value) for key, value in first.items()} if isinstance(first, dict) else _real(first)


def _gate(path):
    with open(path, "r+b") as file:
        return memoryview(mmap.mmap(file.fileno(), 8)).cast("Q")


def _work(pipe, domain_id, path, plant):
    gate = _gate(path)
    domain = program.join(domain_id)
    domain.require()
    if plant is not None:
        plant()
    # How many looks and stores are left until this process stalls.
    left = 0

    def step(_what=None):
        nonlocal left
        left -= 1
        if not left:
            time.sleep(_STALL_S)

    stores.watch(domain, step, step)
    pipe.send("ready")
    while True:
        kind, serial, operations = pipe.recv()
        shared = opening.handle_of(kind, domain, serial, None)
        opened, done = gate[0], []
        pipe.send("here")
        while gate[0] == opened:
            os.sched_yield()
        for operation, stall in operations:
            left = stall
            began = time.monotonic_ns()
            outcome = perform(target_of(shared), operation)
            done.append(Done(operation, began, time.monotonic_ns(), outcome))
        pipe.send(done)
