"""A writer is killed at each of its stores into shared memory; then others look, and go on.

For each point there is a new domain with one container: a forked child kills itself before its n-th store. Then the
container must be whole (`_check`), and as it was before or as it is after; those who come next, one of whom gets the
dead one's number, change it, and nothing may be left over.
"""

import contextlib
import copy
import os
import pickle
import signal
import traceback
from dataclasses import dataclass

from tests.helpers import xme_names
from tests.store import stores
from XME import xmem_dict, xmem_list, xmem_object
from XME._containers import nesting, opening
from XME._containers.home import Home
from XME._containers.object_class import shape_of
from XME._containers.object_core import Core
from XME._core import domain as domains
from XME._core import layout, program

BIG = b"B" * (1 << 16)
BIGGER = b"C" * (70 << 10)
# The sweeper, a victim, a successor, and one more.
_CAPACITY = 4


@dataclass
class Scenario:
    """What is done to what.

    Attributes:
        method: the method that is swept.
        content: what the container has at first, a list or a dict.
        act: what is done in the end, to the shared and to the plain one.
        before: what is done to both before that.
        wear: what is done to the shared one only, and changes nothing that can be read.
        nested: as for the container.
        numpy: whether stores through numpy are points too.
        cold: whether it is the process's first change, which goes the long way.
        note: what else the test's name says.
    """

    method: str
    content: object
    act: object
    before: object = None
    wear: object = None
    nested: bool = False
    numpy: bool = False
    cold: bool = False
    note: str = ""

    @property
    def name(self):
        kind = type(self.content).__name__
        return " ".join(filter(None, [kind, self.method, self.note]))


class Ways:
    """Ways to change an object."""

    def __init__(self, **attributes):
        for name, value in attributes.items():
            setattr(self, name, value)

    def add(self, number):
        self.n += number

    def push(self, value):
        self.items.append(value)


class Thing(Ways):
    """What is shared."""

    def two(self):
        self.n += 1
        self.text += "!"

    def go_deep(self, value):
        self.tree["a"]["b"].append(value)

    def join(self):
        self.same = self.tree["items"] = self.items

    def part(self):
        self.same = list(self.items)
        self.items.append("mine")

    def grow(self, count, size):
        for k in range(count):
            setattr(self, f"a{k}", "x" * size)

    def empty(self):
        vars(self).clear()

    def work(self, handle):
        self.n += 1
        with atomic(handle):
            self.items.append("in")
            self.text = "in"
        self.n += 1

    @property
    def double(self):
        return 2 * self.n

    @double.setter
    def double(self, value):
        self.n = value // 2


class Slotted(Ways):
    """With slots beside its __dict__."""

    __slots__ = ("b", "items", "large", "n", "text")


def atomic(target):
    return target.atomic() if isinstance(target, (Home, xmem_object)) else contextlib.nullcontext()


def target_of(container):
    """What is changed: an object's handle, or the container itself."""
    return container.handle() if isinstance(container, Core) else container


def plain(container):
    """What a container has, all of it plain."""
    return ordered(copy.deepcopy(container.handle()) if isinstance(container, Core) else nesting.plain(container, {}))


def ordered(value):
    """A plain value with all dicts as lists of pairs: their order counts too; and an object as its attributes."""
    if isinstance(value, dict):
        return [(key, ordered(part)) for key, part in value.items()]
    if isinstance(value, Ways):
        names = sorted(name for name in dir(value) if not name.startswith("_") and not hasattr(type(value), name))
        names += [name for name in getattr(type(value), "__slots__", ()) if hasattr(value, name)]
        parts = [getattr(value, name) for name in names]
        # Which of them are one.
        same = [[one is other for other in parts] for one in parts if isinstance(one, list)]
        return [*zip(names, map(ordered, parts), strict=True), same]
    return [ordered(part) for part in value] if isinstance(value, list) else value


def made(content, domain, *, nested=False):
    """Return a new container of a domain that has this content."""
    if isinstance(content, Ways):
        core = Core()
        core._found(domain)
        core._shape, core._label = shape_of(type(content)), "thing"
        core._fill((), {name: getattr(content, name) for name, *_ in ordered(content)[:-1]})
        return core
    cls = xmem_list if isinstance(content, list) else xmem_dict
    shared = cls.__new__(cls)
    shared._found(domain, nested=nested)
    shared._fill(content)
    return shared


