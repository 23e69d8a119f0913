"""Killed while a container is made or ended: nobody finds half of one, and what is left of it goes."""

import contextlib
import gc
import mmap
import os
import signal
import traceback
from dataclasses import dataclass
from typing import Any

import pytest

import XME
from tests.helpers import xme_names
from tests.store import crash_sweep, stores
from tests.store.crash_sweep import BIG, BIGGER, Scenario, Thing, World
from XME import xmem_array, xmem_dict, xmem_list, xmem_object
from XME._core import mutex as mutex_module
from XME._core import named, program, recovery, registry, sweep

CONTENT = {"a": 1, "large": BIG, "tree": {"leaf": [1, BIGGER]}}
# Of a container that was given up nobody knows; its segment and its semaphore stay until its program ends.
_NAMES_OF_ONE = 2


@dataclass
class Way:
    """A way to make or to end a container.

    Attributes:
        cls: its class.
        method: what is called.
        act: does it, to a container if one is to be ended.
        note: what else the test's name says.
    """

    cls: type
    method: str
    act: Any
    note: str = ""


MAKING = [
    Way(xmem_dict, "__init__", lambda: xmem_dict(CONTENT)),
    Way(xmem_dict, "__init__", lambda: xmem_dict(CONTENT, nested=True), "nested"),
    Way(xmem_dict, "fromkeys", lambda: xmem_dict.fromkeys("abc", BIG)),
    Way(xmem_list, "__init__", lambda: xmem_list([1, BIG, "x"])),
    Way(xmem_list, "__init__", lambda: xmem_list([1, [BIG, [2]]], nested=True), "nested"),
    Way(xmem_object, "__new__", lambda: xmem_object("thing", Thing, n=1, large=BIG, items=[1])),
]
ENDING = [
    Way(xmem_dict, "unlink", lambda shared: shared.unlink()),
    Way(xmem_list, "unlink", lambda shared: shared.unlink()),
    Way(xmem_object, "unlink", lambda shared: shared.unlink()),
]
NAME = f"crash-publishing-{os.getpid()}"
PUBLISHING = [
    Way(xmem_dict, "publish", lambda shared: shared.publish(NAME)),
    Way(xmem_list, "publish", lambda shared: shared.publish(NAME)),
    Way(xmem_object, "publish", lambda shared: shared.publish(NAME)),
]
WAYS = MAKING + ENDING + PUBLISHING
ENDED = {
    xmem_dict: Scenario("unlink", CONTENT, lambda _: None, nested=True, cold=True),
    xmem_list: Scenario("unlink", [1, [BIG, [2]]], lambda _: None, nested=True, cold=True),
    xmem_object: Scenario("unlink", Thing(n=1, large=BIG, items=[BIGGER]), lambda _: None, cold=True),
}
NOTHING = Scenario("nothing", {"a": 1}, lambda _: None)


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch):
    """Who is dead is looked for at once."""
    monkeypatch.setattr(recovery, "drain_stores", lambda: None)
    monkeypatch.setattr(mutex_module, "SLICE_S", 0.001)


def name_of(way):
    return " ".join(filter(None, [way.cls.__name__, way.method, way.note]))


