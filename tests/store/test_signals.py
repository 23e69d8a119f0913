"""A Ctrl-C at any instruction of a change leaves a container as it was before or as it is after, and its mutex free."""

import contextlib
import copy
import os
import signal
import sys
import threading

import pytest

import XME
from tests.core.test_mutex_interrupts import never_struck
from tests.store.crash_sweep import BIG, Thing, Ways, atomic, ordered, plain, target_of
from tests.store.crash_sweep import made as made_in
from XME._containers import flight
from XME._core import domain as domains
from XME._core import layout, memory, names, program, recovery
from XME._core import mutex as mutex_module
from XME._store import pickling
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
        if event == "opcode" and frame.f_lasti not in never_struck(frame.f_code):
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


def _savepoints(target):
    with target.atomic():
        target["a"] = 2
        with contextlib.suppress(LookupError), target.atomic():
            target["new"] = BIG
            with target.atomic():
                del target["b"]
            raise LookupError
        target["c"] = 3


def _list_transaction(target):
    with target.atomic():
        target.append(BIG)
        target.pop(0)
        target[0] = "changed"


def _object_transaction(target):
    with atomic(target):
        target.add(2)
        target.push("x")
        del target.text


def _object_savepoint(target):
    with atomic(target):
        target.n = 5
        with contextlib.suppress(LookupError), target.atomic():
            target.push("undone")
            del target.text
            raise LookupError
        target.two()


FIRST_DICT = {"a": 1, "b": "two", "large": BIG}
FIRST_LIST = [1, "two", BIG]
FIRST_OBJECT = Thing(n=1, text="two", items=[1], tree={"a": {"b": [1]}}, large=BIG)
CHANGES = {
    "set": (FIRST_DICT, lambda d: d.__setitem__("a", 5)),
    "set a new key": (FIRST_DICT, lambda d: d.__setitem__("c", 5)),
    "set an object": (FIRST_DICT, lambda d: d.__setitem__("a", [1])),
    "set large": (FIRST_DICT, lambda d: d.__setitem__("large", BIG + b"2")),
    "delete": (FIRST_DICT, lambda d: d.__delitem__("a")),
    "delete large": (FIRST_DICT, lambda d: d.__delitem__("large")),
    "grow": (FIRST_DICT, lambda d: d.update(dict.fromkeys(range(20), "x" * 200))),
    "atomic": (FIRST_DICT, _transaction),
    "savepoints": (FIRST_DICT, _savepoints),
    "append": (FIRST_LIST, lambda c: c.append(5)),
    "append large": (FIRST_LIST, lambda c: c.append(BIG)),
    "pop": (FIRST_LIST, lambda c: c.pop(0)),
    "replace": (FIRST_LIST, lambda c: c.__setitem__(0, "x")),
    "insert": (FIRST_LIST, lambda c: c.insert(1, "x")),
    "atomic list": (FIRST_LIST, _list_transaction),
    "number of an object": (FIRST_OBJECT, lambda o: o.add(5)),
    "attribute of an object": (FIRST_OBJECT, lambda o: setattr(o, "n", 5)),
    "new attribute": (FIRST_OBJECT, lambda o: setattr(o, "new", 5)),
    "delete attribute": (FIRST_OBJECT, lambda o: delattr(o, "text")),
    "two attributes": (FIRST_OBJECT, lambda o: o.two()),
    "deep in an object": (FIRST_OBJECT, lambda o: o.go_deep("x")),
    "large in an object": (FIRST_OBJECT, lambda o: o.push(BIG)),
    "join attributes": (FIRST_OBJECT, lambda o: o.join()),
    "grow an object": (FIRST_OBJECT, lambda o: o.grow(12, 200)),
    "atomic object": (FIRST_OBJECT, _object_transaction),
    "atomic in a method": (FIRST_OBJECT, lambda o: o.work(o)),
    "savepoint of an object": (FIRST_OBJECT, _object_savepoint),
}


def made(first):
    return made_in(first, _domain)


def reset(shared, first):
    """Give a container its first content again."""
    if isinstance(first, Ways):
        thing = target_of(shared)
        with thing.atomic():
            thing.empty()
            for name, value in vars(copy.deepcopy(first)).items():
                setattr(thing, name, value)
    elif isinstance(first, dict):
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
    act(target_of(after))
    allowed = [ordered(first), plain(after)]
    wrong = []
    shared = made(first)
    number = begin
    while True:
        strike = Strike(number)
        try:
            with strike:
                act(target_of(shared))
        except KeyboardInterrupt:
            pass
        finally:
            sys.settrace(None)
        if strike.place is None:
            return number, wrong
        number += step
        try:
            require_free(shared, strike.place)
            assert not pickling.is_collecting(), f"still collecting after a Ctrl-C at {strike.place}"
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


@pytest.mark.long
@pytest.mark.parametrize("name", CHANGES)
def test_struck_at_some_instructions(name):
    first, act = CHANGES[name]
    step = 499 if "grow" in name else 131 if isinstance(first, Ways) else 97
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


def _of_a_dict(target):
    target["handler"] = 1


def _of_a_list(target):
    target.append("handler")


def _new_attribute(target):
    target.handler = 1


def _deep_attribute(target):
    target.push("handler")


@pytest.mark.parametrize(
    ("name", "do"),
    [
        ("set", _of_a_dict),
        ("set large", _of_a_dict),
        ("delete", _of_a_dict),
        ("append", _of_a_list),
        ("insert", _of_a_list),
        ("number of an object", _new_attribute),
        ("number of an object", _deep_attribute),
        ("two attributes", _deep_attribute),
        ("deep in an object", _new_attribute),
        ("large in an object", _deep_attribute),
        ("atomic object", _new_attribute),
    ],
)
@pytest.mark.long
def test_a_handler_that_changes_the_same_container(monkeypatch, name, do):
    """At any instruction it is refused, or has changed it as a whole."""
    first, act = CHANGES[name]
    answers = set()
    number = 1 + list(CHANGES).index(name)
    while True:
        shared = made(first)
        target = target_of(shared)
        handler = Handler(number, lambda target=target: do(target))
        monkeypatch.setattr(Strike, "strike", lambda _self, handler=handler: handler.handle())
        with handler:
            act(target)
        shared._check()
        require_free(shared, handler.strike.place)
        wanted, with_handler = made(first), made(first)
        act(target_of(wanted))
        act(target_of(with_handler))
        do(target_of(with_handler))
        # A list or an order may have the handler's anywhere.
        expected = with_handler if handler.answer == "done" else wanted
        assert letters(shared) == letters(expected), handler.strike.place
        if handler.strike.place is None:
            break
        answers.add(handler.answer)
        number += 149 if isinstance(first, Ways) else 61
    assert answers == {"done", "refused"}


def letters(shared):
    """What a container has, whatever the order."""
    return sorted(repr(plain(shared)))


def _strike_inside(_number, frame):
    while frame is not None:
        if frame.f_code.co_filename.startswith(_PACKAGE):
            raise KeyboardInterrupt
        frame = frame.f_back


def test_real_interrupts_at_random_times(monkeypatch):
    """Many Ctrl-Cs, at whatever moment; another process then has no trouble with the container."""
    shared = made({"count": 0})
    # What strikes in a finalizer is only printed, and the next one comes.
    monkeypatch.setattr(sys, "unraisablehook", lambda _: None)
    counted = struck = 0
    timer = signal.ITIMER_REAL
    # Only where the loop below catches it: on a busy machine the next one comes while it handles the last.
    before = signal.signal(signal.SIGALRM, _strike_inside)
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
