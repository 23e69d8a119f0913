"""Results: exactly what the function returned, the caller's own, and never in the way of what comes after."""

import functools
import gc
import math
import os
import signal
import sys
import warnings

import numpy as np
import pytest

import XME
from tests.helpers import run_python

LARGE = 40_000


def run(pool, function, *args, **kwargs):
    return XME.XME(function, executor=pool).fun(*args, **kwargs)


def same(value):
    return value


class Own:
    def __init__(self, value):
        self.value = value

    def __eq__(self, other):
        return type(other) is type(self) and other.value == self.value

    def __hash__(self):
        return hash(self.value)


class MyInt(int):
    pass


EXACT = [
    0, 1, -1, 2**63 - 1, -(2**63), 2**63, -(2**63) - 1, 10**50, True, False, None, 0.0, -0.0, math.inf, 1.5, 5e-324, 1j,
    "", "text", "\ud800", b"", b"bytes", (), (1, (2,)), [], {}, {1: [2]}, {3}, frozenset({4}), range(5), ..., Own(3),
    MyInt(5), np.int8(1), np.int64(2), np.uint64(2**64 - 1), np.float32(1.5), np.float64(2.5), np.bool_(True),
    np.str_("s"), np.datetime64("2024-01-01"), np.complex64(1j), np.void(b"ab"),
    int, Own, len, ValueError("a value"), slice(1, 2),
]  # fmt: skip


def test_every_result_is_exactly_what_was_returned(pool):
    results = run(pool, same, XME.Array(EXACT))

    for result, expected in zip(results, EXACT, strict=True):
        assert type(result) is type(expected)
        assert repr(result) == repr(expected) or result == expected


def test_a_column_of_one_type_keeps_each_value(pool):
    floats = [0.0, -0.0, math.nan, math.inf, -math.inf, sys.float_info.min]

    assert list(map(repr, run(pool, same, XME.Array(floats)))) == list(map(repr, floats))
    assert run(pool, same, XME.Array([2**62, -(2**63)])) == (2**62, -(2**63))
    assert run(pool, same, XME.Array([None] * 3)) == (None,) * 3
    assert [type(value) for value in run(pool, same, XME.Array([1, True, 1.0]))] == [int, bool, float]


def make(kind):
    base = np.arange(float(LARGE))
    return {
        "large": base,
        "small": base[:3],
        "strided": base[::2],
        "fortran": np.asfortranarray(base.reshape(200, 200)),
        "time": base.astype("M8[s]"),
        "records": np.zeros(LARGE, dtype=[("a", "i4"), ("t", "M8[s]")]),
        "empty": np.empty((0, 3)),
        "objects": np.array([None, "x"], dtype=object),
        "read-only": np.broadcast_to(3.0, (LARGE,)),
    }[kind]


ARRAYS = ["large", "small", "strided", "fortran", "time", "records", "empty", "objects", "read-only"]


def wrapped(kind):
    return {"deep": [make(kind)]}, make(kind)


@pytest.mark.parametrize("kind", ARRAYS)
def test_arrays_come_back_writable_wherever_they_are(pool, kind):
    (alone,) = run(pool, make, kind)
    ((inside, beside),) = run(pool, wrapped, kind)

    for array in (alone, inside["deep"][0], beside):
        assert array.dtype == make(kind).dtype
        assert np.array_equal(array, make(kind))
        assert array.flags.writeable
        array[...] = array.copy()


def test_a_common_array_that_is_returned_is_the_callers_own(pool):
    common = np.zeros(LARGE)
    for result in run(pool, lambda _k, a: a, XME.Array(range(3)), common):
        assert not result.any()
        result[:] = 1
    for result in run(pool, lambda _k, a: (a[5:], a[:4]), XME.Array(range(3)), common):
        assert not result[0].any()
        result[0][:] = result[1][:] = 1

    assert not common.any()


def number(k):
    return np.full(LARGE, float(k)), os.getpid()


@pytest.mark.long
def test_result_arrays_outlive_workers_and_pool(start_method):
    with XME.XME(number, start_method=start_method) as xme:
        first = xme.fun(xme.Array(range(6)))
        for pid in {pid for _, pid in first}:
            os.kill(pid, signal.SIGKILL)
        second = xme.fun(xme.Array(range(6, 12)))
        for k, (array, _) in enumerate(first + second):
            assert (array == k).all()
    gc.collect()
    for k, (array, _) in enumerate(first + second):
        assert (array == k).all()
        array[:] += 1
    assert [array[0] for array, _ in first + second] == [k + 1.0 for k in range(12)]


