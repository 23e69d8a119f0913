"""An exception at every single instruction of a Security's ways in and out."""

import contextlib
import dis
import threading

import pytest

from tests.core import test_mutex_interrupts as interrupts
from XME import Security
from XME._core import domain, guarded, guarded_mutex, layout, looks, mutex, program, recovery, rwlock, twin, waiting
from XME._core.settings import Settings, short
from XME._security import gate, held
from XME.errors import Deadlock, MutexError

FILES = {
    module.__file__
    for module in (
        contextlib, Security, gate, guarded, guarded_mutex, held, looks, mutex, recovery, rwlock, twin, waiting,
    )
}
READER = "reader"
slow = pytest.mark.slow


@pytest.fixture(params=[pytest.param(1, marks=slow), 7], ids=["each", "some"])
def step(request):
    """Strike at each instruction, or at every so many."""
    return request.param


@pytest.fixture
def make(monkeypatch):
    """Locks in a domain for few, whose recovery passes all."""
    monkeypatch.setattr(interrupts, "FILES", FILES)
    monkeypatch.setattr(recovery, "drain_stores", lambda: None)
    small = domain.create(layout.PROGRAM, "interrupts", 4)
    program.remember(small)

    def make(kind=Security.READWRITE):
        made = Security.Security.__new__(Security.Security)
        admin = short(gate.key_of(Security.ADMIN))
        made._bind(guarded.create(small, Settings(kind, admin, frozenset({admin})).encoded()))
        made.MuteTime(0.001)
        made._mutex.slice_s = 0.001
        return made

    yield make
    program.leave(small)


@pytest.fixture
def lock(make):
    return make()


def is_lost_to_nobody(lock, place):
    """What this thread has it can give back; then another thread has the lock, alone and shared, and this one too."""
    while lock._mutex.held:
        assert lock.release(lock.ADMIN) is True or lock.release_read(READER) is True, f"cannot be released: {place}"
    while lock._lock.reads:
        assert lock.release_read(READER) is True, f"read, and cannot be released: {place}"
    got = []
    thread = threading.Thread(target=lambda: got.append(_use(lock)), daemon=True)
    thread.start()
    thread.join(5.0)
    assert got == [True], f"lost by an exception at {place}"
    assert _use(lock), place
    assert lock._lock.readers() == [], place
    with lock.holding(lock.ADMIN, 2) as mine:
        assert mine.owner_died is None, place


def _use(lock):
    return all([
        lock.acquire(lock.ADMIN, 2), lock.release(lock.ADMIN), lock.acquire_read(READER, 2), lock.release_read(READER),
    ])  # fmt: skip


def usual(lock):
    _use(lock)
    lock.acquire(lock.ADMIN)
    lock.release(lock.ADMIN)
    lock.acquire_read(READER)
    lock.release_read(READER)
    return lock


def unusual(lock):
    _use(lock)
    lock._usual = lock._usual_reader = gate._NOBODY
    return lock


def holds(lock):
    usual(lock).acquire(lock.ADMIN)
    return lock


def reads(lock):
    usual(lock).acquire_read(READER)
    return lock


def reads_twice(lock):
    reads(lock).acquire_read(READER)
    return lock


def long_way_out(lock):
    lock._usual = gate._NOBODY
    lock.release(lock.ADMIN)


WAYS = {
    "acquire": (usual, lambda lock: lock.acquire(lock.ADMIN)),
    "the long way": (unusual, lambda lock: lock.acquire(lock.ADMIN)),
    "with a time limit": (usual, lambda lock: lock.acquire(lock.ADMIN, 2)),
    "again": (holds, lambda lock: lock.acquire(lock.ADMIN)),
    "release": (holds, lambda lock: lock.release(lock.ADMIN)),
    "the long way out": (holds, long_way_out),
    "read": (usual, lambda lock: lock.acquire_read(READER)),
    "the long way of a reader": (unusual, lambda lock: lock.acquire_read(READER)),
    "no longer read": (reads, lambda lock: lock.release_read(READER)),
    "read again": (reads, lambda lock: lock.acquire_read(READER)),
    "no longer read twice": (reads_twice, lambda lock: lock.release_read(READER)),
    "read what it holds": (holds, lambda lock: lock.acquire_read(READER)),
    "asks for what it reads": (reads, lambda lock: lock.acquire(lock.ADMIN)),
    "may not": (usual, lambda lock: lock.acquire("nobody")),
    "not the holder": (usual, lambda lock: lock.release("nobody")),
}


def is_whole(lock, place):
    """What is held is what acquires have finished."""
    depth = lock._mutex.depth
    assert depth == lock._mutex.settled * bool(depth), f"half held: {place}"
    is_lost_to_nobody(lock, place)


LONGER = {"asks for what it reads", "with a time limit", "the long way", "may not", "the long way of a reader"}


def marked(names, longer):
    return [pytest.param(name, marks=slow) if name in longer else name for name in names]


@pytest.mark.parametrize("way", marked(WAYS, LONGER))
def test_an_exception_at_any_instruction_loses_nothing(way, lock, step):
    prepare, act = WAYS[way]
    assert interrupts.each_instruction(lambda: prepare(lock), act, is_whole, step) > 30


@pytest.mark.parametrize("kind", [Security.MUTEX, pytest.param(Security.SPIN, marks=slow)])
def test_nor_does_it_where_readers_do_not_share(kind, make, step):
    lock = make(kind)

    def act(lock):
        lock.acquire_read(READER)
        lock.release_read(READER)

    assert interrupts.each_instruction(lambda: usual(lock), act, is_whole, step) > 60


