"""Against `list`, operation by operation: what is returned, what is raised with which words, what it is afterwards."""

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from XME import xmem_list
from XME._containers import flight
from XME._core import ledger
from XME._store import log, sequence

VALUES = st.one_of(
    st.integers(-3, 3), st.integers(), st.floats(allow_nan=False), st.text(max_size=5), st.booleans(), st.none(),
    st.binary(max_size=40), st.lists(st.integers(0, 3), max_size=3), st.tuples(st.text(max_size=2)),
    st.integers(0, 2).map(lambda n: str(n) * 3000),
)  # fmt: skip
# Long ones go other ways than short ones, and large buffers get segments of their own.
MANY = st.one_of(
    st.lists(VALUES, max_size=6), st.integers(250, 600).map(lambda n: list(range(n))),
    st.integers(256, 300).map(lambda n: [0.5] * n), st.integers(256, 300).map(lambda n: [str(k) for k in range(n)]),
    st.integers(1, 2).map(lambda n: [bytes([n]) * 70_000, n]),
)  # fmt: skip
INDICES = st.integers(-8, 8) | st.integers(-700, 700)
BOUNDS = st.none() | INDICES
SLICES = st.builds(slice, BOUNDS, BOUNDS, st.sampled_from([None, 1, 1, 2, 3, -1, -2, -7, 0]))


class Undone(Exception):
    pass


def outcome(action, target):
    """What an action returns, or the error that it raises, with its words."""
    try:
        return "returned", action(target)
    except Exception as error:
        return type(error).__name__, str(error)


