"""A shared object beside a plain one of its class, through whatever Hypothesis thinks of.

What raises has left the shared one as it was; so the plain one is put back by hand. Which attributes are one list
counts as much as what is in them.
"""

import contextlib
import copy
import dataclasses
import zlib

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.store.crash_sweep import atomic
from XME import xmem_object

NAMES = ("n", "items", "same", "tree", "large", "new", "limit", "unknown")
# From here on a value has a segment of its own.
LARGE_BYTES = 1 << 16
_LONG = 100


class Undone(Exception):
    """Ends a method in its middle, or a transaction."""


class Acts:
    """Methods for all kinds; an attribute may have become anything, and then some of them raise."""

    __slots__ = ()

    def add(self, by):
        self.n += by
        return self.n

    def push(self, *values):
        self.items.extend(values)
        return self.items

    def drop_first(self):
        return self.items.pop(0)

    def go_deep(self, key, value):
        self.tree["a"]["b"][key] = value
        return self.tree["a"]

    def join(self):
        self.same = self.items
        return self

    def join_deep(self):
        self.tree["a"]["items"] = self.items

    def part(self):
        self.same = list(self.items)

    def are_one(self):
        # What cannot change may be one object here and two in another process.
        return isinstance(self.items, (list, dict)) and (self.items is self.same, self.tree["a"].get("items"))

    def write_into(self, where):
        self.large[where] += 1

    def lose(self, *names):
        for name in names:
            delattr(self, name)

    def fail(self, at, value):
        """Change everything, and raise before the step with this number."""
        steps = (
            lambda: self.add(1), lambda: self.push(value), lambda: self.go_deep("failed", value), self.part,
            lambda: setattr(self, "new", [value]), lambda: self.lose("large"),
        )  # fmt: skip
        for step in steps[:at]:
            step()
        raise Undone(at)

    @property
    def double(self):
        return self.n * 2

    @double.setter
    def double(self, value):
        self.n = value // 2
        self.items.append(self.n)