def is_between_the_block_and_its_way(place):
    """At the last instruction of __enter__, or in the lines `def` and `try` of __exit__."""
    name, line, at = place
    if name == "__enter__":
        return dis.opname[held.Held.__enter__.__code__.co_code[at]].startswith("RETURN")
    return name == "__exit__" and line <= held.Held.__exit__.__code__.co_firstlineno + 1


BLOCKS = {
    "alone": (usual, lambda lock: lock.holding(lock.ADMIN), (0, 0)),
    "shared": (usual, lambda lock: lock.reading(READER), (0, 0)),
    "alone again": (holds, lambda lock: lock.holding(lock.ADMIN), (1, 0)),
    "shared again": (reads, lambda lock: lock.reading(READER), (0, 1)),
    "shared by who holds it": (holds, lambda lock: lock.reading(READER), (1, 0)),
}


@pytest.mark.parametrize("block", marked(BLOCKS, {"alone again", "shared again", "shared by who holds it"}))
def test_a_block_that_is_not_entered_or_is_left_has_nothing_more_than_before(block, lock, step):
    """But for an exception just after or before the block's own, of which no code in Python would hear."""
    prepare, make_block, before = BLOCKS[block]

    def act(lock):
        with make_block(lock):
            pass

    def check(lock, place):
        if not is_between_the_block_and_its_way(place):
            assert (lock._mutex.depth, lock._lock.shares) == before, place
        is_whole(lock, place)

    assert interrupts.each_instruction(lambda: prepare(lock), act, check, step) > 100


def left_by_a_dead_one(lock):
    """Its holder is of an incarnation that is over."""
    words = usual(lock)._guarded.words
    words[guarded.W_SINCE] = words[guarded.W_WHO] = 1
    return lock


@pytest.mark.parametrize("way", ["acquire", "a block"])
def test_an_interrupted_heir_leaves_the_death_to_the_next_one(way, lock, step):
    heard = []

    def act(lock):
        heard.clear()
        if way == "acquire":
            lock.acquire(lock.ADMIN)
        else:
            with lock.holding(lock.ADMIN) as held:
                heard.append(held.owner_died)

    def check(lock, place):
        if lock._mutex.held:
            # It was just taken, and not yet told so; or the block was just to be left.
            assert way == "acquire" or is_between_the_block_and_its_way(place), place
            lock.release(lock.ADMIN)
            return
        with lock.holding(lock.ADMIN, 2) as next_one:
            answers = [died is not None for died in (*heard, next_one.owner_died)]
            assert answers == [True, False][: len(answers)], place
        is_whole(lock, place)

    assert interrupts.each_instruction(lambda: left_by_a_dead_one(lock), act, check, step) > 100


CHANGES = {
    "the type": lambda lock: lock.update_lock(Security.MUTEX),
    "who may": lambda lock: lock.authorize("somebody"),
    "who alone": lambda lock: lock.registe(lock.ADMIN),
    "the wait": lambda lock: lock.WaitTime(3),
}


@pytest.mark.parametrize("change", marked(CHANGES, {"who may", "who alone", "the wait"}))
def test_settings_are_changed_or_not_and_can_be_changed_again(change, make, step):
    # As a prompt keeps the last one, with all its frames.
    kept = []

    def act(lock):
        try:
            CHANGES[change](lock)
        except KeyboardInterrupt as error:
            kept[:] = [error]
            raise

    def check(lock, place):
        done = threading.Event()

        def again():
            CHANGES[change](lock)
            done.set()

        threading.Thread(target=again, daemon=True).start()
        assert done.wait(5.0), f"nobody can change the settings after an exception at {place}"
        is_whole(lock, place)

    assert interrupts.each_instruction(lambda: usual(make()), act, check, step) > 60


HANDLERS = {
    "acquire": lambda lock: lock.acquire(lock.ADMIN) and lock.release(lock.ADMIN),
    "holding": lambda lock: lock.holding(lock.ADMIN, 1).__enter__().__exit__(),
    "read": lambda lock: lock.acquire_read(READER, 1) and lock.release_read(READER),
}
INTERRUPTED = {
    "acquire": lambda lock: [lock.acquire(lock.ADMIN), lock.release(lock.ADMIN)],
    "read": lambda lock: [lock.acquire_read(READER), lock.release_read(READER)],
}


@pytest.mark.parametrize("handler", marked(HANDLERS, {"holding"}))
@pytest.mark.parametrize("interrupted", INTERRUPTED)
def test_a_signal_handler_that_wants_it_at_any_instruction(interrupted, handler, lock, step, monkeypatch):
    """It has it, or is refused; what it interrupts goes on as if nothing had been."""
    answers = []

    def want(self):
        try:
            HANDLERS[handler](lock)
            answers.append("had it")
        except (MutexError, Deadlock) as error:
            answers.append(type(error).__name__)

    def act(lock):
        results = INTERRUPTED[interrupted](lock)
        assert results == [True, True], answers[-1]

    def check(lock, place):
        assert (lock._mutex.depth, lock._lock.shares) == (0, 0), place
        is_whole(lock, place)

    monkeypatch.setattr(interrupts.Strike, "strike", want)
    assert interrupts.each_instruction(lambda: usual(lock), act, check, step) > 60
    assert "had it" in answers