class World:
    """One domain with one container, and the plain values that it may have."""

    def __init__(self, scenario):
        self.scenario = scenario
        self.domain = domains.create(layout.PROGRAM, "sweep", _CAPACITY)
        program.remember(self.domain)
        self.shared = made(scenario.content, self.domain, nested=scenario.nested)
        self.model = copy.deepcopy(scenario.content)
        if scenario.before is not None:
            scenario.before(target_of(self.shared))
            scenario.before(self.model)
        if scenario.wear is not None:
            scenario.wear(target_of(self.shared))
        self.after = copy.deepcopy(self.model)
        scenario.act(self.after)

    def __enter__(self):
        return self

    def __exit__(self, kind, *exc_info):
        mine = f"xm{self.domain.id}"
        self.shared = None
        program.leave(self.domain)
        left = [name for name in xme_names() if mine in name]
        for name in left:
            os.unlink(f"/dev/shm/{name}")
        assert kind or not left, left

    def content(self):
        """What it has now: as it was (False) or as it is after (True), and nothing else."""
        found = plain(self.shared)
        if found == ordered(self.after):
            return True
        assert found == ordered(self.model), f"torn: {str(found)[:300]}"
        return False

    def go_on(self, mark):
        """Change it some more, beside the plain one, which becomes what it is now."""
        model = copy.deepcopy(self.after if self.content() else self.model)
        for change in _NEXT[type(model)]:
            change(target_of(self.shared), mark)
            change(model, mark)
            assert plain(self.shared) == ordered(model)
        self.model = self.after = model

    def run(self, function, tell=None):
        """Call a function in a forked child, whose stores are told of; returns how it ended, and what it returned."""
        reader, writer = os.pipe()
        pid = os.fork()
        if pid == 0:
            _be_child(self, function, tell, writer)
        os.close(writer)
        with open(reader, "rb") as pipe:
            said = pipe.read()
        _, status = os.waitpid(pid, 0)
        return os.waitstatus_to_exitcode(status), pickle.loads(said) if said else None

    def fresh(self):
        """Forget the handle and what it keeps, and open the container again."""
        serial, kind = self.shared.serial, self.shared.kind
        opening._handles.clear()
        self.shared = opening.handle_of(kind, program.join(self.domain.id), serial, None)


def _be_child(world, function, tell, writer):
    code = 1
    try:
        world.domain.require()
        if not world.scenario.cold:
            with world.shared.atomic():
                pass
            # An object is loaded by that.
            plain(world.shared)
        # Whatever a predecessor left: every entry of the ledger is taken at the end.
        world.domain.names._free_entries.clear()
        if tell is not None:
            stores.watch(world.domain, tell)
            if world.scenario.numpy:
                stores.watch_numpy()
        said = function(world)
        code = 0
    except BaseException:
        said = traceback.format_exc()
    finally:
        os.write(writer, pickle.dumps(said)[: 1 << 16])
        os._exit(code)


def act(world):
    world.scenario.act(target_of(world.shared))


def points_of(scenario):
    """Run it without a kill; returns the names of its stores."""
    told = []

    def work(world):
        act(world)
        return list(told)

    with World(scenario) as world:
        code, said = world.run(work, told.append)
        assert code == 0, said
        world.shared._check()
        assert world.content(), "it did not do what the plain type does"
    return said


def killer(number):
    """Return what kills this process before its n-th store."""
    left = number

    def tell(_what):
        nonlocal left
        left -= 1
        if not left:
            os.kill(os.getpid(), signal.SIGKILL)

    return tell


def every(points):
    """Choose all points."""
    return range(1, points + 1)


