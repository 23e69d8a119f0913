"""Learning from the real RobustRWLock code, of a process with several threads, which shared operation comes next.

As automaton.py does it for the mutex, with two differences. What runs beside each other in one process shares the
handle, so the automaton is that of a process: an edge is (thread, answer), and a replay runs real threads, one at a
time. And the mutex M is taken as what the other explorer shows it to be: one operation takes it, one gives it back.
"""

import contextlib
import queue
import sys
import threading
from pathlib import Path

from tests.core import automaton
from XME._core import rwlock as real_rwlock
from XME._core.handles import handles

TAKE, GIVE, LOAD, STORE, FLAG, SET_FLAG, LOOK, IS_DEAD, WAIT, HINT = range(10)
LOCAL, UNLOCAL, CHOOSE, SECTION, DONE, LEFT = range(10, 16)
NAMES = (
    "take M", "give M", "load", "store", "flag?", "flag:", "look", "is_dead", "wait", "hint", "local", "unlocal",
    "choose", "section", "done", "left",
)  # fmt: skip
STRUCK = "struck"
READ, WRITE = "read", "write"
PATIENCE_S = 20.0


class _StopReplayError(BaseException):
    pass


class _Mutex:
    """M: two operations, and what the process knows of them."""

    label = None
    slice_s = 0.0

    def __init__(self, ask, party):
        self._ask = ask
        self._party = party
        self._serial = 1
        self.owner = None
        self._count = 0
        self._phase = 1
        self._local = self

    def _is_owned(self):
        return self.owner == _current.thread

    @property
    def depth(self):
        return self._count if self._is_owned() else 0

    held = property(_is_owned)

    def acquire(self, _timeout_s=None, _purpose=None):
        if not self._is_owned():
            try:
                self._ask((TAKE,))
            except automaton.StopReplayError:
                raise
            except KeyboardInterrupt as error:
                # Struck after the effect: M is ours though acquire has not returned.
                if error.args == ("after",):
                    self._mine()
                raise
            self._mine()
        else:
            self._count += 1
        return True

    def _mine(self):
        self.owner, self._count = _current.thread, 1

    def release(self):
        if self._count > 1:
            self._count -= 1
            return
        try:
            self._ask((GIVE,))
        except KeyboardInterrupt as error:
            if error.args == ("after",):
                self.owner, self._count = None, 0
            raise
        self.owner, self._count = None, 0

    def new_wait(self, _purpose):
        return _NoWait()


class _NoWait(automaton.NoWait):
    def __init__(self):
        pass

    def turn_to(self, _lock, _kind):
        pass


class _Words:
    def __init__(self, ask, count):
        self._ask = ask
        self._count = count

    def __len__(self):
        return self._count

    def __getitem__(self, index):
        return self._ask((LOAD, index))

    def __setitem__(self, index, value):
        self._ask((STORE, index, value))

    def tobytes(self):
        return bytes(8 * self._count) if self._ask((LOOK,)) else b"something"


class _Flag:
    def __init__(self, ask):
        self._ask = ask

    def __getitem__(self, _index):
        return self._ask((FLAG,))

    def __setitem__(self, _index, value):
        self._ask((SET_FLAG, value))


class _Drained:
    def __init__(self, ask):
        self._ask = ask

    def wait(self, _seconds):
        return self._ask((WAIT,))

    def hint(self):
        self._ask((HINT,))


class _Local:
    """The process's own lock, reentrant; its owner is part of what the process knows."""

    def __init__(self, ask):
        self._ask = ask
        self.owner = None
        self.count = 0

    def __enter__(self):
        if self.owner != _current.thread:
            self._ask((LOCAL,))
            self.owner = _current.thread
        self.count += 1

    def _is_owned(self):
        return self.owner == _current.thread

    def __exit__(self, *exc_info):
        self.count -= 1
        if not self.count:
            # No exception strikes here: the interpreter looks for one only when the lock is free again.
            self.owner = None
            with contextlib.suppress(KeyboardInterrupt):
                self._ask((UNLOCAL,))


class _Party:
    ended = False

    def __init__(self, ask, number, incarnation):
        self._ask = ask
        self.number = number
        self.incarnation = incarnation

    def is_dead(self, number, incarnation):
        return self._ask((IS_DEAD, number, incarnation))


_current = threading.local()


