"""The operations that are taken to pieces: those with a target that XME misses."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from functools import partial
from typing import Any

import numpy as np

from benchmarks.cases.guard_call import V
from benchmarks.cases.message_large import english
from benchmarks.cases.message_small import _KEY, _MESSAGES
from benchmarks.cases.mutex_pair import make_robust_mutex
from benchmarks.gates import in_fresh_process
from benchmarks.profile.look import Pieces, instruction_counter, look
from benchmarks.registry import need
from benchmarks.stores.base import Store
from benchmarks.stores.catalogue import open_store
from benchmarks.stores.keeper import keeper
from benchmarks.work import ends, increment

LARGE = 100_000_000
# Each needs material of its own for every run: three looks, and the warm-up.
_FEW, _SOME = 10, 40


def _needed(times: int) -> int:
    return 3 * times + 8


def mutex_pair() -> Pieces:
    """The mutex taken and released, nobody else wanting it."""
    mutex = make_robust_mutex()

    def pair() -> None:
        mutex.acquire()
        mutex.release()

    return look(pair, 1_000)


def security_mutex() -> Pieces:
    """A Security of type MUTEX taken and given back by its operator ADMIN, nobody else wanting it."""
    module = need("XME.Security")
    lock = module.Security(module.LockType.MUTEX)

    def pair() -> None:
        lock.acquire(lock.ADMIN)
        lock.release(lock.ADMIN)

    return look(pair, 1_000)


def security_read() -> Pieces:
    """A Security of type READWRITE taken and given back by a reader, nobody writing."""
    lock = need("XME.Security").Security()

    def pair() -> None:
        lock.acquire_read(lock.ADMIN)
        lock.release_read(lock.ADMIN)

    return look(pair, 1_000)


def dict_get_first() -> Pieces:
    """A value that this process has never got, of a dict that another process made."""
    times = 300
    with open_store("xme", public=True) as store, keeper("xme") as other:
        handle = store.attach(other.make(1_000))
        keys = iter([store.key(number) for number in range(_needed(times))])
        return look(lambda: handle[next(keys)], times)


def dict_set() -> Pieces:
    """A key that is there set."""
    shared = need("XME").xmem_dict({str(number): number for number in range(1_000)})
    return look(partial(shared.__setitem__, "500", 7), 1_000)


def list_append() -> Pieces:
    """An element put behind a list."""
    return look(partial(need("XME").xmem_list([1]).append, 7), 1_000)


def object_change() -> Pieces:
    """The manual's V.add."""
    return look(partial(need("XME").xmem_object("V", V).add, 1), 1_000)


def object_read() -> Pieces:
    """A method that only reads."""
    return look(need("XME").xmem_object("V", V).get, 1_000)


def create_drop() -> Pieces:
    """An empty dict made and dropped."""
    make = need("XME").xmem_dict
    kept = make()
    pieces = look(lambda: make({}), 100)
    del kept
    return pieces


def attach() -> Pieces:
    """From a dict's name to a value of it, in a process that is new to the program that made it."""
    with ExitStack() as stack:
        store = stack.enter_context(open_store("xme", public=True))
        tokens = iter([stack.enter_context(keeper("xme")).make(10) for _ in range(_needed(_FEW))])
        kept = []

        def one() -> None:
            kept.append(store.attach(next(tokens)))
            store.get(kept[-1], store.key(5))

        return look(one, _FEW)


def nested_made() -> Pieces:
    """A dict made and put into a dict."""
    make = need("XME").xmem_dict
    outer = make()
    numbers = iter(range(1_000_000))

    def one() -> None:
        outer[next(numbers)] = make({"value": 1})

    return look(one, 100)


def _fill(store: Store, handle: Any) -> None:
    del store
    for number in range(_needed(_SOME)):
        handle[number] = {"value": number}


def nested_reached() -> Pieces:
    """A value out of a dict in a dict that this process has not seen yet."""
    xme = need("XME")
    outer = xme.xmem_dict({number: xme.xmem_dict(value=number) for number in range(_needed(_SOME))})
    return in_fresh_process(_reached, outer)  # type: ignore[no-any-return]


def _reached(outer: Any) -> Pieces:
    numbers = iter(range(len(outer)))
    return look(lambda: outer[next(numbers)]["value"], _SOME)


