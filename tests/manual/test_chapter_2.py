"""Chapter 2 of the manual: its examples as programs of their own, and what its sentences mean."""

import json
import re
import subprocess
import sys

import pytest

from benchmarks import guard_examples
from benchmarks.guard_examples import EXAMPLES, results
from tests.helpers import ROOT, run_python

METHODS = ["fork", *[pytest.param(method, marks=pytest.mark.slow) for method in ("spawn", "forkserver")]]


def run(program, *args, **kwargs):
    done = run_python(program, *args, **kwargs)
    assert (done.stderr, done.returncode) == ("", 0)
    return done.stdout


# -- 2.1 -----------------------------------------------------------------------------------------------------

SHARED = """
import sys
import XME

class Class_Name:
    def __init__(self, *args, **kwargs):
        self.args, self.kwargs = args, kwargs

def funa(a, b, d, o):
    a.append(b)
    d[b] = o.args
    return len(o.kwargs)

if __name__ == "__main__":
    shared_list = XME.xmem_list(init={})
    shared_dict = XME.xmem_dict(init={})
    shared_object = XME.xmem_object("Class_Name", Class_Name, *[1, 2], **{"three": 3})
    xme = XME.XME(funa, start_method=sys.argv[1])
    print(xme.fun(a=shared_list, b=xme.Array(range(10)), d=shared_dict, o=shared_object))
    print(sorted(shared_list), sorted(shared_dict.items())[-1])
"""


@pytest.mark.parametrize("method", METHODS)
def test_shared_variables_go_into_the_execution_table(method):
    assert run(SHARED, method) == f"{(1,) * 10}\n{list(range(10))} (9, (1, 2))\n"


# What follows stands at module level in the manual, and so in each worker that imports it.
SECURITY = """
import sys
import XME
import XME.Security as Security

sec = Security.Security(LockType=Security.READWRITE)
shared_list = XME.xmem_list(init={})

def fun(i):
    if sec.acquire(sec.ADMIN):
        shared_list.append(shared_list[-1] + 1 if shared_list else 0)
    return sec.release(sec.ADMIN)

if __name__ == "__main__":
    if (sec.acquire(sec.ADMIN)):
        shared_list.append(0)
    sec.release(sec.ADMIN)
    xme = XME.XME(fun, start_method=sys.argv[1])
    print(set(xme.fun(xme.Array(range(50)))), list(shared_list) == list(range(51)))
    print(bool(sec.release("nobody")), sec.release("nobody") == Security.DEADLOCKMARK_UNLOCK)
"""


@pytest.mark.parametrize("method", METHODS)
def test_an_associated_lock_beside_a_shared_variable(method):
    assert run(SECURITY, method) == "{True} True\nFalse True\n"


MONITOR = """
import sys
import XME
import XME.Security as Security
from XME.Monitor import Monitor

def fun(mon, i):
    mon.get("b").append(i)
    mon["c"]["row %d" % i] = i
    mon.update({"a": "from a row"}, Operator=Security.ADMIN)
    return mon.get("a")

if __name__ == "__main__":
    sec = Security.Security(LockType=Security.READWRITE)
    mon = XME.xmem_object("Monitor", Monitor, security=sec)
    a = "This is a string message"
    b = XME.xmem_list(["This is a list message"])
    c = XME.xmem_dict({"key": "This is a list message"})
    mon.update({"a": a, "b": b, "c": c}, Operator=sec.ADMIN)
    print(mon.get("a"), sorted(mon.get()), sorted(key for key, _ in mon.items()))
    xme = XME.XME(fun, start_method=sys.argv[1])
    print(set(xme.fun(mon, xme.Array(range(4)))))
    print(sorted(b, key=str), len(c))
    print(bool(mon.delete("a", Operator="nobody")), "a" in mon, mon.delete("a", Operator=sec.ADMIN), "a" in mon)
    print(mon.delete(Operator=sec.ADMIN), len(mon))
"""


