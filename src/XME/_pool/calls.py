"""One call, as the caller sees it: its tables, its outcomes, what deaths and time limits do to it.

A call begins as one table. When a worker dies, the rows that it had claimed and not run are given back: they become a
further table of the same payload, whose rows are mapped to the call's. So a table is only ever claimed from its top to
its bottom, and a row is in one open table at a time. Between the two it is in `waiting`. A further table whose rows all
have an outcome is taken off the board, because there may be as many as deaths and the board has room for few.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from XME._core import memory, segment
from XME._pool import table as t
from XME._pool.crew import Death
from XME.errors import UnshareableResult, WorkerDied, WorkerTraceback


@dataclass(slots=True, eq=False)
class Part:
    """A table of a call: its slot on the board, its segment if it has one, and the call's rows that it stands for."""

    table: t.Table
    memory: segment.Segment | None
    rows: list[int] | None
    # Its slot, until that is given back.
    slots: list[int]

    def row_of(self, k: int) -> int:
        """Return the call's row for a row of this table."""
        return k if self.rows is None else self.rows[k]


@dataclass(frozen=True, slots=True)
class Failure:
    """An outcome that is not a result."""

    error: BaseException


@dataclass(eq=False)
class RunningCall:
    """A call between its beginning and its end.

    Attributes:
        ids: the call ids of its tables, from the first one's to the last one's (there may be others' between).
        lost: outcomes that no worker has stored: row -> Failure.
        kept: outcomes of further tables that are off the board: row -> result or Failure.
        waiting: rows that a death gave back and that are in no table yet.
        moves: counts the beginnings and ends of such a move; who reads without the lock looks whether one came between.
        attempts: how often a row was begun by a worker that then died.
        given_up: why nobody is there to run the rest; the same exception is the outcome of each row of that.
        owner: the thread that waits for it in `execute`, and will take it off the board; 0: nobody.
        cancelled: nothing more of it is to begin; `collected`: its results were taken; `finished`: it is off the board.
    """

    count: int
    name: Callable[[int], str]
    retries: int
    waiter: int
    payload: tuple[int, int, int]
    flags: int
    segments: list[segment.Segment]
    # What its functions and arguments need alive: functions' own segments, locks that new workers are given.
    keeps: list[Any]
    parts: list[Part] = field(default_factory=list)
    # Parts whose memory is being let go.
    leaving: list[Part] = field(default_factory=list)
    ids: range = range(0)
    lost: dict[int, Failure] = field(default_factory=dict)
    kept: dict[int, Any] = field(default_factory=dict)
    waiting: list[int] = field(default_factory=list)
    moves: int = 0
    attempts: dict[int, int] = field(default_factory=dict)
    given_up: BaseException | None = None
    owner: int = 0
    cancelled: bool = False
    collected: bool = False
    finished: bool = False

    def done(self) -> bool:
        """True if every row has an outcome; needs no lock."""
        moves = self.moves
        pending = any(0 in bytes(part.table.tags) for part in self.parts) or self.waiting
        return not pending and moves == self.moves

    def done_count(self) -> int:
        """Return how many rows have an outcome."""
        return self.count - sum(bytes(part.table.tags).count(0) for part in self.parts) - len(self.waiting)

    def claimable(self) -> int:
        """Return how many rows nobody has claimed yet."""
        return sum(part.table.rows - part.table.cursor()[0] for part in self.parts)

    # -- deaths ----------------------------------------------------------------------------------------------------

    def bury(self, death: Death) -> None:
        """Settle the rows of a worker that is proved dead; those that are to be run again wait for a table."""
        for part in self.parts:
            for claimed in part.table.claims_of(death.serial):
                undone = part.table.undone(claimed)
                if undone:
                    self._settle(part, undone, death)

    def _settle(self, part: Part, undone: list[int], death: Death) -> None:
        self.moves += 1
        rows = [part.row_of(k) for k in undone]
        # Rows of a claim run in order: only the first may have begun.
        first = rows[0]
        if death.began:
            self.attempts[first] = self.attempts.get(first, 0) + 1
        if self.attempts.get(first, 0) > self.retries:
            self.lost[first] = Failure(WorkerDied.of(self.name(first), first, death.pid, death.exitcode))
            rows = rows[1:]
        self.waiting += rows
        for k in undone:
            part.table.tags[k] = t.LOST

    def placed(self, rows: list[int]) -> None:
        """Note that rows that waited have an outcome now, or a table of their own."""
        self.waiting = [row for row in self.waiting if row not in set(rows)] if rows != self.waiting else []
        self.moves += 1

    def fail(self, rows: list[int], error: Callable[[int], BaseException]) -> None:
        """Give rows that wait for a table an error instead."""
        self.lost.update({row: Failure(error(row)) for row in rows})
        self.placed(rows)

    def keep(self, part: Part, take: Callable[[int], Any]) -> None:
        """Read the outcomes of a further table that is complete; it is not needed any more."""
        for k, outcome in enumerate(_read(part, take, self.name)):
            if outcome is not _MOVED:
                self.kept[part.row_of(k)] = outcome
        self.moves += 1
        self.parts.remove(part)

    def give_up(self, error: Callable[[int], BaseException]) -> None:
        """Give every row without an outcome this one; no worker may be left that could store another."""
        self.fail(list(self.waiting), error)
        for part in self.parts:
            for k in part.table.undone(range(part.table.rows)):
                row = part.row_of(k)
                self.lost[row] = Failure(error(row))
                part.table.tags[k] = t.LOST

    def unfinished_of(self, serial: int) -> bool:
        """True if a worker has claimed rows that have no outcome."""
        return any(part.table.undone(claimed) for part in self.parts for claimed in part.table.claims_of(serial))

    # -- outcomes ----------------------------------------------------------------------------------------------------

    def outcomes(self, take: Callable[[int], Any]) -> list[Any]:
        """Return the outcome of each row: its result, or a Failure.

        Args:
            take: finds a result in the arenas by its word.
        """
        first = _read(self.parts[0], take, self.name) if self.parts else []
        for part in self.parts[1:]:
            for k, outcome in enumerate(_read(part, take, self.name)):
                if outcome is not _MOVED:
                    first[part.row_of(k)] = outcome
        for row, outcome in (*self.kept.items(), *self.lost.items()):
            first[row] = outcome
        return first

    def ready(self, first: int, take: Callable[[int], Any]) -> list[Any]:
        """Return the outcomes of the rows from `first` up to the first that has none yet."""
        tags = bytes(self.parts[0].table.tags[first:])
        end = tags.find(0)
        found = _read(self.parts[0], take, self.name, first, first + (len(tags) if end < 0 else end))
        for k, outcome in enumerate(found):
            if outcome is _MOVED:
                found[k] = self.outcome(first + k, take)
                if found[k] is PENDING:
                    return found[:k]
        return found

    def outcome(self, row: int, take: Callable[[int], Any]) -> Any:
        """Return the outcome of one row of a call that is still running; PENDING if there is none yet."""
        if row in self.lost:
            return self.lost[row]
        if row in self.kept:
            return self.kept[row]
        for part in reversed(self.parts):
            k = row if part.rows is None else _find(part.rows, row)
            if k is not None and part.table.tags[k] != t.LOST:
                return _read_row(part, k, take, self.name) if part.table.tags[k] else PENDING
        return PENDING