def big_set_again() -> Pieces:
    """A key set to another array of 100 MB."""
    shared = need("XME").xmem_dict()
    array = np.ones(LARGE // 8)
    return look(partial(shared.__setitem__, "key", array), _FEW)


def _on_a_crew(function: Callable[..., Any], use: Callable[[Any], Pieces]) -> Pieces:
    xme = need("XME")
    with xme.Executor.Executor(2) as executor:
        return use(xme.XME(function, executor=executor))


def one_row() -> Pieces:
    """One call with one row on a warm crew; the caller's half."""
    rows = need("XME").Array([7])
    return _on_a_crew(increment, lambda table: look(partial(table.fun, rows), 300))


def handover() -> Pieces:
    """An xmem_array that the workers have not seen, handed to 8 rows; the caller's half."""
    xme = need("XME")
    arrays = iter([xme.xmem_array(1 << 17) for _ in range(_needed(_SOME))])
    rows = xme.Array(range(8))

    def hand_over(table: Any) -> Pieces:
        return look(lambda: table.fun(next(arrays), rows), _SOME)

    return _on_a_crew(ends, hand_over)


def put_first() -> Pieces:
    """A plain array of 256 MB written into fresh shared memory, as the first call with it does."""
    return look(partial(need("XME").xmem_array, np.ones(1 << 25)), _FEW)


def put_again() -> Pieces:
    """A plain array of 256 MB put where the workers see it, into memory that is warm."""
    array, rows = np.ones(1 << 25), need("XME").Array(range(2))
    return _on_a_crew(ends, lambda table: look(partial(table.fun, array, rows), _FEW))


def start() -> Pieces:
    """A crew of two started by fork, one call, and its end."""
    xme = need("XME")

    def one() -> None:
        with xme.XME(increment, start_method="fork") as made:
            made.fun(xme.Array([1, 2]))

    return look(one, _FEW)


# -- a task, as the worker sees it ---------------------------------------------------------------------------------

_counts: Counter[str] = Counter()
_FIRST, _LAST = 1_000, 2_000


def task_and_count(row: int) -> Any:
    """Count what the worker's own loop runs between two of its rows."""
    if row == _FIRST:
        trace = instruction_counter(_counts)
        frame = sys._getframe(1)
        while frame is not None:  # type: ignore[redundant-expr]  # its outermost frame has none behind it
            frame.f_trace, frame.f_trace_lines, frame.f_trace_opcodes = trace, False, True
            frame = frame.f_back  # type: ignore[assignment]
        sys.settrace(trace)
    elif row == _LAST:
        sys.settrace(None)
        return dict(_counts)
    return None


def _task(run: Callable[[Any, Any, range], Any]) -> Pieces:
    with need("XME.Executor").Executor(1) as executor:
        *_, counts = run(executor, task_and_count, range(_LAST + 1))
        rows = range(10_000)
        whole = look(lambda: list(run(executor, increment, rows)), 3)
    per_task = {name: count / (_LAST - _FIRST) for name, count in counts.items() if count >= _LAST - _FIRST}
    return Pieces(whole.time_us / len(rows), per_task, {})


def task_single() -> Pieces:
    """A tiny task of its own claim; the worker's half."""
    return _task(lambda executor, function, rows: executor.map(function, rows, chunksize=1))


def task_grouped() -> Pieces:
    """A tiny task of many in a claim; the worker's half."""
    xme = need("XME")
    return _task(lambda executor, function, rows: xme.XME(function, executor=executor).fun(xme.Array(rows)))


def message_update() -> Pieces:
    """One message set and read."""
    board = need("XME").xmem_object("board", need("XME.Monitor").Monitor)

    def pair() -> None:
        board.update({"key": 7})
        board.get("key")

    return look(pair, 300)


def message_update_secured() -> Pieces:
    """One message set and read, behind a Security that nobody else wants."""
    security = need("XME.Security").Security()
    board = need("XME").xmem_object("board", need("XME.Monitor").Monitor, security=security)

    def pair() -> None:
        board.update({"key": 7}, Operator=security.ADMIN)
        board.get("key")

    return look(pair, 300)


def message_small() -> Pieces:
    """100 small messages sealed, and opened into a Monitor of its own."""
    monitor = need("XME.Monitor").Monitor
    there = monitor()
    there.update(_MESSAGES)

    def pair() -> None:
        monitor().unmarshal(there.marshal(key=_KEY), key=_KEY)

    return look(pair, 100)


def message_text() -> Pieces:
    """A megabyte of English sealed."""
    return look(partial(need("XME.Monitor").marshal, {"text": english()}, key=_KEY), _FEW)


def guard_call() -> Pieces:
    """A call of the manual's V.add appended, and run as the guard runs it: by one process, nobody else beside."""
    xme = need("XME")
    manager = xme.XMEManager()
    add = xme.xmem_object("V", V).add

    def one() -> None:
        manager.append(add, "me", value=1)
        manager.exec()

    return look(one, 300)


_ALL = (
    mutex_pair, security_mutex, security_read, dict_get_first, dict_set, list_append, object_change, object_read,
    create_drop, attach, nested_made, nested_reached, big_set_again, task_single, task_grouped, one_row, handover,
    put_first, put_again, start, message_update, message_update_secured, message_small, message_text, guard_call,
)  # fmt: skip
OPERATIONS: Mapping[str, Callable[[], Pieces]] = {operation.__name__: operation for operation in _ALL}
