"""Killed before any store into shared memory, a writer leaves a container as it was before or as it is after."""

import signal

import pytest

from tests.core.crew import Child
from tests.store import crash_scenarios, crash_sweep, methods, object_scenarios, test_crash_making
from tests.store.crash_sweep import Scenario, World
from XME import xmem_dict, xmem_list, xmem_object
from XME._containers import flight
from XME._containers.home import W_ROOT
from XME._core import memory, names, recovery
from XME._core import mutex as mutex_module
from XME._core.ledger import Kind
from XME._core.namebook import NameBook
from XME._store.change import Change
from XME._store.log import G_HIGH, Generation
from XME.errors import XMEError

ALL = crash_scenarios.ALL + object_scenarios.OBJECT
by_name = pytest.mark.parametrize("scenario", ALL, ids=lambda scenario: scenario.name)
# The first of each method and kind of container.
FIRSTS = list({(scenario.method, type(scenario.content)): scenario for scenario in reversed(ALL)}.values())


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch):
    """Who is dead is looked for at once."""
    monkeypatch.setattr(recovery, "drain_stores", lambda: None)
    monkeypatch.setattr(mutex_module, "SLICE_S", 0.001)


def one(scenario):
    """Return what chooses one point of a scenario, at another place than of its neighbours."""
    shift = 5 * ALL.index(scenario) + 3
    return lambda points: [1 + shift % points]


@pytest.mark.parametrize("scenario", FIRSTS, ids=lambda scenario: scenario.name)
def test_killed_at_some_store(scenario):
    done, _ = crash_sweep.sweep(scenario, one(scenario))

    assert done


@pytest.mark.slow
@pytest.mark.timeout(600)
@by_name
def test_killed_at_every_store(scenario):
    done, points = crash_sweep.sweep(scenario)

    assert done == points


# The object's class has ways of its own to change it.
MORE_WAYS = {xmem_dict: set(), xmem_list: set(), xmem_object: {"method", "property", "slots"}}


@pytest.mark.parametrize(("cls", "kind"), [(xmem_dict, dict), (xmem_list, list), (xmem_object, crash_sweep.Ways)])
def test_the_sweep_has_every_method(cls, kind):
    swept = {scenario.method for scenario in ALL if isinstance(scenario.content, kind)}
    made_and_ended = {way.method for way in test_crash_making.WAYS if way.cls is cls}
    assert swept | made_and_ended == methods.changing(cls) | MORE_WAYS[cls]


def test_a_method_without_a_scenario_is_found():
    class More(xmem_list):
        __slots__ = ()

        def rotate(self):
            self.append(self.pop(0))

    methods.READING[More] = methods.READING[xmem_list]
    assert methods.changing(More) - methods.changing(xmem_list) == {"rotate"}
    del methods.READING[More]


@pytest.mark.parametrize("cls", [xmem_dict, xmem_list, xmem_object])
def test_what_is_no_scenario_only_reads(cls):
    content = {"n": 1, "items": [1]} if cls is xmem_object else {0: 1, 1: [1], 2: crash_sweep.BIG}
    for name, read in methods.READING[cls].items():
        args = ("thing", crash_sweep.Thing) if cls is xmem_object else ()
        shared = cls(*args, **content) if args else cls(content if cls is xmem_dict else content.values())
        core = shared._xmem_core if args else shared
        before = crash_sweep.plain(core), core.current()[0], core._generation.words[G_HIGH]
        read(shared)
        assert (crash_sweep.plain(core), core.current()[0], core._generation.words[G_HIGH]) == before, name
        core._check(settled=True)
        shared.unlink()


def test_scenarios_have_names_of_their_own():
    names = [scenario.name for scenario in ALL]
    assert len(set(names)) == len(names)


# -- killed again --------------------------------------------------------------------------------------------------

AGAIN = [
    Scenario("__setitem__", crash_scenarios.LARGE, crash_scenarios.setting("large", crash_sweep.BIGGER)),
    Scenario("__delitem__", crash_scenarios.TREE, crash_scenarios.deleting("tree"), nested=True),
    Scenario("insert", crash_scenarios.LARGES, crash_scenarios.calling("insert", 1, crash_sweep.BIG)),
    Scenario("__setitem__", crash_scenarios.LARGES, crash_scenarios.setting(slice(0, 4), [crash_sweep.BIG])),
    Scenario("clear", crash_scenarios.TREES, crash_scenarios.calling("clear"), nested=True),
]
by_number = pytest.mark.parametrize("number", range(len(AGAIN)))


def deaths(scenario, firsts, seconds):
    """How often the second one died as well."""
    return sum(crash_sweep.die_twice_at(scenario, first, second) for first in firsts for second in seconds)


