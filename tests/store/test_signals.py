"""A Ctrl-C at any instruction of a change leaves a container as it was before or as it is after, and its mutex free."""

import dis
import os
import signal
import sys
import threading

import pytest

import XME
from tests.store.crash_sweep import BIG, ordered, plain
from XME import xmem_dict, xmem_list
from XME._containers import flight
from XME._core import domain as domains
from XME._core import layout, memory, names, program, recovery
from XME._core import mutex as mutex_module
from XME.errors import MutexError, XMEError

_domain = None
_PACKAGE = os.path.dirname(XME.__file__)


class Strike:
    """Raises KeyboardInterrupt at the n-th instruction that runs in the package."""

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
        if not frame.f_code.co_filename.startswith(_PACKAGE) or frame.f_code.co_name == "__del__":
            # What strikes in there is only printed.
            return None
        # In this order: from Python 3.13 on, the second does nothing without the first.
        frame.f_trace = self._on_instruction
        frame.f_trace_opcodes = True
        frame.f_trace_lines = False
        return self._on_instruction

    def _on_instruction(self, frame, event, _arg):
        # Nothing is ever raised at a NOP, and the compiler leaves it out of the handlers' range.
        if event == "opcode" and frame.f_code.co_code[frame.f_lasti] != dis.opmap["NOP"]:
            self.left -= 1
            if self.left == 0:
                file = os.path.basename(frame.f_code.co_filename)
                self.place = f"{file}:{frame.f_lineno} {frame.f_code.co_name}+{frame.f_lasti}"
                sys.settrace(None)
                self.strike()
        return self._on_instruction

    def strike(self):
        raise KeyboardInterrupt


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch):
    monkeypatch.setattr(recovery, "drain_stores", lambda: None)
    monkeypatch.setattr(mutex_module, "SLICE_S", 0.001)


@pytest.fixture(autouse=True)
def own_domain():
    """What is struck may leave an entry in the ledger, of 16 bytes, that names nothing: other tests look for such."""
    global _domain
    _domain = domains.create(layout.PROGRAM, "signals", 4)
    program.remember(_domain)
    yield
    program.leave(_domain)


def _transaction(target):
    with target.atomic():
        target["a"] = 2
        target["new"] = BIG
        del target["b"]


def _list_transaction(target):
    with target.atomic():
        target.append(BIG)
        target.pop(0)
        target[0] = "changed"


FIRST_DICT = {"a": 1, "b": "two", "large": BIG}
FIRST_LIST = [1, "two", BIG]
CHANGES = {
    "set": (FIRST_DICT, lambda d: d.__setitem__("a", 5)),
    "set a new key": (FIRST_DICT, lambda d: d.__setitem__("c", 5)),
    "set an object": (FIRST_DICT, lambda d: d.__setitem__("a", [1])),
    "set large": (FIRST_DICT, lambda d: d.__setitem__("large", BIG + b"2")),
    "delete": (FIRST_DICT, lambda d: d.__delitem__("a")),
    "delete large": (FIRST_DICT, lambda d: d.__delitem__("large")),
    "grow": (FIRST_DICT, lambda d: d.update(dict.fromkeys(range(20), "x" * 200))),
    "atomic": (FIRST_DICT, _transaction),
    "append": (FIRST_LIST, lambda c: c.append(5)),
    "append large": (FIRST_LIST, lambda c: c.append(BIG)),
    "pop": (FIRST_LIST, lambda c: c.pop(0)),
    "replace": (FIRST_LIST, lambda c: c.__setitem__(0, "x")),
    "insert": (FIRST_LIST, lambda c: c.insert(1, "x")),
    "atomic list": (FIRST_LIST, _list_transaction),
}


def made(first):
    cls = xmem_dict if isinstance(first, dict) else xmem_list
    shared = cls.__new__(cls)
    shared._found(_domain)
    shared._fill(first)
    return shared


def reset(shared, first):
    """Give a container its first content again."""
    if isinstance(first, dict):
        with shared.atomic():
            shared.clear()
            shared.update(first)
    else:
        shared[:] = first


def require_free(shared, place):
    """Another thread can have the mutex."""
    assert not shared.mutex.held, f"held after a Ctrl-C at {place}"
    got = []
    thread = threading.Thread(target=lambda: got.append(shared.mutex.acquire(2.0) and shared.mutex.release() is None))
    thread.start()
    thread.join(5.0)
    assert got == [True], f"lost by a Ctrl-C at {place}"


