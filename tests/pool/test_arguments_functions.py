"""What a function may be: anything that can be called, from wherever, with whatever state."""

import functools
import math
import operator
import os
import pathlib
import subprocess
import sys
import textwrap

import numpy as np
import pytest

import XME
from tests.helpers import run_python

LARGE = 20_000


QUICK = ["fork", "spawn", pytest.param("forkserver", marks=pytest.mark.slow)]


def run(pool, function, *args, **kwargs):
    return XME.XME(function, executor=pool).fun(*args, **kwargs)


class Adder:
    def __init__(self, n):
        self.n = n

    def __call__(self, k):
        return self.n + k

    def method(self, k):
        return self.n + k

    @classmethod
    def of_class(cls, k):
        return cls(k).n + 3

    @staticmethod
    def static(k):
        return k + 3


def logged(function):
    @functools.wraps(function)
    def wrapper(*args):
        return function(*args) + 1

    return wrapper


@logged
def decorated(k):
    return k + 2


@functools.lru_cache
def cached(k):
    return k + 3


def factory(n):
    def add(k):
        return k + n

    return add


@pytest.mark.parametrize(
    "function",
    [
        lambda k: k + 3, factory(3), functools.partial(operator.add, 3), functools.partial(lambda a, b: a + b, b=3),
        Adder(3), Adder(3).method, Adder.of_class, Adder.static, decorated, cached, (3).__add__, [0, 0, 0].__len__,
        functools.partial(Adder(3).method), operator.methodcaller("__add__", 3),
    ],
    ids=[
        "lambda", "closure", "partial of C", "partial of a lambda", "object", "method", "class method", "static method",
        "decorated", "cached", "method of C", "length", "partial of a method", "methodcaller",
    ],
)  # fmt: skip
def test_whatever_can_be_called_is_called(pool, function):
    if function == [].__len__ or getattr(function, "__name__", "") == "__len__":
        assert run(pool, function) == (3,)
        return
    assert run(pool, function, XME.Array(range(20))) == tuple(range(3, 23))


def test_builtins_classes_and_ufuncs(pool):
    assert run(pool, math.factorial, XME.Array(range(4))) == (1, 1, 2, 6)
    assert run(pool, pathlib.PurePath, XME.Array(["a", "b"])) == (pathlib.PurePath("a"), pathlib.PurePath("b"))
    assert run(pool, np.add, XME.Array([1, 2]), 3) == (4, 5)
    assert [adder.n for adder in run(pool, Adder, XME.Array([1, 2]))] == [1, 2]


def test_a_state_that_changes_between_calls_is_seen(pool):
    adder = Adder(1)
    settings = {"n": 1}
    functions = [adder, adder.method, functools.partial(lambda s, k: s["n"] + k, settings)]
    made = [XME.XME(function, executor=pool) for function in functions]

    assert [xme.fun(1) for xme in made] == [(2,)] * 3
    adder.n = settings["n"] = 5

    assert [xme.fun(1) for xme in made] == [(6,)] * 3


def total_of(array):
    return lambda k: float(array.sum()) + k


@pytest.mark.parametrize("size", [10, LARGE])
def test_closures_over_different_arrays_are_different_functions(pool, size):
    functions = [total_of(np.full(size, float(k))) for k in range(3)]

    assert [run(pool, function, XME.Array([0, 1])) for function in functions] == [
        (float(k * size), k * size + 1.0) for k in range(3)
    ]


@pytest.mark.parametrize("size", [10, LARGE, 10 * LARGE])
def test_arrays_of_a_closure_are_the_workers_own(pool, size):
    scratch = np.zeros(size)

    def write(k):
        scratch[:] = k
        return float(scratch.sum())

    assert run(pool, write, XME.Array(range(5))) == tuple(float(k * size) for k in range(5))
    assert not scratch.any()


