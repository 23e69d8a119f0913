"""One call, as the caller sees it: its tables, its outcomes, what deaths and time limits do to it.

A call begins as one table. When a worker dies, the rows that it had claimed and not run are given back: they become a
further table of the same payload, whose rows are mapped to the call's. So a table is only ever claimed from its top to
its bottom, and a row is in one open table at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from XME._core import memory, segment
from XME._pool import table as t
from XME._pool.crew import Death
from XME.errors import WorkerDied, WorkerTraceback


@dataclass(slots=True, eq=False)
class Part:
    """A table of a call: its slot on the board, its segment if it has one, and the call's rows that it stands for."""

    table: t.Table
    memory: segment.Segment | None
    rows: list[int] | None

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
        attempts: how often a row was begun by a worker that then died.
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
    ids: range = range(0)
    lost: dict[int, Failure] = field(default_factory=dict)
    attempts: dict[int, int] = field(default_factory=dict)
    cancelled: bool = False

    def done(self) -> bool:
        """True if every row has an outcome."""
        return not any(0 in bytes(part.table.tags) for part in self.parts)

    def done_count(self) -> int:
        """Return how many rows have an outcome."""
        tags = [bytes(part.table.tags) for part in self.parts]
        given_back = sum(found.count(t.LOST) for found in tags) - len(self.lost)
        return sum(len(found) - found.count(0) for found in tags) - given_back

    def claimable(self) -> int:
        """Return how many rows nobody has claimed yet."""
        return sum(part.table.rows - part.table.cursor()[0] for part in self.parts)

    # -- deaths ----------------------------------------------------------------------------------------------------

    def bury(self, death: Death) -> list[int]:
        """Settle the rows of a worker that is proved dead; returns the call's rows that are to be run again."""
        again = []
        for part in self.parts:
            for claimed in part.table.claims_of(death.serial):
                undone = part.table.undone(claimed)
                if undone:
                    again += self._settle(part, undone, death)
        return again

    def _settle(self, part: Part, undone: list[int], death: Death) -> list[int]:
        # Rows of a claim run in order: only the first may have begun.
        first = part.row_of(undone[0])
        self.attempts[first] = self.attempts.get(first, 0) + 1
        again = [part.row_of(k) for k in undone[1:]]
        if self.attempts[first] > self.retries:
            self.lost[first] = Failure(WorkerDied.of(self.name(first), first, death.pid, death.exitcode))
        else:
            again.insert(0, first)
        for k in undone:
            part.table.tags[k] = t.LOST
        return again

    def give_up(self, error: Callable[[int], BaseException]) -> None:
        """Give every row without an outcome this one; no worker may be left that could store another."""
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
        first = _read(self.parts[0].table, take) if self.parts else []
        for part in self.parts[1:]:
            for k, outcome in enumerate(_read(part.table, take)):
                if outcome is not _MOVED:
                    first[part.row_of(k)] = outcome
        for row, failure in self.lost.items():
            first[row] = failure
        return first

    def ready(self, first: int, take: Callable[[int], Any]) -> list[Any]:
        """Return the outcomes of the rows from `first` up to the first that has none yet."""
        tags = bytes(self.parts[0].table.tags[first:])
        end = tags.find(0)
        found = _read(self.parts[0].table, take, first, first + (len(tags) if end < 0 else end))
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
        for part in reversed(self.parts):
            k = row if part.rows is None else _find(part.rows, row)
            if k is not None and part.table.tags[k] != t.LOST:
                return _read_row(part.table, k, take) if part.table.tags[k] else PENDING
        return PENDING

    def tag(self, row: int) -> int:
        """Return the tag of a row of the first table."""
        return self.parts[0].table.tags[row]


PENDING = object()
_MOVED = object()


def _find(rows: list[int], row: int) -> int | None:
    try:
        return rows.index(row)
    except ValueError:
        return None


def _read(table: t.Table, take: Callable[[int], Any], first: int = 0, end: int | None = None) -> list[Any]:
    """Return the outcomes of a table's rows; the common case of one type throughout is read in one go."""
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
    return [_read_row(table, k, take) for k in range(first, end)]


def _read_row(table: t.Table, k: int, take: Callable[[int], Any]) -> Any:
    tag = table.tags[k]
    if tag == t.INT:
        return table.values[k]
    if tag == t.FLOAT:
        return table.floats[k]
    if tag == t.OBJECT:
        return _taken(take, table.places[k])
    if tag == t.ERROR:
        return _failure(take, table.places[k])
    return _CONSTANTS[tag]


_CONSTANTS = {t.NONE: None, t.TRUE: True, t.FALSE: False, t.LOST: _MOVED, t.CANCELLED: _MOVED, t.PENDING: _MOVED}


def _taken(take: Callable[[int], Any], place: int) -> Any:
    try:
        return take(place)
    except MemoryError:
        raise
    except Exception as error:  # noqa: BLE001 - what a result unpickles to is the user's; it may raise anything here
        return Failure(error)


def _failure(take: Callable[[int], Any], place: int) -> Failure:
    if place == 0:
        return Failure(memory.full(0))
    outcome = _taken(take, place)
    if isinstance(outcome, Failure):
        return outcome
    error, text = outcome
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
