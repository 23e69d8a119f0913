"""What the crash sweep does to containers: every method that changes one, on every way that it can take."""

import contextlib

from tests.store.crash_sweep import BIG, BIGGER, Scenario, atomic

SMALL = {"a": 1, "b": "two", "c": [3]}
LARGE = {"a": 1, "large": BIG, "other": BIGGER}
TREE = {"a": 1, "tree": {"leaf": [1, 2], "large": BIG}, "list": [1, {"x": 2}]}
FEW = [3, 1, "two", 2]
LARGES = [0, BIG, "x", BIGGER]
TREES = [0, {"a": [1], "large": BIG}, [1, [2]]]


class Undone(Exception):
    """Ends a savepoint."""


def _keys(first, last):
    return {f"key {k}": k for k in range(first, last)}


def _filled(target):
    """As many items as a first generation has room for."""
    target.update(_keys(0, 20))


def wear_dict(room):
    """Overwrite one key with what it has until the generation has less room than so many units."""

    def wear(shared):
        key = next(iter(shared))
        value = shared[key]
        while shared._generation.size - shared._generation.words[1] > room:
            shared[key] = value

    return wear


def wear_list(room):
    def wear(shared):
        while shared._generation.size - shared._generation.words[1] > room:
            shared[0] = shared[0]

    return wear


def setting(key, value):
    return lambda target: target.__setitem__(key, value)


def deleting(key):
    return lambda target: target.__delitem__(key)


def calling(method, *args, **kwargs):
    return lambda target: getattr(target, method)(*args, **kwargs)


def _apply_dict(target):
    target.apply("a", lambda value: value + 1) if hasattr(target, "apply") else target.update(a=target["a"] + 1)


def _apply_list(target):
    if hasattr(target, "apply"):
        target.apply(0, lambda value: value + 1)
    else:
        target[0] += 1


def _increment(key):
    def act(target):
        if hasattr(target, "increment"):
            target.increment(key, 5)
        else:
            target[key] += 5

    return act


def _ior(target):
    target |= {"a": "new", "d": 4}


def _to_the_brim(target):
    """So many that the position index is full, as after extending an empty list."""
    target.extend(range(8))
    for k in range(12):
        target.append(k)


def _iadd(target):
    target += ["new", BIG]


def _imul(target):
    target *= 3


def _several(target):
    with atomic(target):
        target["a"] = 2
        target["new"] = "n"
        del target["b"]
        target["new"] = "again"


def _renewing(target):
    with atomic(target):
        target.update(_keys(0, 30))
        target.update(_keys(10, 60))
        target["large"] = BIG
        del target["key 3"]


def _savepoint(target):
    with atomic(target):
        target["kept"] = BIG
        if isinstance(target, dict):
            return
        with contextlib.suppress(Undone), target.atomic():
            target.update(_keys(0, 40))
            target["undone"] = BIGGER
            del target["a"]
            raise Undone


def _list_transaction(target):
    with atomic(target):
        target.extend(range(30))
        target.append(BIG)
        del target[3:9]
        target.sort(key=str)
        target[0] = "first"
        target.extend(["x" * 300] * 20)


def _move(target):
    with atomic(target):
        target.append(target.pop(0))


DICT = [
    Scenario("__setitem__", SMALL, setting("a", 5), note="a key"),
    Scenario("__setitem__", SMALL, setting("new", 5), note="a new key"),
    Scenario("__setitem__", SMALL, setting("a", 5), before=deleting("a"), note="a deleted key"),
    Scenario("__setitem__", SMALL, setting(1.0, 5), before=setting(1, 2), note="another spelling"),
    Scenario("__setitem__", SMALL, setting(True, 5), note="a spelled key"),
    Scenario("__setitem__", SMALL, setting("a", "x" * 4000), note="no room"),
    Scenario("__setitem__", SMALL, setting("a", 6), wear=wear_dict(2), note="worn"),
    Scenario("__setitem__", {}, setting("new", 5), before=_filled, note="no position"),
    Scenario("__setitem__", SMALL, setting("new", "y" * 9000), before=setting("a", "x" * 4000), note="second growth"),
    Scenario("__setitem__", SMALL, setting("large", BIG), note="large"),
    Scenario("__setitem__", LARGE, setting("large", BIGGER), note="large by large"),
    Scenario("__setitem__", LARGE, setting("large", 1), note="large by small"),
    Scenario("__setitem__", LARGE, setting("a", 6), wear=wear_dict(2), note="worn beside large ones"),
    Scenario("__setitem__", TREE, setting("tree", {"new": [1]}), nested=True, note="child by child"),
    Scenario("__setitem__", TREE, setting("new", {"x": [BIG]}), nested=True, note="child"),
    Scenario("__setitem__", TREE, setting("tree", 1), nested=True, note="child by value"),
    Scenario("__setitem__", SMALL, setting("a", 5), cold=True, note="at first"),
    Scenario("__delitem__", SMALL, deleting("a")),
    Scenario("__delitem__", SMALL, deleting("c"), note="the last"),
    Scenario("__delitem__", SMALL, deleting("a"), wear=wear_dict(1), note="no room"),
    Scenario("__delitem__", LARGE, deleting("large"), note="large"),
    Scenario("__delitem__", TREE, deleting("tree"), nested=True, note="child"),
    Scenario("__delitem__", {**SMALL, "wide": "x" * 40_000}, deleting("wide"), note="memory goes back"),
    Scenario("pop", SMALL, calling("pop", "b")),
    Scenario("pop", TREE, calling("pop", "tree"), nested=True, note="child"),
    Scenario("popitem", LARGE, calling("popitem")),
    Scenario("setdefault", SMALL, calling("setdefault", "new", BIG)),
    Scenario("clear", SMALL, calling("clear")),
    Scenario("clear", TREE, calling("clear"), before=setting("large", BIG), nested=True, note="all kinds"),
    Scenario("update", SMALL, calling("update", _keys(0, 5), a=BIG, large=BIGGER)),
    Scenario("update", SMALL, calling("update", _keys(0, 50)), note="growing"),
    Scenario("update", TREE, calling("update", {"tree": [1], "list": {}, "c": [BIG]}), nested=True, note="children"),
    Scenario("__ior__", SMALL, _ior),
    Scenario("apply", SMALL, _apply_dict),
    Scenario("increment", SMALL, _increment("a")),
    Scenario("atomic", SMALL, _several),
    Scenario("atomic", SMALL, _renewing, note="growing twice"),
    Scenario("atomic", LARGE, _savepoint, note="savepoint"),
    Scenario("atomic", {**SMALL, **_keys(0, 300)}, _several, numpy=True, note="many"),
    Scenario("update", _keys(0, 300), calling("update", _keys(290, 320)), numpy=True, note="many"),
    Scenario("__delitem__", {**_keys(0, 300), "wide": "x" * 300_000}, deleting("wide"), numpy=True, note="many"),
]

