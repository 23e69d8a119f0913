"""Running the rows of a claim, in a worker: one outcome a row, stored after its result is whole."""

from __future__ import annotations

import pickle
import traceback
from collections.abc import Callable
from itertools import repeat
from typing import Any

from XME._pool import table as t
from XME._pool.arena import Arena
from XME._pool.arguments import Mappings, arguments, reader_of, rows_of
from XME._pool.wire import EntryPayload, Pickled
from XME._store import codec
from XME.errors import RemoteError, UnshareableResult

# Functions by the digest of their pickle: made once, when a worker first runs them, the latest used last. The arrays
# among their globals stay mapped.
_functions: dict[bytes, tuple[Any, Mappings]] = {}
_FUNCTIONS_KEPT = 512


def _put_on_shelf(digest: bytes, pickled: Pickled, call: Mappings) -> tuple[Any, Mappings]:
    mappings = Mappings(call.domain, 0)
    found = _functions[digest] = mappings.load(pickled, private=True), mappings
    if len(_functions) > _FUNCTIONS_KEPT:
        del _functions[next(iter(_functions))]
    return found


class Call:
    """One call, as the worker that runs some of its rows sees it."""

    def __init__(
        self, table: t.Table, payload: bytes, mappings: Mappings, arena: Arena, *, cancellable: bool = False
    ) -> None:
        """Read a payload; the rows of a `cancellable` table may have been cancelled before they were claimed."""
        self.table = table
        self.mappings = mappings
        self._arena = arena
        self._unreadable: BaseException | None = None
        entries, self._log = pickle.loads(payload)  # our own parent wrote it
        self._entries = [_Entry(EntryPayload(*entry), mappings) for entry in entries]
        self._ends: list[int] = []
        end = 0
        for entry in self._entries:
            end += entry.rows
            self._ends.append(end)
        plain = len(self._entries) == 1 and table.row_map is None and not cancellable
        self._only = self._entries[0] if plain else None
        self._cancellable = cancellable

    @classmethod
    def unreadable(cls, table: t.Table, mappings: Mappings, arena: Arena, error: BaseException) -> Call:
        """Return a call whose payload this worker could not read: each of its rows fails with that error."""
        call = cls(table, pickle.dumps(([], None)), mappings, arena)
        call._unreadable = error
        return call

    def run(self, first: int, end: int) -> None:
        """Run the rows from `first` to `end`, in order."""
        if self._only is not None:
            self._run_rows(self._only, first, end, 0)
        elif self._unreadable is not None:
            for row in self.table.undone(range(first, end)):
                self._fail(row, self._unreadable)
        elif self._cancellable:
            for row in self.table.undone(range(first, end)):
                self._run_part(row, row + 1)
        else:
            self._run_part(first, end)

    def one_by_one(self) -> Callable[[int], None]:
        """Return a function that runs one row; where the call allows it, one with nothing in its way."""
        entry = self._only
        if entry is None or not entry.is_simple or entry.simple.sequence is None:
            return lambda row: self.run(row, row + 1)
        try:
            function = entry.find()
        except Exception:  # whatever unpickling the function raises, each row gets it as its outcome
            return lambda row: self.run(row, row + 1)
        values, integers, tags = entry.simple.sequence, self.table.values, self.table.tags
        store, store_object, fail = self._store, self._store_object, self._fail

        def run_one(row: int) -> None:
            try:
                result = function(values[row])
                if type(result) is int:
                    try:
                        integers[row] = result
                    except ValueError:
                        store_object(row, result)
                    else:
                        tags[row] = 1
                else:
                    store(row, result)
            except BaseException as error:  # a function may raise anything
                fail(row, error)

        return run_one

    def _run_part(self, first: int, end: int) -> None:
        if self.table.row_map is not None:
            for row in range(first, end):
                self._run_entry(row, row + 1, int(self.table.row_map[row]) - row)
            return
        start = 0
        for entry_end, entry in zip(self._ends, self._entries, strict=True):
            if first < entry_end and start < end:
                self._run_rows(entry, max(first, start), min(end, entry_end), -start)
            start = entry_end

    def _run_entry(self, row: int, end: int, shift: int) -> None:
        start = 0
        for entry_end, entry in zip(self._ends, self._entries, strict=True):
            if start <= row + shift < entry_end:
                self._run_rows(entry, row, end, shift - start)
                return
            start = entry_end

    def _run_rows(self, entry: _Entry, first: int, end: int, shift: int) -> None:
        """Run rows of one entry; `shift` added to a row of the table is a row of the entry."""
        row = first
        while row < end:
            try:
                function = entry.function or entry.find()
                if entry.is_simple:
                    row = self._run_fast(function, rows_of(entry.simple, row + shift, end + shift), row, end)
                else:
                    row = self._run_any(entry, function, row, end, shift)
            except _RowFailed as failed:
                row = failed.row + 1
            except BaseException as error:  # a function may raise anything, and so may its arguments
                self._fail(row, error)
                row += 1

    def _run_fast(self, function: Any, values: Any, first: int, end: int) -> int:
        """Run a function of one split argument: this loop is what a task costs."""
        table = self.table
        integers = table.values
        tags = table.tags
        row = first
        try:
            for row, value in zip(range(first, end), values, strict=False):  # needed when it raises
                result = function(value)
                if type(result) is int:
                    try:
                        integers[row] = result
                    except ValueError:
                        self._store_object(row, result)
                    else:
                        tags[row] = 1
                else:
                    self._store(row, result)
        except BaseException as error:
            self._fail_at(row, error)
        return end

    def _run_any(self, entry: _Entry, function: Any, first: int, end: int, shift: int) -> int:
        row = first
        positional, keywords = entry.argument_rows(first + shift, end + shift)
        common = entry.keywords
        try:
            for row, args in zip(range(first, end), positional, strict=False):  # needed when it raises
                kwargs = common
                if keywords:
                    kwargs = {**common, **{name: next(values) for name, values in keywords.items()}}
                if entry.injects:
                    from XME.ArrayOperator import call_row  # few functions ask for it

                    result = call_row(function, args, kwargs, self._log)
                else:
                    result = function(*args, **kwargs)
                self._store(row, result)
                del args, result
        except BaseException as error:
            self._fail_at(row, error)
        return end

    def _fail_at(self, row: int, error: BaseException) -> None:
        self._fail(row, error)
        raise _RowFailed(row) from None

    # -- outcomes --------------------------------------------------------------------------------------------------

    def _store(self, row: int, result: Any) -> None:
        table = self.table
        kind = type(result)
        if kind is float:
            table.floats[row] = result
            table.tags[row] = t.FLOAT
        elif result is None:
            table.tags[row] = t.NONE
        elif kind is bool:
            table.tags[row] = t.TRUE if result else t.FALSE
        elif kind is int and -_INT64 <= result < _INT64:
            table.values[row] = result
            table.tags[row] = t.INT
        else:
            self._store_object(row, result)

    def _store_object(self, row: int, result: Any) -> None:
        try:
            place = self._arena.put(result)
        except MemoryError:
            raise
        except Exception as error:  # any __reduce__ may raise anything
            reason = f"{type(error).__name__}: {error}"
            raise UnshareableResult.of(self._function_name(row), self._row_number(row), reason) from None
        self.table.places[row] = place
        self.table.tags[row] = t.OBJECT

    def _row_number(self, row: int) -> int:
        return int(self.table.row_map[row]) if self.table.row_map is not None else row

    def _function_name(self, row: int) -> str:
        number = self._row_number(row)
        for end, entry in zip(self._ends, self._entries, strict=True):
            if number < end:
                return entry.name
        return "?"

    def _fail(self, row: int, error: BaseException) -> None:
        if self.table.tags[row]:
            return
        _advise(error)
        text = "".join(traceback.format_exception(error)).rstrip()
        try:
            self.table.places[row] = self._put_error(error, text)
        except MemoryError:
            # No room even for the error: 0 says so.
            self.table.places[row] = 0
        self.table.tags[row] = t.ERROR

    def _put_error(self, error: BaseException, text: str) -> int:
        try:
            # The traceback would keep the row's arguments alive; its text travels instead.
            plain = error.with_traceback(None)
            plain.__context__ = None
            # Does it survive the journey?
            data, buffers = codec.encode_result(plain)
            pickle.loads(data, buffers=buffers)  # it was pickled here
            return self._arena.put((plain, text))
        except MemoryError:
            raise
        except Exception:  # many exceptions do not pickle, or not back
            return self._arena.put((RemoteError.of(type(error).__qualname__, _said(error)), text))

    def close(self) -> None:
        """Drop everything that refers to the call's arguments."""
        self._entries.clear()
        self._log = self._unreadable = None


