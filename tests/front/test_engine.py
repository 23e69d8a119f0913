"""Class XME: options, tables, results, and whose executor it is. Rows run in this process, on a stand-in executor."""

import gc
import os
import pickle
import re
import sys
import weakref

import cloudpickle
import pytest

import XME.Engine
from tests.helpers import run_python
from XME.ArrayOperator import Array
from XME.Engine import build
from XME.errors import CallingWarning

Engine = XME.Engine.XME


class Fake:
    """Stands in for XME's own Executor: execute(table) is all that class XME wants, with shutdown at the end."""

    made = []

    def __init__(self, max_workers=None, *, start_method=None):
        self.max_workers, self.start_method = max_workers, start_method
        self.tables, self.shut, self.cleaned = [], [], 0
        Fake.made.append(self)

    def execute(self, table):
        self.tables.append(table)
        return tuple([row.function(*row.args, **row.kwargs) for row in table.rows()])

    def shutdown(self, wait=True, *, cancel_futures=False):
        self.shut.append(wait)

    def statistics(self):
        return len(self.tables)

    def clean(self):
        self.cleaned += 1


@pytest.fixture(autouse=True)
def own(monkeypatch):
    """Every Fake that class XME made for itself in this test."""
    monkeypatch.setattr(XME.Engine, "_own_executor", lambda n, start_method: Fake(n, start_method=start_method))
    Fake.made.clear()
    yield Fake.made
    Fake.made.clear()


class Special(Engine):
    """A user's own class XME."""


def add(a, b=0):
    return a + b


def fun(v):
    return sum(range(v + 1, v + 11))


def test_the_manual_5050():
    xme = Engine(fun)
    assert sum(xme.fun(xme.Array([v * 10 for v in range(10)]))) == 5050


def test_fun_gives_a_tuple_of_rows_and_calling_the_object_is_fun():
    xme = Engine(add)
    assert xme.fun(1) == xme(1) == (1,)
    assert xme(Array(range(3)), b=Array([10, 20])) == (10, 21, 22)
    assert xme.fun(7, calnum=3) == (7, 7, 7)


def test_no_rows_start_nothing(own):
    xme = Engine(add)
    assert xme.fun(xme.Array([])) == xme.fun(1, calnum=0) == ()
    assert xme.funs(tagr_array=[[xme.Array([])]]) == ((),)
    assert own == []
    with pytest.raises(ValueError, match="no last element to repeat"):
        xme.fun(xme.Array([]), xme.Array([1]))


def test_funs_runs_each_entry_over_its_own_arguments():
    xme = Engine(add, abs, str.upper)
    assert xme.funs(tagr_array=[[1], [Array([-1, -2])], ["x"]], args_array=[{"b": 2}, None, {}]) == (
        (3,), (1, 2), ("X",),
    )  # fmt: skip
    assert xme.funs([-1, 0, 0], targ_array=[["y"], [1], [2]]) == (("Y",), (1,), (2,))
    assert Engine(lambda: 1, lambda: 2).funs() == ((1,), (2,))
    assert xme.funs([]) == ()
    assert xme.funs([0], args_array=[{"a": 5, "calnum": 2}]) == ((5, 5),)


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ({"tagr_array": [[1]]}, ValueError, "tagr_array has 1 entries and 2 functions are to run"),
        ({"args_array": [{}] * 3}, ValueError, "args_array has 3 entries and 2 functions"),
        ({"funum_array": [2]}, ValueError, "names function 2, and the table has 2"),
        ({"funum_array": [-3]}, ValueError, "names function -3"),
        ({"funum_array": [abs]}, TypeError, "places of functions in the table"),
        ({"funum_array": [True]}, TypeError, "places of functions in the table"),
        ({"funum_array": 0}, TypeError, "funum_array is a list"),
        ({"tagr_array": [1, 2]}, TypeError, r"tagr_array\[0\] is a list .* write \[1\]"),
        ({"tagr_array": [Array([1]), [2]]}, TypeError, r"tagr_array\[0\] is a list"),
        ({"tagr_array": [[1], "xy"]}, TypeError, r"tagr_array\[1\] is a list"),
        ({"args_array": [[1], {}]}, TypeError, r"args_array\[0\] is a dict"),
        ({"args_array": [{1: 1}, {}]}, TypeError, r"args_array\[0\] is a dict"),
        ({"args_array": {"b": 1}}, TypeError, "args_array is a list"),
        ({"tagr_array": [], "targ_array": []}, TypeError, "two spellings"),
        ({"tagr_array": [[1], []]}, TypeError, r"missing 1 required positional argument: 'a'"),
    ],
)
def test_wrong_lists_are_found_before_anything_starts(own, given, error, message):
    with pytest.raises(error, match=message):
        Engine(add, add).funs(**given)
    assert own == []