def test_a_method_of_something_large_puts_it_into_shared_memory(pool):
    class Model:
        def __init__(self):
            self.weights = np.ones(LARGE)

        def predict(self, k):
            return float(self.weights.sum()) * k

    model = Model()
    before = pool.statistics()

    assert run(pool, model.predict, XME.Array(range(3))) == (0.0, LARGE, 2.0 * LARGE)
    model.weights[:] = 2
    assert run(pool, model.predict, XME.Array(range(3))) == (0.0, 2.0 * LARGE, 4.0 * LARGE)

    after = pool.statistics()
    assert after.bytes_shared - before.bytes_shared == 2 * model.weights.nbytes
    assert after.bytes_pickled - before.bytes_pickled < LARGE


@pytest.mark.long
def test_more_functions_than_are_kept():
    arrays = [np.full(LARGE, float(k)) for k in range(30)]
    with XME.Executor.Executor(1, start_method="fork") as pool:
        futures = [pool.submit(lambda k=k, array=arrays[k % 30]: float(array[0]) + k) for k in range(1200)]
        assert [future.result(40) for future in futures] == [float(k % 30) + k for k in range(1200)]


# -- __main__ ------------------------------------------------------------------------------------------------

BODY = """
import math, sys
import numpy as np
import XME

TABLE = np.arange(20_000.0)
OFFSET = 3

def helper(k):
    return math.floor(TABLE[k]) + OFFSET

def work(k):
    return helper(k)

def factorial(k):
    return 1 if k < 2 else k * factorial(k - 1)

def inner(k):
    return xme.fun(k)[0] if k < 2 else k

def main(method):
    global xme
    with XME.XME(work, factorial, start_method=method, pnum=1) as xme:
        assert xme.fun(xme.Array(range(5))) == (3, 4, 5, 6, 7)
        assert xme.funs([1], [[xme.Array(range(5))]]) == ((1, 1, 2, 6, 24),)
        with XME.XME(inner, start_method=method, pnum=1) as outer:
            assert outer.fun(outer.Array(range(4))) == (3, 4, 2, 3)
        sys.stdout.write("done\\n")
"""

CALL = "\nif __name__ == '__main__':\n    main({method!r})\n"


def run_command(arguments, text=None):
    done = subprocess.run([sys.executable, *arguments], input=text, capture_output=True, text=True, timeout=50)
    return done.stdout, done.stderr, done.returncode


@pytest.mark.long
def test_functions_of_a_program_with_their_globals(start_method):
    done = run_python(BODY + CALL.format(method=start_method))

    assert (done.stdout, done.stderr, done.returncode) == ("done\n", "", 0)


@pytest.mark.long
@pytest.mark.parametrize("start_method", QUICK)
def test_functions_of_python_c_and_of_standard_input(start_method):
    program = BODY + CALL.format(method=start_method)

    assert run_command(["-c", program]) == ("done\n", "", 0)
    assert run_command(["-"], program) == ("done\n", "", 0)


NOTEBOOK = """
import sys
namespace = sys.modules["__main__"].__dict__
for name in ("__file__", "__cached__", "__spec__"):
    namespace[name] = None
    if name == "__file__":
        del namespace[name]
for number, cell in enumerate(CELLS):
    exec(compile(cell, f"<cell {number}>", "exec"), namespace)
"""


@pytest.mark.parametrize("start_method", QUICK)
def test_cells_of_a_notebook(start_method):
    cells = [BODY, f"main({start_method!r})"]

    done = run_python(f"CELLS = {cells!r}\n{NOTEBOOK}")

    assert (done.stdout, done.stderr, done.returncode) == ("done\n", "", 0)


def test_a_function_that_is_defined_anew_is_the_new_one(start_method):
    cells = [
        "import XME\ndef f(k): return k + 1",
        f"xme = XME.XME(f, start_method={start_method!r}, pnum=1)\nfirst = xme.fun(1)",
        "def f(k): return k + 2",
        (
            "xme.close()\n"
            f"xme = XME.XME(f, start_method={start_method!r}, pnum=1)\nprint(first, xme.fun(1))\nxme.close()"
        ),
    ]

    done = run_python(f"CELLS = {cells!r}\n{NOTEBOOK}")

    assert (done.stdout, done.stderr, done.returncode) == ("(2,) (3,)\n", "", 0)