LIST = [
    Scenario("append", FEW, calling("append", 5)),
    Scenario("append", FEW, calling("append", "text"), note="a text"),
    Scenario("append", FEW, calling("append", 5), cold=True, note="at first"),
    Scenario("append", [], calling("append", 5), note="to nothing"),
    Scenario("append", [], calling("append", 5), before=_to_the_brim, note="no place"),
    Scenario("append", FEW, calling("append", "x" * 4000), note="no room"),
    Scenario("append", FEW, calling("append", 5), wear=wear_list(2), note="worn"),
    Scenario("append", FEW, calling("append", BIG), note="large"),
    Scenario("append", TREES, calling("append", {"x": [BIG]}), nested=True, note="child"),
    Scenario("insert", FEW, calling("insert", 2, "in")),
    Scenario("insert", FEW, calling("insert", 0, "first"), note="at the front"),
    Scenario("insert", FEW, calling("insert", 0, BIG), before=calling("insert", 0, 1), note="large at the front"),
    Scenario("insert", FEW, calling("insert", 1, "x"), wear=wear_list(4), note="worn"),
    Scenario("__setitem__", FEW, setting(1, "x")),
    Scenario("__setitem__", FEW, setting(-1, "x"), wear=wear_list(2), note="worn"),
    Scenario("__setitem__", LARGES, setting(1, BIGGER), note="large by large"),
    Scenario("__setitem__", LARGES, setting(3, 1), note="large by small"),
    Scenario("__setitem__", TREES, setting(1, [BIG]), nested=True, note="child by child"),
    Scenario("__setitem__", LARGES, setting(slice(1, 3), [1, 2, BIG]), note="a slice"),
    Scenario("__setitem__", FEW, setting(slice(2, None), range(40)), note="the end"),
    Scenario("__setitem__", LARGES, setting(slice(None, None, 2), ["a", BIG]), note="an extended slice"),
    Scenario("__delitem__", FEW, deleting(1)),
    Scenario("__delitem__", LARGES, deleting(slice(1, 3)), note="a slice"),
    Scenario("__delitem__", LARGES, deleting(slice(None, None, -2)), note="an extended slice"),
    Scenario("__delitem__", FEW, deleting(slice(0, 2)), note="the front"),
    Scenario("__delitem__", TREES, deleting(1), nested=True, note="child"),
    Scenario("pop", FEW, calling("pop")),
    Scenario("pop", FEW, calling("pop", 0), note="the first"),
    Scenario("pop", FEW, calling("pop", 1), note="in the middle"),
    Scenario("pop", LARGES, calling("pop"), note="large"),
    Scenario("pop", TREES, calling("pop"), nested=True, note="child"),
    Scenario("pop", [*FEW, "x" * 200_000], calling("pop"), note="memory goes back"),
    Scenario("remove", FEW, calling("remove", "two")),
    Scenario("extend", FEW, calling("extend", [1, "x", BIG])),
    Scenario("extend", FEW, calling("extend", list(range(200))), note="growing"),
    Scenario("__iadd__", FEW, _iadd),
    Scenario("__imul__", [1, BIG], _imul),
    Scenario("sort", [3, 1, 2], calling("sort")),
    Scenario("sort", LARGES, calling("sort", key=str, reverse=True), note="large"),
    Scenario("reverse", LARGES, calling("reverse")),
    Scenario("reverse", FEW, calling("reverse"), wear=wear_list(4), note="worn"),
    Scenario("clear", TREES, calling("clear"), before=calling("append", BIG), nested=True),
    Scenario("apply", FEW, _apply_list),
    Scenario("increment", FEW, _increment(0)),
    Scenario("atomic", FEW, _list_transaction),
    Scenario("atomic", LARGES, _move, note="large moved"),
    Scenario("extend", list(range(300)), calling("extend", list(range(900))), numpy=True, note="many"),
    Scenario("sort", [*range(300, 0, -1)], calling("sort"), numpy=True, note="many"),
    Scenario("__delitem__", list(range(600)), deleting(slice(5, 590)), numpy=True, note="many"),
    Scenario("__setitem__", ["x"] * 300, setting(slice(10, 20), ["y"] * 400), numpy=True, note="many"),
]

ALL = DICT + LIST
