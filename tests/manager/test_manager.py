"""XMEManager: the value table, messages, operators, the functions by name, travelling."""

import os
import pickle

import pytest

from tests.helpers import run_python
from XME import XME, ContainerGone, ManagerRefuses, Security, XMEManager, errors, xmem_dict, xmem_list
from XME._core import segment
from XME.Manager import XMEManager as FromModule

SYSTEM = {"__STATUS__", "__GUARD__", "__XMEM__"}
NAMES = {
    "Lock::initial", "Lock::update_onlock", "Lock::update_unlock", "Lock::update", "Table::update", "Table::set",
    "Table::delete", "Table::items", "Table::get", "Monitor::get", "Monitor::update", "Monitor::delete",
    "Monitor::copy_msg",
}  # fmt: skip


@pytest.fixture
def manager():
    return XMEManager({"a": 1, "list": xmem_list([1])})


def test_the_value_table_always_has_the_three_dicts_of_the_system(manager):
    assert set(XMEManager().get_table()) == SYSTEM
    assert all(isinstance(manager.get_table(key), xmem_dict) for key in SYSTEM)
    assert manager.get_table("__GUARD__")["Status"] is True
    assert set(manager.__valuetable__) == SYSTEM | {"a", "list"}
    assert set(manager.get_table("__XMEM__")) == NAMES | {"Lock", "Table", "Monitor"}


@pytest.mark.parametrize("name", sorted(SYSTEM))
def test_the_dicts_of_the_system_are_attributes_too(manager, name):
    assert getattr(manager, name) is manager.get_table(name)
    assert getattr(manager.of_row(), name) is manager.get_table(name)
    with pytest.raises(AttributeError):
        setattr(manager, name, {})


def test_get_table_gives_shared_things_as_they_are_and_values_as_copies(manager):
    manager.set("plain", [1])
    manager.get_table("plain").append(2)
    manager.get_table("list").append(2)
    assert manager.get_table("plain", "list", "a") == {"plain": [1], "list": xmem_list([1, 2]), "a": 1}
    assert manager.get_table("list") is manager.__valuetable__["list"]
    assert dict(manager.items()).keys() == set(manager.get_table())
    with pytest.raises(KeyError):
        manager.get_table("nothing")


def test_update_keeps_the_dicts_of_the_system(manager):
    guard = manager.get_table("__GUARD__")
    assert manager.update({"b": 2, "__GUARD__": {"Status": False}, "__STATUS__": {"me": "fine"}}) is True
    assert manager.get_table("__GUARD__") is guard
    assert guard["Status"] is False
    assert manager.get_table("__STATUS__")["me"] == "fine"
    assert manager.get_table("b") == 2


@pytest.mark.parametrize(
    "act",
    [
        lambda m: m.update({"__XMEM__": {}}),
        lambda m: m.set("__XMEM__", {}),
        lambda m: m.delete("a", "__GUARD__"),
        lambda _m: XMEManager({"__STATUS__": {}}),
        lambda m: m.get_table("__XMEM__")["Lock::initial"](),
        lambda m: m.get_table("__XMEM__")["Lock"]["update_onlock"](print),
        lambda m: m.get_table("__XMEM__")["Lock::update_unlock"](print),
    ],
)
def test_what_makes_no_sense_is_refused(manager, act):
    with pytest.raises(ManagerRefuses, match="is not done"):
        act(manager)
    assert manager.get_table("a") == 1


@pytest.mark.parametrize(
    ("act", "error", "says"),
    [
        (lambda m: m.get("o", "1"), TypeError, "MaxWaitTime is a number of seconds, not '1'"),
        (lambda m: m.get("o", -1), ValueError, "MaxWaitTime is a number of seconds, 0 or more, not -1"),
        (lambda m: m.update(5), TypeError, "newtable is a mapping, or pairs of a key and a value, not 5"),
        (lambda m: m.update({"a": 2, "__GUARD__": 5}), TypeError, r"newtable\['__GUARD__'\] is a mapping, .* not 5"),
        (lambda m: m.set("__STATUS__", "x"), TypeError, r"newtable\['__STATUS__'\] is a mapping, .* not 'x'"),
        (lambda _m: XMEManager("ab"), TypeError, "the first content of the value table is a mapping, .* not 'ab'"),
    ],
)
def test_a_wrong_argument_is_named(manager, act, error, says):
    with pytest.raises(error, match=says):
        act(manager)
    assert manager.get_table("a") == 1


