"""Statistics and repr say how many threads wait for a Security, in whatever process, and for whomever."""

import contextlib
import signal
import threading

import pytest

from tests.core.crew import Child
from tests.helpers import wait_until
from tests.security import programs
from tests.security.test_security import InThread
from XME import Security

ADMIN = Security.ADMIN
EXCLUDING = [Security.MUTEX, Security.AUTHORISATION, Security.READWRITE, Security.SPIN]
ON = Security.DEADLOCKMARK_ONLOCK


def waits(lock, count):
    """Wait until so many are seen to wait."""
    try:
        wait_until(lambda: lock.statistics().waiting == count)
    except AssertionError:
        raise AssertionError(f"{lock!r}, not {count} waiting") from None


@contextlib.contextmanager
def threads_of_this_process(count):
    """Threads that do what they are told."""
    made = [InThread() for _ in range(count)]
    yield made
    for thread in made:
        thread.end()


def take(lock, operator, limit_s=None):
    """Take it and give it back; True if it was had."""
    had = lock.acquire(operator, limit_s)
    return had is True and lock.release(operator) is True


@pytest.mark.parametrize("kind", EXCLUDING, ids=lambda kind: kind.name)
def test_all_threads_that_wait_for_the_holder_are_counted(kind):
    """Three in his own process, two in another one and one in a third."""
    lock = Security.Security(kind)
    assert lock.acquire(ADMIN)
    with (
        threads_of_this_process(3) as threads,
        Child(programs.take_in_threads, lock, ADMIN, 2) as two,
        Child(programs.take_in_threads, lock, ADMIN, 1) as one,
    ):
        waits(lock, 3)
        for thread in threads:
            thread.start(take, lock, ADMIN)
        waits(lock, 6)
        assert "held by ADMIN" in repr(lock)
        assert repr(lock).endswith(", 6 waiting>")
        assert lock.release(ADMIN)
        assert [thread.result() for thread in threads] == [True] * 3
        assert [two.hear(), one.hear()] == [[True, True], [True]]
        waits(lock, 0)
        assert repr(lock) == f"<Security {kind.name}, free>"


def test_a_writer_that_waits_for_readers_is_counted_and_so_is_the_reader_behind_it():
    lock = Security.Security()
    assert lock.acquire_read("me")
    with Child(programs.take_in_threads, lock, ADMIN, 1) as writer:
        waits(lock, 1)
        assert repr(lock) == "<Security READWRITE, 1 reading, 1 waiting>"
        with Child(programs.hold, lock, "reader", True) as reader, threads_of_this_process(1) as (thread,):
            waits(lock, 2)
            thread.start(take, lock, ADMIN)
            waits(lock, 3)
            assert lock.statistics().holder is None
            assert lock.release_read("me")
            assert writer.hear() == [True]
            # The thread may be let in before the reader is, or behind him.
            assert reader.hear() == "held"
            reader.tell()
            assert thread.result() is True
    waits(lock, 0)


def test_a_writer_in_the_readers_own_process_is_counted():
    lock = Security.Security()
    with threads_of_this_process(2) as (reader, writer):
        assert reader.do(lock.acquire_read, "me")
        writer.start(take, lock, ADMIN)
        waits(lock, 1)
        assert repr(lock) == "<Security READWRITE, 1 reading, 1 waiting>"
        assert reader.do(lock.release_read, "me")
        assert writer.result() is True


def test_who_has_time_to_be_authorized_waits_as_well():
    lock = Security.Security(Security.AUTHORISATION)
    with Child(programs.take_in_threads, lock, "x", 2, 60) as two:
        waits(lock, 2)
        lock.authorize("x")
        assert two.hear() == [True, True]
    waits(lock, 0)


def test_who_has_given_up_or_may_not_is_not_counted():
    lock = Security.Security()
    with threads_of_this_process(1) as (thread,), lock.reading("me"):
        assert thread.do(lock.acquire, ADMIN, 0.1) == ON
        assert thread.do(lock.acquire, "x", 0.05) == ON
        # A deadlock at once.
        assert lock.acquire(ADMIN) == ON
        assert lock.statistics().waiting == 0


def test_the_killed_are_not_counted_and_the_stopped_are():
    lock = Security.Security(Security.MUTEX)
    with (
        lock.holding("me"),
        Child(programs.take_in_threads, lock, "a", 2) as killed,
        Child(programs.take_in_threads, lock, "b", 3) as stopped,
    ):
        waits(lock, 5)
        stopped.stop()
        killed.kill()
        assert lock.statistics().waiting == 3


def test_dead_readers_are_not_counted():
    lock = Security.Security()
    with Child(programs.hold, lock, "reader", True) as reader:
        assert reader.hear() == "held"
        assert repr(lock) == "<Security READWRITE, 1 reading>"
        reader.kill()
        assert repr(lock) == "<Security READWRITE, free>"


class Struck(Exception):
    pass


def strike(*_):
    raise Struck


@pytest.fixture
def struck_when_waiting(monkeypatch):
    """Call a function that has to wait for a lock, and raise in it by a signal once it is seen to wait."""
    before = signal.signal(signal.SIGUSR1, strike)

    def call(lock, function, *args):
        def watch():
            waits(lock, 1)
            signal.pthread_kill(threading.main_thread().ident, signal.SIGUSR1)

        watcher = threading.Thread(target=watch, daemon=True)
        watcher.start()
        with pytest.raises(Struck):
            function(*args)
        watcher.join(10.0)

    yield call
    signal.signal(signal.SIGUSR1, before)


@pytest.mark.parametrize("name", ["acquire", "acquire_read"])
@pytest.mark.parametrize("kind", [Security.MUTEX, Security.READWRITE], ids=lambda kind: kind.name)
def test_who_is_interrupted_is_not_counted_any_more(kind, name, struck_when_waiting):
    lock = Security.Security(kind)
    with Child(programs.hold, lock, ADMIN) as child:
        assert child.hear() == "held"
        struck_when_waiting(lock, getattr(lock, name), ADMIN)
        assert lock.statistics().waiting == 0
        child.tell()
        assert child.hear() == "released"
    with threads_of_this_process(1) as (thread,):
        assert thread.do(lock.acquire, ADMIN)
        # The short ways, to another thread of the same process.
        struck_when_waiting(lock, getattr(lock, name), ADMIN)
        assert lock.statistics().waiting == 0
        assert thread.do(lock.release, ADMIN)
    assert getattr(lock, name)(ADMIN, 10)


def test_a_forks_child_does_not_count_the_parents_threads():
    lock = Security.Security(Security.MUTEX)
    with threads_of_this_process(2) as (holder, waiter):
        assert holder.do(lock.acquire, "a")
        waiter.start(take, lock, "b")
        waits(lock, 1)
        with Child(programs.take_in_threads, lock, "c", 1) as child:
            waits(lock, 2)
            child.kill()
        assert lock.statistics().waiting == 1
        assert holder.do(lock.release, "a")
        assert waiter.result() is True


def test_a_forks_child_that_has_not_used_it_yet_can_look():
    lock = Security.Security()
    with threads_of_this_process(2) as (reader, writer):
        assert reader.do(lock.acquire_read, "a")
        writer.start(take, lock, ADMIN)
        waits(lock, 1)
        with Child(programs.serve, lock) as child:
            child.tell(("get_str", 0))
            assert child.hear() == "<Security READWRITE, 1 reading, 1 waiting>"
        assert reader.do(lock.release_read, "a")
        assert writer.result() is True
