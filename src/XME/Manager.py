"""XMEManager: a value table, a buffer of calls, a lock and messages, shared by all rows of an XME object.

    a row                              shared memory                     the guard (XMEGuard, or exec() by hand)
    -----                              -------------                     ---------------------------------------
    append(fun, op, **kwargs)   --->   a ring of calls           --->    runs them, one after the other, in order
    get(op)                     <---   one result an operator    <---    the result, whole; then the call is done
                                <---   failures                  <---    what it raised; GuardDied if it was killed
    get_table, set, update      <-->   the value table           <-->    the same
    update_msg, get_msg         <-->   the Monitor               <-->    the same

Every call runs at most once, and ends as executed, failed or GuardDied: never twice, never silently not at all. A
method of an `xmem_object` is exactly once also when its guard is killed. See docs/manager.md.
"""

from __future__ import annotations

import pickle
import threading
import time
import uuid
from collections.abc import ItemsView, Iterator
from typing import Any

from XME._core.callable_module import name_the_class
from XME._core.settings import short
from XME._manager import shared as parts
from XME._manager.guard import XMEGuard
from XME._manager.heart import HeartJump
from XME._manager.held import Held
from XME._manager.marks import XMEM_GET_FAIL
from XME._manager.ring import SLOTS, W_BEATS, W_BESIDE, W_BROKEN, W_STARTS
from XME._manager.shared import GUARD, SYSTEM_KEYS, XMEM, Shared
from XME._manager.tables import Tables, mapping_of
from XME._security.gate import key_of
from XME._security.kinds import seconds
from XME.ArrayOperator import ForRow
from XME.errors import CallErrors, ManagerRefuses
from XME.Monitor import Monitor
from XME.Security import ADMIN, Security

__all__ = ["XMEM_GET_FAIL", "HeartJump", "XMEGuard", "XMEManager"]

_NONE: Any = object()


