"""Columns of arguments become rows: what is split (Array), what is called (Entry), and what is run (ExecutionTable)."""

from __future__ import annotations

import operator
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from functools import cached_property
from itertools import accumulate
from typing import Any, NamedTuple

from XME._core.callable_module import name_the_class
from XME.Logputter import Logputter

__all__ = [
    "Array", "ArrayOperator", "Entry", "ExecutionTable", "ForRow", "Injected", "Row", "call_row", "inject",
    "tells_functions_end",
]  # fmt: skip


def _as_sequence(values: Any) -> Any:
    if isinstance(values, Array):
        return values.values
    if hasattr(values, "__getitem__") and hasattr(values, "__len__") and not isinstance(values, Mapping):
        len(values)
        return values
    return list(values)


def _checked_blocks(values: Any, blocks: Any) -> int | None:
    if blocks is None:
        return None
    count = operator.index(blocks)
    if count < 1:
        message = f"blocks is the number of parts, at least 1, not {count}"
        raise ValueError(message)
    try:
        values[0:0]
    except (TypeError, KeyError):
        message = f"blocks={count} needs something that can be sliced, and a {type(values).__name__} cannot: use a list"
        raise TypeError(message) from None
    return count


class Array:
    """Say that an argument is split: one row for each element, or for each of ``blocks`` parts.

    :param values: any sequence (list, range, str, numpy array, ...), taken as it is and never copied; another iterable,
        such as a generator or a set, is made a list.
    :param blocks: cut the sequence into that many parts of nearly equal length, as ``numpy.array_split`` does.
    :raises TypeError: if ``values`` is nothing that can be iterated over, or cannot be sliced into blocks.

    >>> list(Array("abc"))
    ['a', 'b', 'c']
    >>> list(Array(range(10), blocks=3))
    [range(0, 4), range(4, 7), range(7, 10)]
    """

    __slots__ = ("blocks", "values")

    values: Any
    blocks: int | None

    def __init__(self, values: Any, blocks: int | None = None) -> None:
        try:
            self.values = _as_sequence(values)
        except TypeError:
            message = f"Array takes a sequence, one row for each element, and {values!r} is none: pass it as it is"
            raise TypeError(message) from None
        self.blocks = _checked_blocks(self.values, blocks)

    def row(self, i: int) -> Any:
        """Give the value of row ``i``; a row beyond the end gets the last one.

        :raises IndexError: if the Array is empty or ``i`` is negative.

        >>> Array(["b1", "b2", "b3"]).row(9)
        'b3'
        """
        count = len(self)
        if count == 0 or i < 0:
            message = f"row {i} of {self!r}"
            raise IndexError(message)
        return self._at(min(i, count - 1))

    def _at(self, i: int) -> Any:
        if self.blocks is None:
            return self.values[i]
        size, longer = divmod(len(self.values), self.blocks)
        return self.values[i * size + min(i, longer) : (i + 1) * size + min(i + 1, longer)]

    def __len__(self) -> int:
        return len(self.values) if self.blocks is None else self.blocks

    def __getitem__(self, i: int) -> Any:
        index = operator.index(i)
        count = len(self)
        if not -count <= index < count:
            message = f"index {index} of an Array of {count} rows"
            raise IndexError(message)
        return self._at(index % count)

    def __iter__(self) -> Iterator[Any]:
        return map(self._at, range(len(self)))

    def __reduce__(self) -> Any:
        return type(self), (self.values, self.blocks)

    def __repr__(self) -> str:
        shown = f"{type(self.values).__name__} of {len(self.values)}"
        return f"<Array over a {shown}>" if self.blocks is None else f"<Array over a {shown} in {self.blocks} blocks>"


