"""What a shared dict takes, returns and raises, beside the builtin's."""

import copy
import json
import operator
import pickle
import threading
from collections import ChainMap, OrderedDict, UserDict
from collections.abc import ItemsView, KeysView, Mapping, MutableMapping, ValuesView
from datetime import UTC, datetime
from enum import Enum
from types import MappingProxyType

import numpy as np
import pytest

import XME
from tests.helpers import run_python
from XME import xmem_dict, xmem_list
from XME._store import index


class Colour(Enum):
    RED = 1


SOURCES = [
    {},
    {"a": 1},
    OrderedDict(b=1, a=2),
    MappingProxyType({"a": 1}),
    UserDict(a=1),
    ChainMap({"a": 1}, {"b": 2}),
    [("a", 1), ("b", 2), ("a", 3)],
    [["a", 1]],
    ["ab", "cd"],
    (),
]
BAD_SOURCES = [3, None, ["abc"], [1], [("a", 1, 2)], {"a"}]


@pytest.mark.parametrize("source", SOURCES, ids=repr)
def test_is_made_of_whatever_dict_takes(source):
    assert list(xmem_dict(source).items()) == list(dict(source).items())
    assert list(xmem_dict(source, z=1).items()) == list(dict(source, z=1).items())
    assert xmem_dict(iter(list(source.items()) if hasattr(source, "items") else source)) == dict(source)


@pytest.mark.parametrize("source", BAD_SOURCES, ids=repr)
def test_refuses_what_dict_refuses_in_its_words(source):
    with pytest.raises((TypeError, ValueError)) as builtin:
        dict(source)
    for make in (xmem_dict, lambda source: xmem_dict().update(source)):
        with pytest.raises(builtin.type) as ours:
            make(source)
        assert str(ours.value) == str(builtin.value)


def test_init_is_a_keyword_as_in_the_manual():
    assert xmem_dict(init={}) == {}
    assert xmem_dict(init={"a": 1}, b=2) == {"a": 1, "b": 2}
    assert xmem_dict(xmem_dict(a=1)) == {"a": 1}
    assert xmem_dict.fromkeys("ab", 0) == {"a": 0, "b": 0}
    assert xmem_dict.fromkeys([1]) == {1: None}


def raised(action):
    with pytest.raises(Exception) as caught:
        action()
    return caught.type, caught.value.args


@pytest.mark.parametrize(
    "action",
    [
        lambda d: d["none"],
        lambda d: d.pop("none"),
        lambda d: d.pop(()),
        lambda d: d.__delitem__(3),
        lambda d: d[[]],
        lambda d: d.__setitem__([], 1),
        lambda d: d.__setitem__(("a", {}), 1),
        lambda d: d.__delitem__({}),
        lambda d: d.get(set()),
        lambda d: [] in d,
        lambda d: d.setdefault([], 1),
        lambda d: d.pop([], 1),
        lambda d: {**d, "x": 1}.pop("y"),
    ],
)
def test_errors_have_the_builtins_text(action):
    assert raised(lambda: action(xmem_dict(a=1))) == raised(lambda: action({"a": 1}))


def test_an_empty_dict_has_no_item_to_pop():
    assert raised(xmem_dict().popitem) == raised({}.popitem)


def test_is_unhashable():
    with pytest.raises(TypeError, match="unhashable type: 'xmem_dict'"):
        hash(xmem_dict())


def test_a_key_without_canonical_form_is_refused_by_name():
    class Own:
        pass

    d = xmem_dict(a=1)
    for action in (lambda key: d.__setitem__(key, 1), d.__getitem__, lambda key: d.update({key: 1})):
        with pytest.raises(XME.errors.UnusableKey, match=r"Own cannot be .* a shared container") as caught:
            action(Own())
        assert isinstance(caught.value, TypeError)
    with pytest.raises(TypeError, match="NaN is not equal to itself"):
        d[float("nan")] = 1
    assert d == {"a": 1}


def test_a_value_that_does_not_pickle_changes_nothing():
    d = xmem_dict(a=1)
    lock = threading.Lock()
    for action in (
        lambda: d.__setitem__("lock", {"deep": [lock]}),
        lambda: d.update({"b": np.zeros(100_000), "lock": {"deep": [lock]}}),
        lambda: d.setdefault("lock", {"deep": [lock]}),
        lambda: d.apply("lock", lambda _: {"deep": [lock]}, None),
    ):
        with pytest.raises(XME.errors.UnshareableValue, match="lock") as caught:
            action()
        assert "which is as it was" in str(caught.value)
        assert isinstance(caught.value, TypeError)
    assert d == {"a": 1}


def test_is_a_mapping_but_no_dict():
    d = xmem_dict()
    assert isinstance(d, Mapping)
    assert isinstance(d, MutableMapping)
    assert not isinstance(d, dict)
    assert isinstance(d.keys(), KeysView)
    assert isinstance(d.values(), ValuesView)
    assert isinstance(d.items(), ItemsView)