def test_no_time_limit_is_said_by_none_too(manager):
    manager.append(dict, "o", x=1)
    manager.exec()
    assert manager.get("o", None) == manager.get("o", 0) == {"x": 1}


def test_delete_takes_all_or_nothing(manager):
    with pytest.raises(KeyError):
        manager.delete("a", "nothing")
    assert manager.get_table("a") == 1
    assert manager.delete("a") is True
    assert manager.delete() is True
    assert set(manager.get_table()) == SYSTEM


def test_messages_go_through_the_manager(manager):
    assert manager.update_msg({"m": 1, "n": 2}) is True
    assert (manager.get_msg("m"), manager.get_msg()) == (1, {"m": 1, "n": 2})
    assert manager.delete_msg("m") is True
    assert manager.monitor.get() == {"n": 2}
    assert manager.copy_msg() is True
    assert set(manager.get_msg()) == {"a", "list"}


@pytest.mark.parametrize("is_shared", [False, True])
def test_copied_messages_replace_the_former_ones_or_nothing_changes(is_shared, monkeypatch):
    manager = XMEManager({"a": 1})
    if is_shared:
        assert len(manager.monitor.__Message__) == 0
    manager.update_msg({"old": 1})
    manager.set("b", 2)
    taken = []
    security = type(manager.security)
    acquire = security.acquire

    def taken_by_another_between(self, operator="Undef"):
        taken.append(operator)
        return acquire(self, operator) if len(taken) < 2 else Security.DEADLOCKMARK_ONLOCK

    with monkeypatch.context() as patched:
        patched.setattr(security, "acquire", taken_by_another_between)
        assert manager.copy_msg() is True
    assert manager.get_msg() == {"a": 1, "b": 2}


def test_copied_messages_that_cannot_be_kept_change_nothing():
    name = f"copied {os.getpid()}"
    manager = XMEManager({"short-lived": xmem_list([1])})
    manager.update_msg({"old": 1})
    manager.monitor.publish(name)
    with pytest.raises(errors.ShortLived):
        manager.copy_msg()
    assert manager.get_msg() == {"old": 1}
    manager.monitor.unlink()


# -- operators ---------------------------------------------------------------------------------------------------------


def test_operators_that_were_allocated_may_until_somebody_is_named(manager):
    mine, other = manager.AllocOperator(), manager.AllocOperator()
    assert mine != other
    assert manager.update({"b": 1}, mine) is True
    assert manager.update({"b": 2}, "a stranger") == Security.DEADLOCKMARK_ONLOCK
    assert manager.delete("b", Operator="a stranger") == Security.DEADLOCKMARK_ONLOCK
    assert manager.update_msg({"m": 1}, mine) is True
    assert not manager.update_msg({"m": 2}, "a stranger")
    assert not manager.copy_msg("a stranger")
    assert (manager.get_table("b"), manager.get_msg("m")) == (1, 1)

    manager.security.registe("a stranger")
    assert manager.update({"b": 3}, mine) == Security.DEADLOCKMARK_ONLOCK
    assert manager.update({"b": 4}) == Security.DEADLOCKMARK_ONLOCK
    assert manager.update({"b": 5}, "a stranger") is True
    assert manager.get_table("b") == 5


def test_the_type_of_the_lock_is_changed_by_name(manager):
    manager.append(manager.get_table("__XMEM__")["Lock::update"], "me", LockType=Security.MUTEX)
    manager.exec()
    manager.get("me")
    assert manager.security.statistics().type is Security.MUTEX


# -- functions by name -------------------------------------------------------------------------------------------------


def test_functions_by_name_are_what_append_takes(manager):
    functions = manager.get_table("__XMEM__")
    calls = [
        ("Table::update", {"value": xmem_dict({"b": 1})}),
        ("Table::update", {"newtable": {"c": 2}}),
        ("Table::set", {"key": "d", "value": 3}),
        ("Table::get", {"key": "b"}),
        ("Table::get", {"keys": ["c", "d"]}),
        ("Table::delete", {"keys": ["c", "d"]}),
        ("Table::items", {}),
        ("Monitor::update", {"newmessage": {"m": 1}}),
        ("Monitor::get", {"key": "m"}),
        ("Monitor::delete", {"key": "m"}),
        ("Monitor::copy_msg", {}),
    ]
    for name, kwargs in calls:
        group, _, short = name.partition("::")
        assert functions[group][short] == functions[name]
        manager.append(functions[name], name, **kwargs)
    results = [manager.exec() for _ in calls]
    assert results[:6] == [True, True, True, 1, {"c": 2, "d": 3}, True]
    assert set(results[6]) == SYSTEM | {"a", "list", "b"}
    assert results[7:] == [True, 1, True, True]
    assert not manager.take_unfetched()
    assert functions["Table::get"]("b") == 1


