"""Readers beside a writer who waits for them."""

import pytest

from tests.core.crew import Child
from tests.helpers import wait_until
from tests.security import programs
from tests.security.test_security import OFF, ON, InThread
from XME import Security
from XME._core.guarded import W_FLAG
from XME._core.rwlock import DRAINING

ADMIN = Security.ADMIN


@pytest.fixture
def lock():
    return Security.Security()


@pytest.fixture
def other():
    thread = InThread()
    yield thread
    thread.end()


@pytest.fixture
def writer(lock):
    """Another process, which takes it alone when told."""
    with Child(programs.serve, lock) as child:
        yield child


def let_wait(writer, lock):
    """Let the writer wait for those who read."""
    writer.tell(("acquire", 0, ADMIN))
    wait_until(lambda: lock._words[W_FLAG] == DRAINING)


def test_a_writer_waits_for_one_generation_of_readers(lock, other, writer):
    """Those who read when he comes; nobody who comes after him, however often."""
    assert lock.acquire_read("first") is other.do(lock.acquire_read, "second") is True
    let_wait(writer, lock)
    with Child(programs.serve, lock) as late:
        for _ in range(3):
            late.tell(("acquire_read", 0, "late", 0.01))
            assert late.hear() == ON
        late.tell(("acquire_read", 0, "late"))
        # Who reads may read again.
        assert lock.acquire_read("again") is lock.release_read("again") is True
        assert lock.release_read("first") is True
        assert writer.is_silent(0.03)
        assert other.do(lock.release_read, "second") is True
        assert writer.hear() is True
        assert late.is_silent(0.03)
        writer.tell(("release", 0, ADMIN))
        assert writer.hear() is True
        assert late.hear() is True


def test_a_reader_who_asks_to_write_hears_at_once_although_a_stopped_writer_waits_for_him(lock, other, writer):
    assert other.do(lock.acquire, ADMIN) is other.do(lock.release, ADMIN) is True
    assert other.do(lock.acquire_read, "reader") is True
    let_wait(writer, lock)
    writer.stop()
    other.start(lock.acquire, ADMIN)
    try:
        assert other.result(2.0) == ON
    finally:
        # Who waits for him would not end.
        writer.kill()
    assert other.do(lock.release, ADMIN) == OFF
    assert other.do(lock.release_read, "reader") is True
