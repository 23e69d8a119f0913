"""An exception at every single instruction of acquire and release."""

import dis
import functools
import itertools
import random
import signal
import sys
import threading
import time

import pytest

from tests.core.crew import Child
from XME._core import domain, layout, program, recovery, shared_mutex
from XME._core import mutex as mutex_module
from XME.errors import MutexError

_JUMPS_FIRST = sys.version_info[:2] == (3, 12)
FILES = {mutex_module.__file__, recovery.__file__}


@functools.cache
def never_struck(code):
    """The instructions at which the interpreter never raises what comes from outside.

    A NOP, which the compiler leaves out of the handlers' range; those between the end of a with block and the call
    of its __exit__, so that a Ctrl-C cannot keep a block from being left; and in Python 3.12 a jump back, which looks
    for a Ctrl-C when it has jumped.
    """
    never, nones = set(), []
    for instruction in dis.get_instructions(code):
        name = instruction.opname
        if name in {"NOP", "PUSH_EXC_INFO", "WITH_EXCEPT_START"} or (name == "JUMP_BACKWARD" and _JUMPS_FIRST):
            never.add(instruction.offset)
        if (name == "LOAD_CONST" and instruction.argval is None) or name == "PRECALL":
            nones.append(instruction.offset)
            continue
        if name == "CALL" and len(nones) >= 3:
            never |= {*nones, instruction.offset}
        nones = []
    return never


class Strike:
    """Raises KeyboardInterrupt at the n-th instruction that runs in mutex.py or recovery.py."""

    def __init__(self, number):
        self.left = number
        self.place = None

    def __enter__(self):
        # From Python 3.12 on, instructions are only reported if the frame that turns tracing on wants them.
        sys._getframe().f_trace_opcodes = True
        sys.settrace(self._on_call)

    def __exit__(self, *exc_info):
        sys.settrace(None)

    def _on_call(self, frame, _event, _arg):
        if frame.f_code.co_filename not in FILES:
            return None
        # In this order: from Python 3.13 on, the second does nothing without the first.
        frame.f_trace = self._on_instruction
        frame.f_trace_opcodes = True
        frame.f_trace_lines = False
        return self._on_instruction

    def _on_instruction(self, frame, event, _arg):
        if event == "opcode" and frame.f_lasti not in never_struck(frame.f_code):
            self.left -= 1
            if self.left == 0:
                self.place = (frame.f_code.co_name, frame.f_lineno, frame.f_lasti)
                sys.settrace(None)
                self.strike()
        return self._on_instruction

    def strike(self):
        raise KeyboardInterrupt