PENDING = object()
_MOVED = object()


def _find(rows: list[int], row: int) -> int | None:
    try:
        return rows.index(row)
    except ValueError:
        return None


def _read(
    part: Part, take: Callable[[int], Any], name: Callable[[int], str], first: int = 0, end: int | None = None
) -> list[Any]:
    """Return the outcomes of a table's rows; the common case of one type throughout is read in one go."""
    table = part.table
    end = table.rows if end is None else end
    tags = bytes(table.tags[first:end])
    if not tags:
        return []
    same = tags.count(tags[0]) == len(tags)
    if same and tags[0] == t.INT:
        return table.values[first:end].tolist()
    if same and tags[0] == t.FLOAT:
        return table.floats[first:end].tolist()
    if same and tags[0] == t.NONE:
        return [None] * len(tags)
    return [_read_row(part, k, take, name) for k in range(first, end)]


def _read_row(part: Part, k: int, take: Callable[[int], Any], name: Callable[[int], str]) -> Any:
    table = part.table
    tag = table.tags[k]
    if tag == t.INT:
        return table.values[k]
    if tag == t.FLOAT:
        return table.floats[k]
    if tag == t.OBJECT:
        return _result(take, table.places[k], lambda: (name(part.row_of(k)), part.row_of(k)))
    if tag == t.ERROR:
        return _failure(take, table.places[k])
    return _CONSTANTS[tag]


_CONSTANTS = {t.NONE: None, t.TRUE: True, t.FALSE: False, t.LOST: _MOVED, t.CANCELLED: _MOVED, t.PENDING: _MOVED}


def _result(take: Callable[[int], Any], place: int, where: Callable[[], tuple[str, int]]) -> Any:
    try:
        return take(place)
    except MemoryError:
        raise
    except Exception as error:  # what a result unpickles to is the user's; it may raise anything here
        unshareable = UnshareableResult.of(*where(), f"it does not unpickle: {type(error).__name__}: {error}")
        unshareable.__cause__ = error
        return Failure(unshareable)


def _failure(take: Callable[[int], Any], place: int) -> Failure:
    if place == 0:
        return Failure(memory.full(0))
    try:
        error, text = take(place)
    except MemoryError:
        raise
    except Exception as found:  # its class may behave otherwise here than where it was tried
        return Failure(found)
    error.__cause__ = WorkerTraceback(f"\n{text}")
    return Failure(error)


def split_outcomes(outcomes: Iterable[Any]) -> tuple[dict[int, Any], dict[int, BaseException]]:
    """Return (row -> result, row -> exception)."""
    results: dict[int, Any] = {}
    failures: dict[int, BaseException] = {}
    for row, outcome in enumerate(outcomes):
        if isinstance(outcome, Failure):
            failures[row] = outcome.error
        elif outcome is not _MOVED:
            results[row] = outcome
    return results, failures