class ArrayOperator:
    """Split arguments into rows: as many as the longest Array has, a shorter one repeats its last element.

    :param args: positional arguments; those that are an :class:`Array` are split, the others go to every row.
    :param kwargs: keyword arguments, likewise.
    :param calnum: the number of rows of a call without an Array, else 1.
    :raises ValueError: if an Array is empty beside a longer one, or ``calnum`` contradicts the Arrays.

    >>> split = ArrayOperator((Array(range(3)), "x"), {"b": Array(["b1", "b2"])})
    >>> split.rows, split.row(2)
    (3, ((2, 'x'), {'b': 'b2'}))
    """

    __slots__ = ("args", "kwargs", "rows")

    def __init__(self, args: tuple[Any, ...], kwargs: Mapping[str, Any], calnum: int | None = None) -> None:
        self.args = args
        self.kwargs = kwargs
        self.rows = count_rows(args, kwargs, calnum)

    def row(self, i: int) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Give the positional and the keyword arguments of row ``i``; the cost is that of one look-up a column.

        >>> ArrayOperator((Array("ab"),), {}).row(1)
        (('b',), {})
        """
        return _resolve(self.args, self.kwargs, i)


def _resolve(args: tuple[Any, ...], kwargs: Mapping[str, Any], i: int) -> tuple[tuple[Any, ...], dict[str, Any]]:
    return (
        tuple([value.row(i) if isinstance(value, Array) else value for value in args]),
        {name: value.row(i) if isinstance(value, Array) else value for name, value in kwargs.items()},
    )


def count_rows(args: tuple[Any, ...], kwargs: Mapping[str, Any], calnum: int | None = None) -> int:
    """Give the number of rows that arguments make, as :class:`ArrayOperator` does.

    >>> count_rows((Array("abc"), 1), {"b": Array("x")})
    3
    """
    lengths = [len(value) for value in (*args, *kwargs.values()) if isinstance(value, Array)]
    if not lengths:
        return 1 if calnum is None else calnum
    rows = max(lengths)
    if rows and not min(lengths):
        message = f"an empty Array stands beside one of {rows} rows: it has no last element to repeat"
        raise ValueError(message)
    if calnum is not None and calnum != rows:
        message = f"calnum={calnum} is for calls without an Array, and the Arrays of this one give {rows} rows"
        raise ValueError(message)
    return rows


class Injected(Enum):
    """Stands for an argument that XME gives to each row, where the row runs."""

    PRINT = "print"
    LOGOBJ = "logobj"
    # Replaced by the object's own manager before anything starts.
    MANAGER = "XMEManager"


class ForRow:
    """An argument of which each row gets one of its own, where it runs."""

    __slots__ = ()

    def of_row(self) -> Any:
        """Give what the row gets."""
        return self

    def end_row(self) -> None:
        """End, in what the row got, whatever is to end with the row."""


def inject(
    args: tuple[Any, ...], kwargs: dict[str, Any], log: Logputter | None
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Replace the markers by a ``print`` and a ``logobj`` of this row's own; without a log by the builtin and None.

    >>> inject((1,), {"print": Injected.PRINT}, None)
    ((1,), {'print': <built-in function print>})
    """
    own = None if log is None else log.copy()
    given: dict[Any, Any] = {Injected.PRINT: print if own is None else own.write_log, Injected.LOGOBJ: own}

    def of_row(value: Any) -> Any:
        if isinstance(value, Injected):
            return given[value]
        if isinstance(value, ForRow):
            # One a row: it may stand among the keywords and, appended, in ``*args``.
            return given.get(id(value)) or given.setdefault(id(value), value.of_row())
        return value

    return tuple(map(of_row, args)), {name: of_row(value) for name, value in kwargs.items()}


def call_row(
    function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], log: Logputter | None
) -> Any:
    """Call a function with what XME gives to its row, and end that with it.

    >>> call_row(lambda a, print: print is not None, (1,), {"print": Injected.PRINT}, None)
    True
    """
    args, kwargs = inject(args, kwargs, log)
    try:
        return function(*args, **kwargs)
    finally:
        for value in (*args, *kwargs.values()):
            if isinstance(value, ForRow):
                value.end_row()