def test_keys_come_back_as_they_were_first_written():
    when = datetime(2020, 1, 1, tzinfo=UTC)
    plain = {True: 1, 2.0: 2, "é": 3, b"x": 4, (1, None): 5, frozenset({1}): 6, when: 7, Colour.RED: 8, 10**40: 9}
    d = xmem_dict(plain)
    d[1] = "one"
    plain[1] = "one"
    assert list(map(repr, d)) == list(map(repr, plain))
    assert d == plain
    assert 2 in d


def test_equality():
    d = xmem_dict(a=1, b=[1])
    assert d == {"b": [1], "a": 1}
    assert d == xmem_dict({"b": [1], "a": 1})
    assert d == OrderedDict(a=1, b=[1])
    assert d != {"a": 1}
    assert d != [("a", 1)]
    assert {"a": 1, "b": [1]} == d  # noqa: SIM300 - the other way round is above
    assert d == d  # noqa: PLR0124 - that is the test


def test_union_gives_plain_dicts_and_refuses_what_dict_refuses():
    d = xmem_dict(a=1)
    assert type(d | {"b": 2}) is type({"b": 2} | d) is type(d | d) is dict
    assert d | {"a": 2} == {"a": 2}
    assert {"a": 2} | d == {"a": 1}
    assert raised(lambda: d | [("b", 2)])[0] is TypeError
    same = d
    same |= [("b", 2)]
    assert same is d
    assert d == {"a": 1, "b": 2}


def test_copies_are_plain():
    inner = xmem_list([1])
    d = xmem_dict(a=[1], inner=inner)
    for plain in (d.copy(), copy.copy(d), dict(d), {**d}):
        assert type(plain) is dict
        assert plain["inner"] is inner
    deep = copy.deepcopy(d)
    assert deep == {"a": [1], "inner": [1]}
    assert type(deep["inner"]) is list
    assert d.todict() == deep
    assert json.dumps(d.todict()) == '{"a": [1], "inner": [1]}'


def test_what_contains_itself_has_a_repr_and_copies():
    d = xmem_dict()
    d["self"] = d
    assert repr(d) == "xmem_dict({'self': xmem_dict({...})})"
    deep = copy.deepcopy(d)
    assert deep["self"] is deep
    plain = d.todict()
    assert plain["self"] is plain
    assert d["self"]["self"] is d
    del d["self"]


def test_views_answer_like_the_builtins():
    plain = {"a": 1, "b": [2], "c": 1}
    d = xmem_dict(plain)
    others = [{"a", "x"}, ["a", "b", "c"], plain.keys(), xmem_dict(c=1).keys(), {"a": 1}.items(), set()]
    for other in others:
        for name in ("and_", "or_", "xor", "sub", "eq", "ne", "le", "lt", "ge", "gt"):
            builtin = other if not hasattr(other, "_mapping") else dict(other._mapping).keys()
            answers = []
            for keys, right in ((d.keys(), other), (plain.keys(), builtin)):
                try:
                    answers.append((getattr(operator, name)(keys, right), None))
                except TypeError as error:
                    answers.append((None, type(error)))
            assert answers[0] == answers[1], (name, other)
        assert d.keys().isdisjoint(other) == plain.keys().isdisjoint(other)
    assert d.items() & {("a", 1), ("b", 3)} == {("a", 1)}
    assert {("a", 1), ("z", 3)} - xmem_dict(a=1).items() == {("z", 3)}
    assert d.items() == plain.items()
    assert plain.keys() == d.keys()
    assert ("b", [2]) in d.items()
    assert ("b", [3]) not in d.items()
    assert "b" not in d.items()
    assert [2] in d.values()
    assert 7 not in d.values()
    assert list(reversed(d.items())) == list(reversed(plain.items()))
    assert list(reversed(d.keys())) == list(reversed(plain.keys()))
    assert list(reversed(d.values())) == list(reversed(plain.values()))
    assert [len(view) for view in (d.keys(), d.items(), d.values())] == [3, 3, 3]
    assert repr(d.keys()) == "xmem_dict_keys(['a', 'b', 'c'])"
    assert repr(d.items()) == "xmem_dict_items([('a', 1), ('b', [2]), ('c', 1)])"
    assert repr(d.values()) == "xmem_dict_values([1, [2], 1])"
    assert raised(lambda: hash(d.keys()))[0] is TypeError
    with pytest.raises(TypeError, match="unhashable"):
        d.items() | set()


def test_a_view_is_of_now_and_an_iteration_of_one_instant():
    d = xmem_dict((k, np.full(10_000, k)) for k in range(20))
    view = d.items()
    begun = iter(view)
    keys = iter(d)
    backwards = reversed(d.values())
    for k in range(20):
        d[k] = "other"
    d.update((k, "new") for k in range(100, 400))
    del d[3]
    seen = dict(begun)
    assert list(seen) == list(keys) == list(range(20))
    assert all((seen[k] == k).all() and len(seen[k]) == 10_000 for k in range(20))
    assert [array[0] for array in backwards] == list(range(19, -1, -1))
    assert len(view) == 319