def sweep(scenario, choose=every):
    """Kill at the chosen points; returns how many that were, and of how many."""
    points = points_of(scenario)
    assert points, f"{scenario.name}: no store was seen"
    if choose is every:
        again = points_of(scenario)
        assert points == again, f"{scenario.name}: {len(points)} stores, the second time {len(again)}"
    outcomes = []
    for turn, number in enumerate(choose(len(points))):
        try:
            outcomes.append(die_at(scenario, number, successor_first=bool(turn % 2)))
        except BaseException as error:
            error.add_note(f"{scenario.name}, killed before store {number} of {len(points)}: {points[number - 1]}")
            raise
    # One store publishes: before it nothing is seen, behind it all.
    assert outcomes == sorted(outcomes), (scenario.name, outcomes)
    return len(outcomes), len(points)


def die_at(scenario, number, *, successor_first):
    """Kill at one point, look, and go on; returns whether the change was public."""
    with World(scenario) as world:
        code, said = world.run(act, killer(number))
        assert code == -signal.SIGKILL, said
        world.shared._check()
        is_after = world.content()
        if successor_first:
            succeed(world, is_after)
        world.go_on("parent")
        world.shared._check(settled=successor_first)
        if not successor_first:
            succeed(world, world.content())
            world.shared._check(settled=True)
    return is_after


def succeed(world, is_after):
    """The dead one's number is given again, and its owner changes the container."""

    def work(world):
        world.fresh()
        world.shared._check()
        assert world.content() == is_after
        assert world.domain.number == 1
        world.go_on("successor")
        world.shared._check(settled=True)

    code, said = world.run(work)
    assert code == 0, said
    # What it has now, as the parent sees it.
    if isinstance(world.shared, Core):
        world.model = copy.deepcopy(world.shared.handle())
    else:
        found = plain(world.shared)
        world.model = dict(found) if isinstance(world.model, dict) else found
    world.after = world.model


def die_twice_at(scenario, number, second):
    """The successor dies as well, at one of its own stores; returns False if it did not come that far."""
    with World(scenario) as world:
        code, said = world.run(act, killer(number))
        assert code == -signal.SIGKILL, said
        is_after = world.content()
        code, said = world.run(lambda world: _one_more(target_of(world.shared)), killer(second))
        assert code in (0, -signal.SIGKILL), said
        world.shared._check()
        found = plain(world.shared)
        old = world.after if is_after else world.model
        new = copy.deepcopy(old)
        _one_more(new)
        assert found in (ordered(old), ordered(new)), f"torn: {str(found)[:300]}"
        world.model, world.after = old, new
        world.go_on("parent")
        succeed(world, world.content())
        world.shared._check(settled=True)
    return code != 0


def _one_more(target):
    if isinstance(target, (list, xmem_list)):
        target.append("second")
    elif isinstance(target, Ways):
        target.second = "second"
    else:
        target["second"] = "second"


def _replace_first(target, mark):
    if isinstance(target, (list, xmem_list)):
        target[0:1] = [mark, mark]
    else:
        target[next(iter(target), "none")] = mark


_NEXT = {
    dict: [
        _replace_first,
        lambda d, mark: d.__setitem__(mark, 1),
        lambda d, mark: d.update({"large": BIG, mark: 2}),
        lambda d, _: d.popitem(),
        lambda d, _: d.pop("large", None),
    ],
    list: [
        _replace_first,
        lambda c, mark: c.append(mark),
        lambda c, mark: c.insert(1, BIG),
        lambda c, _: c.pop(0),
        lambda c, _: c.pop(0),
        lambda c, mark: c.__setitem__(-1, mark * 2),
    ],
    Thing: [
        lambda o, mark: setattr(o, "n", len(mark)),
        lambda o, mark: setattr(o, "items", [mark]),
        lambda o, _: o.push(BIG),
        lambda o, _: o.add(0.5),
        lambda o, mark: setattr(o, "text", mark),
        lambda o, _: o.two(),
        lambda o, _: delattr(o, "items"),
        lambda o, mark: setattr(o, "tree", {"a": {"b": [mark]}}),
        lambda o, mark: o.go_deep(mark),
    ],
    Slotted: [
        lambda o, mark: setattr(o, "n", len(mark)),
        lambda o, mark: setattr(o, "items", [mark]),
        lambda o, _: o.push(BIG),
        lambda o, mark: setattr(o, "b", mark),
        lambda o, _: delattr(o, "items"),
    ],
}
