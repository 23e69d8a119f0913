"""Executors of other libraries: rows one by one, the same results and exceptions as on XME's own."""

import threading
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import wait as wait_for

import pytest

from XME.Engine import XME
from XME.errors import RemoteError, RowErrors, RowTimeout


@pytest.fixture
def pool():
    with ThreadPoolExecutor(2) as executor:
        yield executor


class Serial:
    """The smallest executor that a newcomer writes: it runs a row when it is submitted."""

    def submit(self, function, *args):
        future = Future()
        try:
            future.set_result(function(*args))
        except BaseException as error:
            future.set_exception(error)
        return future


def picky(n):
    if n % 2:
        raise ValueError(n)
    return n


def test_rows_come_back_in_order(pool):
    xme = XME(pow, executor=pool)
    assert xme.fun(xme.Array(range(50)), 2) == tuple(n**2 for n in range(50))


def test_anything_with_submit_will_do():
    assert XME(abs, executor=Serial()).fun(XME.Array([-1, 2])) == (1, 2)


def test_one_failed_row_is_its_own_exception_with_the_rest(pool):
    with pytest.raises(ValueError, match="3") as caught:
        XME(picky, executor=pool).fun(XME.Array([0, 2, 3, 4]))
    assert caught.value.row == 2
    assert caught.value.results == {0: 0, 1: 2, 3: 4}
    assert caught.value.failures == {2: caught.value}


def test_several_failed_rows_are_a_group(pool):
    with pytest.raises(RowErrors) as caught:
        XME(picky, executor=pool).fun(XME.Array([1, 2, 3]))
    assert [error.row for error in caught.value.exceptions] == [0, 2]
    assert (caught.value.results, set(caught.value.failures)) == ({1: 2}, {0, 2})


def test_flat_row_numbers_of_a_funs_call(pool):
    with pytest.raises(ValueError, match="1") as caught:
        XME(abs, picky, executor=pool).funs(tagr_array=[[XME.Array([-5, 6])], [XME.Array([0, 1])]])
    assert (caught.value.row, caught.value.results) == (3, {0: 5, 1: 6, 2: 0})


def test_sys_exit_in_a_row_does_not_end_the_caller():
    def leave():
        raise SystemExit(3)

    with pytest.raises(RemoteError, match="ends a program and not a row") as caught:
        XME(leave, executor=Serial()).fun()
    assert (caught.value.type_name, caught.value.row) == ("SystemExit", 0)


def test_an_exception_that_takes_no_attributes_comes_as_itself():
    class Closed(Exception):
        def __setattr__(self, name, value):
            raise AttributeError(name)

    def fail():
        raise Closed

    with pytest.raises(Closed):
        XME(fail, executor=Serial()).fun()


def test_a_time_out_carries_what_was_finished_and_the_next_call_works(pool):
    gate = threading.Event()
    xme = XME(lambda n: gate.wait(30) if n else "done", executor=pool, timeout=1.0)
    with pytest.raises(RowTimeout) as caught:
        xme.fun(xme.Array(range(5)))
    assert (caught.value.results, caught.value.rows, caught.value.timeout) == ({0: "done"}, (1, 2, 3, 4), 1.0)
    assert "had not started were cancelled" in str(caught.value)
    gate.set()
    assert xme.fun(0) == ("done",)


def test_an_interrupt_cancels_what_has_not_started(pool, monkeypatch):
    gate, started = threading.Event(), []

    def row(n):
        started.append(n)
        gate.wait(30)

    futures = []
    submit = pool.submit
    monkeypatch.setattr(pool, "submit", lambda *args: futures.append(submit(*args)) or futures[-1])
    monkeypatch.setattr("XME._pool.foreign._Call._next", lambda self: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        XME(row, executor=pool).fun(XME.Array(range(10)))
    gate.set()
    wait_for(futures, timeout=20)
    assert sum(future.cancelled() for future in futures) == 10 - len(started) >= 8


def test_a_guard_runs_beside_the_rows(pool):
    meet = threading.Barrier(2)
    xme = XME(lambda n: meet.wait(20) and n, lambda word: meet.wait(20) and word, executor=pool)
    guards, rows = xme.gfun(1, garg=["guard"])
    assert {*guards, *rows} < {0, 1, "guard"}


def test_a_guard_needs_two_slots():
    with ThreadPoolExecutor(1) as one, pytest.raises(ValueError, match=r"needs a second slot, and .* has 1"):
        XME(abs, len, executor=one).gfun(1, garg=["x"])


def test_retries_are_refused_because_nobody_says_on_which_row_a_worker_died(pool):
    with pytest.raises(ValueError, match="on which row a worker died"):
        XME(abs, executor=pool, retries=1)


def test_print_and_logobj_are_given_where_the_row_runs(pool, capsys):
    def row(n, print=print, logobj=None):
        logobj.time = logobj.processing = False
        print("row", n)

    XME(row, executor=pool).fun(XME.Array(range(3)))
    assert sorted(capsys.readouterr().out.splitlines()) == ["row 0", "row 1", "row 2"]


def test_statistics_count_and_clean_forgets(pool):
    xme = XME(picky, executor=pool)
    xme.fun(xme.Array([0, 2]))
    with pytest.raises(ValueError, match="1"):
        xme.fun(1)
    counted = xme.statistics()
    assert (counted.calls, counted.rows, counted.failed_rows) == (2, 3, 1)
    xme.clean()
    assert xme.statistics().calls == 0


def test_the_lent_executor_is_left_alone(pool):
    with XME(abs, executor=pool) as xme:
        assert xme.pnum == 2
        xme.fun(-1)
    assert pool.submit(abs, -1).result(20) == 1


def test_progress_leaves_its_last_line(pool, capsys):
    XME(abs, executor=pool, progress=True).fun(XME.Array(range(3)))
    assert "3/3 rows" in capsys.readouterr().err


def test_loky():
    loky = pytest.importorskip("loky")
    executor = loky.ProcessPoolExecutor(2)
    try:
        offset = 5
        xme = XME(lambda n, logobj: n + offset + (logobj is None), executor=executor)
        assert xme.fun(xme.Array(range(4))) == (5, 6, 7, 8)
        with pytest.raises(ValueError, match="3") as caught:
            XME(picky, executor=executor).fun(XME.Array([2, 3]))
        assert (caught.value.row, caught.value.results) == (1, {0: 2})
    finally:
        executor.shutdown(wait=True, kill_workers=True)
