"""Threads that wait for a lock while another publishes it: whoever gets it has it where everybody looks for it."""

import multiprocessing
import os
import signal
import threading
import weakref

import pytest

from XME import attach, xmem_list
from XME._core import handles, registry
from XME.Security import MUTEX, READWRITE, SPIN, Security

LIMIT_S = 20.0


def take_and_give_back(lock, shared, found):
    acquire, release = (lock.acquire_read, lock.release_read) if shared else (lock.acquire, lock.release)
    for _ in range(20):
        found.append((acquire(lock.ADMIN, LIMIT_S), lock._mutex.held or lock._lock.reads, release(lock.ADMIN)))


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("kind", [MUTEX, READWRITE, SPIN])
def test_publishing_beside_threads_that_take_it(kind, shared):
    for turn in range(10):
        lock = Security(kind)
        found = []
        takers = [threading.Thread(target=take_and_give_back, args=(lock, shared, found)) for _ in range(2)]
        for taker in takers:
            taker.start()
        lock.publish(f"followed {os.getpid()} {turn}")
        for taker in takers:
            taker.join(LIMIT_S)

        assert found == [(True, True, True)] * 40
        assert lock.statistics().holder is None


@pytest.mark.parametrize("shared", [False, True])
def test_following_while_one_waits_at_the_old_place(shared, monkeypatch):
    lock = Security(READWRITE)
    old = lock._guarded
    waiting, found = threading.Event(), []
    kind = type(old.lock)
    name = "acquire_read" if shared else "acquire_write"
    acquire = getattr(kind, name)

    def wait_until_moved(self, *args):
        if threading.current_thread() is taker and self is old.lock:
            waiting.set()
            moved.wait(LIMIT_S)
        return acquire(self, *args)

    moved = threading.Event()
    monkeypatch.setattr(kind, name, wait_until_moved)
    taker = threading.Thread(target=take_and_give_back, args=(lock, shared, found))
    taker.start()
    assert waiting.wait(LIMIT_S)
    lock.publish(f"followed {os.getpid()}")
    moved.set()
    taker.join(LIMIT_S)

    assert found == [(True, True, True)] * 20
    assert lock._guarded is not old


def test_all_handles_are_seen_while_others_are_made():
    made, stop = [], threading.Event()

    def make():
        while not stop.is_set():
            made.append(xmem_list())
            if len(made) > 50:
                made.clear()

    kept = [xmem_list() for _ in range(50)]
    makers = [threading.Thread(target=make) for _ in range(2)]
    for maker in makers:
        maker.start()
    try:
        for _ in range(200):
            found = handles.living(handles.handles)
            assert {id(one.mutex) for one in kept} <= {id(one) for one in found}
    finally:
        stop.set()
        for maker in makers:
            maker.join()


def test_what_is_dropped_is_not_among_the_living():
    class Thing:
        pass

    kept, dropped = Thing(), Thing()
    both = weakref.WeakSet([kept, dropped])
    del dropped

    assert handles.living(both) == [kept]


def publish_and_die(lock, name, moved, go_on):
    def die(_entry):
        moved.set()
        go_on.wait(LIMIT_S)
        os.kill(os.getpid(), signal.SIGKILL)

    registry.add = die
    lock.publish(name)


def test_a_name_whose_publisher_was_killed_too_soon_is_published_again():
    lock, name = Security(MUTEX), f"followed {os.getpid()}"
    context = multiprocessing.get_context("fork")
    moved, go_on = context.Event(), context.Event()
    publisher = context.Process(target=publish_and_die, args=(lock, name, moved, go_on))
    publisher.start()
    assert moved.wait(LIMIT_S)
    # Its domain lives on with us.
    assert lock.name == name
    go_on.set()
    publisher.join(LIMIT_S)

    assert lock.publish(name) is lock
    assert attach(name).name == name
    assert lock.publish(name) is lock
    assert lock.acquire(lock.ADMIN, LIMIT_S)
    lock.release(lock.ADMIN)
