"""What several processes do to one container at the same time is what they could have done one after the other."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.store.linearize import LARGE_FROM, Account, Crew, Done, is_linearizable
from XME._containers import shared_dict
from XME._containers.object_core import Core
from XME._core.idle_mutex import IdleMutex
from XME._store.log import Generation
from XME.errors import XMEError

KEYS = st.sampled_from("abc")
VALUES = st.one_of(st.integers(0, 9), st.integers(0, 9), st.integers(LARGE_FROM, LARGE_FROM + 9))
PAIRS = st.lists(st.tuples(KEYS, VALUES), min_size=1, max_size=3).map(lambda pairs: dict(pairs).items()).map(list)
INDEXES = st.integers(-3, 3)
SLICE = (st.integers(0, 3), st.integers(0, 5))


def operations(*kinds):
    return st.one_of([st.tuples(st.just(name), *args) for name, *args in kinds])


DICT = operations(
    ("__setitem__", KEYS, VALUES), ("__setitem__", KEYS, VALUES), ("__getitem__", KEYS), ("__getitem__", KEYS),
    ("__delitem__", KEYS), ("pop", KEYS, st.just(-1)), ("setdefault", KEYS, VALUES), ("update", PAIRS),
    ("__contains__", KEYS), ("popitem",), ("clear",), ("increment", st.just("n")), ("swap", KEYS, KEYS), ("all",),
    ("all",), ("len",), ("refill", PAIRS),
)  # fmt: skip
LIST = operations(
    ("append", VALUES), ("append", VALUES), ("pop",), ("pop", INDEXES), ("insert", INDEXES, VALUES),
    ("__setitem__", INDEXES, VALUES), ("__getitem__", INDEXES), ("extend", st.lists(VALUES, max_size=3)), ("reverse",),
    ("remove", VALUES), ("clear",), ("swap", INDEXES, INDEXES), ("move", VALUES), ("all",), ("all",), ("len",),
    ("assign", *SLICE, st.lists(VALUES, max_size=3)), ("delete", *SLICE, st.sampled_from([1, 2])),
)  # fmt: skip
NAMES = st.sampled_from(["a", "b", "items", "new"])
OBJECT = operations(
    ("two",), ("two",), ("swap",), ("put", VALUES), ("put", VALUES), ("take",), ("fail",), ("both",), ("both",),
    ("get", NAMES), ("get", NAMES), ("set", st.sampled_from(["a", "b", "new"]), VALUES), ("drop", st.just("new")),
    ("refund",), ("all",), ("all",),
)  # fmt: skip


def programs(kinds):
    # Most calls have so many looks and stores.
    one = st.tuples(kinds, st.one_of(st.just(0), st.integers(1, 60)))
    return st.lists(st.lists(one, min_size=2, max_size=4), min_size=2, max_size=3)


FIRST_DICT = st.dictionaries(KEYS, VALUES)
FIRST_LIST = st.lists(VALUES, max_size=4)
FIRST_OBJECT = st.builds(Account, a=VALUES, b=VALUES, items=st.lists(VALUES, max_size=3))
quickly = settings(deadline=None, database=None, suppress_health_check=list(HealthCheck))


@pytest.fixture(scope="module")
def crew():
    # Each has hashes of its own.
    with Crew(3, seeds=("1", "4711")) as crew:
        yield crew


def require_linearizable(crew, first, each):
    history = crew.history(first, each)
    lines = [vars(first) if isinstance(first, Account) else first, *sorted(history, key=lambda done: done.began)]
    assert is_linearizable(history, first), "\n".join(map(str, lines))


@settings(quickly, max_examples=60)
@given(first=FIRST_DICT, each=programs(DICT))
def test_histories_of_a_dict(crew, first, each):
    require_linearizable(crew, first, each)


@settings(quickly, max_examples=60)
@given(first=FIRST_LIST, each=programs(LIST))
def test_histories_of_a_list(crew, first, each):
    require_linearizable(crew, first, each)


@settings(quickly, max_examples=60)
@given(first=FIRST_OBJECT, each=programs(OBJECT))
def test_histories_of_an_object(crew, first, each):
    require_linearizable(crew, first, each)


@pytest.mark.slow
@pytest.mark.timeout(600)
@settings(quickly, max_examples=6000)
@given(first=FIRST_DICT, each=programs(DICT))
def test_many_histories_of_a_dict(crew, first, each):
    require_linearizable(crew, first, each)


@pytest.mark.slow
@pytest.mark.timeout(600)
@settings(quickly, max_examples=6000)
@given(first=FIRST_LIST, each=programs(LIST))
def test_many_histories_of_a_list(crew, first, each):
    require_linearizable(crew, first, each)


@pytest.mark.slow
@pytest.mark.timeout(600)
@settings(quickly, max_examples=6000)
@given(first=FIRST_OBJECT, each=programs(OBJECT))
def test_many_histories_of_an_object(crew, first, each):
    require_linearizable(crew, first, each)


# -- that it can fail ----------------------------------------------------------------------------------------------


def done(name, *args, at, gives):
    return Done((name, *args), *at, ("gives", gives))


def test_what_no_order_explains():
    history = [
        done("append", 1, at=(0, 10), gives=None),
        done("append", 2, at=(20, 30), gives=None),
        done("all", at=(40, 50), gives=(2, 1)),
    ]
    assert not is_linearizable(history, [])
    # At the same time either may come first.
    history[1] = history[1]._replace(began=5)
    assert is_linearizable(history, [])


def test_a_value_that_was_read_too_late():
    history = [
        done("__setitem__", "a", 2, at=(0, 10), gives=None),
        done("__getitem__", "a", at=(20, 30), gives=1),
    ]
    assert not is_linearizable(history, {"a": 1})
    assert is_linearizable([history[0]._replace(ended=25), history[1]], {"a": 1})


def _ahead_of_the_root():
    """Readers see what is not public yet."""
    public = Generation.public
    Generation.public = lambda self, place, limit: public(self, place, 1 << 40)
    shared_dict.VOID_BITS = 1 << 63


def _no_mutex():
    """Several change it at once."""
    IdleMutex.acquire = lambda self, *_: True
    IdleMutex.release = lambda self: None


def _many_commits():
    """update() publishes key after key."""

    def update(self, other=(), /, **items):
        for key, value in dict(other, **items).items():
            self[key] = value

    shared_dict.xmem_dict.update = update


def _attribute_by_attribute():
    """What a method changes becomes public one by one."""
    publish = Core._publish

    def publishing(self, present):
        known = dict(self._known)
        for name in list(present):
            publish(self, {**known, name: present[name]})
            known[name] = present[name]
        return publish(self, present)

    Core._publish = publishing


def first_wrong_of_an_object(plant, turns):
    with Crew(3, plant) as crew:
        for turn in range(turns):
            at = 3 + turn * 7 % 61
            first = Account(a=0, b=0)
            writes = [(("two",), at), (("two",), at)]
            looks = [(("get", name), 0) for name in ("a", "b") * 8]
            try:
                history = crew.history(first, [writes, looks, writes[:1]])
            except (XMEError, AssertionError):
                return turn
            if not is_linearizable(history, first):
                return turn
    return None


def first_wrong(plant, turns):
    """Return the number of the first history that is wrong, None if there is none."""
    first = {"a": -1, "b": -1, "n": 0}
    with Crew(2, plant) as crew:
        for turn in range(turns):
            at = 3 + turn * 4 % 60
            looks = ("all",) if turn % 2 else ("__getitem__", "b")
            writes = [(("update", [("a", turn), ("b", turn)]), at), (("increment", "n"), at)]
            try:
                history = crew.history(first, [writes, [(looks, at // 2), (looks, 0), (("increment", "n"), at)]])
            except (XMEError, AssertionError):
                # Errors are no answers of a dict's, either.
                return turn
            if not is_linearizable(history, first):
                return turn
    return None


@pytest.mark.long
def test_nothing_is_wrong_without_a_fault():
    assert first_wrong(None, 100) is None
    assert first_wrong_of_an_object(None, 100) is None


@pytest.mark.parametrize("plant", [_ahead_of_the_root, _no_mutex, _many_commits])
def test_a_planted_fault_is_found(plant):
    assert first_wrong(plant, 300) is not None


@pytest.mark.long
@pytest.mark.parametrize("plant", [_no_mutex, _attribute_by_attribute])
def test_a_planted_fault_of_an_object_is_found(plant):
    assert first_wrong_of_an_object(plant, 1000) is not None
