"""Threads of one process over containers that come and go: nothing is lost, and nobody gets another's exception."""

import pickle
import threading

import numpy as np
import pytest

import XME
from tests.helpers import run_python
from tests.pool.rows import program
from tests.store.test_signals import Strike
from XME import xmem_dict, xmem_list, xmem_object
from XME._containers.container import Container
from XME._core import memory, names
from XME._core.namebook import NameBook
from XME.errors import MutexError

LIMIT_S = 20


def is_there(container):
    return memory.is_there(names.path_of(names.name_of(container.domain.id, container.serial)))


def in_thread(function):
    thread = threading.Thread(target=function, daemon=True)
    thread.start()
    thread.join(LIMIT_S)
    assert not thread.is_alive()


MANY = """
import collections, resource, sys, threading, time
import XME

resource.setrlimit(resource.RLIMIT_NOFILE, (128, 128))
sys.setswitchinterval(1e-4)
plain = [XME.xmem_dict(n=0) for _ in range(40)]
lists = [XME.xmem_list([0]) for _ in range(40)]
nested = XME.xmem_dict({k: {"n": 0} for k in range(40)}, nested=True)
dropping = XME.xmem_dict(nested=True)
errors = collections.Counter()
end = time.monotonic() + float(sys.argv[1])

def use(turn):
    plain[turn % 40].increment("n")
    lists[turn % 40].append(turn)
    plain[turn * 7 % 40]["n"]
    lists[turn * 7 % 40][0]
    nested[turn % 40]["n"]
    if turn % 5 == 0:
        dropping[turn % 3] = {"a": {}, "b": {}}
        dropping.pop(turn % 3, None)

def run(first):
    turn = first
    while time.monotonic() < end:
        turn += 1
        try:
            use(turn)
            counts[first] += 1
        except Exception as error:
            errors[repr(error)[:120]] += 1

counts = collections.Counter()
threads = [threading.Thread(target=run, args=(1000 * k,)) for k in range(4)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
done = sum(counts.values())
print(dict(errors))
print(sum(d["n"] for d in plain) == done, sum(len(l) - 1 for l in lists) == done)
"""


def test_more_containers_than_may_be_mapped_at_once():
    done = run_python(MANY, 1.5)

    assert done.stdout == "{}\nTrue True\n", done.stdout + done.stderr


def test_what_a_failed_commit_was_to_drop_no_other_thread_drops(monkeypatch):
    shared = xmem_dict({"a": {"k": 1}, "b": {"k": 2}}, nested=True)
    left, go_on = threading.Event(), threading.Event()
    leave, note = Container._leave, NameBook.note_dropping
    noted = []

    def leave_and_wait(self):
        leave(self)
        if threading.current_thread() is other and self is shared:
            left.set()
            go_on.wait(LIMIT_S)

    def no_room_for_the_second(self, *args):
        noted.append(args)
        if len(noted) == 2:
            raise XME.SharedMemoryFull.of(16, 0, 0, "/dev/shm")
        return note(self, *args)

    monkeypatch.setattr(Container, "_leave", leave_and_wait)
    other = threading.Thread(target=shared.__setitem__, args=("x", {}))
    other.start()
    assert left.wait(LIMIT_S)
    monkeypatch.setattr(NameBook, "note_dropping", no_room_for_the_second)
    with pytest.raises(XME.SharedMemoryFull):
        shared.clear()
    monkeypatch.undo()
    go_on.set()
    other.join(LIMIT_S)

    assert shared.todict() == {"a": {"k": 1}, "b": {"k": 2}, "x": {}}
    shared["a"]["k"] = 3
    shared["y"] = 1
    shared._check(settled=True)
    shared.clear()
    shared._check(settled=True)


BUSY = """
import pickle, sys, time
shared, gate = pickle.loads(bytes.fromhex(sys.argv[1]))
a = shared["a"]
for k in range(300):
    a[k] = "x" * 50
a["c"] = {"large": bytes(1 << 20)}
with a["c"].atomic():
    print("busy")
    while not gate:
        time.sleep(0.001)
print("left")
time.sleep(60)
"""


def test_a_busy_part_is_still_found_when_it_is_left():
    shared, gate = xmem_dict({"a": {}}, nested=True), xmem_list()
    with program(BUSY, pickle.dumps((shared, gate)).hex()) as maker:
        assert maker.stdout.readline() == "busy\n"
        part = shared["a"]["c"]
        del shared["a"]
        assert is_there(part)
        gate.append("open")
        assert maker.stdout.readline() == "left\n"

        shared["other"] = {}

        assert not is_there(part)
        assert "a" not in shared


