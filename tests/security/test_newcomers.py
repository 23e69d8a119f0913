"""What somebody gets who uses a Security as he would any other lock: a sentence that says what to write."""

import threading

import pytest

from XME import Security
from XME.errors import LockTimeout, NotAuthorised


@pytest.fixture
def lock():
    return Security.Security(Security.MUTEX)


def test_a_lock_is_no_block_by_itself(lock):
    with pytest.raises(TypeError, match=r"with lock\.holding\(lock\.ADMIN\)"), lock:
        pass
    assert lock.statistics().holder is None


@pytest.mark.parametrize("operator", [["me"], {"me": 1}, {"me"}, bytearray(b"me")])
def test_what_may_change_is_no_operator(lock, operator):
    with pytest.raises(TypeError, match=f"a {type(operator).__name__} may change: take a str"):
        lock.acquire(operator)
    assert lock.statistics().holder is None


def test_an_operator_that_nobody_registered_is_told_by_a_block_what_to_do():
    lock = Security.Security()
    assert not lock.acquire("me")
    block = lock.holding("me")
    with pytest.raises(NotAuthorised, match=r"registe\(\) this one, or share it by acquire_read\(\)"), block:
        pass


def test_a_thread_that_ends_with_the_lock_is_named(lock):
    thread = threading.Thread(target=lock.acquire, args=["me"], name="forgetful")
    thread.start()
    thread.join()
    with pytest.raises(LockTimeout, match="thread forgetful"), lock.holding("you", 0.05):
        pass
    assert "thread forgetful" in repr(lock)