def _said(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:  # a __str__ may raise anything
        return "its __str__ fails"


def _advise(error: BaseException) -> None:
    """Say what to do about numpy's message, which does not know why the array is read-only."""
    if isinstance(error, ValueError) and "read-only" in _said(error):
        error.add_note(
            "XME: a plain array that is an argument of all rows is read-only in the workers, who share its memory. "
            "array.copy() gives a row one of its own; XME.xmem_array(array), passed instead, is shared and writable by "
            "all; XME.Array(array) gives each row its own part."
        )


_INT64 = 1 << 63


class _RowFailed(Exception):  # not an error of anybody's: it tells the loop where to go on
    def __init__(self, row: int) -> None:
        super().__init__(row)
        self.row = row


class _Entry:
    """One entry of a call: its function and how the arguments of its rows are made."""

    def __init__(self, payload: EntryPayload, mappings: Mappings) -> None:
        self._payload = payload
        self._mappings = mappings
        self._common: dict[Any, Any] | None = None
        self._count = 0
        self.rows = payload.rows
        self.name = payload.name
        self.injects = payload.injects
        self.keywords: dict[str, Any] = {}
        self.function: Any = None
        self._readers = {key: reader_of(column, mappings) for key, column in payload.columns.items()}
        # One split positional argument and nothing else.
        self.is_simple = list(payload.columns) == [0] and not payload.injects and self._loaded() == ({}, 1)
        self.simple: Any = self._readers.get(0)

    def _loaded(self) -> tuple[dict[Any, Any], int]:
        if self._common is None:
            common = self._payload.common
            plain = type(common) is tuple
            self._common, self._count = common if plain else self._mappings.load(common)
            self.keywords = {key: value for key, value in self._common.items() if isinstance(key, str)}
        return self._common, self._count

    def find(self) -> Any:
        """Return the function, made when this worker first runs it."""
        digest = self._payload.digest
        if digest in _functions:
            _functions[digest] = found = _functions.pop(digest)
        else:
            pickled = Pickled(self._payload.data, self._payload.buffers)
            found = _put_on_shelf(digest, pickled, self._mappings) if digest else self._made(pickled)
        self.function = found[0]
        return self.function

    def _made(self, pickled: Pickled) -> tuple[Any, Mappings]:
        return self._mappings.load(pickled), self._mappings

    def argument_rows(self, first: int, end: int) -> tuple[Any, dict[str, Any]]:
        """Return (an iterator of positional argument tuples, iterators of the split keywords)."""
        common, count = self._loaded()
        columns = {key: rows_of(reader, first, end) for key, reader in self._readers.items()}
        positional, keywords = arguments(count, common, columns)
        return (zip(*positional, strict=False) if positional else repeat(())), keywords
