"""Chapter 1 of the manual: its examples as programs of their own, and what its sentences mean."""

import re

import pytest

from tests.helpers import run_python

METHODS = ["fork", "spawn", pytest.param("forkserver", marks=pytest.mark.slow)]


def run(program, *args, **kwargs):
    done = run_python(program, *args, **kwargs)
    assert (done.stderr, done.returncode) == ("", 0)
    return done.stdout


# -- 1.1 -----------------------------------------------------------------------------------------------------

TABLE = """
import XME

def funa(a, b, c):
    return a + b + c

def funb(v):
    return v

if __name__ == "__main__":
    xme = XME.XME(funa, funb, pnum=2, do_with_log=True, logfile=None, show_version_info=False, print_in_screen=True)
    print(xme.funs(args_array=[dict(a=xme.Array(range(2)), b=1, c=1), dict(v=10)]))
"""


def test_the_execution_table_of_two_functions():
    assert run(TABLE) == "((2, 3), (10,))\n"


SPECIAL_1 = """
import XME

def funa(a, b):
    return a, b

if __name__ == "__main__":
    xme = XME.XME(funa)
    print(xme.fun(a=xme.Array(range(10)), b=xme.Array(("b1", "b2", "b3"))))
"""


def test_special_case_1_a_shorter_array_repeats_its_last_element():
    expected = tuple(zip(range(10), ["b1", "b2"] + ["b3"] * 8, strict=True))

    assert run(SPECIAL_1) == f"{expected}\n"


SPECIAL_2 = """
import multiprocessing, os, sys
import XME

def fun(k, started, at_once, most):
    with started:
        at_once.value += 1
        most.value = max(most.value, at_once.value)
    total = sum(range(200_000))
    with started:
        at_once.value -= 1
    return k, os.getpid()

if __name__ == "__main__":
    context = multiprocessing.get_context(sys.argv[1])
    started, at_once, most = context.Lock(), context.Value("i", 0), context.Value("i", 0)
    xme = XME.XME(fun, pnum=2, start_method=sys.argv[1])
    rows = xme.fun(xme.Array(range(10)), started, at_once, most)
    assert [k for k, _ in rows] == list(range(10))
    assert most.value <= xme.pnum <= 2
    assert len({pid for _, pid in rows}) <= xme.pnum
    print("done")
"""


@pytest.mark.parametrize("method", METHODS)
def test_special_case_2_more_rows_than_workers_wait_in_a_queue(method):
    assert run(SPECIAL_2, method) == "done\n"


OWN_EXECUTOR = """
import XME

class Here(XME.Executor.Executor):
    def execute(self, table):
        return tuple(row.function(*row.args, **row.kwargs) for row in table.rows())

def fun(v, print=print):
    print("row", v)
    return v * v

if __name__ == "__main__":
    with Here(1) as here:
        xme = XME.XME(fun, executor=here, do_with_log=False)
        print(xme.fun(xme.Array(range(3))))
"""


def test_users_need_to_define_their_own_executor():
    assert run(OWN_EXECUTOR) == "row 0\nrow 1\nrow 2\n(0, 1, 4)\n"


# -- 1.2.1 ---------------------------------------------------------------------------------------------------

SINGLE = """
def fun(v): return sum([i for i in range(v+1,v+11)])

if __name__=="__main__":
  v=[v*10 for v in range(10)]
  print(sum([fun(i) for i in v])) #single process

if __name__=="__main__":
  import XME
  xme=XME.XME(fun) # insert function `fun` into functions table
  v=xme.Array([v*10 for v in range(10)]) #set v is a splitable array
  print(sum(xme.fun(v)))
"""


def test_the_single_function_model():
    assert run(SINGLE) == "5050\n5050\n"


TIMED = """
def fun(v): return sum([i for i in range(v+1,v+11)])
if __name__=="__main__":
  import XME,time
  v=[v*10 for v in range(10)]
  time_use_xme_0=time.time()
  xme=XME.XME(fun)
  print("xme",sum(xme.fun(xme.Array(v))))
  time_use_xme_1=time.time()

  time_no_xme_0=time.time()
  print("noxme",sum([fun(i) for i in v]))
  time_no_xme_1=time.time()

  print("xme",time_use_xme_1-time_use_xme_0)
  print("noxme",time_no_xme_1-time_no_xme_0)
"""


