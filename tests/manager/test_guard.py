"""The guard within gfun and without: ends, deaths, failures, scripts, hearts."""

import os
import re
import signal
import threading
import time

import pytest

from tests.helpers import wait_until
from tests.manager.kills import Account, see
from XME import (
    XME,
    CallErrors,
    Executor,
    GuardDied,
    HeartJump,
    RowErrors,
    XMEGuard,
    XMEManager,
    xmem_list,
    xmem_object,
)
from XME._manager import buffer, script
from XME._manager import guard as guards
from XME._manager.ring import W_BROKEN
from XME.errors import SharedMemoryFull


def quiet(**options):
    return XMEGuard(**{"VerboseTime": 0, "ExitTime": 0.05, **options})


@pytest.fixture
def account():
    return xmem_object("account", Account)


def engine(function, guard, account, **options):
    return XME(function, guard.Guard, xmemtable={"v": account}, print_in_screen=False, **options)


def add_many(count, XMEManager=None):
    op = XMEManager.AllocOperator()
    for _ in range(count):
        XMEManager.append(XMEManager.get_table("v").add, op, value=1)
    return XMEManager.get(op)


def test_more_calls_than_the_buffer_has_room_for(account):
    with engine(add_many, quiet(), account) as xme:
        _, results = xme.gfun(xme.Array([700] * 4))
    assert account.value == 2800
    assert max(results) == 2800


def kill_guard(XMEManager=None):
    op = XMEManager.AllocOperator()
    seen, v = XMEManager.get_table("seen"), XMEManager.get_table("v")
    XMEManager.append(v.add, op, value=1)
    XMEManager.append(see_and_die, op, seen=seen)
    XMEManager.append(v.add, op, value=2)
    XMEManager.append(see, op, seen=seen, text="after")
    return XMEManager.get(op)


def see_and_die(seen):
    seen.append(os.getpid())
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize(
    "method", ["fork", *[pytest.param(method, marks=pytest.mark.long) for method in ("spawn", "forkserver")]]
)
def test_a_killed_guard_is_replaced_and_its_call_reported(account, method):
    seen = xmem_list()
    with engine(kill_guard, quiet(), account, start_method=method) as xme:
        xme.xmem.set("seen", seen)
        with pytest.raises(GuardDied, match="see_and_die") as caught:
            xme.gfun()
        assert caught.value.number == 2
        assert caught.value.function == "see_and_die"
        assert account.value == 3
        assert list(seen)[1:] == ["after"]
        # The report was fetched by get, and nothing is left for the next.
        assert xme.xmem.take_unfetched() is None


def die_within(self, gate):
    """A method that kills its process the first time; its commit never comes then."""
    self.value += 100
    if not len(gate):
        gate.append(1)
        os.kill(os.getpid(), signal.SIGKILL)
    return self.value


class Mortal(Account):
    die_within = die_within


def append_mortal(gate, XMEManager=None):
    v = XMEManager.get_table("v")
    XMEManager.append(v.add, "me", value=1)
    XMEManager.append(v.die_within, "me", gate=gate)
    XMEManager.append(v.add, "me", value=2)
    return XMEManager.get("me")


def test_a_method_of_an_object_is_done_exactly_once_though_the_guard_is_killed_in_it():
    mortal = xmem_object("mortal", Mortal)
    with engine(append_mortal, quiet(), mortal) as xme:
        assert xme.gfun(xmem_list())[1] == (103,)
    assert mortal.value == 103


def append_and_die(row, XMEManager=None):
    v = XMEManager.get_table("v")
    XMEManager.append(v.add, value=1)
    if row == 1:
        heart = HeartJump("dead", XMEManager)
        heart.start()
        os.kill(os.getpid(), signal.SIGKILL)
    return True


def test_a_killed_caller_does_not_stop_the_guard_and_beats_no_more(account):
    with engine(append_and_die, quiet(ExitTime=30), account) as xme:
        begun = time.monotonic()
        with pytest.raises(Exception, match="died by SIGKILL") as caught:
            xme.gfun(xme.Array(range(4)))
        assert caught.value.row == 1
        assert account.value == 4
        # It did not wait for ExitTime, because a heart has beaten, and none does.
        assert time.monotonic() - begun < 20


