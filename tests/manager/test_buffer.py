"""The call buffer beside a plain model: order, results, failures, whatever is appended and whoever asks."""

import contextlib
import pickle
import sys
import threading
import types

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.manager.kills import Account, see
from XME import (
    XMEM_GET_FAIL,
    CallErrors,
    Deadlock,
    MutexError,
    RemoteError,
    UnshareableArgument,
    XMEManager,
    xmem_list,
    xmem_object,
)
from XME._manager.ring import W_SETTLED

OPERATORS = st.sampled_from(["a", "b", ("c", 1)])
BIG = "y" * 3000


class Model:
    """What a buffer is, without processes."""

    def __init__(self):
        self.waiting, self.results, self.failures = [], {}, []
        self.value, self.seen = 0, []

    def run_one(self):
        if self.waiting:
            kind, operator, value = self.waiting.pop(0)
            if kind == "fail":
                self.failures.append((operator, value))
                self.results.pop(operator, None)
                return
            if kind == "add":
                self.value += value
            elif kind == "see":
                self.seen.append(value)
            self.results[operator] = self.value if kind in {"add", "look"} else value

    def take(self, operator):
        mine = [value for owner, value in self.failures if owner == operator]
        self.failures = [failure for failure in self.failures if failure[0] != operator]
        return mine


def fail(value):
    raise ValueError(value)


STEPS = st.one_of(
    st.tuples(st.just("add"), OPERATORS, st.integers(-100, 1 << 70)),
    st.tuples(st.just("see"), OPERATORS, st.sampled_from(["one", BIG, None, 1.5])),
    st.tuples(st.just("fail"), OPERATORS, st.integers(0, 9)),
    st.tuples(st.just("look"), OPERATORS, st.none()),
    st.tuples(st.just("exec"), st.integers(1, 4), st.none()),
    st.tuples(st.just("get"), OPERATORS, st.none()),
    st.tuples(st.just("clean"), OPERATORS, st.none()),
)


def made():
    return XMEManager(slots=8), xmem_object("account", Account), xmem_list()


@pytest.fixture(scope="module")
def lasting():
    return made()


@pytest.fixture
def parts():
    return made()


@settings(max_examples=60, deadline=None)
@given(steps=st.lists(STEPS, max_size=30))
def test_it_does_what_the_model_does(lasting, steps):
    manager, account, seen = lasting
    account.value = 0
    seen.clear()
    model = Model()
    for what, operator, value in steps:
        step(manager, account, seen, model, what, operator, value)
        assert manager.len() == len(manager) == len(model.waiting)
        assert (account.value, list(seen)) == (model.value, model.seen)
    finish(manager, model)


def step(manager, account, seen, model, what, operator, value):
    if what == "exec":
        for _ in range(operator):
            manager.exec()
            model.run_one()
    elif what == "clean":
        manager.clean(operator)
        model.results.pop(operator, None)
    elif what == "get":
        run_all(manager, model)
        check_get(manager, model, operator)
    else:
        if len(model.waiting) == 8:
            run_all(manager, model)
        append(manager, account, seen, what, operator, value)
        model.waiting.append((what, operator, value))


def append(manager, account, seen, what, operator, value):
    if what == "add":
        manager.append(account.add, operator, value=value)
    elif what == "see":
        manager.append(see, operator, seen=seen, text=value)
    elif what == "look":
        manager.append(account.look, Operator=operator)
    else:
        manager.append(fail, operator, value=value)


def run_all(manager, model):
    while model.waiting:
        manager.exec()
        model.run_one()


def check_get(manager, model, operator):
    failed = model.take(operator)
    if not failed:
        assert manager.get(operator) == model.results.get(operator, XMEM_GET_FAIL)
        return
    with pytest.raises(ValueError if len(failed) == 1 else CallErrors) as caught:
        manager.get(operator)
    errors = [caught.value] if len(failed) == 1 else caught.value.exceptions
    assert [error.args for error in errors] == [(value,) for value in failed]


def finish(manager, model):
    run_all(manager, model)
    for operator in ("a", "b", ("c", 1)):
        check_get(manager, model, operator)
        manager.clean(operator)
    assert manager.get_buffers() == {"GUARD": []}