class _Process:
    """One replay: threads that run the real code, one at a time, fed with the answers of a history."""

    def __init__(self, code, who, threads, rounds, processes):
        self.number, self.incarnation = who
        self._code = code
        self._rounds = rounds
        self._ended = False
        party = _Party(self._ask, *who)
        self.mutex = _Mutex(self._ask, party)
        self.lock = code.RobustRWLock(self.mutex, _Flag(self._ask), _Words(self._ask, processes), _Drained(self._ask))
        handles.discard(self.lock)
        self.lock._local = self.local = _Local(self._ask)
        self.questions = [None] * threads
        self.places = [None] * threads
        self.done = [0] * threads
        self._answers = [queue.SimpleQueue() for _ in range(threads)]
        self._asked = queue.SimpleQueue()
        self._threads = [threading.Thread(target=self._run, args=(k,), daemon=True) for k in range(threads)]
        for thread in self._threads:
            thread.start()
            self._asked.get(timeout=PATIENCE_S)

    def _run(self, thread):
        _current.thread = thread
        with contextlib.suppress(_StopReplayError):
            self._live(thread)

    def _live(self, thread):
        lock = self.lock
        while self.done[thread] < self._rounds:
            how = self._ask((CHOOSE,))
            acquire, release = (
                (lock.acquire_read, lock.release_read) if how == READ else (lock.acquire_write, lock.release_write)
            )
            self.done[thread] += 1
            try:
                acquire()
            except KeyboardInterrupt:
                if lock.reads or lock.writes:
                    self._ask((LEFT,))
                continue
            self._ask((SECTION, how))
            while self._has(how):
                with contextlib.suppress(KeyboardInterrupt):
                    release()
        self._ask((DONE,))

    def _has(self, how):
        return self.lock.reads if how == READ else self.lock.writes

    def _ask(self, question):
        thread = _current.thread
        if self._ended:
            raise _StopReplayError
        self.questions[thread] = question
        self.places[thread] = self._where()
        self._asked.put(thread)
        answer = self._answers[thread].get(timeout=PATIENCE_S)
        if self._ended:
            raise _StopReplayError
        if isinstance(answer, tuple) and answer[0] == STRUCK:
            raise KeyboardInterrupt(answer[1])
        return answer

    def _where(self):
        frames = []
        frame = sys._getframe(2)
        while frame is not None and frame.f_code is not _Process._run.__code__:
            code = frame.f_code
            if code.co_filename == self._code.file or code is _Process._live.__code__:
                offset = automaton.instruction_at(code, frame.f_lasti)
                alive = automaton.live_variables(code)[offset]
                known = frame.f_locals
                frames.append((code.co_name, offset, *(automaton._plain(known.get(name)) for name in sorted(alive))))
            frame = frame.f_back
        return tuple(frames)

    def answer(self, thread, answer):
        self._answers[thread].put(answer)
        self._asked.get(timeout=PATIENCE_S)

    def key(self):
        lock = self.lock
        readers = tuple(sorted((who, len(shares)) for who, shares in lock._readers.items()))
        locks = self.local.owner, self.local.count, self.mutex.owner, self.mutex._count
        known = (readers, lock._mine, lock._base, *locks)
        return (self.number, self.incarnation, tuple(self.done), tuple(self.places), tuple(self.questions), known)

    def end(self):
        self._ended = True
        for answers in self._answers:
            answers.put(None)
        for thread in self._threads:
            thread.join(PATIENCE_S)
            assert not thread.is_alive()


class Code:
    """The code under test: the real module, or a copy with some text replaced."""

    def __init__(self, *replacements):
        path = Path(real_rwlock.__file__)
        text = path.read_text(encoding="utf-8")
        for old, new in replacements:
            assert text.count(old) == 1, f"the text to be replaced is there {text.count(old)} times:\n{old}"
            text = text.replace(old, new)
        module = automaton._compiled("rwlock_under_test", text)
        self.file = module.RobustRWLock.acquire_write.__code__.co_filename
        module.get_ident = lambda: _current.thread
        self.RobustRWLock = module.RobustRWLock


class Automaton:
    """The automata of all processes, learnt as far as somebody asked; a state is a small number.

    Attributes:
        questions: for each state, the operation before which each thread stands.
        local_owners: for each state, the thread that has the process's own lock.
    """

    def __init__(self, code, threads, rounds):
        self.code = code
        self.threads = threads
        self.rounds = rounds
        self.questions = []
        self.local_owners = []
        self._edges = []
        self._histories = []
        self._numbers = {}
        self._starts = {}

    def start(self, number, incarnation):
        who = (number, incarnation)
        if who not in self._starts:
            self._starts[who] = self._learn(who, ())
        return self._starts[who]

    def next(self, state, thread, answer):
        edges = self._edges[state]
        found = edges.get((thread, answer))
        if found is None:
            who, history = self._histories[state]
            found = edges[thread, answer] = self._learn(who, (*history, (thread, answer)))
        return found

    def _learn(self, who, history):
        process = _Process(self.code, who, self.threads[who[0]], self.rounds, len(self.threads))
        try:
            for thread, answer in history:
                process.answer(thread, answer)
            key = process.key()
        finally:
            process.end()
        known = self._numbers.get(key)
        if known is None:
            known = self._numbers[key] = len(self.questions)
            self.questions.append(key[4])
            self.local_owners.append(key[5][3])
            self._edges.append({})
            self._histories.append((who, history))
        return known
