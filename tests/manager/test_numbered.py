"""Calls that leave a number in the object: in the same commit, whatever they change, and whoever commits afterwards."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from XME import MutexError, xmem_object
from XME._containers.object_numbered import Numbered


class Thing:
    kind = "thing"

    def __init__(self):
        self.number, self.items, self.text = 0, [], ""

    def add(self, value):
        self.number += value
        return self.number

    def push(self, value):
        self.items.append(value)
        return list(self.items)

    def write(self, value):
        self.text = "x" * (50 * value)
        self.same = self.items

    def drop(self, value):
        for name in ("same", f"more{value}"):
            vars(self).pop(name, None)

    def more(self, value):
        setattr(self, f"more{value}", value)

    def look(self, value):
        return self.number, value

    def fail(self, value):
        self.number = self.items = value
        raise KeyError(value)


class Slotted(Thing):
    __slots__ = ("items", "number", "same", "text")

    def write(self, value):
        self.text = "x" * (50 * value)
        self.same = self.items

    def drop(self, value):
        vars(self).pop(f"more{value}", None)


METHODS = ["add", "push", "write", "drop", "more", "look", "fail"]
STEPS = st.lists(st.tuples(st.sampled_from(METHODS), st.integers(0, 9), st.booleans(), st.booleans()), max_size=25)


def state_of(thing):
    names = ["number", "items", "text", "same", *[f"more{k}" for k in range(10)]]
    return {name: getattr(thing, name) for name in names if hasattr(thing, name)}


@pytest.mark.long
@pytest.mark.parametrize("cls", [Thing, Slotted])
@settings(max_examples=40, deadline=None)
@given(steps=STEPS)
def test_they_do_what_the_methods_do(cls, steps):
    shared, plain = xmem_object("thing", cls), cls()
    core = shared._xmem_core
    numbered = Numbered(core)
    last, before = b"", state_of(plain)
    for count, (method, value, is_numbered, forget) in enumerate(steps):
        if forget:
            core._become_empty()
        number = count.to_bytes(8 + count % 3, "little")
        act = getattr(plain, method)
        expected = outcome(lambda act=act, value=value: act(value))
        if is_numbered:
            found = outcome(lambda m=method, v=value, n=number: call(numbered, cls, m, v, n))
            last = last if method == "fail" else number
        else:
            found = outcome(lambda method=method, value=value: getattr(shared, method)(value))
        if method == "fail":
            plain = restored(cls, before)
        before = state_of(plain)
        assert found == expected
        assert numbered.last() == Numbered(core).last() == last
        assert state_of(shared) == before
        core._check()
    if steps:
        assert not any(isinstance(name, bytes) for name in core._entries)


def restored(cls, state):
    plain = cls()
    for name in ("same", *[f"more{k}" for k in range(10)]):
        if name not in state and hasattr(plain, name):
            delattr(plain, name)
    for name, value in state.items():
        setattr(plain, name, value)
    if "same" in state and state["same"] == state["items"]:
        plain.same = plain.items
    return plain


def call(numbered, cls, method, value, number):
    kept = []
    result = numbered.call(getattr(cls, method), {"value": value}, number, kept.append)
    assert kept == [result]
    return result


def outcome(function):
    try:
        return function()
    except KeyError as error:
        return repr(error)


def test_what_keeps_the_result_can_still_refuse_the_call():
    shared = xmem_object("thing", Thing)
    numbered = Numbered(shared._xmem_core)

    def refuse(_result):
        raise ValueError("no room")

    with pytest.raises(ValueError, match="no room"):
        numbered.call(Thing.add, {"value": 5}, b"1", refuse)
    assert (shared.number, numbered.last()) == (0, b"")


def test_a_transaction_of_the_same_object_is_no_place_for_it():
    shared = xmem_object("thing", Thing)
    numbered = Numbered(shared._xmem_core)
    with shared.atomic(), pytest.raises(MutexError, match="transaction of the same object"):
        numbered.call(Thing.add, {"value": 5}, b"1", lambda _result: None)
    assert shared.number == 0


def test_many_calls_outgrow_generations():
    shared = xmem_object("thing", Thing)
    core = shared._xmem_core
    numbered = Numbered(core)
    for number in range(3000):
        numbered.call(Thing.add, {"value": 1}, number.to_bytes(24, "little"), lambda _result: None)
        if not number % 100:
            shared.add(0)
            core._check()
    assert (shared.number, int.from_bytes(numbered.last(), "little")) == (3000, 2999)