def test_gfun_gives_the_guard_tuple_first():
    xme = Engine(add, abs, str.upper)
    assert xme.gfun(Array([1, 2]), garg=["g"], b=1) == (("G",), (2, 3))
    assert Engine(add, add).gfun(1, gargs={"a": 5, "b": 6}) == ((11,), (1,))
    assert xme.gfun(Array([]), garg=["g"]) == (("G",), ())


def test_gfuns_runs_all_but_the_guard(own):
    xme = Engine(add, abs, str.upper)
    assert xme.gfuns(None, [[1], [Array([-1, 2])]], [{"b": 1}, {}], ["g"]) == (("G",), ((2,), (1, 2)))
    assert xme.gfuns([1], [[-3]], garg=("g",)) == (("G",), ((3,),))
    table = own[0].tables[0]
    assert (table.row_count, table.guard.name, table.name(3)) == (3, "str.upper", "str.upper")


def test_a_guard_is_one_row_of_a_table_of_two():
    with pytest.raises(ValueError, match="a guard is the last function of the table"):
        Engine(add).gfun(1)
    with pytest.raises(ValueError, match="is one row, and its arguments make 2"):
        Engine(add, abs).gfun(1, garg=[Array([1, 2])])
    with pytest.raises(TypeError, match=r"garg=\[5\]"):
        Engine(add, abs).gfun(1, garg=5)
    with pytest.raises(TypeError, match="gargs is a dict"):
        Engine(add, abs).gfun(1, gargs=[5])


def test_a_wrong_call_starts_nothing(own):
    xme = Engine(add)
    with pytest.raises(TypeError, match=re.escape("add() missing 1 required positional argument: 'a'")):
        xme.fun()
    with pytest.raises(TypeError, match=re.escape("add() got an unexpected keyword argument 'c'")):
        xme.fun(1, c=2)
    assert own == []


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"pnum": 0}, ValueError, "pnum is the number of worker processes, at least 1"),
        ({"pnum": -1}, ValueError, "not -1"),
        ({"pnum": 2.0}, TypeError, "pnum is"),
        ({"pnum": True}, TypeError, "pnum is"),
        ({"pnum": "2"}, TypeError, "pnum is"),
        ({"pnmu": 2}, TypeError, "unexpected keyword argument 'pnmu'"),
        ({"do_with_log": 1}, TypeError, "do_with_log is True or False, not 1"),
        ({"progress": "yes"}, TypeError, "progress is True or False"),
        ({"print_in_screen": None}, TypeError, "print_in_screen is True or False"),
        ({"show_version_info": 0}, TypeError, "show_version_info is True or False"),
        ({"logfile": 3}, TypeError, "logfile is the name of a file"),
        ({"xmemtable": [1]}, TypeError, "xmemtable is a dict"),
        ({"xmemtable": {"__XMEM__": 1}}, ValueError, "that key is the system's"),
        ({"start_method": "thread"}, ValueError, "start_method is one of 'fork'"),
        ({"start_method": 3}, TypeError, "start_method is one of"),
        ({"timeout": 0}, ValueError, "timeout is the time for a whole call in seconds"),
        ({"timeout": float("inf")}, ValueError, "timeout is"),
        ({"timeout": "1"}, TypeError, "timeout is"),
        ({"timeout": True}, TypeError, "timeout is"),
        ({"timeout": [1]}, TypeError, "timeout is"),
        ({"retries": -1}, ValueError, "retries is how often"),
        ({"retries": 1.5}, TypeError, "retries is how often"),
        ({"calling": "c"}, ValueError, "calling is one of 'xme', 'python'"),
        ({"executor": 5}, TypeError, r"executor is an object with execute\(table\) or submit"),
        ({"executor": Fake}, TypeError, "executor is an object"),
        ({"executor": Fake(), "pnum": 2}, ValueError, "for XME's own workers"),
        ({"executor": Fake(), "start_method": "spawn"}, ValueError, "for XME's own workers"),
    ],
)
def test_wrong_options(options, error, message):
    with pytest.raises(error, match=message):
        Engine(add, **options)


