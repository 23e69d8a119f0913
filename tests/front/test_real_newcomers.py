"""What a newcomer does wrong, with real workers: each mistake's error says what happened and what to do."""

import os
import re
import signal
import subprocess
import sys

import numpy as np
import pytest

import XME
from tests.helpers import run_python, wait_until


@pytest.fixture(scope="module")
def pool():
    with XME.Executor.Executor(2, start_method="fork") as made:
        yield made


def error_of(call, kind):
    with pytest.raises(kind) as caught:
        call()
    return str(caught.value)


def work(a, b=0):
    return a


def test_no_function():
    assert error_of(XME.XME, TypeError) == (
        "XME needs at least one function: xme = XME.XME(function), then xme.fun(xme.Array(range(10)))"
    )


def test_a_call_instead_of_a_function():
    assert error_of(lambda: XME.XME(work(3)), TypeError) == (
        "XME takes functions, and its argument 1 is 3: give the function itself, without calling it, "
        "and its arguments to xme.fun(...)"
    )


def test_an_open_file_as_argument(pool, tmp_path):
    path = tmp_path / "filename"
    with path.open("w") as file:
        assert error_of(lambda: XME.XME(work, executor=pool).fun(file), XME.UnshareableArgument) == (
            f"positional argument 0 of work cannot be sent to a worker: it is an open file ({str(path)!r}); "
            "pass its path, and open it in the function"
        )


def test_a_lambda_and_a_closure_work(pool):
    x = 50

    def add(y):
        return x + y

    assert XME.XME(lambda y: x + y, executor=pool).fun(XME.Array(range(3))) == (50, 51, 52)
    assert XME.XME(add, executor=pool).fun(XME.Array(range(3))) == (50, 51, 52)


def test_a_generator_in_an_array_works_and_as_a_plain_argument_says_what_to_do(pool):
    xme = XME.XME(work, executor=pool)

    assert xme.fun(XME.Array(k * k for k in range(4))) == (0, 1, 4, 9)
    assert error_of(lambda: xme.fun(k for k in range(4)), XME.UnshareableArgument) == (
        "positional argument 0 of work cannot be sent to a worker: it is a generator; pass list(...) of it"
    )


def test_unequal_arrays_repeat_the_last_element(pool):
    pairs = XME.XME(lambda a, b: (a, b), executor=pool).fun(a=XME.Array(range(5)), b=XME.Array(("b1", "b2", "b3")))

    assert pairs == ((0, "b1"), (1, "b2"), (2, "b3"), (3, "b3"), (4, "b3"))


def test_an_empty_array_beside_a_longer_one(pool):
    xme = XME.XME(work, executor=pool)

    assert error_of(lambda: xme.fun(XME.Array([]), XME.Array([1, 2])), ValueError) == (
        "an empty Array stands beside one of 2 rows: it has no last element to repeat"
    )
    assert xme.fun(XME.Array([])) == ()


def test_missing_and_unknown_arguments_are_found_before_anything_starts():
    xme = XME.XME(work)

    assert error_of(xme.fun, TypeError) == "work() missing 1 required positional argument: 'a'"
    assert "unexpected keyword argument 'c'" in error_of(lambda: xme.fun(1, c=2), TypeError)
    assert (
        error_of(lambda: xme.fun(1, 2, 3), TypeError)
        == "work() takes from 1 to 2 positional arguments but 3 were given"
    )
    assert xme._executor is None


@pytest.mark.parametrize(("pnum", "kind"), [(0, ValueError), (-1, ValueError), ("2", TypeError), (1.5, TypeError)])
def test_a_number_of_workers_that_makes_no_sense(pnum, kind):
    assert error_of(lambda: XME.XME(work, pnum=pnum), kind) == (
        f"pnum is the number of worker processes, at least 1 (None: one for each core), not {pnum!r}"
    )