class Plain(Acts):
    limit = 10

    def __init__(self):
        self.n = 0
        self.items = self.same = [1]
        self.tree = {"a": {"b": {}}}
        self.large = np.zeros(LARGE_BYTES // 8)


class Slotted(Acts):
    __slots__ = ("items", "large", "n", "new", "same", "tree")
    __init__ = Plain.__init__


class Half(Slotted):
    """With slots beside its __dict__."""


@dataclasses.dataclass
class Record(Acts):
    n: int = 0
    items: list = dataclasses.field(default_factory=list)
    same: list = dataclasses.field(default_factory=list)
    tree: dict = dataclasses.field(default_factory=lambda: {"a": {"b": {}}})
    large: bytes = b"x" * LARGE_BYTES
    limit: int = 10


@dataclasses.dataclass(slots=True)
class Packed(Record):
    new: list | None = None


KINDS = (Plain, Slotted, Half, Record, Packed)
SMALL = st.one_of(
    st.integers(-3, 3), st.integers(), st.floats(allow_nan=False), st.text(max_size=5), st.none(), st.booleans(),
    st.lists(st.integers(0, 3), max_size=3), st.dictionaries(st.sampled_from("ab"), st.lists(st.integers(0, 3))),
    st.tuples(st.lists(st.integers(0, 3), max_size=2)), st.integers(1, 5000).map(lambda n: "t" * n),
)  # fmt: skip
LARGE = st.one_of(
    st.integers(0, 3).map(lambda n: np.full(LARGE_BYTES // 8 + n, n)),
    st.integers(0, 3).map(lambda n: b"%d" % n * (LARGE_BYTES + n)),
    st.integers(0, 3).map(lambda n: [str(n) * (LARGE_BYTES + n), {"deep": np.full(LARGE_BYTES, n)}]),
)
VALUES = st.one_of(SMALL, SMALL, SMALL, LARGE)
STEPS = st.one_of(
    st.tuples(st.just("add"), st.integers(-3, 3)), st.tuples(st.just("push"), VALUES), st.just(("drop_first",)),
    st.tuples(st.just("go_deep"), st.sampled_from("xyz"), VALUES), st.just(("join",)), st.just(("join_deep",)),
    st.just(("part",)), st.just(("are_one",)), st.tuples(st.just("write_into"), st.integers(0, 9)),
    st.tuples(st.just("fail"), st.integers(0, 6), VALUES), st.tuples(st.just("lose"), st.sampled_from(NAMES)),
    st.tuples(st.just("lose"), st.just("n"), st.sampled_from(NAMES)),
    st.tuples(st.just("set"), st.sampled_from(NAMES), VALUES), st.tuples(st.just("get"), st.sampled_from(NAMES)),
    st.tuples(st.just("set"), st.just("double"), SMALL), st.just(("get", "double")),
    st.tuples(st.just("delete"), st.sampled_from(NAMES)),
)  # fmt: skip
FROM_OUTSIDE = {"set": setattr, "get": getattr, "delete": delattr}


# -- what is done to both ----------------------------------------------------------------------------------------------


def names_of(plain):
    slots = [name for cls in type(plain).__mro__ for name in getattr(cls, "__slots__", ())]
    return sorted({name for name in (*slots, *getattr(plain, "__dict__", ())) if hasattr(plain, name)})


def form(value, seen):
    """Return a value as tuples that also say which of its lists and dicts are one."""
    if isinstance(value, xmem_object):
        value = copy.deepcopy(value)
    if isinstance(value, np.ndarray):
        return value.dtype.str, value.shape, zlib.crc32(value.tobytes())
    if isinstance(value, tuple):
        return "tuple", *[form(part, seen) for part in value]
    if isinstance(value, (str, bytes)) and len(value) > _LONG:
        # Who looks at what differs wants to see the rest.
        return type(value).__name__, len(value), zlib.crc32(value if isinstance(value, bytes) else value.encode())
    if not isinstance(value, (list, dict, Acts)):
        return type(value).__name__, value
    if id(value) in seen:
        return "the same as", seen[id(value)]
    seen[id(value)] = len(seen)
    if isinstance(value, list):
        return "list", *[form(part, seen) for part in value]
    if isinstance(value, dict):
        return "dict", *[(key, form(part, seen)) for key, part in value.items()]
    return type(value).__name__, *[(name, form(getattr(value, name), seen)) for name in names_of(value)]


@contextlib.contextmanager
def put_back_if_it_raises(target):
    """What the shared one does by itself."""
    if isinstance(target, xmem_object):
        yield
        return
    before = copy.deepcopy(target)
    try:
        yield
    except BaseException:
        put_back(target, before)
        raise


def put_back(plain, before):
    for name in names_of(plain):
        delattr(plain, name)
    for name in names_of(before):
        setattr(plain, name, getattr(before, name))


def outcome(target, step):
    """What a step returns, as its form, or the error that it raises."""
    name, *args = copy.deepcopy(step)
    try:
        with put_back_if_it_raises(target):
            if name == "transaction":
                return "returned", transaction(target, *args)
            call = FROM_OUTSIDE.get(name)
            found = getattr(target, name)(*args) if call is None else call(target, *args)
            return "returned", form(found, {})
    except Exception as error:
        # Python words these by what an object's class is called, and whether it has slots.
        return type(error).__name__, None if isinstance(error, AttributeError) else str(error)


def transaction(target, steps, fails):
    found = []
    with atomic(target):
        for step in steps:
            found.append(outcome(target, step))
            # It reads what it has written.
            found.append(form(target, {}))
        if fails:
            raise Undone(found)
    return found


def transactions(steps):
    return st.tuples(st.just("transaction"), st.lists(steps, max_size=4), st.booleans())


# -- the machine -------------------------------------------------------------------------------------------------------


class ObjectMachine(RuleBasedStateMachine):
    """Two objects that must stay equal: each rule does the same to both."""

    def __init__(self):
        super().__init__()
        self.open = []

    @initialize(kind=st.sampled_from(KINDS))
    def begin(self, kind):
        self.plain = kind()
        self.shared = xmem_object("shared", kind)

    def on_shared(self, step):
        return outcome(self.shared, step)

    @rule(step=STEPS)
    def one_step(self, step):
        expected = outcome(self.plain, step)
        assert self.on_shared(step) == expected

    @rule(steps=st.lists(STEPS, min_size=3, max_size=12))
    def several_steps(self, steps):
        """Without a look in between, which would load everything."""
        for step in steps:
            self.one_step(step)

    @rule(step=transactions(st.one_of(STEPS, STEPS, transactions(STEPS))))
    def whole_transaction(self, step):
        self.one_step(step)

    # -- transactions of several rules -------------------------------------------------------------------------------

    @precondition(lambda self: len(self.open) < 3)
    @rule()
    def enter(self):
        stack = contextlib.ExitStack()
        assert stack.enter_context(self.shared.atomic()) is self.shared
        self.open.append((stack, copy.deepcopy(self.plain)))

    @precondition(lambda self: self.open)
    @rule()
    def leave(self):
        self.open.pop()[0].close()

    @precondition(lambda self: self.open)
    @rule()
    def fail(self):
        stack, before = self.open.pop()
        with pytest.raises(Undone), stack:
            raise Undone
        put_back(self.plain, before)

    # -- what must be so ---------------------------------------------------------------------------------------------

    @invariant()
    def is_the_same(self):
        if not hasattr(self, "plain"):
            return
        assert form(self.shared, {}) == form(self.plain, {})
        for name in (*NAMES, "double"):
            assert outcome(self.shared, ("get", name)) == outcome(self.plain, ("get", name))
        if not self.open:
            self.shared._xmem_core._check(settled=True)

    def teardown(self):
        while self.open:
            self.open.pop()[0].close()


USUAL = settings(max_examples=4, stateful_step_count=10, deadline=None, suppress_health_check=list(HealthCheck))
TestObjectMachine = ObjectMachine.TestCase
TestObjectMachine.settings = USUAL


class TestObjectMachineLonger(ObjectMachine.TestCase):
    settings = settings(USUAL, max_examples=20, stateful_step_count=25)
    pytestmark = [pytest.mark.long]


class TestObjectMachineLongest(ObjectMachine.TestCase):
    settings = settings(USUAL, max_examples=200, stateful_step_count=50)
    pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