@dataclass(frozen=True, eq=False)
class Entry:
    """One function with its arguments, bound to its signature: ``rows`` calls.

    A value in ``args`` and ``kwargs`` is common to all rows, or an :class:`Array` (a column), or :class:`Injected`.

    >>> Entry(pow, (Array(range(3)), 2), {}, rows=3).call(2)
    ((2, 2), {})
    """

    function: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    rows: int
    # whether some argument is given by XME where the row runs; looked at once, because workers ask for each row
    injects: bool = field(init=False, repr=False)

    def __post_init__(self) -> None:
        markers = [None for value in (*self.args, *self.kwargs.values()) if isinstance(value, Injected | ForRow)]
        object.__setattr__(self, "injects", bool(markers))

    @property
    def name(self) -> str:
        """What messages call the function.

        >>> Entry(pow, (2, 2), {}, rows=1).name
        'pow'
        """
        return name_of(self.function)

    def call(self, row: int) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Give the row's arguments, columns resolved, markers untouched."""
        return _resolve(self.args, self.kwargs, row)


def name_of(function: Any) -> str:
    """Give the name that messages use for a callable.

    >>> name_of(len), name_of(3)
    ('len', '3')
    """
    return getattr(function, "__qualname__", None) or repr(function)


class Row(NamedTuple):
    """One call, ready to be made: ``row.function(*row.args, **row.kwargs)``."""

    function: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]


@dataclass(frozen=True, eq=False)
class ExecutionTable:
    """All rows of one call, in order; ``guard`` is one more row that needs a process of its own beside the rest.

    ``log`` is what the injected print and logobj are made from (None: builtin print and None), ``timeout`` is seconds
    for the whole call, ``retries`` how often a row may be run again when its worker died.

    >>> table = ExecutionTable((Entry(abs, (Array([-1, -2]),), {}, rows=2), Entry(len, ("abc",), {}, rows=1)))
    >>> [row.function(*row.args, **row.kwargs) for row in table.rows()], table.locate(2)
    ([1, 2, 3], (1, 0))
    """

    entries: tuple[Entry, ...]
    guard: Entry | None = None
    log: Logputter | None = None
    timeout: float | None = None
    retries: int = 0
    progress: bool = False
    # how often the guard is run again when its worker died, and what to call when the functions beside it have ended
    guard_retries: int = 0
    functions_done: Callable[[], None] | None = None
    # the number of rows, without the guard's
    row_count: int = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "row_count", sum([entry.rows for entry in self.entries]))

    def tell_functions_end(self) -> None:
        """Say that every row but the guard's has an outcome; whoever runs a table with a guard calls this."""
        if self.functions_done is not None:
            self.functions_done()

    @cached_property
    def _ends(self) -> list[int]:
        return list(accumulate(entry.rows for entry in self.entries))

    def locate(self, row: int) -> tuple[int, int]:
        """Give the place of a flat row number: (index of its entry, row within it); the guard's is behind the last.

        :raises IndexError: if there is no such row.
        """
        if row == self.row_count and self.guard is not None:
            return len(self.entries), 0
        if not 0 <= row < self.row_count:
            message = f"row {row} of a table of {self.row_count} rows"
            raise IndexError(message)
        entry = bisect_right(self._ends, row)
        return entry, row - (self._ends[entry] - self.entries[entry].rows)

    def name(self, row: int) -> str:
        """Give the name of the function of a flat row number, the guard's included."""
        index, _ = self.locate(row)
        return self.guard.name if self.guard is not None and index == len(self.entries) else self.entries[index].name

    def rows(self) -> Iterator[Row]:
        """Iterate over the calls, arguments resolved and injected in this process; the guard's comes last.

        This is what an executor of one's own needs: ``[row.function(*row.args, **row.kwargs) for row in table.rows()]``
        is the smallest ``execute(table)`` that keeps the order of the results.
        """
        for entry in self.entries if self.guard is None else (*self.entries, self.guard):
            for row in range(entry.rows):
                args, kwargs = entry.call(row)
                if entry.injects:
                    args, kwargs = inject(args, kwargs, self.log)
                yield Row(entry.function, args, kwargs)


def tells_functions_end(execute: Callable[..., Any]) -> Callable[..., Any]:
    """Mark an ``execute(table)`` that runs the guard beside the rest, and calls ``table.functions_done`` in time."""
    execute.tells_functions_end = True  # type: ignore[attr-defined] # functions take attributes
    return execute


name_the_class(__name__, "ArrayOperator", "Array")
