"""A Ctrl-C, or a kill, at any instruction of a change: messages are as before or as after, and nothing stays held."""

import contextlib
import dis
import gc
import os
import pickle
import signal
import sys
import threading

import pytest

import XME
from tests.store.test_signals import Strike
from XME import Security
from XME._core import memory, program, recovery, registry, sweep
from XME._core import mutex as mutex_module
from XME.Monitor import Monitor

ADMIN = Security.ADMIN
BEFORE = {"a": 1, "b": [2]}


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch):
    monkeypatch.setattr(recovery, "drain_stores", lambda: None)
    monkeypatch.setattr(mutex_module, "SLICE_S", 0.001)


class Interrupt(Strike):
    """Raises KeyboardInterrupt where CPython does: when a function begins, after a call, and at the end of a loop."""

    def __init__(self, number):
        super().__init__(number)
        # The instruction that each frame has run last.
        self._latest = {}

    def _on_instruction(self, frame, event, _arg):
        if event != "opcode":
            return self._on_instruction
        name = dis.opname[frame.f_code.co_code[frame.f_lasti]]
        latest = self._latest.get(id(frame), "RESUME")
        self._latest[id(frame)] = name
        if latest in PLACES or name in PLACES_BEFORE:
            super()._on_instruction(frame, event, None)
        return self._on_instruction


PLACES = {"CALL", "CALL_FUNCTION_EX", "CALL_KW", "RESUME"}
PLACES_BEFORE = {"JUMP_BACKWARD"}


def guarded():
    board = XME.xmem_object("guarded", Monitor, security=Security.Security(Security.MUTEX))
    board.update(BEFORE)
    return board


def shared():
    board = Monitor()
    board.update(BEFORE)
    board._place.shared()
    return board


def private():
    board = Monitor()
    board.update(BEFORE)
    return board


def require_free(board, place):
    """Another thread can change it, and so can whoever wants the Security."""
    if board.security is not None:
        assert board.security.statistics().holder is None, f"the Security stays held by a Ctrl-C at {place}"
    answers = []
    thread = threading.Thread(target=lambda: answers.append(board.update({"free": 1}, "another thread")))
    thread.start()
    thread.join(20)
    assert answers == [True], f"held after a Ctrl-C at {place}"
    assert board.delete("free", Operator=ADMIN) is True


CHANGES = {
    "set": (lambda board: board.update({"a": 5}, ADMIN), {"a": 5, "b": [2]}),
    "set several": (lambda board: board.update({"a": 5, "c": [6]}, ADMIN), {"a": 5, "b": [2], "c": [6]}),
    "delete": (lambda board: board.delete("a", Operator=ADMIN), {"b": [2]}),
    "delete all": (lambda board: board.delete(Operator=ADMIN), {}),
}


def strike_each(make, act, after, first, step):
    """Strike a change at each n-th instruction; returns how many there were."""
    board = make()
    number = first
    while True:
        strike = Interrupt(number)
        try:
            with strike:
                act(board)
        except KeyboardInterrupt:
            pass
        finally:
            sys.settrace(None)
        found = board.get()
        assert found in (BEFORE, after), f"torn by a Ctrl-C at {strike.place}"
        if strike.place is None:
            assert found == after
            return number
        require_free(board, strike.place)
        board.delete(Operator=ADMIN)
        board.update(BEFORE, ADMIN)
        number += step


@pytest.mark.long
@pytest.mark.parametrize("make", [private, shared, guarded])
@pytest.mark.parametrize("name", CHANGES)
def test_struck_at_some_instructions(make, name):
    act, after = CHANGES[name]
    assert strike_each(make, act, after, 1 + list(CHANGES).index(name), 11) > 10


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("make", [private, shared, guarded])
@pytest.mark.parametrize("name", CHANGES)
def test_struck_at_every_instruction(make, name):
    act, after = CHANGES[name]
    strike_each(make, act, after, 1, 1)


# -- publishing --------------------------------------------------------------------------------------------------


class Kill(Strike):
    """Kills the process there."""

    def strike(self):
        os.kill(os.getpid(), signal.SIGKILL)


def killed_at(board, name, number):
    """Publish in a forked child that is killed at its n-th instruction; True if it was."""
    pid = os.fork()
    if not pid:
        with contextlib.suppress(BaseException), Kill(number):
            board.publish(name)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL


@pytest.fixture
def swept():
    """What killed publishers leave goes; so does a domain that an interrupted one has opened and nobody knows."""
    yield
    gc.collect()
    sweep.sweep_dead_domains()
    for domain_id in sweep.domain_ids():
        with sweep.looking_at(domain_id) as domain:
            if domain is None or program.known(domain_id) is not None:
                continue
            if {domain.identity(number).pid for number in domain.living()} == {os.getpid()}:
                domain._sweep_names()
                memory.unlink(domain.path)
    registry.prune()


def sweep_publish(first, step):
    """Kill a publisher at each n-th instruction; returns how often the messages were moved."""
    number, moved = first, 0
    while True:
        board = shared()
        # Somebody else who has it, and keeps the name alive once the messages have moved.
        name = f"monitor-swept-{os.getpid()}-{number}"
        was_killed = killed_at(board, name, number)
        try:
            assert board.get() == BEFORE
            assert board.update({"a": 7}) is True
            assert board.get() == {"a": 7, "b": [2]}
        except XME.ContainerGone:
            # They had moved, and nobody but the publisher had used them there.
            moved += 1
        else:
            # The name is free again, or it leads to nobody.
            board.publish(name)
            assert XME.attach(name).get() == {"a": 7, "b": [2]}
        if not was_killed:
            return moved
        number += step


@pytest.mark.long
def test_a_publisher_who_is_killed_has_moved_the_messages_or_not(swept):
    assert sweep_publish(3, 2003) >= 1


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_publisher_who_is_killed_at_any_instruction(swept):
    assert sweep_publish(1, 23) >= 1


def test_a_publisher_who_is_interrupted_has_moved_the_messages_or_not(swept):
    number = 5
    while True:
        board = shared()
        other = pickle.loads(pickle.dumps(board))
        name = f"monitor-interrupted-{os.getpid()}-{number}"
        strike = Interrupt(number)
        try:
            with strike:
                board.publish(name)
        except KeyboardInterrupt:
            pass
        finally:
            sys.settrace(None)
        for handle in (board, other):
            assert handle.get() == BEFORE, strike.place
        require_free(board, strike.place)
        if board.name is None:
            board.publish(name)
        assert other.name == name
        assert XME.attach(name).get() == other.get() == BEFORE, strike.place
        if strike.place is None:
            return
        number += 97
