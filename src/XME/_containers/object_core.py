"""Calls of a shared object's methods: in the caller's process, under the object's mutex, one commit at the end.

A call of the same thread inside a call (also of another method, also from a signal handler) joins the outer one. In a
transaction (`atomic()`) each call is a savepoint of its own: what raises has changed nothing, and the transaction goes
on. An exception, or a kill, publishes nothing.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable
from types import AsyncGeneratorType, CoroutineType, GeneratorType
from typing import Any

from XME._containers import home as homes
from XME._containers.home import W_GONE, W_ROOT
from XME._containers.object_changes import Changing
from XME._containers.object_class import MISSING, shape_of
from XME._containers.object_state import CLOSED, IDLE, OPEN, OWN
from XME._core import program
from XME._core.handles import living
from XME._store import keys, table, values
from XME._store.log import PLACE_MASK
from XME.errors import MutexError

# What runs its method's code after the method has returned.
LATE = frozenset({GeneratorType, CoroutineType, AsyncGeneratorType})
# Keys of bytes: no attribute's name is one.
_CLASS, _LABEL = keys.canonical(b"class"), keys.canonical(b"label")
# All cores of this process, for a fork's child.
_cores: weakref.WeakSet[Core] = weakref.WeakSet()


class Core(Changing):
    """A shared object, apart from its handle (xmem_object), whose names are those of the user's class."""

    __slots__ = ("_handle", "_label")

    _label: str

    _KIND = homes.OBJECT
    _CHANGE = table.TableChange

    # -- making ----------------------------------------------------------------------------------------------------

    @classmethod
    def made(cls, label: str, kind: type, args: Any, kwargs: Any) -> Core:
        """Return the core of a new shared object.

        Raises:
            TypeError: objects of this class cannot be shared, or the state of this one.
        """
        core = cls()
        shape = shape_of(kind)
        core._found(program.program_domain())
        core._shape = shape
        core._label = label
        try:
            core._fill(args, kwargs)
        except BaseException:
            core._struck(None)
            core.unlink()
            raise
        return core

    def _fill(self, args: Any, kwargs: Any) -> None:
        self._write_special(_LABEL, self._label)
        self._write_special(_CLASS, self._shape.cls)
        with self.mutex:
            try:
                self._refresh()
                self._phase = OPEN
                self._shape.make_with(self, args, kwargs)
                self._phase = CLOSED
                self._finish()
            finally:
                self._phase = IDLE

    def _write_special(self, key: bytes, value: Any) -> None:
        tag, payload, large = self._encode(value, "the class of a shared object")
        change = self._begin(large)
        try:
            change.put(key, keys.stable_hash(key), b"", tag, payload)
        except BaseException:
            self._fail()
            raise
        self._end()

    def _read_special(self, key: bytes) -> Any:
        root, generation = self.current()
        _, place = table.lookup(generation, root & PLACE_MASK, key, keys.stable_hash(key))
        _, tag, data = table.split(generation, place)
        return values.decode(tag, data, self._open_value)[0]

    def learn(self) -> None:
        """Take over class and label of an object that was made elsewhere."""
        if not self._label:
            self._shape = shape_of(self._read_special(_CLASS))
            self._label = str(self._read_special(_LABEL))

    def _reset(self) -> None:
        super()._reset()
        self._label = ""
        self._handle: Any = None
        _cores.add(self)

    def handle(self) -> Any:
        """Return this process's one handle."""
        found = None if self._handle is None else self._handle()
        if found is None:
            self.learn()
            shape = self._shape
            if shape.handle is None:
                shape.handle = self._HANDLE_CLASS(shape)
            found = shape.handle._of_core(self)
            self._handle = weakref.ref(found)
        return found

    # Set by shared_object.py, which stands above.
    _HANDLE_CLASS: Callable[[Any], Any]

    # -- calling ---------------------------------------------------------------------------------------------------

    def call(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """Call a function with the object that methods run on, as a method of it is called."""
        return caller(function)(self, *args, **kwargs)

    @property
    def _xmem_core(self) -> Core:
        # So that it can be called as its handle is.
        return self

    def _finish(self) -> None:
        """Publish what has changed since the call began, if anything has."""
        present = self._gathered()
        self._publish(present)
        if self._change is not None:
            self._end()
        if self._touched or len(present) != len(self._known):
            self._restore()

    def _call_within(self, function: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        """Call a method while this thread has the mutex: in a method of the same object, or in its transaction."""
        self._refuse_if_closed()
        if self._phase == OPEN:
            return self._checked(function, function(self._inst, *args, **kwargs), self._inst)
        mutex = self.mutex
        before = mutex.depth, len(self._marks), self._is_open, self._change
        inst = None
        try:
            if before[3] is None:
                # A signal handler's call, of a thread that has just taken the mutex or is about to give it back.
                mutex.acquire()
            else:
                self._begin()
            self._phase = CLOSED
            self._refresh()
            inst = self._inst
            self._is_open = True
            self._phase = OPEN
            result = self._checked(function, function(inst, *args, **kwargs), inst)
            in_change = self._change is not None
            if self._inst is inst:
                self._phase = CLOSED
                self._finish()
                self._phase = IDLE
            elif mutex.held:
                self._refuse_broken()
            if not in_change or self._inst is not inst:
                mutex.release()
            return result
        except BaseException:
            self._struck(inst, *before)
            raise

    def _struck(
        self, inst: Any, depth: int = 0, levels: int = 0, is_open: bool = False, change: Any = None
    ) -> None:
        """Undo what is left of a call that raised, or that a Ctrl-C has struck.

        Args:
            inst: the object that its method ran on; None if it did not come so far.
            depth: how deep this thread was in the mutex before.
            levels: how many levels the change in progress had then.
            is_open: whether code of the user's ran in that.
            change: the change in progress then, None if there was none.
        """
        mutex = self.mutex
        if not mutex.held:
            if inst is not None and self._inst is not inst:
                # A fork's child: the call is its parent's.
                mutex.release()
            return
        # A method that raises leaves the object as it was loaded. What struck us anywhere else may leave anything.
        is_clean = self._phase == OPEN and inst is not None and self._inst is inst
        self._phase = CLOSED
        while len(self._marks) > levels and mutex.held:
            self._fail()
        if change is None:
            self._change = None
        if is_clean and self._root:
            self._restore()
        else:
            self._root = 0
            self._number = -1
        if depth:
            self._is_open = is_open
        self._phase = IDLE
        while mutex.depth > depth:
            mutex.release()

    def _straightened(self) -> None:
        if self._phase != IDLE:
            # In a method, which may catch what has struck: what it did before is lost, and so it has failed as a whole.
            self._become_empty()
            self._phase = OPEN

    def _refuse_broken(self) -> None:
        msg = (
            f"a method of the shared object {self._called!r} has caught an exception that struck atomic() while it "
            "began or ended: the method has changed nothing"
        )
        raise MutexError(msg)

    def _refuse_if_closed(self) -> None:
        if self._phase == CLOSED or (self._phase == IDLE and self._change is not None and not self._is_open):
            msg = (
                f"a signal handler (or a finalizer) uses the shared object {self._called!r} in the middle of a change "
                "that its own thread makes: set a flag in the handler, and use the object in the main flow"
            )
            raise MutexError(msg)

    def _checked(self, function: Any, result: Any, inst: Any) -> Any:
        if result is inst:
            return self.handle()
        return self.late(function, result) if type(result) in LATE else result

    def late(self, function: Any, result: Any) -> Any:
        """Return what a generator yields, as an iterator; refuse what would run when the mutex is free again."""
        name = getattr(function, "__qualname__", str(function))
        if type(result) is GeneratorType:
            if getattr(function, "__name__", "") in {"__iter__", "__reversed__"}:
                return iter(list(result))
            result.close()
            msg = f"{name}() of a shared object returns a generator, which would run while others change it: use a list"
            raise TypeError(msg)
        if type(result) is CoroutineType:
            result.close()
        msg = f"{name}() of a shared object is async, and would run while others change it: make it a plain method"
        raise TypeError(msg)

    @property
    def is_mine(self) -> bool:
        """True while the calling thread is in a method of the object, or in its transaction."""
        return (self._change is not None or self._phase != IDLE) and self.mutex.held

    # -- transactions ----------------------------------------------------------------------------------------------

    def _begin_with_user_code(self) -> Any:
        """Begin a transaction; in a method, what that has done so far comes before it."""
        if not (self.mutex.held and self._phase):
            change = super()._begin_with_user_code()
            if len(self._marks) == 1:
                self._root = OWN if self._root == self.words[W_ROOT] else 0
            return change
        self._refuse_if_closed()
        if self._change is None:
            # The method's own level.
            super()._begin_with_user_code()
            self._root = OWN
        self._flush()
        return super()._begin_with_user_code()

    def _flush(self) -> None:
        """Write what a method has changed so far, so that a savepoint can go back to it."""
        self._begin()
        self._phase = CLOSED
        try:
            self._publish(self._gathered())
        except BaseException:
            self._phase = OPEN
            self._fail()
            raise
        self._phase = OPEN
        self._end()

    def _commit(self, change: Any) -> None:
        super()._commit(change)
        if self._root == OWN:
            self._root = self.words[W_ROOT]

    def _leave(self) -> None:
        if self._root in (OWN, 0):
            # Nobody came to the commit's end: the object is as no root has it.
            self._root = 0
            self._number = -1
        super()._leave()

    def _fail(self) -> None:
        self._root = 0
        self._number = -1
        is_inner = len(self._marks) > 1
        super()._fail()
        if is_inner and self._phase == OPEN:
            self._refresh()


def caller(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return what calls a function with the object of a handle, as a method of it (1 us and the mutex's pair)."""

    # No `finally` in it: a Ctrl-C may strike before its first instruction (see struck.py).
    def call(handle: Any, /, *args: Any, **kwargs: Any) -> Any:
        core = handle._xmem_core
        mutex = core.mutex
        if mutex._phase and mutex._local._is_owned():
            return core._call_within(function, args, kwargs)
        inst = None
        try:
            mutex.acquire()
            # A signal handler must not come in between what is looked at here and what it is good for.
            core._phase = CLOSED
            words = core.words
            if words is None or words[W_ROOT] != core._root or words[W_GONE]:
                core._refresh()
            inst = core._inst
            core._phase = OPEN
            result = function(inst, *args, **kwargs) if kwargs else function(inst, *args)
            if result is not None and (result is inst or type(result) in LATE):
                result = core._checked(function, result, inst)
            # Else this is a fork's child, and the call its parent's.
            if core._inst is inst:
                core._phase = CLOSED
                present, known = core._values, core._known
                if present is None or core._touched or core._change is not None or len(present) != len(known):
                    core._finish()
                else:
                    others = iter(present.items())
                    for name, value in others:
                        if known.get(name, MISSING) is not value and not core._publish_number(name, value, others):
                            core._publish(present)
                            break
                core._phase = IDLE
            elif mutex.held:
                core._refuse_broken()
            mutex.release()
            return result
        except BaseException:
            core._struck(inst)
            raise

    return call


def _after_fork_in_child() -> None:
    for core in living(_cores):
        # A call in progress at the fork is the parent's; it goes on here with an object that is nobody's.
        core._phase = IDLE
        core._become_empty()


os.register_at_fork(after_in_child=_after_fork_in_child)
