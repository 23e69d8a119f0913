"""What class XME does for its manager: gives it to functions, and runs calls that a guard serves."""

from __future__ import annotations

import functools
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from XME.ArrayOperator import Entry, ExecutionTable, Injected
from XME.errors import CallErrors

if TYPE_CHECKING:
    from XME.Manager import XMEManager

# Without end, as far as calls go on: a guard that runs none stops that (buffer.py).
_RESTARTS = 1 << 30


class HasManager:
    """The half of class XME that has a manager."""

    _lock: Any
    _options: Any
    _xmem: XMEManager | None

    @property
    def xmem(self) -> XMEManager:
        """The XMEManager of this object; functions that name a parameter ``XMEManager`` are given the same one.

        It is made when it is first wanted (some 3 ms), at once if there is an ``xmemtable``.

        >>> from XME.Engine import XME
        >>> XME(abs, xmemtable={"key": "value"}).xmem.get_table("key")
        'value'
        """
        with self._lock:
            if self._xmem is None:
                self._xmem = self._new_manager()
        return self._xmem

    def _new_manager(self) -> XMEManager:
        # Late, because most programs never need it.
        from XME.Manager import XMEManager

        return XMEManager(self._options.xmemtable or {})


def with_manager(entry: Entry, owner: Any) -> Entry:
    """Return an entry in which the marker of the manager is ``owner.xmem``."""
    if Injected.MANAGER not in (*entry.args, *entry.kwargs.values()):
        return entry
    manager = owner.xmem
    args = tuple([manager if value is Injected.MANAGER else value for value in entry.args])
    kwargs = {name: manager if value is Injected.MANAGER else value for name, value in entry.kwargs.items()}
    return replace(entry, args=args, kwargs=kwargs)


def run_guarded(executor: Any, table: ExecutionTable, manager: Any) -> tuple[Any, ...]:
    """Run a table with a guard; ``manager`` is the XMEManager that its functions use, or None.

    Raises:
        CallErrors: calls have failed, and nobody has fetched that.
        what executing the table raises, with those failures as notes.
    """
    if manager is None:
        return tuple(executor.execute(table))
    # Who runs the guard before or behind the rest will not say when the rest has ended.
    beside = bool(getattr(executor.execute, "tells_functions_end", False))
    retries = _RESTARTS if _is_restartable(table) else 0
    functions_done = functools.partial(manager.functions_done, gfun := object())
    try:
        manager.begin_guarded(gfun, beside=beside)
        results = tuple(executor.execute(replace(table, guard_retries=retries, functions_done=functions_done)))
        functions_done()
    except BaseException as error:
        functions_done()
        if isinstance(error, Exception):
            _note(error, manager.take_unfetched())
        raise
    unfetched = manager.take_unfetched()
    if unfetched is not None:
        unfetched.results = dict(enumerate(results))
        raise unfetched
    return results


def _is_restartable(table: ExecutionTable) -> bool:
    assert table.guard is not None
    return bool(getattr(table.guard.function, "is_restartable", False))


def _note(error: Exception, unfetched: CallErrors | None) -> None:
    if unfetched is not None:
        for number, failure in unfetched.failures.items():
            error.add_note(f"XME: the appended call {number} failed as well: {type(failure).__name__}: {failure}")
