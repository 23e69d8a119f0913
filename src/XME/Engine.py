"""Class XME: a table of functions, run over split arguments by a crew of worker processes.

    XME(f, g, ...)        the function table
      .fun(...)           binds the arguments to f's signature     -> Entry
      .funs, .gfun, ...   put entries, log and limits together     -> ExecutionTable
    Executor.execute      runs the table's rows in the workers     -> results, flat, in row order

Nothing is started before the first call, and everything that can be wrong with a call is found before that.
"""

from __future__ import annotations

import importlib
import os
import threading
import uuid
import weakref
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from types import TracebackType
from typing import Any, ClassVar, Self

from XME._manager.serving import HasManager, run_guarded, with_manager
from XME._pool.calling import Binder
from XME._pool.cores import available_cores
from XME._pool.foreign import ForeignRunner, slots_of
from XME._pool.header import header
from XME._pool.options import Calling, Options, check_executor, check_functions, entries_of, guard_arguments
from XME.ArrayOperator import Array, Entry, ExecutionTable, name_of
from XME.Logputter import Logputter

__all__ = ["XME", "build"]

# Every XME object of this process by its token, so that what was pickled here comes back as the object itself.
_known: weakref.WeakValueDictionary[str, XME] = weakref.WeakValueDictionary()


def _own_executor(max_workers: int, start_method: str | None) -> Any:
    # Late, because a user of another library's executor never needs it.
    from XME.Executor import Executor

    return Executor(max_workers, start_method=start_method)


def _shut_down(executor: Any, pid: int) -> None:
    """End a dropped object's own workers; in a fork's child they are somebody else's."""
    if os.getpid() == pid:
        executor.shutdown(wait=False, cancel_futures=True)


def _restore(cls: type[XME], token: str) -> XME:
    """Give the object with this token: itself where it was made, elsewhere the one that stands for it there."""
    known = _known.get(token)
    if known is None:
        known = cls.__new__(cls)
        known._token = token
        known = _known.setdefault(token, known)
    return known