@pytest.mark.long
@by_number
def test_the_successor_is_killed_while_it_settles(number):
    points = len(crash_sweep.points_of(AGAIN[number]))

    assert deaths(AGAIN[number], [points // 2 + number % 3, points - 3], [5, 9 + number])


@pytest.mark.slow
@pytest.mark.timeout(1200)
@by_number
def test_the_successor_is_killed_at_every_store_of_its_settling(number):
    points = len(crash_sweep.points_of(AGAIN[number]))
    for first in range(1, points + 1):
        second = 1
        while crash_sweep.die_twice_at(AGAIN[number], first, second):
            second += 1
        assert second > 10


# -- an heir that settles nothing ----------------------------------------------------------------------------------


def _idle_heir(pipe, world):
    world.domain.require()
    pipe.send(world.domain.number)
    pipe.recv()


@pytest.mark.long
@pytest.mark.parametrize("dies_first", [True, False])
@by_number
def test_what_a_dead_writer_left_does_not_wait_for_his_heir(number, dies_first):
    """His number has an owner who never changes a container: the next change settles all the same."""
    scenario = AGAIN[number]
    points = crash_sweep.points_of(scenario)
    # Inside the mutex: what dies outside of it, nobody but the heir knows of.
    first, last = points.index("semaphore taken") + 3, points.index("semaphore given") + 1
    for point in sorted({first, (first + last) // 2, last - 1, last}):
        with World(scenario) as world:
            code, said = world.run(crash_sweep.act, crash_sweep.killer(point))
            assert code == -signal.SIGKILL, said
            with Child(_idle_heir, world) as heir:
                assert heir.hear() == 1
                if dies_first:
                    heir.kill()
                world.go_on("parent")
                assert not leaked(world.shared)
                heir.kill()


def leaked(shared):
    """Return the serial numbers of parts that exist and are not in use."""
    domain = shared.domain
    entries = [entry for number in range(domain.capacity) for entry in domain.entries(number)]
    parts = {entry.serial for entry in entries if entry.owner == shared.serial}
    there = {serial for serial in parts if memory.is_there(names.path_of(names.name_of(domain.id, serial)))}
    return there - flight.in_use_now(shared)


# -- that it can fail ----------------------------------------------------------------------------------------------


def _unlinks_first(monkeypatch):
    """What a change drops goes before the commit."""
    drop = Change.drop

    def dropping(self, place, tag, value):
        dropped = len(self.dropped)
        drop(self, place, tag, value)
        for serial in self.dropped[dropped:]:
            flight.unlink(self._room.domain, serial)

    monkeypatch.setattr(Change, "drop", dropping)


def _notes_nothing(monkeypatch):
    """What a change drops is in no ledger as such."""
    monkeypatch.setattr(NameBook, "note_dropping", lambda self, serial, owner: self._take_entry())


def _notes_no_making(monkeypatch):
    """A segment in the making is in the ledger as one in use."""
    enter = NameBook.enter

    def entering(self, kind, owner=0, **options):
        return enter(self, Kind.VALUE if kind == Kind.MAKING else kind, owner, **options)

    monkeypatch.setattr(NameBook, "enter", entering)


def _voids_nothing(monkeypatch):
    """A dead writer's records come to life with the next commit."""
    monkeypatch.setattr(Generation, "void", lambda self, place: None)


def _publishes_first(monkeypatch):
    """The root names a record before it is there."""
    write = Change.write

    def writing(self, tag, key, value, previous, extra):
        room = self._room
        if self.generation is self.origin:
            room.words[W_ROOT] = self.generation.number << 32 | self.high
        return write(self, tag, key, value, previous, extra)

    monkeypatch.setattr(Change, "write", writing)


def _settles_nothing(monkeypatch):
    """What the dead have left in flight stays."""
    monkeypatch.setattr(flight, "settle", lambda home, root, generation: None)
    monkeypatch.setattr(flight, "settle_inherited", lambda domain: domain.names.inherited.clear())


OVERWRITING = Scenario("__setitem__", crash_scenarios.LARGE, crash_scenarios.setting("large", crash_sweep.BIGGER))


@pytest.mark.parametrize(
    ("plant", "scenario"),
    [
        (_unlinks_first, OVERWRITING),
        (_notes_nothing, OVERWRITING),
        (_notes_no_making, OVERWRITING),
        (_settles_nothing, OVERWRITING),
        (_voids_nothing, Scenario("update", crash_scenarios.SMALL, crash_scenarios.calling("update", a=1, b=2, d=3))),
        (
            _publishes_first,
            Scenario("setdefault", crash_scenarios.SMALL, crash_scenarios.calling("setdefault", "d", [1])),
        ),
    ],
)
@pytest.mark.long
def test_the_sweep_finds_a_planted_fault(monkeypatch, plant, scenario):
    plant(monkeypatch)
    with pytest.raises((AssertionError, XMEError)):
        crash_sweep.sweep(scenario)