def test_the_integrated_example():
    assert re.fullmatch(r"xme 5050\nnoxme 5050\nxme [\d.e-]+\nnoxme [\d.e-]+\n", run(TIMED))


def to(total):
    step = total // 10
    return TIMED.replace("range(v+1,v+11)", f"range(v+1,v+{step + 1})").replace("v*10 for", f"v*{step} for")


def test_the_accumulation_to_one_million():
    lines = run(to(10**6)).splitlines()

    assert lines[:2] == ["xme 500000500000", "noxme 500000500000"]


@pytest.mark.timeout(200)
@pytest.mark.parametrize(
    "method",
    [
        pytest.param("fork", marks=pytest.mark.long),
        pytest.param("spawn", marks=pytest.mark.slow),
        pytest.param("forkserver", marks=pytest.mark.slow),
    ],
)
def test_the_accumulation_to_100_million(method):
    program = to(10**8).replace("XME.XME(fun)", f"XME.XME(fun, start_method={method!r})")
    lines = run(program, timeout_s=180).splitlines()

    assert lines[:2] == ["xme 5000000050000000", "noxme 5000000050000000"]


# -- 1.2.2 ---------------------------------------------------------------------------------------------------

SERVICES = """
class BasicServices:
  #some functions/attributes
  pass

class ServicesA(BasicServices):
  def Main(self,*args):
    return "A",args

class ServicesB(BasicServices):
  def Main(self,*args):
    return "B",args

if __name__=="__main__":
  import sys,XME
  ser=[ServicesA(),ServicesB()] #similar to multi-thread models
  xme=XME.XME(*[i.Main for i in ser],start_method=sys.argv[1]) #insert function into functions table
  print(xme.funs(tagr_array=[['''args of serA'''],['''args of serB''']])) #call the server
  print(xme.funs(targ_array=[[],[1]]))
  print(xme.funs([1,0,-1],[[1],[2],[3]]))
"""


@pytest.mark.parametrize("method", METHODS)
def test_the_multi_functions_model(method):
    assert run(SERVICES, method) == (
        "((('A', ('args of serA',)),), (('B', ('args of serB',)),))\n"
        "((('A', ()),), (('B', (1,)),))\n"
        "((('B', (1,)),), (('A', (2,)),), (('B', (3,)),))\n"
    )


NOTE_1 = """
def example_fun(a0,a1=None,a2=None,**kwargs):
  return a0,a1,a2,kwargs

if __name__=="__main__":
  import XME
  xme=XME.XME(example_fun)
  one=xme.fun(xme.Array(range(10)),a1="a1",a2="a2",kw1="kw1",kw2="kw2")
  two=xme.fun(xme.Array(range(10)),a1="a1",a2="a2",kwargs={"kw1":"kw1","kw2":"kw2"})
  assert one==two==tuple((i,"a1","a2",{"kw1":"kw1","kw2":"kw2"}) for i in range(10)),one
  print("done")
"""

NOTE_2 = """
import warnings
def example_fun(*args,a1=None,a2=None):
  return args,a1,a2
def solution(*args,a1=None,a2=None):
  a1,a2=args[-2:]
  args=args[:-2]
  return args,a1,a2

if __name__=="__main__":
  import XME
  with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    xme=XME.XME(example_fun,solution)
    assert xme.fun(0,1,xme.Array(range(10)),a1="a1",a2="a2")==tuple(((0,1,i,"a1","a2"),"a1","a2") for i in range(10))
    found=xme.funs([1],[[0,1,xme.Array(range(3))]],[dict(a1="a1",a2="a2")])
    assert found==(tuple(((0,1,i),"a1","a2") for i in range(3)),)
    xme.fun(0,a1="a1")
  assert [w.category for w in caught]==[XME.CallingWarning]*2,caught
  python=XME.XME(example_fun,calling="python")
  assert python.fun(0,1,a1="a1")==(((0,1),"a1",None),)
  print("done")
"""


@pytest.mark.parametrize("program", [NOTE_1, NOTE_2])
def test_the_special_notes_on_arguments(program):
    assert run(program) == "done\n"


# -- 1.3 -----------------------------------------------------------------------------------------------------

