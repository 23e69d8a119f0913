"""multiprocessing's own locks, queues and values, managers' proxies, and what cannot travel at all."""

import ctypes
import io
import multiprocessing
import os
import queue
import socket
import threading

import filelock
import posix_ipc
import pytest

import XME
from tests.helpers import run_python


@pytest.fixture(params=["fork", "spawn", pytest.param("forkserver", marks=pytest.mark.slow)])
def method(request):
    return request.param


@pytest.fixture
def context(method):
    return multiprocessing.get_context(method)


@pytest.fixture
def pool(method):
    with XME.Executor.Executor(2, start_method=method) as made:
        yield made


def run(pool, function, *args, **kwargs):
    return XME.XME(function, executor=pool).fun(*args, **kwargs)


def use(row, things):
    with things["lock"], things["rlock"], things["rlock"], things["semaphore"], things["bounded"]:
        things["value"].value += 1
        things["array"][row % 3] += 1
        things["raw"].value += 1
        things["raw array"][row % 3] += 1
        things["text"].value = b"seen"
        things["struct"].x += 1
    things["queue"].put(row)
    things["simple queue"].put(row)
    with things["condition"]:
        things["condition"].notify_all()
    things["event"].set()
    return things["joinable"].get(timeout=20)


class Point(ctypes.Structure):
    _fields_ = (("x", ctypes.c_int),)


def things_of(context):
    things = {
        "lock": context.Lock(), "rlock": context.RLock(), "semaphore": context.Semaphore(2),
        "bounded": context.BoundedSemaphore(1), "condition": context.Condition(), "event": context.Event(),
        "queue": context.Queue(), "simple queue": context.SimpleQueue(), "joinable": context.JoinableQueue(),
        "value": context.Value("i", 0), "array": context.Array("i", 3), "raw": context.Value("i", 0, lock=False),
        "raw array": context.RawArray("i", 3), "text": context.Array("c", 10), "struct": context.Value(Point, 0),
    }  # fmt: skip
    for k in range(12):
        things["joinable"].put(k)
    return things


def test_everything_that_multiprocessing_shares_is_shared(pool, context):
    things = things_of(context)

    assert sorted(run(pool, use, XME.Array(range(6)), things)) == list(range(6))
    assert sorted(run(pool, use, XME.Array(range(6)), things)) == list(range(6, 12))

    assert (things["value"].value, list(things["array"])) == (12, [4, 4, 4])
    assert (things["raw"].value, list(things["raw array"])) == (12, [4, 4, 4])
    assert (things["text"].value, things["struct"].x) == (b"seen", 12)
    assert sorted(things["queue"].get(timeout=20) for _ in range(12)) == sorted([*range(6)] * 2)
    assert sorted(things["simple queue"].get() for _ in range(12)) == sorted([*range(6)] * 2)
    assert things["event"].is_set()
    for name in ("queue", "joinable"):
        things[name].close()
        things[name].join_thread()


def meet(barrier):
    return barrier.wait(20) in (0, 1)


def test_a_barrier_inside_an_array(pool, context):
    barrier = context.Barrier(2)

    assert run(pool, meet, XME.Array([barrier, barrier])) == (True, True)
    assert run(pool, meet, XME.Array([[barrier], [barrier]][0] * 2)) == (True, True)


def add(counter):
    with counter.get_lock():
        counter.value += 1
    return os.getpid()


@pytest.mark.long
def test_new_locks_start_new_workers_and_the_old_ones_stay_while_nothing_is_new(pool, context):
    first, second = context.Value("i", 0), context.Value("i", 0)

    pids = set(run(pool, add, XME.Array([first] * 10)))
    again = set(run(pool, add, XME.Array([first] * 10)))
    run(pool, add, XME.Array([second] * 10))
    run(pool, add, XME.Array([first, second] * 5))

    assert (first.value, second.value) == (25, 15)
    assert again <= pids or len(pids) < 2


@pytest.mark.long
def test_locks_that_come_and_go_are_not_kept(pool, context):
    for k in range(4):
        counter = context.Value("i", k)
        run(pool, add, counter)
        assert counter.value == k + 1
        del counter

    assert len(pool._dispatcher().crew.inheritance.objects()) <= 1