def leaked(shared):
    """Return what exists of a container and is neither in use nor about to go."""
    domain = shared.domain
    entries = [entry for entry in domain.entries(domain.number) if entry.owner == shared.serial]
    there = {
        entry.serial for entry in entries if memory.is_there(names.path_of(names.name_of(domain.id, entry.serial)))
    }
    return there - flight.in_use_now(shared)


def strike_each(first, act, step=1, begin=1):
    """Strike a change at its n-th instruction; returns how many there were and what went wrong."""
    after = made(first)
    act(after)
    allowed = [ordered(first), plain(after)]
    wrong = []
    shared = made(first)
    number = begin
    while True:
        strike = Strike(number)
        try:
            with strike:
                act(shared)
        except KeyboardInterrupt:
            pass
        finally:
            sys.settrace(None)
        if strike.place is None:
            return number, wrong
        number += step
        try:
            require_free(shared, strike.place)
            shared._check()
            assert plain(shared) in allowed, f"torn by a Ctrl-C at {strike.place}"
            reset(shared, first)
            shared._check()
            assert not leaked(shared), f"leaked by a Ctrl-C at {strike.place}"
        except (AssertionError, XMEError) as error:
            wrong.append(f"{strike.place}: {error}")
            while shared.mutex.held:
                shared.mutex.release()
            shared = made(first)


@pytest.mark.parametrize("name", CHANGES)
def test_struck_at_some_instructions(name):
    first, act = CHANGES[name]
    step = 199 if name == "grow" else 17
    count, wrong = strike_each(first, act, step, 1 + list(CHANGES).index(name) % step)
    assert count > 100
    assert not wrong, "\n".join(wrong)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", CHANGES)
def test_struck_at_every_instruction(name):
    _, wrong = strike_each(*CHANGES[name])
    assert not wrong, "\n".join(wrong)


# -- handlers that change the container themselves -----------------------------------------------------------------


class Handler:
    """What a signal handler does at the n-th instruction, as far as it is let."""

    def __init__(self, number, do):
        self.strike = Strike(number)
        self.do = do
        self.answer = None

    def __enter__(self):
        self.strike.__enter__()
        return self

    def __exit__(self, *exc_info):
        sys.settrace(None)

    def handle(self):
        try:
            self.do()
            self.answer = "done"
        except MutexError:
            self.answer = "refused"


@pytest.mark.parametrize("name", ["set", "set large", "delete", "append", "insert"])
def test_a_handler_that_changes_the_same_container(monkeypatch, name):
    """At any instruction it is refused, or has changed it as a whole."""
    first, act = CHANGES[name]
    answers = set()
    number = 1 + list(CHANGES).index(name)
    while True:
        shared = made(first)
        if isinstance(first, dict):
            handler = Handler(number, lambda shared=shared: shared.__setitem__("handler", 1))
        else:
            handler = Handler(number, lambda shared=shared: shared.append("handler"))
        monkeypatch.setattr(Strike, "strike", lambda _self, handler=handler: handler.handle())
        with handler:
            act(shared)
        shared._check()
        expected = made(first)
        act(expected)
        found, wanted = plain(shared), plain(expected)
        has = [part for part in found if part in ("handler", ("handler", 1))]
        assert len(has) == (handler.answer == "done"), handler.strike.place
        without = [part for part in found if part not in has]
        assert sorted(map(repr, without)) == sorted(map(repr, wanted)), handler.strike.place
        require_free(shared, handler.strike.place)
        if handler.strike.place is None:
            break
        answers.add(handler.answer)
        number += 23
    assert answers == {"done", "refused"}


def test_real_interrupts_at_random_times(monkeypatch):
    """Many Ctrl-Cs, at whatever moment; another process then has no trouble with the container."""
    shared = made({"count": 0})
    # What strikes in a finalizer is only printed, and the next one comes.
    monkeypatch.setattr(sys, "unraisablehook", lambda _: None)
    counted = struck = 0
    timer = signal.ITIMER_REAL
    before = signal.signal(signal.SIGALRM, signal.default_int_handler)
    try:
        while struck < 200:
            try:
                signal.setitimer(timer, 0.0005 + 0.000013 * (struck % 17), 0.002)
                while True:
                    shared.increment("count")
                    counted += 1
            except KeyboardInterrupt:
                struck += 1
    finally:
        signal.setitimer(timer, 0)
        signal.signal(signal.SIGALRM, before)
    require_free(shared, "a random time")
    shared._check()
    # The one that was struck may have been public already.
    assert counted <= shared["count"] <= counted + struck