UNGUARDED = """
import sys
import XME

def f(k):
    return k

xme = XME.XME(f, start_method=sys.argv[1])
print(xme.fun(xme.Array(range(4))))
"""


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_a_program_without_a_guard_ends_soon_and_says_what_to_do(method):
    done = run_python(UNGUARDED, method, timeout_s=30)

    assert (done.returncode, done.stdout) == (1, "")
    (error,) = [line for line in done.stderr.splitlines() if "workers in a row died" in line]
    assert error.startswith("XME.errors.CrewFailed: ")
    assert "if __name__ == '__main__':" in error
    # Each worker that died has said it too.
    workers = [line for line in done.stderr.splitlines() if "starts workers while it is imported" in line]
    assert 1 <= len(workers) <= 5


def test_a_module_that_only_the_caller_can_import(start_method, tmp_path):
    (tmp_path / "apart.py").write_text("def double(k):\n    return 2 * k\n")
    program = f"""
        import sys
        sys.path.insert(0, {str(tmp_path)!r})
        import apart, XME
        if __name__ == "__main__":
            with XME.XME(apart.double, start_method={start_method!r}) as xme:
                print(xme.fun(xme.Array(range(3))))
        """

    done = run_python(textwrap.dedent(program))

    assert (done.stdout, done.stderr, done.returncode) == ("(0, 2, 4)\n", "", 0)


def test_a_module_that_a_worker_cannot_import_fails_rows_with_its_name(tmp_path):
    program = f"""
        import sys
        import XME
        if __name__ == "__main__":
            with XME.XME(abs, start_method="spawn", pnum=1) as xme:
                xme.fun(-1)
                sys.path.insert(0, {str(tmp_path)!r})
                import apart
                with XME.XME(apart.double, executor=xme._executor) as other:
                    try:
                        other.fun(1)
                    except ModuleNotFoundError as error:
                        print(error, error.row)
        """
    (tmp_path / "apart.py").write_text("def double(k):\n    return 2 * k\n")

    done = run_python(textwrap.dedent(program))

    assert (done.stdout, done.stderr, done.returncode) == ("No module named 'apart' 0\n", "", 0)


# -- what functions print ------------------------------------------------------------------------------------

PRINTS = """
import sys
import XME

def speak(k):
    print("line", k, "x" * 2000, "end")
    return k

def log(k, print=print, logobj=None):
    print("logged", k, "y" * 2000, "end")
    logobj.indent_type = str(k)
    return k

if __name__ == "__main__":
    with XME.XME(speak, log, start_method=sys.argv[1], logfile="log", print_in_screen=False) as xme:
        xme.fun(xme.Array(range(200)))
        xme.funs([1], [[xme.Array(range(200))]])
        print("before the end", flush=True)
    lines = open("log").read().splitlines()
    assert all(line.endswith("end") for line in lines[1:]), lines[:3]
    assert sorted(int(line.split("logged ")[1].split()[0]) for line in lines[1:]) == list(range(200))
"""


def test_what_functions_print_arrives_in_whole_lines_before_the_call_returns(start_method, tmp_path):
    done = run_python(PRINTS, start_method, cwd=tmp_path)

    assert (done.stderr, done.returncode) == ("", 0)
    *lines, last = done.stdout.splitlines()
    assert last == "before the end"
    assert sorted(lines) == sorted(f"line {k} {'x' * 2000} end" for k in range(200))


def test_the_workers_pid_is_in_the_log(capfd):
    def who(print):
        print("here")
        return os.getpid()

    with XME.XME(who, start_method="fork") as xme:
        (pid,) = xme.fun()

    assert f"(pid@{pid}):here" in capfd.readouterr().out