PRINT = """
def fun(print=print) :
  print("This is function fun")
if __name__=="__main__":
  import sys,XME
  xme=XME.XME(fun,do_with_log=True,start_method=sys.argv[1])
  xme.fun(calnum=10)
"""


@pytest.mark.parametrize("method", METHODS)
def test_the_print_that_comes_with_xme(method):
    lines = run(PRINT, method).splitlines()

    assert len(lines) == 10
    pattern = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\(pid@\d+\):This is function fun"
    assert all(re.fullmatch(pattern, line) for line in lines)


LOGOBJ = """
def fun(k, logobj=None) :
  assert logobj.logfile is not None and logobj.time is True and logobj.processing is True and logobj.indent is True
  if k == 0: logobj.time = logobj.processing = False
  if logobj!=None: print=logobj.write_log
  print("row", k, msgtype="Warning", indent=1)
if __name__=="__main__":
  import sys,XME
  xme=XME.XME(fun,logfile="log.txt",print_in_screen=False,start_method=sys.argv[1])
  xme.fun(xme.Array([0,1,2]))
  print(open("log.txt").read())
"""


@pytest.mark.parametrize("method", METHODS)
def test_what_a_row_changes_on_its_logobj_lasts_for_that_row(method):
    header, *lines = run(LOGOBJ, method).splitlines()

    assert header.startswith("XME ")
    rows = [line for line in lines if line]
    assert len(rows) == 3
    assert "(Warning):----row 0" in rows
    assert sum(bool(re.fullmatch(r"\(Warning\)[\d-]+ [\d:]+\(pid@\d+\):----row [12]", line)) for line in rows) == 2


# -- what the notes add --------------------------------------------------------------------------------------

NOTES = """
import os, sys, time
import numpy as np
import XME

def fun(a, b=0):
    return a + b

def guard(shared):
    while not shared[0]:
        pass
    return "guarded", os.getpid()

def open_gate(k, shared):
    shared[0] = 1
    return k, os.getpid()

def slow(k):
    if k == 2:
        time.sleep(60)
    return k

def dies_once(k, marks):
    if k == 3 and marks[0] == 0:
        marks[0] = 1
        os.kill(os.getpid(), 9)
    return k

if __name__ == "__main__":
    method = sys.argv[1]
    with XME.XME(fun, start_method=method) as xme:
        assert xme(XME.Array(range(3)), 1) == xme.fun(xme.Array(range(3)), 1) == (1, 2, 3)
        assert xme.fun(5) == (5,) and xme.fun(calnum=3, a=1) == (1, 1, 1) and xme.fun(xme.Array([])) == ()
        found = xme.statistics()
        assert found.rows >= 10 and found.claims >= 3, found
    with XME.build(open_gate, guard, start_method=method, pnum=1) as xme:
        gate = XME.xmem_array(1, dtype="i8")
        (text, guard_pid), = xme.gfun(XME.Array(range(3)), gate, garg=[gate])[0]
        rows = xme.gfuns([0], [[XME.Array(range(2)), gate]], garg=[gate])[1]
        assert text == "guarded" and guard_pid not in {pid for _, pid in rows[0]}
        assert [k for k, _ in rows[0]] == [0, 1]
    with XME.XME(slow, start_method=method, timeout=2.5, pnum=1) as xme:
        try:
            xme.fun(xme.Array(range(4)))
        except XME.RowTimeout as error:
            assert error.results == {0: 0, 1: 1} and error.rows == (2, 3), vars(error)
        assert xme.fun(xme.Array([0, 1])) == (0, 1)
    marks = XME.xmem_array(1, dtype="i8")
    with XME.XME(dies_once, start_method=method) as xme:
        try:
            xme.fun(xme.Array(range(6)), marks)
        except XME.WorkerDied as error:
            assert error.row == 3 and error.results == {k: k for k in (0, 1, 2, 4, 5)}, vars(error)
    marks[0] = 0
    with XME.XME(dies_once, start_method=method, retries=1) as xme:
        assert xme.fun(xme.Array(range(6)), marks) == tuple(range(6))
    print("done")
"""


@pytest.mark.parametrize("method", ["fork", pytest.param("spawn", marks=pytest.mark.slow), METHODS[2]])
def test_what_the_notes_promise_of_class_xme(method):
    assert run(NOTES, method) == "done\n"