def test_an_unpicklable_result(pool):
    assert error_of(lambda: XME.XME(lambda: (k for k in "ab"), executor=pool).fun(), XME.UnshareableResult) == (
        "the result of test_an_unpicklable_result.<locals>.<lambda>.<locals>.<lambda>, row 0, cannot be sent back "
        "(TypeError: cannot pickle 'generator' object): return plain data, arrays or something that pickles"
    )


class NeedsTwo(Exception):
    def __init__(self, code, text):
        super().__init__(f"{code}: {text}")


def fail():
    raise NeedsTwo(3, "why")


def test_an_exception_that_does_not_pickle(pool):
    assert error_of(XME.XME(fail, executor=pool).fun, XME.RemoteError) == (
        "NeedsTwo: 3: why (an exception that does not pickle, so this one stands for it; give its class picklable "
        "arguments or a __reduce__)"
    )


def write_into(_row, array):
    array[0] = 1


def test_writing_into_a_plain_common_array(pool):
    with pytest.raises(XME.RowErrors) as caught:
        XME.XME(write_into, executor=pool).fun(XME.Array(range(2)), np.zeros(3))

    for error in caught.value.exceptions:
        assert str(error) == "assignment destination is read-only"
        assert error.__notes__ == [
            (
                "XME: a plain array that is an argument of all rows is read-only in the workers, who share its memory. "
                "array.copy() gives a row one of its own; XME.xmem_array(array), passed instead, is shared and "
                "writable by all; XME.Array(array) gives each row its own part."
            )
        ]


def test_what_it_suggests_works(pool):
    array = np.zeros((2, 3))
    shared = XME.xmem_array(array)

    XME.XME(write_into, executor=pool).fun(XME.Array(range(2)), shared)
    XME.XME(write_into, executor=pool).fun(0, XME.Array(array))

    assert shared[0].tolist() == [1, 1, 1]
    assert not array.any()


def nested(k):
    with XME.XME(work, start_method="fork") as inner:
        return inner.fun(XME.Array(range(k)))


def test_xme_inside_a_worker_of_xme(pool):
    assert XME.XME(nested, executor=pool).fun(XME.Array([2, 3])) == ((0, 1), (0, 1, 2))


INTERRUPTED = """
import sys, threading
import XME

def wait(path):
    open(path, "w").close()
    threading.Event().wait()

if __name__ == "__main__":
    xme = XME.XME(wait, start_method=sys.argv[1])
    try:
        xme.fun(sys.argv[2])
    except KeyboardInterrupt:
        print("interrupted", xme.statistics() is not None)
    with XME.XME(abs, start_method=sys.argv[1]) as again:
        print(again.fun(-3))
"""


def test_a_ctrl_c_in_the_middle(start_method, tmp_path):
    program, mark = tmp_path / "program.py", tmp_path / "mark"
    program.write_text(INTERRUPTED)
    process = subprocess.Popen(
        [sys.executable, str(program), start_method, str(mark)], text=True, start_new_session=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    try:
        wait_until(mark.exists)
        # To the whole group, as a terminal does.
        os.killpg(process.pid, signal.SIGINT)
        out, err = process.communicate(timeout=20)
    finally:
        process.kill()
        process.wait(10)

    assert (out, process.returncode) == ("interrupted True\n(3,)\n", 0)
    assert "Traceback" not in err


BROKEN_START = """
import sys
import XME

def init():
    raise RuntimeError("no database")

if __name__ == "__main__":
    with XME.Executor.Executor(1, start_method=sys.argv[1], initializer=init) as pool:
        XME.XME(abs, executor=pool).fun(1)
"""


def test_an_initializer_that_fails_is_the_reason_that_is_given(start_method):
    done = run_python(BROKEN_START, start_method)

    assert done.returncode == 1
    assert re.search(r"CrewFailed: 3 workers in a row died .*the initializer failed", done.stderr)
    assert "RuntimeError: no database" in done.stderr.split("CrewFailed")[-1]


def test_modules_that_are_called(pool):
    assert "XME.Executor.Executor" in error_of(lambda: XME.Executor(2), TypeError)
    assert "XME.Logputter.Logputter" in error_of(XME.Logputter, TypeError)
