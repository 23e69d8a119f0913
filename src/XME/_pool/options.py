"""Check what the caller of ``XME.XME(...)`` gave, before a process or a segment is made."""

from __future__ import annotations

import math
import multiprocessing
import operator
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from XME.ArrayOperator import Array

Calling = Literal["xme", "python"]


@dataclass(frozen=True)
class Options:
    """The options of an XME object, checked; ``pnum`` None means as many as there are cores.

    >>> Options(pnum=0)
    Traceback (most recent call last):
    ValueError: pnum is the number of worker processes, at least 1 (None: one for each core), not 0
    """

    pnum: int | None = None
    do_with_log: bool = True
    logfile: str | os.PathLike[str] | None = None
    show_version_info: bool = False
    print_in_screen: bool = True
    xmemtable: Any = None
    start_method: str | None = None
    timeout: float | None = None
    retries: int = 0
    progress: bool = False
    calling: Calling = "xme"

    def __post_init__(self) -> None:
        for name in ("do_with_log", "show_version_info", "print_in_screen", "progress"):
            _check_bool(name, getattr(self, name))
        if self.pnum is not None:
            _check_whole("pnum", self.pnum, 1, "the number of worker processes, at least 1 (None: one for each core)")
        _check_whole("retries", self.retries, 0, "how often a row whose worker died is run again, 0 or more")
        _check_timeout(self.timeout)
        _check_choice("calling", self.calling, get_args(Calling))
        if self.start_method is not None:
            _check_choice("start_method", self.start_method, tuple(multiprocessing.get_all_start_methods()))
        _check_table(self.xmemtable)


def _check_bool(name: str, value: Any) -> None:
    if not isinstance(value, bool):
        message = f"{name} is True or False, not {value!r}"
        raise TypeError(message)


def _check_whole(name: str, value: Any, least: int, meaning: str) -> None:
    message = f"{name} is {meaning}, not {value!r}"
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise TypeError(message)
    if operator.index(value) < least:
        raise ValueError(message)


def _check_timeout(timeout: Any) -> None:
    if timeout is None:
        return
    message = f"timeout is the time for a whole call in seconds, more than 0 (None: no limit), not {timeout!r}"
    try:
        seconds = math.nan if isinstance(timeout, bool | str) else float(timeout)
    except (TypeError, ValueError):
        seconds = math.nan
    if math.isnan(seconds):
        raise TypeError(message)
    if not 0 < seconds < math.inf:
        raise ValueError(message)


def _check_table(table: Any) -> None:
    if table is not None and not isinstance(table, Mapping):
        message = f"xmemtable is a dict, the first content of the XMEManager's value table, not {table!r}"
        raise TypeError(message)


def _check_choice(name: str, value: Any, choices: tuple[str, ...]) -> None:
    if value in choices:
        return
    message = f"{name} is one of {', '.join(map(repr, choices))}, not {value!r}"
    raise ValueError(message) if isinstance(value, str) else TypeError(message)


def check_functions(functions: tuple[Any, ...]) -> None:
    """Raise a TypeError that shows how it is done, unless there are functions and nothing else."""
    if not functions:
        message = "XME needs at least one function: xme = XME.XME(function), then xme.fun(xme.Array(range(10)))"
        raise TypeError(message)
    for place, function in enumerate(functions, 1):
        if not callable(function):
            message = (
                f"XME takes functions, and its argument {place} is {function!r}: give the function itself, without "
                "calling it, and its arguments to xme.fun(...)"
            )
            raise TypeError(message)


def check_executor(executor: Any, options: Options) -> None:
    """Raise a TypeError or ValueError unless rows can be given to ``executor`` under these options."""
    if isinstance(executor, type) or not (hasattr(executor, "execute") or hasattr(executor, "submit")):
        message = f"executor is an object with execute(table) or submit(function, ...), not {executor!r}"
        raise TypeError(message)
    if options.pnum is not None or options.start_method is not None:
        message = "pnum and start_method are for XME's own workers: give them to the executor, or leave executor= out"
        raise ValueError(message)
    if options.retries and not hasattr(executor, "execute"):
        message = f"retries needs an executor that says on which row a worker died, and {executor!r} does not"
        raise ValueError(message)


def entries_of(
    count: int, default: Iterable[int], funum_array: Any, positional: Any, keywords: Any, names: tuple[str, str]
) -> list[tuple[int, tuple[Any, ...], Mapping[str, Any]]]:
    """Give (function's index, args, kwargs) for each entry of a ``funs`` call over a table of ``count`` functions.

    :param names: what the caller calls ``positional`` and ``keywords``, for messages.
    :raises ValueError: if the lists differ in length or name a function that is not there.
    :raises TypeError: if they are no lists, or their entries not what they should be.

    >>> entries_of(2, range(2), None, [[1], [2]], None, ("tagr_array", "args_array"))
    [(0, (1,), {}), (1, (2,), {})]
    """
    numbers = _listed("funum_array", default if funum_array is None else funum_array)
    indexes = [_index(number, count) for number in numbers]
    args = _matching(names[0], positional, len(indexes))
    kwargs = _matching(names[1], keywords, len(indexes))
    return [
        (index, _positional(names[0], i, args[i]), _keywords(names[1], i, kwargs[i])) for i, index in enumerate(indexes)
    ]


def _listed(name: str, value: Any) -> list[Any]:
    if isinstance(value, Array | str | bytes | Mapping) or not isinstance(value, Iterable):
        message = f"{name} is a list with one item for each function to run, not {value!r}"
        raise TypeError(message)
    return list(value)


def _matching(name: str, value: Any, count: int) -> list[Any]:
    if value is None:
        return [None] * count
    listed = _listed(name, value)
    if len(listed) != count:
        message = f"{name} has {len(listed)} entries and {count} functions are to run: each needs its own, in order"
        raise ValueError(message)
    return listed


def _index(number: Any, count: int) -> int:
    if isinstance(number, bool) or not hasattr(number, "__index__"):
        message = f"funum_array has the places of functions in the table (0 is the first), not {number!r}"
        raise TypeError(message)
    index = operator.index(number)
    if not -count <= index < count:
        message = f"funum_array names function {index}, and the table has {count}"
        raise ValueError(message)
    return index % count


def _positional(name: str, i: int, value: Any) -> tuple[Any, ...]:
    if value is None:
        return ()
    if isinstance(value, Array | str | bytes | Mapping) or not isinstance(value, Iterable):
        message = f"{name}[{i}] is a list of positional arguments, not {value!r}: write [{value!r}]"
        raise TypeError(message)
    return tuple(value)


def _keywords(name: str, i: int | None, value: Any) -> Mapping[str, Any]:
    if value is None:
        return {}
    where = name if i is None else f"{name}[{i}]"
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        message = f"{where} is a dict of keyword arguments, not {value!r}"
        raise TypeError(message)
    return value


def guard_arguments(garg: Any, gargs: Any) -> tuple[tuple[Any, ...], Mapping[str, Any]]:
    """Give the guard's positional and keyword arguments, checked.

    >>> guard_arguments([1], None)
    ((1,), {})
    """
    if isinstance(garg, Array | str | bytes | Mapping) or not (garg is None or isinstance(garg, Iterable)):
        message = f"garg is a list of the guard's positional arguments, not {garg!r}: write garg=[{garg!r}]"
        raise TypeError(message)
    return tuple(garg or ()), _keywords("gargs", None, gargs)