def some(ways):
    """Two points of each way, or all of them by hand."""
    few = pytest.param(lambda points: {points // 3, points - points // 4}, id="some")
    every = pytest.param(lambda points: range(1, points + 1), id="all", marks=[pytest.mark.slow])
    both = pytest.mark.parametrize("choose", [few, every])
    return lambda test: both(pytest.mark.parametrize("way", ways, ids=name_of)(test))


def points_of(scenario, act, least=10):
    told = []

    def count(world):
        act(world)
        return len(told)

    with World(scenario) as world:
        code, said = world.run(count, told.append)
        assert code == 0, said
    assert said > least
    return said


def killed(world, act, point):
    code, said = world.run(act, crash_sweep.killer(point))
    assert code == -signal.SIGKILL, said


def names_of(world):
    gc.collect()
    world.domain.names.tidy()
    return {name for name in xme_names() if world.domain.id in name}


def go_on(world):
    """The dead one's number is given again, and the others go on as well."""

    def work(world):
        assert world.domain.number == 1
        # Also what needs another one's mutex is settled by then.
        for k in range(2):
            world.shared.update(again=k)

    code, said = world.run(work)
    assert code == 0, said
    world.shared.update(on="go")
    world.shared._check(settled=True)


@some(MAKING)
def test_killed_while_it_is_made(way, choose):
    def make(world):
        program.program_domain = lambda: world.domain
        # The child must not drop it before it is killed.
        world.made = way.act()

    points = points_of(NOTHING, make)
    with World(NOTHING) as world:
        before = names_of(world)
        world.run(make)
        whole = len(names_of(world) - before)
    for point in choose(points):
        with World(NOTHING) as world:
            before = names_of(world)
            killed(world, make, point)
            go_on(world)
            left = names_of(world) - before
            # After its commit it has all its parts, and before that none.
            assert len(left) <= _NAMES_OF_ONE or (len(left) == whole and point > points // 2), left
            assert world.shared["a"] == 1


@some(ENDING)
def test_killed_while_it_is_unlinked(way, choose):
    scenario = ENDED[way.cls]

    def end(world):
        way.act(crash_sweep.target_of(world.shared))

    for point in choose(points_of(scenario, end)):
        with World(scenario) as world:
            killed(world, end, point)
            # It is gone, or it is whole.
            with contextlib.suppress(XME.ContainerGone):
                world.go_on("parent")
                world.shared._check()
            # Another one goes on with it.
            crash_sweep.target_of(world.shared).unlink()
            assert len(names_of(world)) == 1


@pytest.mark.parametrize("way", PUBLISHING, ids=name_of)
def test_killed_while_it_is_published(way):
    scenario = ENDED[way.cls]

    def publish(world):
        way.act(crash_sweep.target_of(world.shared))

    for point in range(1, 1 + points_of(scenario, publish, 1)):
        with World(scenario) as world:
            killed(world, publish, point)
            world.go_on("parent")
            shared = crash_sweep.target_of(world.shared)
            # It has the name or has not; either way it can be had.
            with contextlib.suppress(XME.NameUnknown):
                assert XME.attach(NAME) is shared
            assert shared.publish(NAME) is shared
            assert XME.attach(NAME) is shared
            shared.unlink()
            with pytest.raises(XME.NameUnknown):
                XME.attach(NAME)


@pytest.mark.long
@pytest.mark.parametrize("way", MAKING, ids=name_of)
def test_killed_while_it_is_dropped(way):
    whole = 0

    def make(world):
        program.program_domain = lambda: world.domain
        world.made = way.act()

    def drop(world):
        make(world)
        world.made = None
        names_of(world)

    made, points = points_of(NOTHING, make), points_of(NOTHING, drop)
    for point in (made, points - 2):
        with World(NOTHING) as world:
            before = names_of(world)
            killed(world, drop, point)
            go_on(world)
            # What its maker could not drop any more stays until the program ends, and is no more than it was.
            whole = whole or len(names_of(world) - before)
            assert len(names_of(world) - before) <= whole


# -- with a public name --------------------------------------------------------------------------------------------


@pytest.mark.long
@pytest.mark.parametrize("cls", [xmem_dict, xmem_list])
@pytest.mark.parametrize("part", range(1, 6))
def test_killed_while_a_named_one_is_made(cls, part):
    name = f"crash-making-{os.getpid()}"
    content = CONTENT if cls is xmem_dict else [1, [BIG]]
    board = mmap.mmap(-1, 64)
    create = named.create

    def telling(*args, **kwargs):
        domain = create(*args, **kwargs)
        board[: len(domain.id)] = domain.id.encode()
        return domain

    def make(world):
        named.create = telling
        world.made = cls(content, name=name, nested=True)

    def make_and_unlink(world):
        make(world)
        world.made.unlink()

    points = points_of(NOTHING, make_and_unlink)
    with World(NOTHING) as world:
        killed(world, make_and_unlink, 1 + (points - 1) * part // 5)
    # Its maker was the only one who had it.
    with pytest.raises(XME.NameUnknown):
        XME.attach(name)
    again = cls(content, name=name, nested=True)
    assert XME.attach(name) == content
    again.unlink()
    del again
    gc.collect()
    named.tidy()
    sweep.sweep_dead_domains()
    registry.prune()
    made = board[:].rstrip(b"\0").decode()
    assert made
    assert not [found for found in xme_names() if made in found]


def named_object(name):
    return xmem_object("thing", Thing, n=1, large=BIG).publish(name)


SHARING = {
    "array": lambda _name: xmem_array(3),
    "published dict": lambda name: xmem_dict({"tree": {"leaf": BIG}}, nested=True).publish(name),
    "published object": named_object,
    "published array": lambda name: xmem_array(3).publish(name),
    "named dict": lambda name: xmem_dict({"tree": {"leaf": BIG}}, name=name, nested=True),
    "named list": lambda name: xmem_list([BIG], name=name),
    "named array": lambda name: xmem_array(3, name=name),
}


@pytest.mark.parametrize("share", SHARING)
def test_one_goes_on_with_the_unlink_of_another_who_was_killed(share):
    name = f"crash-unlinking-{os.getpid()}"
    # So that each turn finds the same names of this process.
    xmem_dict()
    code, point = -signal.SIGKILL, 0
    while code:
        point += 1
        before = names_here()
        shared = SHARING[share](name)
        domain = domain_of(shared)
        code = unlink_and_die(shared, domain, point)
        assert code in (0, -signal.SIGKILL)
        shared.unlink()
        shared.unlink()
        assert registry.read(name) is None
        assert names_here() == before
        assert domain is program.program_domain() or not [left for left in xme_names() if domain.id in left]
    # He was killed at each store, and then at none.
    assert point > 1
    registry.prune()


def domain_of(shared):
    if isinstance(shared, xmem_array):
        return shared._hold.segment.domain
    return getattr(shared, "_xmem_core", shared).domain


def names_here():
    domain = program.program_domain()
    gc.collect()
    domain.names.tidy()
    return {name for name in xme_names() if domain.id in name}


def unlink_and_die(shared, domain, point):
    pid = os.fork()
    if not pid:
        try:
            domain.require()
            stores.watch(domain, crash_sweep.killer(point))
            shared.unlink()
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        finally:
            os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