# -- travelling --------------------------------------------------------------------------------------------------------


def test_it_pickles_as_a_name(manager):
    other = pickle.loads(pickle.dumps(manager))
    assert other == manager
    assert hash(other) == hash(manager)
    other.append(dict, "me", x=1)
    manager.exec()
    assert other.get("me") == {"x": 1}
    assert XMEManager() != manager
    assert FromModule is XMEManager


def test_each_row_has_an_operator_of_its_own(manager):
    first, second = manager.of_row(), manager.of_row()
    first.append(dict, x=1)
    second.append(dict, x=2)
    manager.exec()
    manager.exec()
    assert (first.get(), second.get()) == ({"x": 1}, {"x": 2})
    first.status(status="here")
    assert list(manager.get_table("__STATUS__").values()) == ["here"]
    first.clean()
    assert not first.get()
    assert second.get() == {"x": 2}


def test_what_it_says_of_itself(manager):
    manager.append(dict)
    assert repr(manager) == "<XMEManager: 1 calls wait, values 'a', 'list'>"
    assert str(manager) == manager.get_str()
    assert manager.get_str().startswith("<XMEManager: 1 calls wait, values 'a', 'list'; <Security READWRITE, free>; <")


def test_an_engine_makes_its_manager_when_it_is_wanted():
    xme = XME(abs)
    assert xme._xmem is None
    assert xme.xmem is xme.xmem
    assert XME(abs, xmemtable={"k": 1}).xmem.get_table("k") == 1


NESTED = """
import XME

def inner(i, XMEManager=None):
    XMEManager.get_table("list").append(i)

def outer(i):
    return xme.xmem.get_table("k"), len(xme.xmem.get_table("list"))

if __name__ == "__main__":
    xme = XME.XME(inner, outer, start_method="spawn", xmemtable={"k": 5, "list": XME.xmem_list()})
    xme.fun(xme.Array(range(3)))
    print(xme.funs([1], [[0]]))
"""


def test_an_engine_that_a_function_refers_to_has_the_same_manager():
    done = run_python(NESTED)
    assert (done.stderr, done.stdout) == ("", "(((5, 3),),)\n")


def test_a_wrong_number_of_slots():
    with pytest.raises(ValueError, match="8 or more"):
        XMEManager(slots=7)


@pytest.mark.parametrize(
    "error",
    [errors.GuardDied.of(3, "f", "me"), errors.ManagerRefuses.of("f()", "it is so"),
     errors.CallErrors.of({3: ValueError(1), 5: KeyError(2)})],
)  # fmt: skip
def test_the_errors_travel_with_their_fields(error):
    copy = pickle.loads(pickle.dumps(error))
    assert (type(copy), str(copy), repr(copy.__dict__)) == (type(error), str(error), repr(error.__dict__))
    if isinstance(error, errors.CallErrors):
        part = error.split(KeyError)[0]
        assert (type(part), list(part.failures)) == (errors.CallErrors, [5])


def test_what_is_dropped_is_gone():
    manager = XMEManager()
    serial = manager._ring.segment.serial
    domain = manager._ring.domain
    del manager
    domain.names.tidy()
    with pytest.raises(ContainerGone):
        segment.attach_anew(domain, serial)


UNFETCHED = """
from XME import XMEManager

def fail(**kwargs):
    raise ValueError(f"failed with {kwargs}")

if __name__ == "__main__":
    dropped = XMEManager()
    dropped.append(fail, "me", number=1)
    dropped.exec()
    del dropped
    manager = XMEManager()
    for number, operator in enumerate(["you", "you", "me"], 2):
        manager.append(fail, operator, number=number)
        manager.exec()
    try:
        manager.get("me")
    except ValueError as error:
        print(error)
"""


def test_failures_that_nobody_has_fetched_go_to_the_log():
    run = run_python(UNFETCHED)

    assert run.returncode == 0
    assert run.stdout == "failed with {'number': 4}\n"
    said = [line for line in run.stderr.splitlines() if line.startswith(("XMEManager:", "ValueError:"))]
    assert said == [
        line
        for call, number in [(1, 1), (1, 2), (2, 3)]
        for line in [
            f"XMEManager: call {call}, fail, failed, and nobody has fetched that",
            f"ValueError: failed with {{'number': {number}}}",
            f"ValueError: failed with {{'number': {number}}}",
        ]
    ]
