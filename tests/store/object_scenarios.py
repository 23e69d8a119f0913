"""What the crash sweep does to shared objects: every way in which one changes."""

import contextlib

from tests.store.crash_sweep import BIG, BIGGER, Scenario, Slotted, Thing, atomic


class Undone(Exception):
    """Ends a savepoint."""


def small():
    return Thing(n=1, text="two", items=[1], tree={"a": {"b": [1]}})


def large():
    return Thing(n=1, large=BIG, other=[BIGGER])


def joined():
    same = [1]
    return Thing(n=1, items=same, same=same)


def calling(method, *args, **kwargs):
    return lambda target: getattr(target, method)(*args, **kwargs)


def setting(name, value):
    return lambda target: setattr(target, name, value)


def deleting(name):
    return lambda target: delattr(target, name)


def wear(room):
    """Write one attribute until the generation has less room than so many units."""

    def wear(shared):
        core = shared._xmem_core
        n = shared.n
        core.current()
        while core._generation.size - core._generation.words[1] > room:
            shared.n = shared.n + 1
        shared.n = n

    return wear


def _several(target):
    with atomic(target):
        target.add(2)
        target.push(BIG)
        del target.text
        target.new = ["n"]
        target.add(3)


def _renewing(target):
    with atomic(target):
        target.grow(30, 100)
        target.add(1)
        target.grow(40, 300)
        target.large = BIG


def _savepoint(target):
    with atomic(target):
        target.push(BIG)
        with contextlib.suppress(Undone):
            if type(target) is Thing:
                return
            with target.atomic():
                target.grow(40, 100)
                target.undone = BIGGER
                del target.text
                raise Undone


def _inside(target):
    """A transaction of the method's own."""
    target.work(target)


OBJECT = [
    Scenario("__setattr__", small(), setting("n", 5), note="a number"),
    Scenario("__setattr__", small(), setting("n", 5), cold=True, note="at first"),
    Scenario("__setattr__", small(), setting("n", 2**70), note="a number too large for the short way"),
    Scenario("__setattr__", small(), setting("n", None), note="a constant"),
    Scenario("__setattr__", small(), setting("text", "another"), note="a text"),
    Scenario("__setattr__", small(), setting("text", "x" * 5000), note="no room"),
    Scenario("__setattr__", small(), setting("n", 6), wear=wear(3), note="worn"),
    Scenario("__setattr__", small(), setting("new", 5), note="a new one"),
    Scenario("__setattr__", small(), setting("new", 5), before=deleting("text"), note="a new one for another"),
    Scenario("__setattr__", small(), setting("text", "again"), before=deleting("text"), note="a deleted one"),
    Scenario("__setattr__", small(), setting("n", [1, 2]), note="changeable for a number"),
    Scenario("__setattr__", small(), setting("items", 1), note="a number for changeable"),
    Scenario("__setattr__", small(), setting("large", BIG), note="large"),
    Scenario("__setattr__", large(), setting("large", BIGGER), note="large by large"),
    Scenario("__setattr__", large(), setting("large", 1), note="large by small"),
    Scenario("__setattr__", large(), setting("n", 6), wear=wear(3), note="worn beside large ones"),
    Scenario("__delattr__", small(), deleting("n")),
    Scenario("__delattr__", small(), deleting("items"), note="changeable"),
    Scenario("__delattr__", large(), deleting("large"), note="large"),
    Scenario("__delattr__", Thing(n=1, wide="x" * 40_000), deleting("wide"), note="memory goes back"),
    Scenario("method", small(), calling("add", 4), note="a number"),
    Scenario("method", small(), calling("add", 0.5), wear=wear(3), note="worn"),
    Scenario("method", small(), calling("two"), note="two small ones"),
    Scenario("method", small(), calling("two"), wear=wear(6), note="two small ones, the second has no room"),
    Scenario("method", small(), calling("push", "x"), note="a list"),
    Scenario("method", small(), calling("push", BIG), note="large into a list"),
    Scenario("method", small(), calling("go_deep", "x"), note="two levels down"),
    Scenario("method", small(), calling("join"), note="two become one list"),
    Scenario("method", joined(), calling("push", 2), note="two that are one list"),
    Scenario("method", joined(), calling("part"), note="one list becomes two"),
    Scenario("method", small(), calling("grow", 3, 10), note="new ones"),
    Scenario("method", small(), calling("grow", 12, 200), note="growing"),
    Scenario("method", small(), calling("empty"), note="all are deleted"),
    Scenario("property", small(), setting("double", 8)),
    Scenario("slots", Slotted(n=1, text="two", items=[1]), calling("add", 4)),
    Scenario("slots", Slotted(n=1, text="two", items=[1]), calling("push", BIG), note="large into a list"),
    Scenario("slots", Slotted(n=1, text="two", items=[1]), deleting("text"), note="deleted"),
    Scenario("atomic", small(), _several),
    Scenario("atomic", small(), _renewing, note="growing twice"),
    Scenario("atomic", small(), _savepoint, note="savepoint"),
    Scenario("atomic", small(), _inside, note="inside a method"),
]