@pytest.mark.long
def test_other_threads_calls_go_on_beside_a_new_generation(pool, context):
    results = []

    def call():
        results.extend(run(pool, abs, XME.Array(range(-200, 0))) for _ in range(20))

    threads = [threading.Thread(target=call) for _ in range(2)]
    for thread in threads:
        thread.start()
    counters = [context.Value("i", 0) for _ in range(3)]
    for counter in counters:
        run(pool, add, XME.Array([counter] * 4))
    for thread in threads:
        thread.join(40)

    assert [counter.value for counter in counters] == [4, 4, 4]
    assert results == [tuple(range(200, 0, -1))] * 40


def test_a_connection_is_handed_over_and_not_its_number(pool, context):
    here, there = context.Pipe()

    run(pool, lambda connection: connection.send(os.getpid()), there)

    assert here.poll(20)
    assert here.recv() != os.getpid()


GLOBALS = """
import multiprocessing, sys
import XME

method = sys.argv[1]
context = multiprocessing.get_context(method)
lock = counter = None

def count(k):
    with lock:
        counter.value += 1

if __name__ == "__main__":
    lock, counter = context.Lock(), context.Value("i", 0, lock=False)
    with XME.XME(count, start_method=method) as xme:
        xme.fun(xme.Array(range(50)))
        xme.fun(xme.Array(range(50)))
    assert counter.value == 100, counter.value
    print("done")
"""


def test_locks_that_are_globals_of_main(method):
    done = run_python(GLOBALS, method)

    assert (done.stdout, done.stderr, done.returncode) == ("done\n", "", 0)


def test_a_lock_of_another_start_method_is_refused_and_the_pool_goes_on(pool, context, method):
    if method == "fork":
        # A forked worker has whatever its parent has.
        assert run(pool, lambda lock: lock.acquire(timeout=20), multiprocessing.get_context("spawn").Lock()) == (True,)
        return
    with pytest.raises(XME.UnshareableArgument) as caught:
        run(pool, add, [multiprocessing.get_context("fork").Lock()])

    assert caught.value.argument == "positional argument 0 of add[0]"
    assert f"multiprocessing.get_context({method!r})" in str(caught.value)
    assert run(pool, abs, -3) == (3,)


# -- managers ------------------------------------------------------------------------------------------------


def use_proxies(row, items, table, waiting, lock, event, names):
    with lock:
        table["count"] = table.get("count", 0) + 1
        names.total += row
    items.append(row)
    waiting.put(row)
    event.set()


def test_proxies_of_a_manager_are_shared(pool, context):
    assert run(pool, abs, XME.Array([-1, -2])) == (1, 2)
    with context.Manager() as manager:
        items, table, waiting, names = manager.list(), manager.dict(), manager.Queue(), manager.Namespace(total=0)
        lock, event = manager.Lock(), manager.Event()
        run(pool, use_proxies, XME.Array(range(6)), items, XME.Array([table]), waiting, lock, event, names)

        assert sorted(items) == list(range(6))
        assert sorted(waiting.get() for _ in range(6)) == list(range(6))
        assert (table["count"], names.total, event.is_set()) == (6, 15, True)
        assert run(pool, len, XME.Array([[items], {"a": table}])) == (1, 1)
        assert run(pool, abs, XME.Array(items)) == tuple(items)


# -- other libraries' ----------------------------------------------------------------------------------------


def locked(path):
    with filelock.FileLock(path).acquire(timeout=20):
        return os.getpid()


def test_file_locks_travel_by_path(pool, tmp_path):
    path = tmp_path / "lock"

    assert os.getpid() not in run(pool, locked, XME.Array([path, path]))


def opened_by_name(name):
    semaphore = posix_ipc.Semaphore(name)
    semaphore.release()
    semaphore.close()


def test_posix_semaphores_travel_by_name(pool):
    semaphore = posix_ipc.Semaphore(None, posix_ipc.O_CREX)
    try:
        run(pool, opened_by_name, XME.Array([semaphore.name] * 3))
        assert semaphore.value == 3
    finally:
        semaphore.unlink()
        semaphore.close()


# -- what cannot travel --------------------------------------------------------------------------------------


def take(value, *, key=None):
    return value, key


FILE = open(os.devnull)  # noqa: SIM115 - a function below has it as a global


def uses_file(_k):
    return FILE.name


def uses_file_inside(_k):
    return [FILE.name for _ in range(3)]