def fail_often(XMEManager=None):
    for _ in range(3):
        XMEManager.append(XMEManager.get_table("v").fail, "me")
    XMEManager.append(XMEManager.get_table("v").add, "me", value=1)
    return "done"


def test_failures_that_nobody_has_fetched_are_raised_at_the_end(account):
    with engine(fail_often, quiet(), account) as xme:
        with pytest.raises(CallErrors, match="3 appended calls failed") as caught:
            xme.gfun()
        assert [type(error) for error in caught.value.exceptions] == [KeyError] * 3
        assert sorted(caught.value.failures) == [1, 2, 3]
        assert caught.value.results[0] == "done"
        assert account.value == 1
        with pytest.raises(CallErrors):
            xme.gfun()
        assert account.value == 2


def fail_itself(XMEManager=None):
    fail_often(XMEManager)
    raise RuntimeError("the row")


def test_a_row_that_fails_comes_first_and_failed_calls_are_noted(account):
    with engine(fail_itself, quiet(), account) as xme:
        with pytest.raises(RuntimeError, match="the row") as caught:
            xme.gfun()
        notes = [note for note in caught.value.__notes__ if "appended call" in note]
        assert len(notes) == 3


def stop_first(XMEManager=None):
    XMEManager.update({"__GUARD__": {"Status": False}})
    for _ in range(50):
        XMEManager.append(XMEManager.get_table("v").add, "me", value=1)
    return XMEManager.get("me")


def test_a_guard_that_is_told_to_stop_finishes_and_waits_for_the_functions(account):
    with engine(stop_first, quiet(ExitTime=0), account) as xme:
        assert xme.gfun() == ((50,), (50,))
        assert xme.gfun() == ((50,), (100,))


def test_exit_time_counts_from_the_end_of_the_functions(account):
    with engine(add_many, quiet(ExitTime=0.3), account) as xme:
        begun = time.monotonic()
        xme.gfun(1)
        assert time.monotonic() - begun > 0.3


def wait_for_script(XMEManager=None):
    wait_until(lambda: XMEManager.get_table().get("script"))
    return XMEManager.get_table("script")


def test_the_script_runs_beside_the_guard(account):
    guard = quiet(script="text = type(__GUARD__).__name__\n")
    assert guard + "XMEManager.set('script', text)" is guard
    with engine(wait_for_script, guard, account) as xme:
        assert xme.gfun()[1] == ("XMEGuard",)


def test_a_script_can_stop_its_guard(account):
    guard = quiet(ExitTime=0, script="__GUARD__.Status = False")
    with engine(add_many, guard, account) as xme:
        assert xme.gfun(30) == ((30,), (30,))


def test_an_error_in_the_script_is_raised_when_all_calls_have_run(account):
    with engine(add_many, quiet(script="1 / 0"), account) as xme:
        with pytest.raises(ZeroDivisionError) as caught:
            xme.gfun(5)
        assert "<script of XMEGuard>" in str(caught.value.__cause__)
        assert account.value == 5


LATE = """
import time
while __GUARD__.Status:
    time.sleep(0.001)
XMEManager.append(XMEManager.get_table("v").add, "late", value=1)
raise ValueError(f"late, {XMEManager.get('late')}")
"""


def test_a_script_that_ends_after_the_last_call_is_waited_for_and_served(account):
    with engine(add_many, quiet(script=LATE), account) as xme:
        with pytest.raises(ValueError, match="late, 6"):
            xme.gfun(5)
        assert account.value == 6
        assert xme.xmem.len() == 0


def test_a_script_that_does_not_end_is_an_error_and_what_it_raises_then_is_logged(account, monkeypatch, caplog):
    monkeypatch.setattr(script, "_PATIENCE_S", 0.05)
    guard = quiet(script="__GUARD__.gate.wait(30); raise ValueError('too late')")
    guard.gate = threading.Event()
    manager = XMEManager({"v": account})
    manager.append(account.add, "me", value=1)
    with pytest.raises(TimeoutError, match=r"asks for __GUARD__\.Status"):
        guard.Guard(manager)
    assert manager.get("me") == 1
    guard.gate.set()
    wait_until(lambda: "too late" in caplog.text)
    assert "the script of XMEGuard failed" in caplog.text