def hundred_megabytes(k):
    return np.full(100_000_000 // 8, float(k))


def test_large_results_go_through_no_pickle_and_no_pipe(fork):
    before = fork.statistics()

    results = run(fork, hundred_megabytes, XME.Array(range(2)))

    after = fork.statistics()
    assert [result[-1] for result in results] == [0.0, 1.0]
    assert after.bytes_pickled - before.bytes_pickled < 5_000
    assert after.bytes_shared - before.bytes_shared == 200_000_000


def few_floats(k):
    return np.full(4, float(k))


def run_four(pool):
    run(pool, few_floats, XME.Array(range(4)))


def map_four(pool):
    list(pool.map(few_floats, range(4)))


@pytest.mark.parametrize("ask", [run_four, map_four])
def test_what_ended_is_counted_whole(fork, ask):
    for _ in range(300):
        before = fork.statistics()
        ask(fork)
        after = fork.statistics()

        assert after.rows - before.rows == 4
        assert after.bytes_pickled - before.bytes_pickled > 4 * 64


MANY = """
import resource
import numpy as np
import XME

def image(k):
    return np.full(12_800, float(k))

if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256))
    with XME.XME(image) as xme:
        images = xme.fun(xme.Array(range(2_500)))
    assert all(array[0] == array[-1] == k and array.flags.writeable for k, array in enumerate(images))
    images[5][:] = 7
    assert images[6][0] == 6
    print("done")
"""


@pytest.mark.long
def test_thousands_of_result_arrays_under_a_small_limit_of_descriptors():
    done = run_python(MANY)

    assert (done.stdout, done.stderr, done.returncode) == ("done\n", "", 0)


# -- what does not travel ------------------------------------------------------------------------------------


def generator(_k):
    return (k for k in range(3))


def opened(_k):
    return open(os.devnull)


def unpicklable_on_odd(k):
    return (lambda: k) if k % 2 == 0 else generator(k)


@pytest.mark.parametrize(("function", "reason"), [(generator, "generator"), (opened, "an open file")])
def test_a_result_that_does_not_pickle_is_named(pool, function, reason):
    with pytest.raises(XME.UnshareableResult, match=reason) as caught:
        run(pool, function, 3)

    error = caught.value
    assert (error.row, error.function) == (0, function.__name__)
    assert str(error).startswith(f"the result of {function.__name__}, row 0, cannot be sent back (")
    assert str(error).endswith("return plain data, arrays or something that pickles")


def test_results_that_travel_stand_beside_those_that_do_not(pool):
    with pytest.raises(XME.RowErrors) as caught:
        run(pool, unpicklable_on_odd, XME.Array(range(6)))

    assert {row: type(error) for row, error in caught.value.failures.items()} == dict.fromkeys(
        [1, 3, 5], XME.UnshareableResult
    )
    assert {row: function() for row, function in caught.value.results.items()} == {0: 0, 2: 2, 4: 4}


class ArrivesBadly:
    def __reduce__(self):
        return arrive, ()


def arrive():
    raise LookupError("it does not arrive")


def test_a_result_that_does_not_unpickle_is_named(pool):
    with pytest.raises(XME.UnshareableResult, match="LookupError: it does not arrive") as caught:
        run(pool, lambda k: ArrivesBadly() if k == 1 else k, XME.Array(range(4)))

    assert caught.value.row == 1
    assert caught.value.results == {0: 0, 2: 2, 3: 3}


# -- exceptions ----------------------------------------------------------------------------------------------


class Plain(Exception):
    pass


class WithFields(Exception):
    def __init__(self, code, *, detail="none"):
        super().__init__(code)
        self.code, self.detail = code, detail


class NeedsTwo(Exception):
    def __init__(self, a, b):
        super().__init__(f"{a} and {b}")


class HoldsLock(Exception):
    def __init__(self):
        super().__init__("with a generator")
        self.held = (k for k in range(2))


class NoText(Exception):
    def __init__(self):
        super().__init__(k for k in range(2))

    def __str__(self):
        raise RuntimeError


def fail(kind):
    if kind == "chain":
        try:
            raise KeyError("the cause")
        except KeyError as error:
            plain = Plain("the effect")
            plain.add_note("a note")
            raise plain from error
    made = {
        "plain": lambda: Plain("one", 2),
        "fields": lambda: WithFields(3, detail="a lot"),
        "two": lambda: NeedsTwo(1, 2),
        "lock": HoldsLock,
        "no text": NoText,
        "group": lambda: ExceptionGroup("both", [Plain("a"), OSError(2, "no such", "file")]),
        "exit": lambda: SystemExit(3),
        "stop": lambda: StopIteration("early"),
        "generator": GeneratorExit,
        "system": lambda: FileNotFoundError(2, "not there", "the file"),
        "unicode": lambda: UnicodeDecodeError("utf-8", b"\xff", 0, 1, "why"),
    }[kind]()
    raise made


def failed(pool, kind):
    with pytest.raises(BaseException) as caught:
        run(pool, fail, kind)
    assert caught.value.row == 0
    assert caught.value.results == {}
    assert list(caught.value.failures) == [0]
    return caught.value


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("plain", Plain),
        ("fields", WithFields),
        ("stop", StopIteration),
        ("system", FileNotFoundError),
        ("unicode", UnicodeDecodeError),
    ],
)  # fmt: skip
def test_an_exception_comes_back_as_itself_with_the_workers_traceback(pool, kind, expected):
    error = failed(pool, kind)
    with pytest.raises(expected) as here:
        fail(kind)

    assert type(error) is expected
    assert error.args == here.value.args
    assert isinstance(error.__cause__, XME.WorkerTraceback)
    assert "in fail" in str(error.__cause__)
    assert "test_results.py" in str(error.__cause__)