def test_no_function_and_what_is_none():
    with pytest.raises(TypeError, match=r"needs at least one function: xme = XME.XME\(function\)"):
        Engine()
    with pytest.raises(TypeError, match="argument 2 is 3: give the function itself, without calling it"):
        Engine(add, 3)


def test_pnum_is_cut_to_the_cores(own, monkeypatch):
    monkeypatch.setattr(XME.Engine, "available_cores", lambda: 4)
    assert [Engine(add, pnum=n).pnum for n in (None, 1, 4, 100)] == [4, 1, 4, 4]
    Engine(add, pnum=3, start_method="spawn").fun(1)
    assert (own[-1].max_workers, own[-1].start_method) == (3, "spawn")


def test_the_table_carries_the_options(own):
    xme = Engine(add, timeout=2, retries=3, progress=True)
    xme.fun(1)
    (table,) = own[0].tables
    assert (table.timeout, table.retries, table.progress, table.log) == (2, 3, True, xme.logobj)


def test_an_executor_of_ones_own():
    fake = Fake(max_workers=8)
    xme = Engine(add, executor=fake, retries=1)
    assert (xme.fun(Array([1, 2])), xme.pnum, xme.statistics()) == ((1, 2), 8, 1)
    xme.clean()
    xme.close()
    assert (fake.cleaned, fake.shut) == (1, [])


def shown(print=print, logobj=None):
    print("text")
    return logobj


def test_the_log_is_given_by_default(capsys):
    assert isinstance(Engine(shown).fun()[0], XME.Logputter.Logputter)
    assert re.fullmatch(rf"[-\d]+ [:\d]+\(pid@{os.getpid()}\):text\n", capsys.readouterr().out)


def test_without_a_log_print_is_the_builtin_and_logobj_none(capsys):
    xme = Engine(shown, do_with_log=False)
    assert (xme.fun(), xme.logobj) == ((None,), None)
    assert capsys.readouterr().out == "text\n"


def test_the_header_is_printed_once_when_the_object_is_made(capsys):
    for do_with_log in (True, False):
        xme = Engine(shown, show_version_info=True, do_with_log=do_with_log)
        assert re.fullmatch(r"XME .*Python .*\n", capsys.readouterr().out)
        xme.fun()
        assert "Python" not in capsys.readouterr().out
    Engine(shown, show_version_info=True, print_in_screen=False)
    assert capsys.readouterr().out == ""


def test_a_logfile_is_appended_to_and_starts_with_the_header(tmp_path, capsys):
    for _ in range(2):
        Engine(shown, logfile=tmp_path / "log", print_in_screen=False).fun()
    lines = (tmp_path / "log").read_text().splitlines()
    assert [line.startswith("XME ") for line in lines] == [True, False, True, False]
    assert capsys.readouterr().out == ""
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        Engine(shown, logfile=tmp_path / "nowhere" / "log")


def test_the_manual_convention_and_the_python_one():
    def example_fun(*args, a1=None):
        return args

    with pytest.warns(CallingWarning, match="example_fun") as caught:
        assert Engine(example_fun).fun(0, a1="a1") == ((0, "a1"),)
    assert caught[0].filename == __file__
    assert Engine(example_fun, calling="python").fun(0, a1="a1") == ((0,),)


def test_close_ends_the_own_executor_once(own):
    with Engine(add) as xme:
        xme.fun(1)
    xme.close()
    assert own[0].shut == [True]
    for call in (xme.fun, xme.statistics):
        with pytest.raises(RuntimeError, match="was closed"):
            call(*[1] * (call == xme.fun))
    assert repr(xme) == "<XME of add, closed>"


def test_a_dropped_object_ends_its_own_executor_and_never_a_lent_one(own):
    lent = Fake()
    for options in ({}, {"executor": lent}):
        xme = Engine(add, **options)
        xme.fun(1)
        gone = weakref.ref(xme)
        del xme
        gc.collect()
        assert gone() is None
    assert [fake.shut for fake in own] == [[], [False]]
    assert lent.shut == []


