"""A Ctrl-C at any instruction leaves no gfun and no heart that counts for ever, and no failure that nobody hears of."""

import gc

import pytest

from tests.store.test_signals import Strike
from XME._core import domain as domains
from XME._core import layout, program, recovery
from XME._core import mutex as mutex_module
from XME._manager import unfetched
from XME._manager.ring import W_BESIDE
from XME.Manager import HeartJump, XMEManager

pytestmark = [
    # In a __del__ Python prints a Ctrl-C, and goes on.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.timeout(120),
]


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch):
    monkeypatch.setattr(recovery, "drain_stores", lambda: None)
    monkeypatch.setattr(mutex_module, "SLICE_S", 0.001)


@pytest.fixture(autouse=True)
def own_domain(monkeypatch):
    """What tests before this one have made is looked through after each strike, and thousands of names take minutes."""
    domain = domains.create(layout.PROGRAM, "struck", 4)
    program.remember(domain)
    with monkeypatch.context() as patch:
        patch.setattr(program, "_program", domain)
        yield
        gc.collect()
        unfetched.say_dropped()
    program.leave(domain)


def struck(prepare, act, check, step):
    """Strike at every so many instructions until it ends unstruck."""
    # What tests before this one have dropped is no part of it.
    gc.collect()
    program.program_domain().names.tidy()
    for number in range(1, 100_000, step):
        made = prepare()
        strike = Strike(number)
        try:
            with strike:
                act(made)
        except KeyboardInterrupt:
            pass
        check(made, strike.place)
        if strike.place is None:
            assert number > 2 * step
            return


def fail(**keywords):
    raise ValueError(keywords)


@pytest.mark.long
def test_no_gfun_counts_for_ever():
    def run(manager):
        try:
            manager.begin_guarded(manager, beside=True)
        finally:
            manager.functions_done(manager)

    def check(manager, place):
        # As run_guarded does it, whatever has struck.
        manager.functions_done(manager)
        assert not manager._shared.gfuns, place
        assert manager._ring.words[W_BESIDE] == 0, place

    manager = XMEManager()
    struck(lambda: manager, run, check, 151)


def test_no_heart_beats_for_ever():
    def run(heart):
        with heart:
            pass

    def check(heart, place):
        # As the end of the row does it.
        heart.XMEManager.end_row()
        heart.stop()
        assert heart.XMEManager._ring.hearts() == 0, place
        assert not heart.XMEManager._hearts, place

    manager = XMEManager()
    struck(lambda: HeartJump("me", manager), run, check, 97)


def test_a_heart_that_cannot_begin_does_not_beat():
    manager = XMEManager()

    with pytest.raises(TypeError), HeartJump([1], manager):
        pass

    assert manager._ring.hearts() == 0
    with HeartJump("me", manager):
        assert manager._ring.hearts() == 1
    assert manager._ring.hearts() == 0


@pytest.mark.long
def test_a_failure_is_taken_out_with_the_others_or_not_at_all():
    manager = XMEManager()
    found = []

    def prepare():
        found.clear()
        if not manager._buffer.failures:
            for number in range(3):
                manager.append(fail, "me", x=number)
            for _ in range(3):
                manager.exec()
        return manager._buffer

    def take(buffer):
        found.extend(buffer.take_failures("me"))

    def check(buffer, place):
        assert len(buffer.failures) in {0, 3}, place
        assert not (found and buffer.failures), place
        if place is None:
            assert len(found) == 3

    struck(prepare, take, check, 149)
    manager._buffer.failures.clear()