uses_file.__module__ = uses_file_inside.__module__ = "__main__"


class Holder:
    def __init__(self, held):
        self.held = held

    def method(self, value):
        return value


def refused(pool, function, *args, **kwargs):
    with pytest.raises(XME.UnshareableArgument) as caught:
        run(pool, function, *args, **kwargs)
    assert isinstance(caught.value, TypeError)
    assert run(pool, abs, -1) == (1,)
    return caught.value.argument, caught.value.reason, str(caught.value)


@pytest.fixture(scope="module")
def fork():
    with XME.Executor.Executor(1, start_method="fork") as made:
        yield made


FILE_REASON = f"an open file ({os.devnull!r})"


@pytest.mark.parametrize(
    ("args", "kwargs", "path"),
    [
        ([FILE], {}, "positional argument 0 of take"),
        ([1], {"key": FILE}, "argument 'key' of take"),
        ([[1, {"a": (2, FILE)}]], {}, "positional argument 0 of take[1]['a'][1]"),
        ([Holder([FILE])], {}, "positional argument 0 of take.held[0]"),
        ([XME.Array([1, [FILE]])], {}, "positional argument 0 of take, row 1,[0]"),
        ([lambda: FILE], {}, "the global 'FILE' used by positional argument 0 of take"),
    ],
)
def test_an_open_file_is_refused_by_its_path(fork, args, kwargs, path):
    argument, reason, text = refused(fork, take, *args, **kwargs)

    assert (argument, reason) == (path, FILE_REASON)
    assert text == f"{path} cannot be sent to a worker: it is {FILE_REASON}; pass its path, and open it in the function"


def test_an_open_file_in_a_function_is_refused_by_its_place(fork):
    def with_closure(_k, file=FILE):
        return file

    held = FILE
    cases = {
        "the global 'FILE' used by the function uses_file": uses_file,
        "the global 'FILE' used by the function uses_file_inside": uses_file_inside,
        "the function Holder.method.__self__.held": Holder(FILE).method,
    }
    for path, function in cases.items():
        assert refused(fork, function, 1)[:2] == (path, FILE_REASON)
    argument, _, _ = refused(fork, lambda _k: held, 1)
    assert argument.startswith("the closure variable 'held' of the function")
    assert refused(fork, with_closure, 1)[0].startswith("the default 0 of the function")


@pytest.mark.parametrize(
    ("make", "reason", "advice"),
    [
        (threading.Lock, "a threading lock", "use one of multiprocessing"),
        (threading.RLock, "a threading lock", "use one of multiprocessing"),
        (threading.Condition, "a threading lock", "use one of multiprocessing"),
        (threading.Event, "a threading lock", "use one of multiprocessing"),
        (lambda: (k for k in range(3)), "a generator", "pass list(...) of it"),
        (socket.socket, "a socket", "connect in the function"),
        (lambda: iter(queue.SimpleQueue().get, None), "a builtins.callable_iterator", "pass plain data"),
    ],
)
def test_what_cannot_travel_is_refused_by_its_path_with_advice(fork, make, reason, advice):
    made = make()
    argument, what, text = refused(fork, take, [made])

    assert argument.startswith("positional argument 0 of take[0]")
    assert what.startswith(reason)
    assert advice in text
    if hasattr(made, "close"):
        made.close()


def test_a_manager_itself_is_refused(fork):
    with multiprocessing.get_context("fork").Manager() as manager:
        argument, reason, text = refused(fork, take, {"m": manager})

    assert (argument, reason) == ("positional argument 0 of take['m']", "a multiprocessing manager")
    assert "pass the proxies that it made" in text


def test_a_lock_beside_a_file_is_not_the_culprit(fork):
    lock = multiprocessing.get_context("fork").Lock()

    assert refused(fork, take, [lock, FILE])[0] == "positional argument 0 of take[1]"


def test_files_in_memory_travel(fork):
    assert run(fork, lambda file: file.read(), io.BytesIO(b"content")) == (b"content",)
    assert run(fork, lambda file: file.read(), io.StringIO("text")) == ("text",)


def test_an_executor_does_not_travel(fork):
    argument, reason, _ = refused(fork, take, fork)

    assert argument == "positional argument 0 of take"
    assert "make one in the function that wants it" in reason
