"""Learning from the real RobustMutex code which shared operation it does next.

Between two operations on what is shared (a word, the semaphore, a question to the party) a participant's code is
deterministic. So its life is an automaton: a state is where it stands and what it still remembers, an edge is the
answer of the operation that it stands before. The automaton is not written by hand but learnt: when an answer is new
in a state, the real code is run from the beginning of the participant's life with the answers of one history that
leads there, and stopped at the first question that has no answer yet.

What it remembers are the live local variables of the frames in the code under test and the plain slots of the handle.
test_explorer.py checks that nothing is missing in that: it runs the real code directly, beside the automaton.
"""

import contextlib
import dis
import functools
import sys
import threading
import types
from pathlib import Path

from XME._core import mutex as real_mutex
from XME._core import recovery as real_recovery
from XME._core.handles import handles
from XME._core.semaphore import Busy, Semaphore

# Operations, each a tuple that begins with one of these.
LOAD, STORE, GRAB, WAIT, POST, IS_DEAD, LOCK, FREE, PAUSE, SECTION, DONE, CLOCK, AGAIN = range(13)
OP_NAMES = (
    "load", "store", "grab", "wait", "post", "is_dead", "lock", "free", "pause", "section", "done", "clock", "again",
)  # fmt: skip
# The answer of an operation that an exception strikes.
STRUCK = "struck"


class StopReplayError(BaseException):
    """Ends a replay at the first question that has no answer."""


@functools.cache
def _flow(code):
    """Successors and exception handler of each instruction, by offset."""
    instructions = list(dis.get_instructions(code))
    handlers = {}
    # Later entries of the table are never inside earlier ones; the first that covers an instruction is its handler.
    for entry in dis.Bytecode(code).exception_entries:
        for instruction in instructions:
            if entry.start <= instruction.offset < entry.end:
                handlers.setdefault(instruction.offset, entry.target)
    flow = {}
    for here, after in zip(instructions, [*instructions[1:], None], strict=True):
        targets = [here.argval] if here.opcode in dis.hasjrel or here.opcode in dis.hasjabs else []
        ends = here.opname.startswith(("RETURN", "RAISE", "RERAISE", "JUMP_FORWARD", "JUMP_BACKWARD"))
        if after is not None and not ends:
            targets.append(after.offset)
        flow[here.offset] = (here, targets, handlers.get(here.offset))
    return flow


def _uses(instruction):
    """(variables read, variables overwritten) of an instruction, in that order of precedence."""
    parts = [part for part in instruction.opname.split("_FAST")[:-1] if part]
    if not parts:
        return set(), set()
    names = instruction.argval if isinstance(instruction.argval, tuple) else (instruction.argval,)
    if len(names) != len(parts):
        return set(names), set()
    read, written = set(), set()
    for part, name in zip(parts, names, strict=True):
        if "STORE" in part or "DELETE" in part:
            written.add(name)
        elif name not in written:
            read.add(name)
    return read, written


@functools.cache
def instruction_at(code, offset):
    """The offset of the instruction that a frame is in: a specialised one may be left with its caches behind it."""
    return max(known for known in _flow(code) if known <= offset)


@functools.cache
def live_variables(code):
    """For each offset, the variables that may still be read after the instruction there, or in its handler."""
    flow = _flow(code)
    if any(here.opname == "FOR_ITER" for here, _, _ in flow.values()):
        # How far an iterator has come is on the value stack, out of sight; its variable tells it.
        return dict.fromkeys(flow, frozenset(code.co_varnames))
    before = {offset: frozenset() for offset in flow}
    after = dict(before)
    changed = True
    while changed:
        changed = False
        for offset, (here, targets, handler) in reversed(flow.items()):
            out = frozenset().union(*(before[target] for target in targets))
            out |= before[handler] if handler is not None else frozenset()
            read, written = _uses(here)
            into = (out - written) | read | (before[handler] if handler is not None else frozenset())
            if (into, out) != (before[offset], after[offset]):
                before[offset], after[offset], changed = into, out, True
    return after


def _plain(value):
    if value is None or isinstance(value, (int, str)):
        return value
    if isinstance(value, float):
        # A time: how late it is, is an answer like others (see CLOCK).
        return "time"
    if isinstance(value, (list, tuple)):
        return tuple(map(_plain, value))
    return None