class XME(HasManager):
    """A table of functions that run over split arguments in worker processes.

    :param functions: the function table; ``fun`` runs the first, ``funs`` all, ``gfun`` takes the last as guard.
    :param pnum: number of workers, cut to the cores that this process may use; None: one for each of them.
    :param do_with_log: give functions that name ``print`` or ``logobj`` the log; False: the builtin print and None.
    :param logfile: name of a file that the log is appended to, beginning with a header.
    :param show_version_info: print the header once, now.
    :param print_in_screen: show the log on the screen.
    :param start_method: of the workers, "fork", "spawn" or "forkserver"; None: the platform's default.
    :param executor: run rows there instead: an Executor, an object with ``execute(table)``, or any other library's
        object with ``submit``; it is never shut down by this object.
    :param timeout: seconds for a whole call; RowTimeout carries what was finished by then.
    :param retries: how often a row is run again whose worker died.
    :param xmemtable: the first content of the value table of ``xmem``, the XMEManager.
    :param progress: draw a bar with rows done, rate and time left.
    :param calling: "python" to leave ``*args`` as the caller wrote them (see :mod:`XME._pool.calling`).
    :raises TypeError: for wrong types, unknown options and a missing function.
    :raises ValueError: for wrong values.
    :raises FileNotFoundError: if the folder of ``logfile`` is missing.

    >>> from concurrent.futures import ThreadPoolExecutor
    >>> with ThreadPoolExecutor(2) as pool, XME(pow, executor=pool) as xme:
    ...     xme.fun(xme.Array(range(5)), 2)
    (0, 1, 4, 9, 16)
    """

    Array: ClassVar[type[Array]] = Array

    logobj: Logputter | None
    functions: tuple[Callable[..., Any], ...]

    def __init__(
        self,
        *functions: Callable[..., Any],
        pnum: int | None = None,
        do_with_log: bool = True,
        logfile: str | os.PathLike[str] | None = None,
        show_version_info: bool = False,
        print_in_screen: bool = True,
        xmemtable: Any = None,
        start_method: str | None = None,
        executor: Any = None,
        timeout: float | None = None,
        retries: int = 0,
        progress: bool = False,
        calling: Calling = "xme",
    ) -> None:
        check_functions(functions)
        options = Options(
            pnum, do_with_log, logfile, show_version_info, print_in_screen, xmemtable,
            start_method, timeout, retries, progress, calling,
        )  # fmt: skip
        if executor is None:
            # Now, and not in the first call, which may have a time limit.
            importlib.import_module("XME.Executor")
        else:
            check_executor(executor, options)
        log = Logputter(logfile, print_in_screen=print_in_screen) if do_with_log else None
        self._token = uuid.uuid4().hex
        self._settle(functions, options, log, available_cores())
        self._take_over(executor)
        if xmemtable is not None:
            self._xmem = self._new_manager()
        self._show_header()
        _known[self._token] = self

    def _settle(
        self, functions: tuple[Callable[..., Any], ...], options: Options, log: Logputter | None, cores: int
    ) -> None:
        self.functions = functions
        self.logobj = log
        self._options = options
        self._cores = cores
        self._binders: list[Binder | None] = [None] * len(functions)
        self._closed = False
        self._xmem = None
        self._clear_executor()

    def _clear_executor(self) -> None:
        self._lock = threading.Lock()
        self._executor: Any = None
        self._borrowed: Any = None
        self._finalizer: weakref.finalize[[Any, int], XME] | None = None

    def _take_over(self, executor: Any) -> None:
        if executor is not None:
            self._borrowed = executor
            self._executor = executor if hasattr(executor, "execute") else ForeignRunner(executor)

    def _show_header(self) -> None:
        options = self._options
        to_screen = options.show_version_info and options.print_in_screen
        if self.logobj is not None:
            if to_screen or self.logobj.logfile is not None:
                self.logobj.write_header(header(self.pnum), to_screen=to_screen)
        elif to_screen:
            Logputter().write_header(header(self.pnum), to_screen=True)

    # -- calls ---------------------------------------------------------------------------------------------------

    def fun(self, *args: Any, **kwargs: Any) -> tuple[Any, ...]:
        """Run the first function of the table, one row for each element of the longest Array; one row without any.

        :param kwargs: ``calnum=n`` gives n rows without an Array.
        :returns: the results, in row order.
        :raises TypeError: for arguments that the function does not take, before anything starts.
        :raises RowErrors: if several rows failed; if one did, its own exception, with ``row`` and ``results``.

        >>> from concurrent.futures import ThreadPoolExecutor
        >>> with ThreadPoolExecutor(2) as pool:
        ...     XME(lambda a, b: a + b, executor=pool).fun(Array("xyz"), b=Array("12"))
        ('x1', 'y2', 'z2')
        """
        return self._run((self._bind(0, args, kwargs),))

    def __call__(self, *args: Any, **kwargs: Any) -> tuple[Any, ...]:
        """Do what :meth:`fun` does."""
        return self.fun(*args, **kwargs)

    def funs(
        self,
        funum_array: Iterable[int] | None = None,
        tagr_array: Iterable[Any] | None = None,
        args_array: Iterable[Mapping[str, Any] | None] | None = None,
        *,
        targ_array: Iterable[Any] | None = None,
    ) -> tuple[tuple[Any, ...], ...]:
        """Run several functions of the table at once, each over its own arguments.

        :param funum_array: places of the functions in the table, in any order, repeated or negative; None: all.
        :param tagr_array: a list of positional arguments for each of them (also spelled ``targ_array``).
        :param args_array: a dict of keyword arguments for each of them.
        :returns: a tuple for each entry of ``funum_array``, with the results of its rows.
        :raises ValueError: if the lists differ in length, before anything starts.

        >>> from concurrent.futures import ThreadPoolExecutor
        >>> with ThreadPoolExecutor(2) as pool:
        ...     XME(abs, divmod, executor=pool).funs(tagr_array=[[-1], [Array([7, 8]), 5]])
        ((1,), ((1, 2), (1, 3)))
        """
        if tagr_array is not None and targ_array is not None:
            message = "tagr_array and targ_array are two spellings of one list: give one of them"
            raise TypeError(message)
        positional = tagr_array if targ_array is None else targ_array
        entries = self._entries(
            range(len(self.functions)), funum_array, positional, args_array, ("tagr_array", "args_array")
        )
        return _split(self._run(entries), entries)

    def gfun(
        self, *args: Any, garg: Iterable[Any] = (), gargs: Mapping[str, Any] | None = None, **kwargs: Any
    ) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
        """Run the first function, and beside it the last one, the guard, in a process of its own.

        :param garg: the guard's positional arguments.
        :param gargs: the guard's keyword arguments.
        :returns: (the guard's tuple, the function's tuple).
        :raises ValueError: if the table has no second function.
        :raises CallErrors: if calls that were appended to ``xmem`` failed, and nobody has fetched that.

        >>> from concurrent.futures import ThreadPoolExecutor
        >>> with ThreadPoolExecutor(2) as pool:
        ...     XME(abs, len, executor=pool).gfun(Array([-1, -2]), garg=["four"])
        ((4,), (1, 2))
        """
        guard = self._guard(garg, gargs)
        flat = self._run((self._bind(0, args, kwargs),), guard)
        return flat[-1:], flat[:-1]

    def gfuns(
        self,
        funum_array: Iterable[int] | None = None,
        farg_array: Iterable[Any] | None = None,
        fargs_array: Iterable[Mapping[str, Any] | None] | None = None,
        garg: Iterable[Any] = (),
        gargs: Mapping[str, Any] | None = None,
    ) -> tuple[tuple[Any, ...], tuple[tuple[Any, ...], ...]]:
        """Run several functions as :meth:`funs` does (None: all but the last), and beside them the guard.

        :returns: (the guard's tuple, a tuple with a tuple for each entry of ``funum_array``).

        >>> from concurrent.futures import ThreadPoolExecutor
        >>> with ThreadPoolExecutor(2) as pool:
        ...     XME(abs, hex, len, executor=pool).gfuns(farg_array=[[-1], [255]], garg=["four"])
        ((4,), ((1,), ('0xff',)))
        """
        guard = self._guard(garg, gargs)
        default = range(len(self.functions) - 1)
        entries = self._entries(default, funum_array, farg_array, fargs_array, ("farg_array", "fargs_array"))
        flat = self._run(entries, guard)
        return flat[-1:], _split(flat[:-1], entries)

    def _entries(
        self, default: Iterable[int], funum_array: Any, positional: Any, keywords: Any, names: tuple[str, str]
    ) -> tuple[Entry, ...]:
        checked = entries_of(len(self.functions), default, funum_array, positional, keywords, names)
        return tuple([self._bind(index, args, kwargs) for index, args, kwargs in checked])

    def _guard(self, garg: Any, gargs: Any) -> Entry:
        if len(self.functions) < 2:
            message = "a guard is the last function of the table, beside the first: XME.XME(function, guard)"
            raise ValueError(message)
        args, kwargs = guard_arguments(garg, gargs)
        guard = self._bind(len(self.functions) - 1, args, kwargs)
        if guard.rows != 1:
            message = f"the guard {guard.name} is one row, and its arguments make {guard.rows}: pass lists, not Arrays"
            raise ValueError(message)
        return guard

    def _bind(self, index: int, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Entry:
        binder = self._binders[index]
        if binder is None:
            binder = self._binders[index] = Binder(self.functions[index], self._options.calling)
        entry = binder.bind(args, kwargs)
        return with_manager(entry, self) if entry.injects else entry

    def _run(self, entries: tuple[Entry, ...], guard: Entry | None = None) -> tuple[Any, ...]:
        options = self._options
        table = ExecutionTable(entries, guard, self.logobj, options.timeout, options.retries, options.progress)
        self._check_open()
        if guard is None:
            return tuple(self._current().execute(table)) if table.row_count else ()
        return run_guarded(self._current(), table, self._xmem)

    # -- the executor --------------------------------------------------------------------------------------------

    def _current(self) -> Any:
        """Give the executor that runs rows in this process; the own one is made when it is first wanted."""
        self._check_open()
        if self._executor is None:
            with self._lock:
                if self._executor is None:
                    self._make_executor()
        return self._executor

    def _check_open(self) -> None:
        if self._closed:
            message = f"{self!r} was closed and runs nothing any more: make another one"
            raise RuntimeError(message)

    def _make_executor(self) -> None:
        executor = _own_executor(self.pnum or 1, self._options.start_method)
        self._finalizer = weakref.finalize(self, _shut_down, executor, os.getpid())
        self._executor = executor

    def _move_in(self) -> None:
        """Settle in a fork's child: the workers are the parent's, so this process gets its own, of what is left."""
        if self._finalizer is not None:
            self._finalizer.detach()
        self._cores = self._left_for_workers()
        self._clear_executor()

    def _left_for_workers(self) -> int:
        return max(1, self._cores // (self.pnum or 1))

    @property
    def pnum(self) -> int | None:
        """The number of workers that are used; None if a foreign executor does not say.

        >>> XME(abs, pnum=1).pnum
        1
        """
        if self._borrowed is not None:
            return slots_of(self._borrowed)
        cores = min(self._cores, available_cores())
        return cores if self._options.pnum is None else min(self._options.pnum, cores)

    def statistics(self) -> Any:
        """Give what the executor has counted so far, as a frozen record.

        >>> from concurrent.futures import ThreadPoolExecutor
        >>> XME(abs, executor=ThreadPoolExecutor(1)).statistics()
        ForeignStatistics(calls=0, rows=0, failed_rows=0)
        """
        return self._current().statistics()

    def clean(self) -> None:
        """Forget finished calls: whatever the executor still keeps of them."""
        if self._executor is not None and hasattr(self._executor, "clean"):
            self._executor.clean()

    def close(self) -> None:
        """End this object's own workers and wait for them; an executor that was given is left alone.

        >>> xme = XME(abs)
        >>> xme.close()
        >>> xme
        <XME of abs, closed>
        """
        self._closed = True
        if self._finalizer is not None and self._finalizer.detach() is not None:
            self._executor.shutdown(wait=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # -- travelling ----------------------------------------------------------------------------------------------

    # The functions are state and not constructor arguments: a function that refers to this object through its globals
    # makes a circle, which pickle closes only after the object itself exists.
    def __reduce__(self) -> Any:
        # No bar in a worker: several of them would draw over each other and over the caller's own.
        options = replace(self._options, progress=False, xmemtable=None)
        state = self.functions, options, self.logobj, self._left_for_workers(), self._xmem
        return _restore, (type(self), self._token), state

    def __setstate__(self, state: tuple[Any, Options, Logputter | None, int, Any]) -> None:
        if "_options" not in self.__dict__:
            self._settle(*state[:-1])
            self._xmem = state[-1]

    def __repr__(self) -> str:
        names = ", ".join(map(name_of, self.functions))
        if self._closed:
            return f"<XME of {names}, closed>"
        executor = f"on {self._borrowed!r}" if self._borrowed is not None else f"pnum={self.pnum}"
        return f"<XME of {names}, {executor}>"


def _split(flat: tuple[Any, ...], entries: tuple[Entry, ...]) -> tuple[tuple[Any, ...], ...]:
    parts, start = [], 0
    for entry in entries:
        parts.append(flat[start : start + entry.rows])
        start += entry.rows
    return tuple(parts)


def _settle_in_child() -> None:
    for xme in list(_known.values()):
        xme._move_in()


os.register_at_fork(after_in_child=_settle_in_child)
build = XME