def test_an_exceptions_fields_notes_and_chain_arrive(pool):
    assert vars(failed(pool, "fields"))["detail"] == "a lot"
    effect = failed(pool, "chain")
    assert effect.__notes__ == ["a note"]
    assert "KeyError: 'the cause'" in str(effect.__cause__)
    group = failed(pool, "group")
    assert [type(part) for part in group.exceptions] == [Plain, FileNotFoundError]


@pytest.mark.parametrize(
    ("kind", "name", "text"),
    [
        ("two", "NeedsTwo", "1 and 2"),
        ("lock", "HoldsLock", "with a generator"),
        ("no text", "NoText", "its __str__ fails"),
    ],
)
def test_an_exception_that_does_not_travel_has_a_stand_in_with_its_text(pool, kind, name, text):
    error = failed(pool, kind)

    assert type(error) is XME.RemoteError
    assert (error.type_name, error.text) == (name, text)
    assert "give its class picklable arguments or a __reduce__" in str(error)
    assert "in fail" in str(error.__cause__)


@pytest.mark.parametrize("kind", ["exit", "generator"])
def test_a_row_that_wants_to_end_the_program_ends_nothing(pool, kind):
    assert "which ends a program and not a row" in str(failed(pool, kind))
    assert run(pool, same, XME.Array(range(3))) == (0, 1, 2)


def warn(k):
    with warnings.catch_warnings():
        # Under fork the workers have the filters of this test run.
        warnings.simplefilter("ignore")
        warnings.warn(f"a warning {k}", UserWarning, stacklevel=1)
    return k


def test_a_function_that_warns_is_no_failure(pool):
    assert run(pool, warn, XME.Array(range(3))) == (0, 1, 2)


def test_a_recursive_function_that_never_ends_fails_its_row_only(pool):
    def deeper(k):
        return deeper(k) if k == 1 else k

    with pytest.raises(RecursionError) as caught:
        run(pool, deeper, XME.Array(range(3)))

    assert caught.value.results == {0: 0, 2: 2}


# -- own classes of __main__ ---------------------------------------------------------------------------------

MAIN = """
import dataclasses, sys
import XME

@dataclasses.dataclass
class Point:
    x: int

class Wrong(Exception):
    def __init__(self, x):
        super().__init__(x)
        self.x = x

def make(x):
    if x == 2:
        raise Wrong(x)
    return Point(x)

def add(point):
    return Point(point.x + 1)

if __name__ == "__main__":
    with XME.XME(make, add, start_method=sys.argv[1]) as xme:
        assert xme.fun(0) == (Point(0),)
        assert isinstance(xme.fun(1)[0], Point)
        try:
            xme.fun(xme.Array(range(3)))
        except Wrong as error:
            assert error.x == 2 and error.results == {0: Point(0), 1: Point(1)}, vars(error)
        else:
            raise AssertionError
        assert xme.funs([1], [[xme.Array([Point(5)])]]) == ((Point(6),),)
    print("done")
"""


def test_classes_of_main_are_the_same_classes_in_both_directions(start_method):
    done = run_python(MAIN, start_method)

    assert (done.stdout, done.stderr, done.returncode) == ("done\n", "", 0)


def test_partials_of_results_and_functions_come_back(pool):
    (result,) = run(pool, lambda: functools.partial(same, 3))

    assert result() == 3
