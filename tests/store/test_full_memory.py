"""Shared memory is full in the middle of any operation: it fails as a whole, and works when there is room again."""

import errno
import os
import sys

import pytest

from tests.helpers import can_have_small_memory, run_in_small_memory
from tests.store import crash_scenarios, object_scenarios
from tests.store.crash_scenarios import BIG, FEW, LARGE, LARGES, SMALL, TREE, TREES, calling, deleting, setting
from tests.store.crash_sweep import Scenario, Thing, World, act
from tests.store.object_scenarios import small
from XME.errors import SharedMemoryFull

# What may need memory that is not there yet.
_NEEDY = ("open", "pwrite", "posix_fallocate", "link")
# These store over an entry of the ledger that is there.
_OVER = frozenset({"clear", "make_public", "_settle_of_dead", "settle_inherited"})


class Demands(list):
    """What was asked for; when it is over, nothing is refused any more."""

    over = False


def refuse(number, lasting):
    """Let the n-th demand for memory in this process be refused, or all from there on; returns those that were made."""
    demands = Demands()

    def refusing(name):
        real = getattr(os, name)

        def call(*args, **kwargs):
            if _is_needy(name, args):
                demands.append(name)
                is_late = lasting and len(demands) > number > 0
                if (len(demands) == number or is_late) and not demands.over:
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return real(*args, **kwargs)

        return call

    for name in _NEEDY:
        setattr(os, name, refusing(name))
    return demands


def _is_needy(name, args):
    if name == "open":
        return bool(args[1] & os.O_TMPFILE == os.O_TMPFILE)
    frame = sys._getframe(2)
    return not {frame.f_code.co_name, frame.f_back.f_code.co_name} & _OVER


def attempt(world, number, lasting):
    """Do what is swept with the n-th demand refused, and then once more; returns how many demands there were."""
    demands = refuse(number, lasting)
    failed = False
    try:
        act(world)
    except SharedMemoryFull:
        failed = True
    made = len(demands)
    demands.over = True
    # Done as a whole, or not at all.
    assert world.content() != failed or world.model == world.after
    world.shared._check()
    if failed:
        act(world)
    assert world.content()
    world.go_on("again")
    world.shared._check(settled=True)
    return made, failed


SWEPT = [
    Scenario("__setitem__", SMALL, setting("a", "x" * 4000), note="no room"),
    Scenario("__setitem__", LARGE, setting("large", BIG + b"2"), note="large by large"),
    Scenario("__setitem__", TREE, setting("tree", {"x": [BIG]}), nested=True, note="child by child"),
    Scenario("__delitem__", LARGE, deleting("large")),
    Scenario("__delitem__", TREE, deleting("tree"), nested=True, note="child"),
    Scenario("__delitem__", {**SMALL, "wide": "x" * 40_000}, deleting("wide"), note="memory goes back"),
    Scenario("update", SMALL, calling("update", {"a": BIG, "b": BIG, "c": "x" * 4000})),
    Scenario("clear", TREE, calling("clear"), nested=True),
    Scenario("popitem", TREE, calling("popitem"), nested=True),
    Scenario("atomic", SMALL, crash_scenarios._renewing),
    Scenario("atomic", LARGE, crash_scenarios._savepoint, note="savepoint"),
    Scenario("append", FEW, calling("append", BIG)),
    Scenario("append", TREES, calling("append", {"x": [BIG]}), nested=True, note="child"),
    Scenario("pop", [*FEW, "x" * 200_000], calling("pop"), note="memory goes back"),
    Scenario("pop", LARGES, calling("pop", 1), note="large"),
    Scenario("extend", FEW, calling("extend", [BIG, "x" * 3000, BIG])),
    Scenario("__setitem__", LARGES, setting(slice(0, 4), [BIG, BIG]), note="a slice"),
    Scenario("__imul__", [1, BIG], crash_scenarios._imul),
    Scenario("clear", TREES, calling("clear"), nested=True),
    Scenario("atomic", FEW, crash_scenarios._list_transaction),
    Scenario("method", small(), object_scenarios.calling("grow", 12, 200), note="growing"),
    Scenario("method", small(), object_scenarios.calling("push", BIG), note="large into a list"),
    Scenario("__delattr__", object_scenarios.large(), object_scenarios.deleting("large"), note="large"),
    Scenario("__delattr__", Thing(n=1, wide="x" * 40_000), object_scenarios.deleting("wide"), note="memory goes back"),
    Scenario("atomic", small(), object_scenarios._renewing),
]


