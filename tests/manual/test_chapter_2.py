"""Chapter 2 of the manual: its examples as programs of their own, and what its sentences mean."""

import re

import pytest

from tests.helpers import run_python

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


V = """
import sys, time
import XME

class V:
  value=0
  def add(self,value): self.value+=value
  def get(self): return self.value
"""

GUARD = V + """
def fun(*args,XMEManager=None,print=print):
  #dispatch
  XMEManager=args[-2]
  print=args[-1]
  args=args[:-2]

  op=XMEManager.AllocOperator()#allocate a id
  v=XMEManager.get_table("v")
  for i in range(100):
    XMEManager.append(v.add,op,value=1)
  XMEManager.append(
    XMEManager.get_table("__XMEM__")["Table::update"],
    value=XME.xmem_dict({"__GUARD__":{"Status":False}})
  ) #stop XMEGuard
"""

HEART = V + """
def fun(*args,XMEManager=None,print=print):
  #dispatch
  XMEManager=args[-2]
  print=args[-1]
  args=args[:-2]
  op=XMEManager.AllocOperator()#allocate a id
  xmehj=XME.HeartJump(op,XMEManager) #defind a heartjump object
  xmehj.start() #start the heart jump
  v=XMEManager.get_table("v")
  for i in range(100):
    XMEManager.append(v.add,op,value=1)
  xmehj.stop() #stop the heart jump, mark this subprocess is end
"""

# As in the manual, and then: a second gfun on the same objects, and how long the guard outlived the last call.
PROGRAM = """
if __name__=="__main__":
  options = dict(start_method=sys.argv[1]) if sys.argv[2] == "own" else {}
  if sys.argv[2] == "one":
    options = dict(start_method=sys.argv[1], pnum=1)
  if sys.argv[2] == "executor":
    options = dict(executor=XME.Executor.Executor(max_workers=8, start_method=sys.argv[1]))
  xmeguard=XME.XMEGuard()
  v=XME.xmem_object("Class_V",V)
  xme=XME.XME(fun,xmeguard.Guard,xmemtable={"v":v},**options)
  xme.gfun(xme.Array(range(10)))
  print(xme.xmem.get_table("v").get())
  begun = time.monotonic()
  xme.gfun(xme.Array(range(10)))
  print(xme.xmem.get_table("v").get(), time.monotonic() - begun)
"""
# Starts of processes take long: few of all combinations are for every day.
USUAL = [("fork", "own"), ("fork", "one"), ("fork", "executor"), ("spawn", "own")]
OTHERS = [("spawn", "one"), ("spawn", "executor"), *[("forkserver", mode) for mode in ("own", "one", "executor")]]


@pytest.mark.parametrize(
    ("method", "mode"), [*USUAL, *[pytest.param(*other, marks=pytest.mark.slow) for other in OTHERS]]
)
@pytest.mark.parametrize("example", [GUARD, HEART], ids=["guard", "heart"])
def test_the_guard_runs_every_call_and_ends_by_itself(example, method, mode):
    # On a slow machine the guard says now and then what it is doing.
    first, second = [line for line in run(example + PROGRAM, method, mode).splitlines() if "XMEGuard: " not in line]

    assert first == "1000"
    value, seconds = second.split()
    assert value == "2000"
    # The workers are there already: what is left is a thousand calls, and the end, before ExitTime (10 s) could count.
    assert float(seconds) < 9


SOON = HEART + """
ended = []

def beside(*args, XMEManager=None, print=print):
  fun(*args, XMEManager, print)
  return time.monotonic()

if __name__=="__main__":
  xmeguard=XME.XMEGuard()
  v=XME.xmem_object("Class_V",V)
  with XME.XME(beside,xmeguard.Guard,xmemtable={"v":v}) as xme:
    _, stops = xme.gfun(xme.Array(range(10)))
    print(v.get(), time.monotonic() - max(stops))
"""


def test_with_heart_jumps_the_guard_ends_soon_after_the_last_call():
    value, seconds = run(SOON).splitlines()[-1].split()

    assert value == "1000"
    # A few milliseconds; a machine that is busy with other things may take longer, but ExitTime would be ten seconds.
    assert float(seconds) < 5