def each_instruction(prepare, act, check, step=1):
    """Strike `act` at its 1st, 2nd, ... instruction, until it ends unstruck; returns how many there were."""
    for number in itertools.count(1 + step // 2, step):
        mutex = prepare()
        strike = Strike(number)
        try:
            with strike:
                act(mutex)
        except KeyboardInterrupt:
            pass
        finally:
            sys.settrace(None)
        if strike.place is None:
            break
        check(mutex, strike.place)
    return number - 1


def anybody_can_have_it(mutex, place):
    """By a release if this thread holds it, then by another thread, then here."""
    if mutex.held:
        mutex.release()
    assert not mutex.held, place
    got = []
    thread = threading.Thread(target=lambda: got.append(mutex.acquire(2.0) and mutex.release() is None), daemon=True)
    thread.start()
    thread.join(5.0)
    assert got == [True], f"lost by an exception at {place}"
    assert mutex.acquire(2.0), place
    mutex.release()
    assert not any(mutex._words[1:]), place


@pytest.fixture
def no_waiting(monkeypatch):
    monkeypatch.setattr(recovery, "drain_stores", lambda: None)
    monkeypatch.setattr(mutex_module, "SLICE_S", 0.001)


@pytest.fixture
def mutex():
    """In a domain for few: recovery passes all, and each instruction of it is struck."""
    small = domain.create(layout.PROGRAM, "interrupts", 4)
    program.remember(small)
    yield shared_mutex.create(small)
    program.leave(small)


def free(mutex):
    mutex.acquire()
    mutex.release()
    return mutex


def fresh(mutex):
    mutex._forget()
    return mutex


def test_at_every_instruction_of_acquire(mutex, no_waiting):
    assert each_instruction(lambda: free(mutex), lambda m: m.acquire(), anybody_can_have_it) > 40


def test_at_every_instruction_of_a_first_acquire(mutex, no_waiting):
    assert each_instruction(lambda: fresh(free(mutex)), lambda m: m.acquire(), anybody_can_have_it) > 100


def test_at_every_instruction_of_an_acquire_with_a_time_limit(mutex, no_waiting):
    # How often it looks again depends on the clock: the number is not the same each time, so go on for a while.
    for number in range(1, 400):
        free(mutex)
        # Taken by nobody: so that the time runs out.
        mutex._grab(0)
        strike = Strike(number)
        try:
            with strike:
                assert not mutex.acquire(0.002)
        except KeyboardInterrupt:
            pass
        finally:
            sys.settrace(None)
        assert not mutex.held
        mutex._semaphore.drain()
        mutex._post()
        anybody_can_have_it(mutex, strike.place)


def test_at_every_instruction_of_release(mutex, no_waiting):
    def held():
        free(mutex).acquire()
        return mutex

    assert each_instruction(held, lambda m: m.release(), anybody_can_have_it) > 20


def test_at_every_instruction_of_an_inner_acquire_and_release(mutex, no_waiting):
    """An inner one that is struck takes at most one more release to end."""

    def held():
        free(mutex).acquire()
        return mutex

    def act(mutex):
        mutex.acquire()
        mutex.release()

    def check(mutex, place):
        for _ in range(2):
            if mutex.held:
                mutex.release()
        anybody_can_have_it(mutex, place)

    assert each_instruction(held, act, check) > 30


@pytest.mark.parametrize("step", [17, pytest.param(1, marks=pytest.mark.slow)])
def test_at_every_instruction_of_a_recovery(mutex, no_waiting, step):
    """The holder died: its word says HOLDING and nobody has its number."""

    def lost():
        free(mutex)
        mutex._grab(0)
        mutex._words[2] = 77 << recovery.INCARNATION_SHIFT | recovery.HOLDING
        return mutex

    assert each_instruction(lost, lambda m: m.acquire(), anybody_can_have_it, step) > 150


@pytest.mark.parametrize("step", [pytest.param(1, marks=pytest.mark.slow), 7])
def test_at_every_instruction_with_a_predecessors_word_in_ones_own_place(mutex, no_waiting, step):
    def lost():
        fresh(free(mutex))
        mutex._grab(0)
        mine = 1 + mutex._domain.number
        mutex._words[mine] = 77 << recovery.INCARNATION_SHIFT | recovery.HOLDING
        return mutex

    assert each_instruction(lost, lambda m: m.acquire(), anybody_can_have_it, step) > 150


def test_a_second_exception_while_the_first_is_handled(mutex, no_waiting):
    """Both anywhere in the handler's loop; what it must store is stored."""
    for number in range(1, 60):
        free(mutex)
        mutex._grab(0)
        mutex._local.acquire()
        mutex._phase, mutex._count = mutex_module.TAKING, 1
        strike = Strike(number)

        def act():
            for _ in range(3):
                mutex._abandon()

        try:
            with strike:
                act()
        except KeyboardInterrupt:
            mutex._abandon()
        finally:
            sys.settrace(None)
        anybody_can_have_it(mutex, strike.place)


def test_a_signal_handler_that_wants_it_at_any_instruction(mutex, no_waiting, monkeypatch):
    """It has the mutex, or is refused; what it interrupts goes on as if nothing had been."""
    answers = []

    def want(self):
        try:
            with mutex:
                answers.append("had it")
        except MutexError:
            answers.append("refused")

    def check(mutex, place):
        assert not mutex.held, place
        anybody_can_have_it(mutex, place)

    def act(mutex):
        with mutex:
            pass

    monkeypatch.setattr(Strike, "strike", want)
    assert each_instruction(lambda: free(mutex), act, check) > 60
    assert each_instruction(lambda: fresh(free(mutex)), act, check) > 100
    assert set(answers) == {"had it", "refused"}


def _strike_inside(_number, frame):
    while frame is not None:
        if frame.f_code.co_filename in FILES:
            raise KeyboardInterrupt
        frame = frame.f_back


def _contend(pipe, mutex):
    signal.signal(signal.SIGINT, _strike_inside)
    struck = 0
    pipe.send("ready")
    while not pipe.poll():
        try:
            if mutex.held:
                mutex.release()
            else:
                mutex.acquire()
        except KeyboardInterrupt:
            struck += 1
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if mutex.held:
        mutex.release()
    pipe.send(struck)


def test_real_interrupts_at_random_times(mutex):
    dice = random.Random(5)
    with Child(_contend, mutex) as first, Child(_contend, mutex) as second:
        crew = [first, second]
        for child in crew:
            assert child.hear() == "ready"
        for _ in range(150):
            # Sometimes two or three at once: a terminal's, and a parent's that hands it on.
            for _ in range(dice.choice([1, 1, 2, 3])):
                dice.choice(crew).signal(signal.SIGINT)
            # Not a wait for anything: the time of the next strike is part of the dice.
            time.sleep(dice.random() * 0.004)
        assert mutex.acquire(5.0)
        mutex.release()
        for child in crew:
            child.tell("enough")
        assert sum(child.hear() for child in crew) > 10
    assert mutex.acquire(2.0)
    mutex.release()