by_name = pytest.mark.parametrize("scenario", SWEPT, ids=lambda scenario: scenario.name)


@pytest.mark.long
@by_name
def test_refused_at_some_demands(scenario):
    refuse_each(scenario, lasting=True, few=True)


@pytest.mark.slow
@pytest.mark.parametrize("lasting", [False, True], ids=["once", "from then on"])
@by_name
def test_refused_at_every_demand(scenario, lasting):
    refuse_each(scenario, lasting=lasting, few=False)


def refuse_each(scenario, *, lasting, few):
    refusals = number = 0
    # None is refused in the first turn, which tells how many there are.
    made = 1
    while number <= made:
        with World(scenario) as world:
            code, said = world.run(lambda world, number=number: attempt(world, number, lasting))
            assert code == 0, f"demand {number}: {said}"
            world.shared._check()
        # With one refused there may be more, or fewer.
        made = max(made, said[0])
        refusals += said[1]
        number += max(1, made // 5) if few else 1
    # Only what gives memory back may do without it.
    assert refusals or scenario.method in {"__delitem__", "__delattr__", "pop", "clear", "popitem"}


# -- a real one ----------------------------------------------------------------------------------------------------

SMALL_WORLD = """
    import os
    from XME import xmem_dict, xmem_list
    from XME._core import names, program
    import gc

    from XME.errors import SharedMemoryFull

    BALLAST, REST = "/dev/shm/ballast", "/dev/shm/rest"

    def fill(shared, model, add, count):
        for k in range(count):
            try:
                add(shared, k)
            except SharedMemoryFull as error:
                assert "shared memory" in str(error).lower(), error
                return k
            add(model, k)
        raise AssertionError("it never gets full")

    def put(size):
        return lambda d, k: d.__setitem__(k, bytes([k % 256]) * size)

    def put_tree(d, k):
        d[k] = {"leaf": [k, bytes([k % 256]) * 70_000], "more": {"k": k}}

    def lie(c, k):
        c.append(bytes([k % 256]) * 1000)

    for add, model, options in (
        (put(1000), {}, {}), (put(100_000), {}, {}), (put_tree, {}, {"nested": True}), (lie, [], {}),
        (lambda c, k: c.insert(0, bytes([k % 256]) * 100_000), [], {}),
    ):
        with open(BALLAST, "wb") as file:
            os.posix_fallocate(file.fileno(), 0, 27 << 20)
        shared = (xmem_dict if type(model) is dict else xmem_list)(**options)
        reached = fill(shared, model, add, 100_000)
        plain = (shared.todict if type(model) is dict else shared.tolist)
        assert reached > 5, reached
        assert plain() == model
        shared._check(settled=True)
        # Also when not one page is left, things can be taken away.
        with open(REST, "wb", buffering=0) as file:
            for size in (1 << 20, 4096):
                try:
                    while file.write(bytes(size)) == size:
                        pass
                except OSError:
                    pass
        for _ in range(5):
            key = next(iter(model)) if type(model) is dict else -1
            del shared[key], model[key]
        assert plain() == model
        shared._check()
        os.unlink(REST)
        os.unlink(BALLAST)
        for _ in range(reached // 3):
            key = next(iter(model)) if type(model) is dict else -1
            del shared[key], model[key]
        assert plain() == model
        for k in range(max(1, reached // 10)):
            add(shared, 7), add(model, 7)
        assert plain() == model
        shared._check(settled=True)
        print(reached, end=" ", flush=True)
        shared.unlink()
        del shared, plain
        # An exception that was caught may keep the frames that it passed, and with them the mapping.
        gc.collect()
    program.leave_all()
    left = [name for name in os.listdir(names.FOLDER) if name.startswith(("xm", "sem."))]
    assert not left, left
    print("alive")
"""


@pytest.mark.long
@pytest.mark.skipif(not can_have_small_memory(), reason="no right to make a mount namespace with a small /dev/shm")
def test_a_small_file_system(tmp_path):
    done = run_in_small_memory(SMALL_WORLD, 32, tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.endswith("alive\n")