def test_a_script_beside_a_guard_that_fails_is_not_silent_either(account, monkeypatch, caplog):
    monkeypatch.setattr(guards._Service, "run", fail_when_the_script_has)
    guard = quiet(script="raise ValueError('before')")
    with pytest.raises(RuntimeError, match="the guard itself"):
        guard.Guard(XMEManager({"v": account}))
    assert "before" in caplog.text


def fail_when_the_script_has(service):
    wait_until(lambda: not service._script._runs)
    raise RuntimeError("the guard itself")


def test_a_script_that_kills_its_guard_again_and_again_ends_the_call(account):
    guard = quiet(script="import os, signal\nos.kill(os.getpid(), signal.SIGKILL)")
    with engine(add_many, guard, account) as xme, pytest.raises((RowErrors, RuntimeError)) as caught:
        xme.gfun(3)
    # The row is told, if it still waits for its calls.
    errors = caught.value.exceptions if isinstance(caught.value, RowErrors) else [caught.value]
    assert all(re.match("8 guards in a row died|the guard has given up", str(error)) for error in errors)


def test_with_an_executor_of_another_library(account):
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(3) as pool:
        xme = engine(add_many, quiet(), account, executor=pool)
        assert max(xme.gfun(xme.Array([20, 20]))[1]) == 40


class InTurn:
    """An executor of one's own: one row after the other, the guard's last."""

    def execute(self, table):
        return tuple(row.function(*row.args, **row.kwargs) for row in table.rows())


def only_append(XMEManager=None):
    XMEManager.append(XMEManager.get_table("v").add, "me", value=1)


def test_with_an_executor_that_runs_the_guard_behind_the_rest(account):
    xme = engine(only_append, quiet(), account, executor=InTurn())
    assert xme.gfun() == ((1,), (None,))
    assert account.value == 1