class ListMachine(RuleBasedStateMachine):
    """Two lists that must stay equal: each rule does the same to both."""

    def __init__(self):
        super().__init__()
        self.shared = xmem_list()
        self.plain = []

    def on_shared(self, action):
        """Return the outcome of what is done to the shared one."""
        return outcome(action, self.shared)

    def both(self, action):
        expected = outcome(action, self.plain)
        assert self.on_shared(action) == expected

    @initialize(init=MANY)
    def begin(self, init):
        self.shared = xmem_list(init)
        self.plain = list(init)

    @rule(value=VALUES)
    def append(self, value):
        self.both(lambda a: a.append(value))

    @rule(value=VALUES, index=INDICES)
    def insert(self, index, value):
        self.both(lambda a: a.insert(index, value))

    @rule(many=MANY)
    def extend(self, many):
        self.both(lambda a: a.extend(iter(many)))

    @rule(many=MANY)
    def add_in_place(self, many):
        def add(a):
            a += many

        self.both(add)

    @precondition(lambda self: len(self.plain) < 3000)
    @rule(times=st.integers(-1, 3))
    def multiply_in_place(self, times):
        def multiply(a):
            a *= times

        self.both(multiply)

    @rule(index=INDICES, value=VALUES)
    def set(self, index, value):
        self.both(lambda a: a.__setitem__(index, value))

    @rule(which=SLICES, many=MANY)
    def set_slice(self, which, many):
        self.both(lambda a: a.__setitem__(which, iter(many)))

    @rule(which=SLICES, value=VALUES)
    def set_slice_of_its_size(self, which, value):
        if which.step != 0:
            many = [value] * len(self.plain[which])
            self.both(lambda a: a.__setitem__(which, many))

    @rule(which=INDICES | SLICES)
    def delete(self, which):
        self.both(lambda a: a.__delitem__(which))

    @rule(index=st.sampled_from([(), (0,), (-1,)]) | st.tuples(INDICES))
    def pop(self, index):
        self.both(lambda a: a.pop(*index))

    @rule(count=st.integers(1, 40), index=st.sampled_from([0, -1]))
    def pop_many(self, count, index):
        for _ in range(count):
            self.both(lambda a: a.pop(index))

    @rule(count=st.integers(1, 60), value=VALUES)
    def append_many(self, count, value):
        for _ in range(count):
            self.both(lambda a: a.append(value))

    @rule(count=st.integers(1, 40), index=st.sampled_from([0, 10_000]))
    def insert_many(self, count, index):
        for k in range(count):
            self.both(lambda a, k=k: a.insert(index, k))

    @rule(steps=st.lists(st.tuples(st.integers(0, 3), INDICES, VALUES), min_size=5, max_size=80))
    def work_like_a_queue(self, steps):
        """Small changes in a row: the short ways."""
        for what, index, value in steps:
            if what == 0:
                self.both(lambda a, i=index: a.pop(i % 2 - 1))
            elif what == 1:
                self.both(lambda a, v=value: (a.append(v), a.append(2)))
            elif what == 2:
                self.both(lambda a, i=index, v=value: a.__setitem__(i, v))
            self.both(lambda a, i=index: (a[i], a[-1], a[0]))

    @rule(value=VALUES)
    def remove(self, value):
        self.both(lambda a: a.remove(value))

    @rule()
    def clear(self):
        self.both(lambda a: a.clear())

    @rule()
    def reverse(self):
        self.both(lambda a: a.reverse())

    @rule(key=st.sampled_from([None, str, repr, type]), reverse=st.booleans())
    def sort(self, key, reverse):
        before = list(self.plain)
        expected = outcome(lambda a: a.sort(key=key, reverse=reverse), self.plain)
        assert self.on_shared(lambda a: a.sort(key=key, reverse=reverse)) == expected
        if expected[0] != "returned":
            # A list may be left in any order; this one is as it was.
            self.plain = before

    @rule(which=INDICES | SLICES)
    def get(self, which):
        self.both(lambda a: a[which])
        self.both(lambda a: a[which])

    @rule(value=VALUES, bounds=st.sampled_from([()]) | st.tuples(INDICES) | st.tuples(INDICES, INDICES))
    def search(self, value, bounds):
        self.both(lambda a: (value in a, a.count(value)))
        self.both(lambda a: a.index(value, *bounds))

    @rule(many=MANY, times=st.integers(-1, 2))
    def make_plain_ones(self, many, times):
        self.both(lambda a: (a + many, many + a, a * times, times * a, a.copy()))

    @rule(many=MANY)
    def compare(self, many):
        for other in (many, list(self.plain), self.plain[:-1], xmem_list(many)):
            self.both(lambda a, b=other: (a == b, b == a, a != b))
            for compare in ("__lt__", "__le__", "__gt__", "__ge__"):
                plain = list(other)
                expected = outcome(lambda a, c=compare, b=plain: getattr(a, c)(b), self.plain)
                assert self.on_shared(lambda a, c=compare, b=other: getattr(a, c)(b)) == expected

    @rule(many=MANY, index=INDICES, inner=st.booleans(), outer=st.booleans(), which=SLICES)
    def transaction(self, many, index, which, inner, outer):
        """A block that may fail, in a block that may fail: each undoes what it did."""
        start, middle = list(self.plain), None
        try:
            with self.shared.atomic() as shared:
                assert shared is self.shared
                self.both(lambda a: a.extend(many))
                self.both(lambda a: a.pop(index))
                middle = list(self.plain)
                try:
                    with self.shared.atomic():
                        self.both(lambda a: a.__delitem__(which))
                        self.both(lambda a: a.extend(many))
                        self.both(lambda a: a.reverse())
                        if inner:
                            raise Undone
                except Undone:
                    self.plain = middle
                assert self.shared == self.plain
                self.both(lambda a: a.append(1))
                if outer:
                    raise Undone
        except Undone:
            self.plain = start

    @invariant()
    def is_the_same(self):
        assert len(self.shared) == len(self.plain)
        assert self.shared.tolist() == self.plain
        assert list(self.shared) == self.plain
        assert list(reversed(self.shared)) == self.plain[::-1]
        assert [type(value) for value in self.shared] == [type(value) for value in self.plain]

    @invariant()
    def its_records_are_sound(self):
        root, generation = self.shared.current()
        place = root & log.PLACE_MASK
        count, _, live, at = sequence.NUMBERS(generation.data, place * log.UNIT + sequence.NUMBERS_AT)
        found = sequence.places(generation, place)
        assert len(set(found)) == count
        assert live == sum(map(generation.units, found)) + (generation.units(at) if at else 0)

    def teardown(self):
        """What this list alone refers to is what is left of it in shared memory."""
        domain = self.shared.domain
        with self.shared.mutex:
            in_use = flight.in_use_now(self.shared)
        entries = list(domain.entries(domain.number))
        ours = [entry for entry in entries if entry.owner == self.shared.serial]
        assert {entry.serial for entry in ours} == in_use
        assert not {entry.serial for entry in ours if entry.kind in ledger.IN_FLIGHT}


TestListMachine = ListMachine.TestCase
TestListMachine.settings = settings(max_examples=20, stateful_step_count=25, deadline=None)


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_the_same_for_longer():
    class Longer(ListMachine):
        pass

    Longer.TestCase.settings = settings(max_examples=250, stateful_step_count=50, deadline=None)
    Longer.TestCase("runTest").runTest()
