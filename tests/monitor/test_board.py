"""A Monitor in one process: what it keeps, what it refuses, and that being shared changes nothing of that."""

import copy
import pickle
import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import XME
from XME import Security
from XME._core import futex
from XME.errors import ContainerGone, MutexError, NameTaken, NameUnknown, ShortLived, UnshareableValue
from XME.Monitor import Monitor

ADMIN = Security.ADMIN


def shared():
    board = Monitor()
    board._place.shared()
    return board


def guarded():
    return XME.xmem_object("guarded", Monitor, security=Security.Security(Security.MUTEX))


@pytest.fixture(params=[Monitor, shared, guarded], ids=["private", "shared", "guarded"])
def board(request):
    return request.param()


# -- what it keeps -----------------------------------------------------------------------------------------------

KEYS = st.sampled_from(["a", "b", "c", 1, b"a", (1, "t")])
VALUES = st.one_of(
    st.integers(), st.text(max_size=5), st.lists(st.integers(), max_size=3), st.dictionaries(st.text(max_size=2),
    st.floats(allow_nan=False), max_size=2), st.tuples(st.none(), st.booleans()), st.binary(max_size=5),
)  # fmt: skip
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("update"), st.dictionaries(KEYS, VALUES, max_size=3)),
        st.tuples(st.just("delete"), st.lists(KEYS, max_size=2)),
        st.tuples(st.just("share"), st.none()),
        st.tuples(st.just("pickle"), st.none()),
    ),
    max_size=12,
)


@settings(max_examples=20, deadline=None)
@given(STEPS)
def test_it_is_a_dict_whatever_is_done_to_it(steps):
    board, model = Monitor(), {}
    for step, argument in steps:
        if step == "update":
            assert board.update(argument) is True
            model.update(argument)
        elif step == "delete":
            missing = [key for key in argument if key not in model]
            if missing:
                with pytest.raises(KeyError):
                    board.delete(*argument)
            else:
                assert board.delete(*argument) is True
                for key in argument or list(model):
                    model.pop(key, None)
        elif step == "share":
            board._place.shared()
        else:
            board = pickle.loads(pickle.dumps(board))
        assert board.get() == model
        assert list(board) == list(model)
        assert len(board) == len(model)
        assert dict(board.items()) == model
        assert all(key in board and board[key] == board.get(key) == value for key, value in model.items())


def test_several_keys_give_a_dict_and_a_missing_one_a_key_error(board):
    board.update({"a": 1, "b": 2, "c": 3})
    assert board.get("a", "c") == {"a": 1, "c": 3}
    for keys in (("x",), ("a", "x")):
        with pytest.raises(KeyError, match="x"):
            board.get(*keys)
    assert "x" not in board


def test_delete_is_all_or_nothing(board):
    board.update({"a": 1, "b": 2})
    with pytest.raises(KeyError, match="x"):
        board.delete("a", "x")
    assert board.get() == {"a": 1, "b": 2}
    assert board.delete("a", "a") is True
    assert board.delete() is True
    assert board.get() == {}


def test_update_is_all_or_nothing(board):
    with pytest.raises(UnshareableValue):
        board.update({"a": 1, "b": threading.Lock()})
    assert board.get() == {}


def test_what_is_read_is_a_copy(board):
    values = [1]
    board.update({"list": values})
    values.append(2)
    board["list"].append(3)
    board.get()["list"].append(4)
    assert board.get("list") == [1]


@pytest.mark.parametrize("size", [3, 100_000])
def test_arrays_come_back_read_only(board, size):
    board.update({"array": np.arange(size)})
    assert np.array_equal(board["array"], np.arange(size))
    assert not board["array"].flags.writeable


def test_shared_containers_in_it_stay_shared(board):
    parts = XME.xmem_list([1])
    board.update({"parts": parts})
    board["parts"].append(2)
    assert parts == [1, 2]


def test_update_takes_what_dict_takes_and_says_what_it_does_not(board):
    assert board.update([("a", 1)]) is True
    assert board.get() == {"a": 1}
    with pytest.raises(TypeError):
        board.update(5)


def test_copies_are_plain(board):
    board.update({"a": [1]})
    assert copy.copy(board) == copy.deepcopy(board) == {"a": [1]}
    assert type(copy.deepcopy(board)) is dict