class Code:
    """The code under test: the real modules, or copies with a fault planted in their text."""

    def __init__(self, mutex=real_mutex, recovery=real_recovery, spins=0):
        self.spins = spins
        self.mutex = mutex
        self.recovery = recovery
        methods = mutex.RobustMutex.acquire, recovery.Recoverable._recover
        self.files = {method.__code__.co_filename for method in methods}
        slots = {name for cls in mutex.RobustMutex.__mro__ for name in getattr(cls, "__slots__", ())}
        self.slots = sorted(slots - {"recoveries", "_serial", "__weakref__"})

    @contextlib.contextmanager
    def simulated(self):
        """Let the module functions that pass time ask the calling thread's stub instead."""
        replaced = [
            (self.recovery, "pause", lambda: _current.stub.ask(self._pause_question())),
            (self.recovery, "drain_stores", lambda: None),
            (self.recovery, "is_over", _is_over),
            (self.mutex, "is_over", _is_over),
            (self.mutex, "SPINS", self.spins),
            (self.mutex, "Wait", NoWait),
        ]
        kept = [getattr(module, name) for module, name, _ in replaced]
        try:
            for module, name, value in replaced:
                setattr(module, name, value)
            yield
        finally:
            for (module, name, _), value in zip(replaced, kept, strict=True):
                setattr(module, name, value)

    def _pause_question(self):
        caller = sys._getframe(2)
        if caller.f_code.co_name == "_settled_word":
            return (PAUSE, caller.f_locals["number"], bare(caller.f_locals["word"]))
        return (PAUSE, -1, 0)

    def where(self, handle):
        """What a participant's code remembers at this moment."""
        frames = []
        frame = sys._getframe(2)
        while frame is not None and frame.f_code is not live.__code__:
            code = frame.f_code
            if code.co_filename in self.files:
                offset = instruction_at(code, frame.f_lasti)
                alive = live_variables(code)[offset]
                known = frame.f_locals
                frames.append((code.co_name, offset, *(_plain(known.get(name)) for name in sorted(alive))))
            frame = frame.f_back
        slots = tuple(_plain(getattr(handle, name, None)) for name in self.slots)
        return tuple(frames), slots, self.mutex._recursion_count(handle._local)


EPOCH_MASK = ((1 << real_recovery.EPOCH_BITS) - 1) << real_recovery.EPOCH_SHIFT


def bare(word):
    """A state word as the simulation keeps it: incarnation and state; nobody reads the epoch in it."""
    return word >> real_recovery.INCARNATION_SHIFT << 3 | word & real_recovery.STATE_MASK


def full(word):
    """A state word as the code under test sees it; its epoch is a value that it must not matter."""
    return word >> 3 << real_recovery.INCARNATION_SHIFT | word & real_recovery.STATE_MASK


class Words:
    """Shared words, each access a question to the stub."""

    def __init__(self, ask, count):
        self._ask = ask
        self._count = count

    def __len__(self):
        return self._count

    def __getitem__(self, index):
        answer = self._ask((LOAD, index, 0))
        return full(answer) if index else answer

    def __setitem__(self, index, value):
        self._ask((STORE, index, bare(value) if index else value))


class SimulatedSemaphore:
    """A semaphore, each operation a question to the stub; draining is the real code."""

    drain = Semaphore.drain

    def __init__(self, ask):
        self._ask = ask

    def acquire(self, _timeout):
        if not self._ask((GRAB, 0, 0)):
            raise Busy

    def is_free(self):
        return True

    def wait(self, _seconds):
        return self._ask((WAIT, 0, 0))

    def release(self):
        self._ask((POST, 0, 0))


class NoWait:
    """What looks whether to wait on: always, and without an operation on what is shared."""

    error = None

    def __init__(self, _lock):
        pass

    def goes_on(self):
        return True

    def end(self):
        pass

    def given_up(self):
        return False


class SimulatedParty:
    """A domain as one participant sees it, each look a question to the stub."""

    ended = False
    ended_words = (0,)

    def __init__(self, ask, number, incarnation):
        self._ask = ask
        self.number = number
        self.incarnation = incarnation

    def require(self):
        pass

    def is_dead(self, number, incarnation):
        return self._ask((IS_DEAD, number, incarnation))

    def try_recovery_lock(self, _serial):
        return self._ask((LOCK, 0, 0))

    def free_recovery_lock(self, _serial):
        self._ask((FREE, 0, 0))


_current = threading.local()


def _is_over(deadline):
    return deadline is not None and _current.stub.ask((CLOCK, 0, 0))