def test_a_failed_call_leaves_the_object_usable():
    xme = Engine(lambda a: 1 / a)
    with pytest.raises(ZeroDivisionError):
        xme.fun(0)
    assert xme.fun(1) == (1.0,)


def test_repr_and_build():
    assert build is Engine
    assert repr(Engine(add, abs, pnum=1)) == "<XME of add, abs, pnum=1>"


def test_in_its_own_process_it_unpickles_as_itself(own):
    xme = Engine(add, progress=True)
    xme.fun(1)
    assert pickle.loads(pickle.dumps(xme)) is xme
    xme.fun(1)
    assert [table.progress for table in own[0].tables] == [True, True]
    assert len(own) == 1


def _in_another_process(monkeypatch):
    monkeypatch.setattr(XME.Engine, "_known", weakref.WeakValueDictionary())


def test_elsewhere_one_object_stands_for_it(own, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(XME.Engine, "available_cores", lambda: 8)
    xme = Engine(add, abs, pnum=3, timeout=5, logfile=tmp_path / "log", show_version_info=True)
    capsys.readouterr()
    data = pickle.dumps(xme)
    _in_another_process(monkeypatch)
    twin = pickle.loads(data)
    assert twin is pickle.loads(data) is not xme
    assert (twin.functions, twin.pnum, twin.logobj.logfile) == ((add, abs), 2, str(tmp_path / "log"))
    assert capsys.readouterr().out == ""
    assert own == []
    assert twin.fun(2) == (2,)
    assert own[0].tables[0].timeout == 5


def test_a_subclass_stays_one_and_draws_no_bar_elsewhere(own, monkeypatch):
    data = pickle.dumps(Special(add, progress=True))
    _in_another_process(monkeypatch)
    twin = pickle.loads(data)
    twin.fun(1)
    assert (type(twin), own[0].tables[0].progress) == (Special, False)


def test_crews_within_crews_do_not_multiply(monkeypatch):
    monkeypatch.setattr(XME.Engine, "available_cores", lambda: 8)
    data = pickle.dumps(Engine(add, pnum=2))
    for expected in (2, 2, 1):
        _in_another_process(monkeypatch)
        twin = pickle.loads(data)
        data = pickle.dumps(twin)
        assert twin.pnum == expected


def test_with_a_lent_executor_elsewhere_it_has_its_own(own, monkeypatch):
    data = pickle.dumps(Engine(add, executor=Fake(max_workers=2)))
    _in_another_process(monkeypatch)
    twin = pickle.loads(data)
    assert twin.fun(1) == (1,)
    assert twin._borrowed is None


def test_a_function_that_refers_to_its_own_xme_object_travels(monkeypatch):
    namespace = {"__name__": "__main__"}
    exec("def deep(n): return n if n < 1 else xme.fun(n - 1)[0] + 1\ndef other(): return xme", namespace)
    xme = namespace["xme"] = Engine(namespace["deep"], namespace["other"])
    by_function, by_object = cloudpickle.dumps(namespace["deep"]), cloudpickle.dumps(xme)
    _in_another_process(monkeypatch)
    assert pickle.loads(by_function)(3) == 3
    twin = pickle.loads(by_object)
    assert twin.functions[1]() is twin


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_child_has_workers_of_its_own_and_leaves_the_parent_alone(own):
    xme = Engine(add)
    xme.fun(1)
    if (pid := os.fork()) == 0:
        code = 1
        try:
            same = pickle.loads(pickle.dumps(xme)) is xme
            works = xme.fun(2) == (2,) and len(own) == 2
            xme.close()
            code = 0 if same and works and own[0].shut == [] and own[1].shut == [True] else 2
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert xme.fun(3) == (3,)


def test_importing_the_package_loads_what_is_used_when_it_is_used():
    program = """
import sys, XME
before = {name for name in sys.modules if name.startswith(("XME.", "numpy", "multiprocessing"))}
XME.XME(abs)
print(before, "XME.Executor" in sys.modules, "XME.Security" in sys.modules)
"""
    assert run_python(program).stdout == "set() True False\n"


def test_importing_it_does_not_import_rich():
    program = "import sys, XME.Engine; sys.exit('rich' in sys.modules or 'concurrent.futures.process' in sys.modules)"
    assert os.spawnl(os.P_WAIT, sys.executable, sys.executable, "-c", program) == 0