@pytest.mark.parametrize("method", METHODS)
def test_a_monitor_with_shared_messages(method):
    assert run(MONITOR, method).splitlines() == [
        "This is a string message ['a', 'b', 'c'] ['a', 'b', 'c']",
        "{'from a row'}",
        "[0, 1, 2, 3, 'This is a list message'] 5",
        "False True True False",
        "True 0",
    ]


# -- 2.3 -----------------------------------------------------------------------------------------------------

MANAGER = """
import sys
import XME

def target_fun(XMEManger=None):
    print(XMEManger.get_str())
    return sorted(XMEManger.get_table())

if __name__ == "__main__":
    xme = XME.XME(
        target_fun, xmemtable={"key": "the initial key-value pairs in __valuetable__"}, start_method=sys.argv[1]
    )
    xme.xmem.update({"a list key": XME.xmem_list(["a initial-memory-shared list in __valuetable__"])})
    print(xme.fun())
"""


@pytest.mark.parametrize("method", METHODS)
def test_a_function_that_names_the_manager_is_given_it(method):
    first, second = run(MANAGER, method).splitlines()

    assert re.fullmatch(
        r"<XMEManager: 0 calls wait, values 'key', 'a list key'; <Security READWRITE, free>; <.*Monitor.*>>", first
    )
    assert second == "(['__GUARD__', '__STATUS__', '__XMEM__', 'a list key', 'key'],)"


# Starts of processes take long: few of all combinations are for every day.
USUAL = [("fork", "own"), ("fork", "one"), ("fork", "executor"), ("spawn", "own")]
OTHERS = [("spawn", "one"), ("spawn", "executor"), *[("forkserver", mode) for mode in ("own", "one", "executor")]]


@pytest.mark.parametrize(
    ("method", "mode"), [*USUAL, *[pytest.param(*other, marks=pytest.mark.slow) for other in OTHERS]]
)
@pytest.mark.parametrize("example", EXAMPLES)
def test_the_guard_runs_every_call_and_ends_by_itself(example, method, mode):
    found = results(run(EXAMPLES[example], method, mode, 2))

    # A second gfun with the same objects goes on where the first has ended.
    assert [count for count, _ in found] == [1000, 2000]
    # A few milliseconds; before ExitTime, ten seconds, could count.
    assert max(seconds for _, seconds in found) < 9


def test_with_heart_jumps_the_guard_ends_soon_after_the_last_call():
    program = EXAMPLES["2.3.2"].replace("XMEGuard()", "XMEGuard(ExitTime=30)")

    ((count, seconds),) = results(run(program, "fork", "own", 1))

    assert count == 1000
    # A few milliseconds, and a busy machine's share; ExitTime would be thirty seconds.
    assert seconds < 2


@pytest.mark.long
def test_the_examples_are_run_as_often_as_is_asked_for(tmp_path):
    command = [sys.executable, "-m", "benchmarks.guard_examples", "--times", "1", "--json", tmp_path / "found.json"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=50)

    assert (done.returncode, done.stderr) == (0, "")
    assert "2.3.1: 1 of 1 right; at most" in done.stdout
    found = json.loads((tmp_path / "found.json").read_text())["examples"]
    assert [(found[name]["runs"], found[name]["right"]) for name in EXAMPLES] == [(1, 1)] * 2


@pytest.mark.parametrize(
    ("program", "says"),
    [("print(999, 0.1)", "does not begin with 1000"), ("import time; time.sleep(99)", "did not end by itself")],
)
def test_a_run_that_is_not_right_is_found(monkeypatch, program, says):
    monkeypatch.setattr(guard_examples, "LIMIT_S", 0.5)
    monkeypatch.setattr(guard_examples, "EXAMPLES", {"2.3.2": program})

    found = guard_examples.run(1)["examples"]["2.3.2"]

    assert found["right"] == 0
    assert says in found["wrong"][0]