class XMEManager(Tables, ForRow):
    """The shared state of an XME object, for its functions and for the program itself (``xme.xmem``).

    A function that names a parameter ``XMEManager`` is given one; each row has an operator of its own there, which is
    what ``Operator=None`` means for append, get, clean and status. For everything else None is the ADMIN of the
    manager's own Security, and so are the operators of AllocOperator, until somebody registers or authorizes one. Where
    an operator may not have the lock, the mark of `Security` is returned, and nothing is changed. It pickles as a name.

    Args:
        values: the first content of the value table.
        slots: how many calls may wait; append waits when there are so many.

    Raises:
        ManagerRefuses: `values` has a key of the system.
        SharedMemoryFull: there is no room.

    Costs some 3 ms.

    >>> manager = XMEManager({"k": 1})
    >>> manager.append(dict, "me", a=3)
    >>> manager.exec(), manager.get("me")
    ({'a': 3}, {'a': 3})
    """

    def __init__(self, values: Any = (), *, slots: int = SLOTS) -> None:
        """Make a new one."""
        table = mapping_of("the first content of the value table", values)
        for key in SYSTEM_KEYS:
            if key in table:
                raise ManagerRefuses.of(f"xmemtable={{{key!r}: ...}}", "that key is the system's, and is always there")
        if slots < 8:
            msg = f"slots is how many calls may wait, 8 or more, not {slots!r}"
            raise ValueError(msg)
        self._bind(parts.create(table, slots))
        parts.fill_in(self._shared, self)

    def _bind(self, shared: Shared) -> None:
        self._shared = shared
        self._buffer = shared.buffer
        self._ring = shared.ring
        self._operator: str | None = None
        self._lock = threading.Lock()
        # What begins in this row and ends with it.
        self._hearts: list[HeartJump] = []

    @property
    def security(self) -> Security:
        """The lock that update, delete and the messages take."""
        return self._shared.security

    @property
    def monitor(self) -> Monitor:
        """The messages."""
        return self._shared.monitor

    # -- calls -----------------------------------------------------------------------------------------------------

    def append(self, fun: Any = _NONE, Operator: Any = _NONE, /, **kwargs: Any) -> None:
        """Append a call of `fun` with keywords; the guard, or `exec`, runs it.

        It was appended when this returns (some 10 us), and is run even if this process is killed then. A method of an
        `xmem_object` travels as the object's name. Waits while the buffer is full.

        Args:
            fun: a function, a method of an `xmem_object`, an entry of ``__XMEM__``.
            Operator: whose result it is; None: this row's own, as when it is left out. By keyword as well, unless it is
                given by position, be it None: then all keywords are the function's.
            **kwargs: for the function.

        Raises:
            TypeError: `fun` cannot be called.
            UnshareableArgument: the function or a keyword cannot travel.
            Deadlock: the buffer is full, and its guard waits for what this thread holds.
            SharedMemoryFull: there is no room for a large call.
        """
        if fun is _NONE:
            fun = kwargs.pop("fun", None)
        if Operator is _NONE:
            Operator = kwargs.pop("Operator", None)
        self._buffer.append(fun, self._own(Operator), kwargs)

    def exec(self) -> Any:
        """Run the first call that waits, here, and return its result; None if there is none, or if it failed.

        What it raised is raised by `get` of its operator.

        Raises:
            MutexError: this is a call of the buffer itself.
        """
        done = self._buffer.run(1)
        return done[0][1] if done else None

    def get(self, Operator: Any = None, MaxWaitTime: float = 0, LoopTime: float = 0.1) -> Any:
        """Wait until all that an operator has appended until now has run, and return the result of the last.

        Answers within 0.1 ms of the call's end.

        Args:
            Operator: who appended; None: this row.
            MaxWaitTime: how long to wait, in seconds; 0: no limit.
            LoopTime: ignored; nothing is waited for in a loop.

        Returns:
            The result. The false text XMEM_GET_FAIL if the time is over, or if there is none: nothing has run, the
            last call failed and that was raised before, or `clean` has forgotten it.

        Raises:
            what the calls of this operator raised since the last get: the one exception itself, or CallErrors.
            GuardDied: the guard was killed in a call.
            Deadlock: the guard waits for what this thread holds.
            ValueError, TypeError: MaxWaitTime is no number of seconds.
        """
        del LoopTime
        operator = self._own(Operator)
        limit = seconds("MaxWaitTime", 0 if MaxWaitTime is None else MaxWaitTime)
        deadline = time.monotonic() + limit if limit else None
        number = self._buffer.last_of(operator)
        if number and not self._ring.wait(number, deadline):
            return XMEM_GET_FAIL
        found = self._buffer.result_of(operator)
        failed = self._buffer.take_failures(operator)
        if len(failed) == 1:
            raise failed[0][2]
        if failed:
            raise CallErrors.of({number: error for number, _, error in failed})
        return XMEM_GET_FAIL if found is None else pickle.loads(found)

    def clean(self, Operator: Any = None) -> None:
        """Forget the result of an operator."""
        self._buffer.results.pop(self._buffer.key_of(self._own(Operator))[0], None)

    def status(self, Operator: Any = None, status: Any = None, *, Status: Any = None) -> None:
        """Set the entry of an operator in ``__STATUS__``; None: the time, in seconds since the epoch."""
        said = Status if status is None else status
        self._shared.status[self._own(Operator)] = time.time() if said is None else said

    def get_buffers(self) -> dict[Any, Any]:
        """Return a plain copy of the call buffer: ``{"GUARD": [(fun, operator, kwargs), ...], operator: result}``."""
        return {"GUARD": self._buffer.waiting(), **self._buffer.operators()}

    def len(self) -> int:
        """Return how many calls wait."""
        return len(self._ring.pending())

    def __len__(self) -> int:
        """Return how many calls wait."""
        return self.len()

    def __bool__(self) -> bool:
        """Be true, also when nothing waits."""
        return True

    # -- values ----------------------------------------------------------------------------------------------------

    def get_table(self, *keys: Any) -> Any:
        """Return the value of a key, of several as a dict, without keys of all; what is shared is the shared thing.

        Raises:
            KeyError: there is no such key.
        """
        table = self._shared.table
        if len(keys) == 1:
            return table[keys[0]]
        return {key: table[key] for key in keys} if keys else dict(table.items())

    def set(self, key: Any, value: Any) -> Any:
        """Set one entry of the value table, as `update` does."""
        return self.update({key: value})

    def items(self) -> ItemsView[Any, Any]:
        """Return the items of the value table."""
        return self._shared.table.items()

    def update(self, newtable: Any, Operator: Any = None) -> Any:
        """Set several entries of the value table, all at once.

        A system's entry stays the shared dict that it is, and is updated: ``{"__GUARD__": {"Status": False}}`` tells
        the guard to stop.

        Returns:
            True, or the Security's mark if the operator may not.

        Raises:
            ManagerRefuses: ``__XMEM__`` is not changed.
            TypeError: this is no mapping, or what it has for a system's entry is none.
        """
        values = mapping_of("newtable", newtable)
        system = {key: values.pop(key) for key in SYSTEM_KEYS if key in values}
        if XMEM in system:
            raise ManagerRefuses.of(f"update({{{XMEM!r}: ...}})", "it says which functions there are")
        mappings = {key: mapping_of(f"newtable[{key!r}]", value) for key, value in system.items()}
        with self._held(Operator) as held:
            if not held:
                return held.answer
            for key, mapping in mappings.items():
                (self._shared.guard if key == GUARD else self._shared.status).update(mapping)
            if values:
                self._shared.table.update(values)
        if GUARD in mappings:
            self._ring.wake()
        return True

    def delete(self, *keys: Any, Operator: Any = None) -> Any:
        """Delete entries of the value table, all or none; without keys all but the system's.

        Returns:
            True, or the Security's mark if the operator may not.

        Raises:
            ManagerRefuses: a key is the system's.
            KeyError: there is no such key.
        """
        for key in SYSTEM_KEYS:
            if key in keys:
                raise ManagerRefuses.of(f"delete({key!r})", "that key is the system's, and is always there")
        table = self._shared.table
        with self._held(Operator) as held:
            if not held:
                return held.answer
            with table.atomic():
                for key in keys or [key for key in table if key not in SYSTEM_KEYS]:
                    del table[key]
        return True

    # -- messages --------------------------------------------------------------------------------------------------

    def get_msg(self, *keys: Any) -> Any:
        """Return messages, as `Monitor.get` does."""
        return self.monitor.get(*keys)

    def update_msg(self, newmessage: Any, Operator: Any = None) -> Any:
        """Set messages, as `Monitor.update` does: True, or the mark."""
        return self.monitor.update(newmessage, Operator=self._acting(Operator))

    def delete_msg(self, *keys: Any, Operator: Any = None) -> Any:
        """Delete messages, as `Monitor.delete` does: True, or the mark."""
        return self.monitor.delete(*keys, Operator=self._acting(Operator))

    def copy_msg(self, Operator: Any = None) -> Any:
        """Let the messages be the value table's entries, without the system's, all or nothing: True, or the mark.

        Raises what `Monitor.update` does.
        """
        content = {key: value for key, value in self.items() if key not in SYSTEM_KEYS}
        return self.monitor._replace_all(content, self._acting(Operator))

    # -- operators -------------------------------------------------------------------------------------------------

    def AllocOperator(self) -> str:
        """Return a new operator, which nobody else has."""
        return f"{self._shared.tag}{uuid.uuid4().hex[:20]}>"

    def _own(self, operator: Any) -> Any:
        if operator is not None:
            return operator
        with self._lock:
            if self._operator is None:
                self._operator = self.AllocOperator()
        return self._operator

    def _acting(self, operator: Any) -> Any:
        """Return on whose behalf the lock is taken."""
        if operator is None:
            return ADMIN
        if isinstance(operator, str) and operator.startswith(self._shared.tag):
            settings = self.security._current()
            admin = short(key_of(ADMIN))
            if settings.registered == admin and settings.authorised == {admin}:
                return ADMIN
        return operator

    def _held(self, operator: Any) -> Held:
        return Held(self.security, self._acting(operator))

    # -- rows and guards -------------------------------------------------------------------------------------------

    def of_row(self) -> XMEManager:
        """Return the same manager for one row, with an operator of its own."""
        return _of_shared(self._shared)

    def end_row(self) -> None:
        """End what began in this row and should end with it."""
        for heart in list(self._hearts):
            heart.stop()

    def begin_guarded(self, gfun: object, *, beside: bool) -> None:
        """Prepare for the guard of a gfun.

        Args:
            gfun: which.
            beside: whether functions run beside the guard until `functions_done`.
        """
        words = self._ring.words
        with self._shared.lock:
            if not self._shared.gfuns:
                words[W_BEATS] = words[W_BROKEN] = words[W_STARTS] = 0
                self._shared.guard.update(Status=True)
            if beside:
                self._shared.gfuns.add(gfun)
            words[W_BESIDE] = len(self._shared.gfuns)

    def functions_done(self, gfun: object) -> None:
        """Tell the guard of a gfun that no function runs beside it any more; may be said again."""
        self._shared.functions_done(gfun)

    def take_unfetched(self) -> CallErrors | None:
        """Take out the failures of calls that nobody has fetched; None if there are none."""
        failed = self._buffer.take_failures()
        return CallErrors.of({number: error for number, _, error in failed}) if failed else None

    # -- looking ---------------------------------------------------------------------------------------------------

    def get_str(self) -> str:
        """Say what there is: calls that wait, keys, lock, messages."""
        return f"<{self._said()}; {self.security.get_str()}; {self.monitor.get_str()}>"

    def _said(self) -> str:
        keys = ", ".join(map(repr, self._keys()))
        return f"XMEManager: {self.len()} calls wait, values {keys or 'none'}"

    def _keys(self) -> Iterator[Any]:
        return (key for key in self._shared.table if key not in SYSTEM_KEYS)

    def __str__(self) -> str:
        return self.get_str()

    def __repr__(self) -> str:
        return f"<{self._said()}>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, XMEManager) and other._shared is self._shared

    def __hash__(self) -> int:
        return hash(self._shared.tag)

    def __reduce__(self) -> Any:
        return _of_shared, (self._shared,)


def _of_shared(shared: Shared) -> XMEManager:
    manager = object.__new__(XMEManager)
    manager._bind(shared)
    return manager


name_the_class(__name__, "Manager", "XMEManager")