def live(stub, rounds, timeout_s):
    """A participant's life: take and release the mutex; after an exception try again, or never."""
    mutex = stub.handle
    while stub.round < rounds:
        try:
            mutex.acquire(timeout_s)
        except KeyboardInterrupt:
            # An exception may also leave the mutex held by this thread: then it goes on as if it had come later.
            if not mutex.held and not stub.ask((AGAIN, 0, 0)):
                break
        if not mutex.held:
            continue
        stub.ask((SECTION, 0, 0))
        while mutex.held:
            with contextlib.suppress(KeyboardInterrupt):
                mutex.release()
        stub.round += 1
    stub.ask((DONE, 0, 0))


def begin(code, stub, number, incarnation, participants):
    """Give a stub a handle of its own and make it the calling thread's."""
    party = SimulatedParty(stub.ask, number, incarnation)
    stub.round = 0
    stub.handle = code.mutex.RobustMutex(
        party, Words(stub.ask, 1 + participants), SimulatedSemaphore(stub.ask), 1
    )
    # What a replay leaves held must not be taken for a lock of this thread's by the tests that come after.
    handles.discard(stub.handle)
    _current.stub = stub


class _Replay:
    """Answers from a history, then stops."""

    def __init__(self, code, history):
        self._code = code
        self._history = history
        self._at = 0
        self.question = None
        self.place = None
        self.epoch = -1

    def ask(self, question):
        if self.question is not None:
            # While the stack unwinds, what tidies up may store and free; anything else ends here too.
            if question[0] in {STORE, FREE}:
                return None
            raise StopReplayError
        if self._at == len(self._history):
            self.question = question
            self.place = self._code.where(self.handle)
            self.epoch = self.handle._epoch
            raise StopReplayError
        answer = self._history[self._at]
        self._at += 1
        if answer is STRUCK:
            raise KeyboardInterrupt
        return answer


class Automaton:
    """The automata of all participants, learnt as far as somebody asked; a state is a small number.

    Attributes:
        questions: the operation before which each state stands, as (kind, a, b).
        epochs: the epoch that the handle in each state was last taken in.
    """

    def __init__(self, code, participants, rounds, timeout_s=None):
        self.code = code
        self.participants = participants
        self.rounds = rounds
        self.timeout_s = timeout_s
        self.questions = []
        self.epochs = []
        self._edges = []
        self._histories = []
        self._numbers = {}
        self._starts = {}
        self.replays = 0

    def start(self, number, incarnation):
        """The first state of a participant."""
        who = (number, incarnation)
        if who not in self._starts:
            self._starts[who] = self._learn(who, ())
        return self._starts[who]

    def next(self, state, answer):
        """The state after an answer."""
        edges = self._edges[state]
        found = edges.get(answer)
        if found is None:
            who, history = self._histories[state]
            found = edges[answer] = self._learn(who, (*history, answer))
        return found

    def _learn(self, who, history):
        self.replays += 1
        stub = _Replay(self.code, history)
        with self.code.simulated():
            begin(self.code, stub, *who, self.participants)
            with contextlib.suppress(StopReplayError):
                live(stub, self.rounds, self.timeout_s)
        return self._number_of((who, stub.round, stub.place, stub.question), history, stub.epoch)

    def _number_of(self, key, history, epoch):
        known = self._numbers.get(key)
        if known is None:
            known = self._numbers[key] = len(self.questions)
            self.questions.append(key[3])
            self.epochs.append(epoch)
            self._edges.append({})
            self._histories.append((key[0], history))
        return known


def patched(*replacements):
    """The code under test with some text replaced; each (old, new) must be there, and exactly once."""
    texts = [Path(module.__file__).read_text(encoding="utf-8") for module in (real_recovery, real_mutex)]
    for old, new in replacements:
        counts = [text.count(old) for text in texts]
        assert sum(counts) == 1, f"the text to be replaced is there {sum(counts)} times:\n{old}"
        texts = [text.replace(old, new) for text in texts]
    recovery = _compiled("planted_recovery", texts[0])
    # The copy of the mutex must stand on the copy of the recovery.
    names = {"XME._core.recovery": recovery}
    mutex = _compiled("planted_mutex", texts[1], names)
    return Code(mutex, recovery)


def _compiled(name, text, names=None):
    module = types.ModuleType(name)
    kept = {known: sys.modules.get(known) for known in names or {}}
    sys.modules.update(names or {})
    try:
        exec(compile(text, f"<{name}>", "exec"), module.__dict__)
    finally:
        sys.modules.update(kept)
    return module