def test_the_shared_dict_itself_can_be_had(board):
    board.update({"a": 1})
    board.__Message__["b"] = 2
    assert board.get() == {"a": 1, "b": 2}
    assert isinstance(board.__Message__, XME.xmem_dict)


def test_get_str_says_what_there_is():
    board = XME.xmem_object("prices", Monitor, security=Security.Security())
    board.update({"a": "x" * 1000}, ADMIN)
    text = board.get_str()
    assert text.startswith("<Monitor 'prices', 1 message, <Security READWRITE, free>>\n  a: 'xxx")
    assert len(text) < 200
    assert repr(board) == "<Monitor 'prices', 1 message>"


def test_calling_the_module_names_the_class():
    with pytest.raises(TypeError, match=r"XME\.Monitor\.Monitor"):
        XME.Monitor()


def test_a_security_must_be_one():
    with pytest.raises(TypeError, match="Security"):
        Monitor(security="sec")


def test_xmem_object_wants_the_class_and_not_an_object_of_it():
    with pytest.raises(TypeError, match="wants a class"):
        XME.xmem_object("board", Monitor())
    with pytest.raises(TypeError, match="Security"):
        XME.xmem_object("board", Monitor, "sec")


@pytest.mark.parametrize(
    ("call", "error", "says"),
    [
        (lambda board: board.wait(timeout="1"), TypeError, "timeout is a number of seconds"),
        (lambda board: board.wait(timeout=-1), ValueError, "0 or more"),
        (lambda board: board.wait(since="now", timeout=0), TypeError, "a moment of this Monitor"),
        (lambda board: board.wait([1], timeout=0), TypeError, "list"),
        (lambda board: board.update({print: 1}), TypeError, "key of type"),
        (lambda board: board.unmarshal(b"", key=bytes(32), max_age="1"), TypeError, "max_age is a number of seconds"),
        (lambda board: board.unmarshal(b"", key=bytes(32), max_size=0), ValueError, "max_size is a number of bytes"),
        (lambda board: board.marshal(key=bytes(32), max_size="1"), TypeError, "max_size is a number of bytes"),
        (lambda board: board.publish(5), TypeError, "public name"),
        (lambda board: board.publish("x" * 200), ValueError, "128 bytes"),
    ],
)
def test_what_makes_no_sense_is_said_and_changes_nothing(board, call, error, says):
    board.update({"a": 1})
    with pytest.raises(error, match=says):
        call(board)
    assert board.get() == {"a": 1}
    assert board.name is None


# -- operators ---------------------------------------------------------------------------------------------------


def test_who_may_not_write_changes_nothing_and_gets_the_mark():
    board = XME.xmem_object("guarded", Monitor, security=Security.Security())
    assert board.update({"a": 1}, ADMIN) is True
    for refused in (board.update({"a": 2}), board.delete("a"), board.delete(Operator="me")):
        assert not refused
        assert refused == Security.DEADLOCKMARK_ONLOCK
    assert board.get() == {"a": 1}


def test_the_dead_lock_fun_gives_the_answer():
    security = Security.Security()
    security.DeadLockFun(acquire=lambda: "no")
    board = Monitor(security=security)
    assert board.update({"a": 1}) == "no"


def test_who_holds_the_security_may_write_and_is_not_locked_out():
    security = Security.Security(Security.MUTEX)
    board = XME.xmem_object("guarded", Monitor, security=security)
    with security.holding("me"):
        assert board.update({"a": 1}, "me") is True
        # Another operator of the same thread can never get it: a deadlock, at once.
        assert not board.update({"a": 2}, "you")
    assert board.update({"a": 3}, "you") is True


@pytest.mark.parametrize("kind", list(Security.LockType), ids=lambda kind: kind.name)
def test_a_failed_change_gives_the_security_back(kind):
    security = Security.Security(kind)
    board = Monitor(security=security)
    with pytest.raises(UnshareableValue):
        board.update({"a": threading.Lock()}, ADMIN)
    with pytest.raises(KeyError):
        board.delete("a", Operator=ADMIN)
    assert security.statistics().holder is None


# -- waiting -----------------------------------------------------------------------------------------------------


@pytest.fixture(params=[True, False], ids=["futex", "polling"])
def how(request, monkeypatch):
    monkeypatch.setattr(futex, "HAS_FUTEX", request.param and futex.HAS_FUTEX)