# In a __del__ Python prints a Ctrl-C, and goes on.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_an_interrupt_while_one_is_let_go_locks_nobody_out():
    for number in range(1, 1000):
        shared = xmem_dict(a=number)
        strike = Strike(number)
        try:
            with strike:
                shared.let_go()
        except KeyboardInterrupt:
            pass
        in_thread(lambda shared=shared: shared.update(b=1))
        assert shared == {"a": number, "b": 1}, strike.place
        if strike.place is None:
            return
    pytest.fail("it never ended unstruck")


def test_an_interrupt_while_names_are_unlinked_forgets_none():
    for number in range(1, 2000):
        shared = xmem_dict(a=np.zeros(20_000))
        domain, serial = shared.domain, shared.serial
        parts = {*shared.domain.names._parts.get(serial, ())}
        assert parts
        del shared
        strike = Strike(number)
        try:
            with strike:
                domain.names.tidy()
        except KeyboardInterrupt:
            pass
        domain.names.tidy()
        for gone in (serial, *parts):
            assert not memory.is_there(names.path_of(names.name_of(domain.id, gone))), strike.place
        if strike.place is None:
            return
    pytest.fail("it never ended unstruck")


RECLAIMING = """
import threading
import XME
from XME import Security
from XME._core import guarded
from XME._core.semaphore import Semaphore

made = Semaphore.make
arrays = [XME.xmem_array(1) for _ in range(1_030)]

def more():
    arrays.extend(XME.xmem_array(1) for _ in range(1_100))

def made_later(name, value):
    Semaphore.make = staticmethod(made)
    thread = threading.Thread(target=more)
    thread.start()
    thread.join()
    return made(name, value)

Semaphore.make = staticmethod(made_later)
lock = Security.Security()
(shared,) = guarded._guarded.values()
hint = shared.words[guarded.W_HINT]
print(any(entry.serial == hint for entry in shared.domain.entries(shared.domain.number)), lock.acquire(lock.ADMIN))
"""


def test_places_are_taken_back_beside_a_name_in_the_making():
    done = run_python(RECLAIMING)

    assert done.stdout == "True True\n", done.stdout + done.stderr


class Counter:
    def __init__(self):
        self.value = 1


SHARED = [
    (lambda: xmem_dict(value=1), lambda d: d.update(value=2), lambda d: d["value"]),
    (lambda: xmem_list([1]), lambda x: x.__setitem__(0, 2), lambda x: x[0]),
    (lambda: xmem_object("counter", Counter), lambda o: setattr(o, "value", 2), lambda o: o.value),
]


@pytest.mark.parametrize(("make", "change", "read"), SHARED, ids=["dict", "list", "object"])
def test_a_transaction_is_left_by_the_thread_that_entered_it(make, change, read):
    shared = make()
    block = shared.atomic()
    block.__enter__()
    change(shared)
    seen = []

    def leave():
        with pytest.raises(MutexError, match="by the thread that entered it"):
            block.__exit__(None, None, None)
        seen.append(read(shared))

    in_thread(leave)
    assert seen == [1]
    assert read(shared) == 2
    block.__exit__(None, None, None)
    in_thread(lambda: seen.append(read(shared)))
    assert seen == [1, 2]
    in_thread(lambda: change(shared))


def test_what_was_not_entered_or_was_left_cannot_be_left():
    d = xmem_dict(a=1)
    with pytest.raises(MutexError, match="this thread is not in"):
        d.atomic().__exit__(None, None, None)
    inner = d.atomic()
    with d.atomic():
        inner.__enter__()
        d["a"] = 2
    with pytest.raises(MutexError, match="has ended already"):
        inner.__exit__(None, None, None)
    with pytest.raises(MutexError, match="this thread is not in"):
        inner.__exit__(None, None, None)
    assert d == {"a": 1}
    in_thread(lambda: d.update(a=3))


def test_one_block_serves_several_threads():
    d = xmem_dict(n=0)
    block = d.atomic()

    def add():
        for _ in range(200):
            with block, block:
                d["n"] += 1

    threads = [threading.Thread(target=add) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LIMIT_S)
    assert d["n"] == 800