# -- one by one --------------------------------------------------------------------------------------------------------


def test_get_buffers_shows_what_waits_and_what_has_come(parts):
    manager, account, _ = parts
    manager.append(account.add, "me", value=1)
    manager.append(len, "you", obj=3)

    (first, *first_rest), second = manager.get_buffers()["GUARD"]

    assert (first.__self__.__class__, first.__name__, *first_rest) == (Account, "add", "me", {"value": 1})
    assert second == (len, "you", {"obj": 3})
    account.value = 4
    assert (manager.exec(), manager.exec(), manager.exec()) == (5, None, None)
    assert manager.__Buffer_Call__ == {"GUARD": [], "me": 5}
    with pytest.raises(TypeError, match="keyword"):
        manager.get("you")
    manager.clean("me")


def test_the_names_of_append_do_not_clash(parts):
    manager, *_ = parts
    manager.append(dict, "me", fun=1, Operator=2, self=3)
    assert manager.exec() == {"fun": 1, "Operator": 2, "self": 3}
    manager.append(dict, Operator="me", fun=1)
    assert (manager.exec(), manager.get("me")) == ({"fun": 1}, {"fun": 1})
    manager.append(fun=dict, Operator="me", a=1)
    assert (manager.exec(), manager.get("me")) == ({"a": 1}, {"a": 1})
    manager.append(dict, None, Operator="x", fun=2)
    assert manager.exec() == manager.get() == {"Operator": "x", "fun": 2}
    assert manager.get("x") == XMEM_GET_FAIL
    manager.clean()
    manager.clean("me")


def test_what_cannot_travel_is_refused_at_once(parts):
    manager, account, _ = parts
    with pytest.raises(TypeError, match="takes a function"):
        manager.append(5)
    with pytest.raises(UnshareableArgument, match=r"keywords\['value'\]"):
        manager.append(account.add, value=threading.Lock())
    assert manager.len() == 0


def test_a_result_that_does_not_pickle_is_a_failure_and_changes_nothing(parts):
    manager, account, _ = parts
    account.value = 7
    before = account.value
    manager.append(threading.Lock, "me")
    manager.exec()
    with pytest.raises(UnshareableArgument, match="the result"):
        manager.get("me")
    assert account.value == before


def test_a_failure_whose_class_is_not_here_keeps_nobody_from_his_own(monkeypatch):
    module = types.ModuleType("only_the_guard_has_it")
    exec("class Strange(Exception): pass\ndef fail(): raise Strange('far away')", module.__dict__)
    monkeypatch.setitem(sys.modules, module.__name__, module)
    manager = XMEManager()
    manager.append(module.fail, "theirs")
    manager.append(fail, "mine", value=3)
    for _ in range(2):
        manager.exec()
    monkeypatch.delitem(sys.modules, module.__name__)

    with pytest.raises(ValueError, match="3"):
        manager.get("mine")
    with pytest.raises(RemoteError, match="far away") as caught:
        manager.get("theirs")
    assert caught.value.type_name == "Strange"
    assert "in fail" in str(caught.value.__cause__)


def test_a_failure_has_the_traceback_of_where_it_happened(parts):
    manager, account, _ = parts
    manager.append(account.fail, "me")
    manager.exec()
    with pytest.raises(KeyError, match="as it should") as caught:
        manager.get("me")
    assert 'raise KeyError("as it should")' in str(caught.value.__cause__)


def test_behind_a_failure_there_is_no_result_of_an_older_call(parts):
    manager, account, _ = parts
    for function in (fail_with, account.fail):
        manager.append(dict, "me", v=1)
        manager.append(function, "me")
        manager._buffer.run(2)
        with pytest.raises((ValueError, KeyError)):
            manager.get("me")
        assert manager.get("me") == XMEM_GET_FAIL
        assert manager.get_buffers() == {"GUARD": []}


def fail_with():
    raise ValueError("never")