def test_an_iteration_within_a_transaction_is_of_one_instant_too():
    d = xmem_dict((k, k) for k in range(50))
    with d.atomic():
        d[50] = 50
        begun = iter(d.items())
        d.clear()
        d["only"] = 1
        assert list(begun) == [(k, k) for k in range(51)]
        assert list(d) == ["only"]


def test_a_thread_reads_what_was_there_before_a_transaction():
    d = xmem_dict(a=1)
    assert d["a"] == 1
    seen = []
    with d.atomic():
        d["a"] = 2
        d["b"] = 3
        other = threading.Thread(target=lambda: seen.extend([d["a"], d.get("b"), list(d), len(d), "b" in d]))
        other.start()
        other.join(10)
        assert (d["a"], len(d)) == (2, 2)
    assert seen == [1, None, ["a"], 1, False]
    assert d == {"a": 2, "b": 3}


def test_savepoints():
    d = xmem_dict(a=1)
    with d.atomic():
        d["kept"] = bytes(100_000)
        with pytest.raises(ZeroDivisionError), d.atomic():
            d["lost"] = bytes(100_000)
            del d["a"]
            d.update((k, k) for k in range(200))
            1 / 0  # noqa: B018 - it is to raise
        assert list(d) == ["a", "kept"]
        d["after"] = 1
    assert list(d) == ["a", "kept", "after"]
    with pytest.raises(KeyError), d.atomic():
        d["after"] = 2
        d["none"]
    assert d["after"] == 1


def test_apply_and_increment():
    d = xmem_dict(a=[1])
    assert d.apply("a", lambda value: [*value, 2]) == [1, 2]
    assert d.apply("b", len, "abc") == 3
    assert raised(lambda: d.apply("none", len)) == (KeyError, ("none",))
    with pytest.raises(ZeroDivisionError):
        d.apply("b", lambda value: value / 0)
    assert d == {"a": [1, 2], "b": 3}
    assert d.apply("b", lambda value: d.update(seen=value) or value + 1) == 4
    assert d.increment("b", by=-0.5) == 3.5
    assert d.increment("new", 2, default=40) == 42
    assert d == {"a": [1, 2], "b": 3.5, "seen": 3, "new": 42}
    with pytest.raises(TypeError):
        d.increment("a")


def test_the_old_values_stay_with_those_who_have_them():
    d = xmem_dict(small=np.arange(3), large=np.arange(100_000), shared=XME.xmem_array([1, 2]))
    small, large = d["small"], d["large"]
    assert not small.flags.writeable
    assert not large.flags.writeable
    d.update(small=0, large=0)
    d["shared"][0] = 7
    assert small.tolist() == [0, 1, 2]
    assert large[-1] == 99_999
    assert d["shared"].tolist() == [7, 2]
    assert d.pop("shared").tolist() == [7, 2]


def test_memory_goes_back_when_most_is_deleted():
    d = xmem_dict((k, b"x" * 100) for k in range(8000))
    full = d._generation.size
    for k in range(7990):
        del d[k]
    assert d._generation.size * 20 < full
    assert list(d) == list(range(7990, 8000))
    d.clear()
    assert d == {}
    d["again"] = 1
    assert d.popitem() == ("again", 1)


def test_popping_from_the_end_does_not_get_slower():
    d = xmem_dict((k, k) for k in range(3000))
    looks = [0]
    usual = index.at_position
    with pytest.MonkeyPatch.context() as patch:

        def counted(*args):
            looks[0] += 1
            return usual(*args)

        patch.setattr(index, "at_position", counted)
        while d:
            key, value = d.popitem()
            assert key == value == len(d)
    assert looks[0] < 40_000


def test_a_key_that_comes_and_goes_at_the_end_does_not_get_slower():
    d = xmem_dict((k, k) for k in range(1000))
    for k in range(300, 1000):
        del d[k]
    looks = [0]
    usual = index.at_position
    with pytest.MonkeyPatch.context() as patch:

        def counted(*args):
            looks[0] += 1
            return usual(*args)

        patch.setattr(index, "at_position", counted)
        for k in range(400):
            d["short-lived"] = k
            assert d.popitem() == ("short-lived", k)
    # Two for each, and once over what was deleted before.
    assert looks[0] < 4000
    assert list(d) == list(range(300))


def test_other_processes_under_other_hash_seeds_find_all_keys():
    program = """
import pickle, sys
d = pickle.loads(bytes.fromhex(sys.argv[1]))
print([d[key] for key in ("a", b"a", 1.0, ("t", 2), frozenset(["x", "y"]), None)], hash("a"))
d["from " + sys.argv[2]] = frozenset([1, 2])
"""
    d = xmem_dict({"a": 1, b"a": 2, True: 3, ("t", 2): 4, frozenset(["y", "x"]): 5, None: 6})
    hashes = set()
    for seed in ("1", "2"):
        done = run_python(program, pickle.dumps(d).hex(), seed, env={"PYTHONHASHSEED": seed})
        assert done.stdout.startswith("[1, 2, 3, 4, 5, 6]"), done.stderr
        hashes.add(done.stdout)
    assert len(hashes) == 2
    assert list(d)[-2:] == ["from 1", "from 2"]
