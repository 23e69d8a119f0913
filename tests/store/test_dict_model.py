"""A shared dict beside a builtin one, through whatever Hypothesis thinks of."""

import contextlib

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from XME import xmem_dict
from XME._store import keys

KEYS = st.one_of(
    st.sampled_from(["a", "b", "é", "", 0, 1, True, 1.0, 2.5, None, b"a", ("a", 1), frozenset({1, 2}), 10**30]),
    st.integers(-5, 60),
)
VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False),
    st.text(max_size=20),
    st.binary(max_size=50),
    st.integers(0, 3000).map(lambda n: b"x" * n),
    st.lists(st.integers(), max_size=3),
    st.sampled_from([70_000, 66_000]).map(lambda n: "z" * n),
)
ITEMS = st.dictionaries(KEYS, VALUES, max_size=40)


class Undone(Exception):
    """Ends a transaction."""


def outcome(action, target):
    """Return (error and its arguments, or None; the result; the result's type)."""
    try:
        found = action(target)
    except (KeyError, TypeError) as error:
        return type(error), error.args
    return None, found, type(found)


class Beside(RuleBasedStateMachine):
    """The same is done to both; what they return, raise and hold is compared."""

    def __init__(self):
        super().__init__()
        self.open = []

    @initialize(content=ITEMS)
    def make(self, content):
        self.model = dict(content)
        self.shared = xmem_dict(content)

    def on_shared(self, action):
        """Return the outcome of what is done to the shared one."""
        return outcome(action, self.shared)

    def both(self, action):
        expected = outcome(action, self.model)
        assert self.on_shared(action) == expected

    @rule(key=KEYS, value=VALUES)
    def set(self, key, value):
        self.both(lambda d: d.__setitem__(key, value))

    @rule(key=KEYS)
    def delete(self, key):
        self.both(lambda d: d.__delitem__(key))

    @rule(key=KEYS)
    def read(self, key):
        self.both(lambda d: d[key])
        self.both(lambda d: d.get(key, "none"))
        self.both(lambda d: key in d)

    @rule(key=KEYS, default=VALUES)
    def pop_or(self, key, default):
        self.both(lambda d: d.pop(key, default))

    @rule(key=KEYS)
    def pop(self, key):
        self.both(lambda d: d.pop(key))

    @rule(times=st.integers(1, 30))
    def pop_items(self, times):
        for _ in range(times):
            self.both(lambda d: d.popitem())

    @rule(key=KEYS, value=VALUES)
    def setdefault(self, key, value):
        self.both(lambda d: d.setdefault(key, value))

    @rule(items=ITEMS)
    def update(self, items):
        self.both(lambda d: d.update(items))

    @rule(items=st.lists(st.tuples(KEYS, VALUES), max_size=6), more=st.dictionaries(st.text(max_size=3), VALUES))
    def update_with_pairs(self, items, more):
        more.pop("self", None)
        self.both(lambda d: d.update(items, **more))

    @rule(items=ITEMS)
    def merge(self, items):
        def merge(d):
            d |= items

        self.both(merge)
        self.both(lambda d: list((d | items).items()))
        self.both(lambda d: list((items | d).items()))

    @rule()
    def clear(self):
        self.both(lambda d: d.clear())

    @rule(key=KEYS)
    def apply(self, key):
        expected = self.model[key] = [repr(self.model.get(key))[:10]]
        found = self.on_shared(lambda d: d.apply(key, lambda value: [repr(value)[:10]], None))
        assert found == (None, expected, list)

    @rule(key=st.sampled_from(["count", "other"]), by=st.integers(-3, 3))
    def increment(self, key, by):
        self.model[key] = self.model[key] + by if isinstance(self.model.get(key), int) else by
        if not isinstance(self.shared.get(key), int):
            self.shared.pop(key, None)
            self.shared[key] = by
            self.model.update({key: self.model.pop(key)})
        else:
            assert self.on_shared(lambda d: d.increment(key, by)) == (None, self.model[key], int)

    @rule(others=st.sets(KEYS))
    def compare_keys(self, others):
        for operator in ("__and__", "__or__", "__sub__", "__xor__", "__le__", "__gt__", "__eq__", "isdisjoint"):
            self.both(lambda d, operator=operator: getattr(d.keys(), operator)(others))
        assert others - self.shared.keys() == others - self.model.keys()

    # -- transactions ----------------------------------------------------------------------------------------------

    @precondition(lambda self: len(self.open) < 3)
    @rule()
    def enter(self):
        stack = contextlib.ExitStack()
        assert stack.enter_context(self.shared.atomic()) is self.shared
        self.open.append((stack, dict(self.model)))

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
        self.model = before

    @invariant()
    def same(self):
        if not hasattr(self, "model"):
            return
        assert list(self.shared.items()) == list(self.model.items())
        assert len(self.shared) == len(self.model)
        assert list(reversed(self.shared)) == list(reversed(self.model))
        assert self.shared == self.model

    def teardown(self):
        while self.open:
            self.open.pop()[0].close()


class Colliding(Beside):
    """All keys have one of three hashes."""

    def __init__(self):
        super().__init__()
        self.stack = contextlib.ExitStack()
        patch = self.stack.enter_context(pytest.MonkeyPatch.context())
        usual = keys.stable_hash
        patch.setattr(keys, "stable_hash", lambda canonical: 7 + usual(canonical) % 3)

    def teardown(self):
        super().teardown()
        self.stack.close()


USUAL = settings(max_examples=8, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck))
TestBeside = Beside.TestCase
TestBeside.settings = USUAL
TestColliding = Colliding.TestCase
TestColliding.settings = USUAL


class TestBesideLong(Beside.TestCase):
    settings = settings(USUAL, max_examples=100, stateful_step_count=100)
    pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


class TestCollidingLong(Colliding.TestCase):
    settings = settings(USUAL, max_examples=100, stateful_step_count=100)
    pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