def test_wait_sees_what_changed_since_a_moment(board, how):
    board.update({"a": 1, "b": 1})
    moment = board.moment
    assert not board.wait(since=moment, timeout=0.01)
    board.update({"a": 1})
    assert board.wait("a", since=moment)
    assert board.wait(since=moment)
    assert not board.wait("b", since=moment, timeout=0.01)
    assert not board.wait("never", since=moment, timeout=0.01)
    moment = board.moment
    board.delete("b")
    assert board.wait("b", since=moment)
    assert not board.wait("b", since=board.moment, timeout=0.01)


def test_wait_without_time_says_at_once(board):
    assert board.wait("a", timeout=0) is False


def test_waiters_for_other_keys_sleep_on_through_a_new_generation(how):
    board = shared()
    board.update({"a": [1, 2]})
    seen = []
    waiter = threading.Thread(target=lambda: seen.append(board.wait("a", timeout=30)))
    waiter.start()
    for number in range(300):
        board.update({"other": "x" * number})
    assert not seen
    # Until it is noticed: the waiter may not have begun to wait at the first.
    while waiter.is_alive():
        board.update({"a": [1, 2]})
        waiter.join(0.01)
    assert seen == [True]


def test_wait_ends_when_it_is_unlinked(how):
    board = shared()
    errors = []

    def wait():
        try:
            board.wait()
        except ContainerGone as error:
            errors.append(error)

    waiter = threading.Thread(target=wait)
    waiter.start()
    board.unlink()
    waiter.join(20)
    assert len(errors) == 1


# -- names -------------------------------------------------------------------------------------------------------


def test_published_all_handles_follow(board):
    other = pickle.loads(pickle.dumps(board))
    frozen = pickle.dumps(board)
    board.update({"a": [1]}, ADMIN)
    assert board.publish("monitor-follow") is board
    assert board.publish("monitor-follow") is board
    with pytest.raises(ValueError, match="monitor-follow"):
        other.publish("monitor-again")
    assert board.name == other.name == "monitor-follow"
    attached = XME.attach("monitor-follow")
    late = pickle.loads(frozen)
    for number, (writer, reader) in enumerate([(attached, board), (other, attached), (late, other), (board, late)]):
        assert writer.update({"b": number}, ADMIN) is True
        assert reader.get() == {"a": [1], "b": number}
        assert reader.delete("b", Operator=ADMIN) is True
        assert len(writer) == 1
        assert "b" not in writer
    assert repr(attached.security) == repr(board.security)


def test_a_waiter_follows_too():
    board = shared()
    other = pickle.loads(pickle.dumps(board))
    moment = board.moment
    waiter = threading.Thread(target=other.wait, args=("a",), kwargs={"since": moment})
    waiter.start()
    board.publish("monitor-waiter")
    board.update({"a": 1})
    waiter.join(20)
    assert not waiter.is_alive()


def test_a_name_at_once():
    board = Monitor(name="monitor-at-once")
    board.update({"a": 1})
    assert XME.attach("monitor-at-once")["a"] == 1


def test_a_name_that_is_taken_changes_nothing(board):
    keep = XME.xmem_dict(name="monitor-taken")
    board.update({"a": 1}, ADMIN)
    with pytest.raises(NameTaken):
        board.publish("monitor-taken")
    assert board.name is None
    assert board.get() == {"a": 1}
    if board.security is not None:
        assert board.security.name is None
    keep.unlink()


def test_what_may_end_before_it_is_refused():
    board = Monitor()
    board.update({"list": XME.xmem_list([1])})
    with pytest.raises(ShortLived):
        board.publish("monitor-short-lived")
    with pytest.raises(NameUnknown):
        XME.attach("monitor-short-lived")
    assert board["list"] == [1]
    assert board.update({"list": [1]}) is True
    board.publish("monitor-short-lived")
    with pytest.raises(ShortLived):
        board.update({"list": XME.xmem_list([1])})


def test_publish_needs_the_security_and_says_so():
    board = guarded()
    with board.security.holding("me"), pytest.raises(MutexError):
        board.publish("monitor-held")
    board.publish("monitor-held")


def test_unlinked_it_is_gone_for_all():
    board = Monitor(name="monitor-unlinked")
    board.unlink()
    board.unlink()
    with pytest.raises(ContainerGone):
        board.update({"a": 1})
    with pytest.raises(NameUnknown):
        XME.attach("monitor-unlinked")