def test_a_result_of_a_call_behind_a_failure_is_kept(parts):
    manager, *_ = parts
    manager.append(fail_with, "me")
    manager.append(dict, "me", v=1)
    manager._buffer.run(2)
    with pytest.raises(ValueError, match="never"):
        manager.get("me")
    assert manager.get("me") == {"v": 1}
    manager.clean("me")


def test_get_that_may_not_wait_gives_the_false_mark(parts):
    manager, account, _ = parts
    manager.append(account.look, "late")
    mark = manager.get("late", MaxWaitTime=0.01)
    assert not mark
    assert mark == XMEM_GET_FAIL == pickle.loads(pickle.dumps(mark)) == "<-XMEM GET Failure->"
    manager.exec()
    assert manager.get("late") == account.value
    manager.clean("late")


def test_get_is_woken_by_the_end_of_the_call(parts):
    manager, account, _ = parts
    manager.append(account.look, "soon")
    found = []
    getter = threading.Thread(target=lambda: found.append(manager.get("soon")))
    getter.start()
    manager.exec()
    getter.join(10)
    assert found == [account.value]
    manager.clean("soon")


def test_a_call_cannot_wait_for_the_calls_behind_it(parts):
    manager, *_ = parts
    manager.append(wait_for_later, "outer", manager=manager)
    manager.append(dict, "later")
    manager.exec()
    with pytest.raises(Deadlock):
        manager.get("outer")
    manager.exec()
    assert manager.get("later") == {}
    manager.append(run_next, "outer", manager=manager)
    manager.exec()
    with pytest.raises(MutexError, match="let the guard go on"):
        manager.get("outer")
    manager.clean("later")


def wait_for_later(manager):
    manager.get("later")


def run_next(manager):
    manager.exec()


def test_who_holds_what_its_queued_call_wants_gets_a_deadlock(parts):
    """One of the two that wait for each other gets it, and the other goes on."""
    manager, account, _ = parts
    got = []
    guard = threading.Thread(target=lambda: got.append(manager.exec()))
    with contextlib.suppress(Deadlock), account.atomic():
        manager.append(account.look, "me")
        guard.start()
        try:
            manager.get("me")
        except Deadlock:
            got.append(Deadlock)
            raise
    guard.join(10)
    assert not guard.is_alive()
    failed = [error for _, _, error in manager._buffer.take_failures("me")]
    assert (Deadlock in got) != any(isinstance(error, Deadlock) for error in failed)
    manager.clean("me")


def test_append_waits_while_the_buffer_is_full(parts):
    manager, account, _ = parts
    account.value = 0
    done = threading.Event()

    def fill():
        for _ in range(20):
            manager.append(account.add, "filler", value=1)
        done.set()

    thread = threading.Thread(target=fill)
    thread.start()
    while not done.is_set() or manager.len():
        assert manager.len() <= 8
        manager.exec()
    thread.join(10)
    assert account.value == 20
    manager.clean("filler")


def test_a_slot_that_was_used_again_before_its_call_was_noted_as_settled(parts):
    """Its guard was killed between the two stores, and a caller came before the next guard."""
    manager, account, _ = parts
    account.value = 0
    for _ in range(8):
        manager.append(account.add, "me", value=1)
    manager.exec()
    manager._ring.words[W_SETTLED] = 0
    manager.append(account.add, "me", value=1)
    assert manager.len() == 8
    manager._buffer.run(100)
    assert (account.value, manager.len(), manager.get("me")) == (9, 0, 9)


def test_a_full_buffer_in_a_call_of_its_own_is_a_deadlock(parts):
    manager, *_ = parts
    manager.append(append_many, "outer", manager=manager)
    manager.exec()
    with pytest.raises(Deadlock):
        manager.get("outer")
    while manager.len():
        manager.exec()
    manager.clean("inner")


def append_many(manager):
    for _ in range(10):
        manager.append(dict, "inner")


def test_a_method_of_an_object_is_refused_inside_its_own_transaction(parts):
    manager, account, _ = parts
    manager.append(account.look, "me")
    with account.atomic():
        manager.exec()
    with pytest.raises(MutexError, match="transaction of the same object"):
        manager.get("me")