def test_two_gfuns_at_once_share_the_buffer(account):
    """The end of one does not end the other's guard."""
    with engine(add_and_wait, quiet(), account) as xme:
        flag = xmem_list()
        results = []
        threads = [threading.Thread(target=lambda n=n: results.append(xme.gfun(flag, n)[1])) for n in (0, 1)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(50)
    assert account.value == 2
    assert len(results) == 2


def add_and_wait(flag, number, XMEManager=None):
    if number:
        wait_until(lambda: len(flag))
    XMEManager.append(XMEManager.get_table("v").add, value=1)
    result = XMEManager.get()
    flag.append(1)
    return result


def gfuns_first(XMEManager=None):
    return add_many(10, XMEManager)


def gfuns_second(count, XMEManager=None):
    return add_many(count, XMEManager)


def test_gfuns_has_the_same_guard(account):
    with XME(gfuns_first, gfuns_second, quiet().Guard, xmemtable={"v": account}) as xme:
        assert xme.gfuns(farg_array=[[], [5]])[0] == (15,)
    assert account.value == 15


# -- without gfun ------------------------------------------------------------------------------------------------------


def test_a_guard_of_its_own_ends_when_no_heart_beats(account):
    manager = XMEManager({"v": account})
    guard = quiet(ExitTime=0)
    done = []
    with HeartJump("me", manager) as heart:
        thread = threading.Thread(target=lambda: done.append(guard.Guard(XMEManager=manager)))
        thread.start()
        for _ in range(10):
            manager.append(account.add, "me", value=1)
        assert manager.get("me") == 10
        assert heart.beats
        assert manager._ring.hearts() == 1
        assert thread.is_alive()
    thread.join(10)
    assert done == [10]
    assert manager._ring.hearts() == 0


def test_a_heart_ends_with_its_row(account):
    with engine(begin_to_beat, quiet(ExitTime=0), account) as xme:
        xme.gfun(xme.Array(range(3)))
        assert xme.xmem._ring.hearts() == 0
        assert len(xme.xmem.get_table("__STATUS__")) == 3


def begin_to_beat(row, XMEManager=None):
    HeartJump(row, XMEManager, LoopTime=0.01).start()


def test_a_status_is_kept_fresh():
    manager = XMEManager()
    manager.status("me", "working")
    assert manager.get_table("__STATUS__")["me"] == "working"
    with HeartJump("me", manager, LoopTime=0.01):
        first = manager.get_table("__STATUS__")["me"]
        wait_until(lambda: manager.get_table("__STATUS__")["me"] > first)
    manager.status("me", Status=3)
    assert dict(manager.get_table("__STATUS__")) == {"me": 3}


@pytest.mark.parametrize("options", [{"ExitTime": -1}, {"LoopTime": "x"}, {"VerboseTime": True}, {"EmpLoopTime": None}])
def test_a_wrong_time(options):
    with pytest.raises(ValueError, match="is a number of seconds"):
        XMEGuard(**options)


def test_wrong_guards_and_hearts():
    with pytest.raises(TypeError, match="script is Python code"):
        XMEGuard(script=3)
    with pytest.raises(TypeError, match="runs an XMEManager's calls"):
        XMEGuard().Guard()
    with pytest.raises(TypeError, match="the row's XMEManager"):
        HeartJump("me", None)
    with pytest.raises(ValueError, match="more than 0"):
        HeartJump("me", XMEManager(), 0)


def test_who_waits_for_a_guard_that_has_given_up_is_told(account):
    manager = XMEManager({"v": account})
    manager.append(account.add, "me", value=1)
    manager._ring.words[W_BROKEN] = 1
    with pytest.raises(RuntimeError, match="the guard has given up"):
        manager.get("me")


def refuse(error):
    def refused(*_args, **_kwargs):
        raise error

    return refused


PLACES = [(buffer.CallBuffer, "begin_guard"), (script.Script, "start"), (guards._Service, "_say")]


@pytest.mark.parametrize(("where", "what"), PLACES)
def test_whatever_a_guard_fails_by_who_waits_is_told(account, monkeypatch, where, what):
    manager = XMEManager({"v": account})
    with monkeypatch.context() as patched, pytest.raises(UnicodeError):
        patched.setattr(where, what, refuse(UnicodeError("any")))
        quiet(VerboseTime=1e-9, script="0").Guard(manager)
    manager.append(account.add, "me", value=1)
    with pytest.raises(RuntimeError, match="the guard has given up"):
        manager.get("me", MaxWaitTime=2)
    # Until there is another one.
    assert quiet().Guard(manager) == 1
    assert not manager._ring.words[W_BROKEN]
    assert manager.get("me") == 1


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("beside", [False, True])
def test_a_guard_that_is_stopped_has_given_up_if_none_follows_it(account, monkeypatch, kind, beside):
    manager = XMEManager({"v": account})
    manager.begin_guarded(gfun := object(), beside=beside)
    with monkeypatch.context() as patched, pytest.raises(kind):
        patched.setattr(guards._Service, "_loop", refuse(kind()))
        quiet().Guard(manager)
    # Outside of gfun another one may be started, as after a kill.
    assert bool(manager._ring.words[W_BROKEN]) is beside
    manager.functions_done(gfun)


def test_a_guard_goes_on_when_there_is_no_room_to_say_what_it_does(account, monkeypatch):
    manager = XMEManager({"v": account})
    manager.append(account.add, "me", value=1)
    full = refuse(SharedMemoryFull.of(1, 0, 1, "here"))
    monkeypatch.setattr(script.Script, "start", lambda _: monkeypatch.setattr(buffer.CallBuffer, "clear_parcels", full))
    said = []
    assert quiet(VerboseTime=1e-9).Guard(manager, print=said.append) == 1
    assert said[0].startswith("XMEGuard: 1 calls done")


def test_it_says_now_and_then_what_it_does(account):
    manager = XMEManager({"v": account})
    manager.append(account.add, "me", value=1)
    said = []
    XMEGuard(ExitTime=0.2, VerboseTime=0.05).Guard(manager, print=said.append)
    assert said[0].startswith("XMEGuard: 1 calls done, 0 wait, 0 hearts beat")


def test_an_executor_that_is_given_takes_a_guard_as_well(account):
    with Executor.Executor(max_workers=3) as executor:
        xme = engine(add_many, quiet(), account, executor=executor)
        assert max(xme.gfun(xme.Array([5] * 3))[1]) == 15
