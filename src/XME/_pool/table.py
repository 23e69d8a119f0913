"""One execution table: rows, who has claimed them, and what became of each.

The head (8 words, on the board) says where the rest lies and how it is claimed::

    0 rows                        1 room for so many claims
    2 segment (serial number) with this table, 0: the slot's own area on the board
    3 segment with the payload (serial number), 0: the board's own
    4 payload offset there        5 payload bytes
    6 rows a claim at most (32 bits; 0: as many as is good) | generation that a worker needs << 32 (16 bits)
      | post after every claim << 48 | rows are mapped << 49
    7 the waiter's semaphore (serial number)

The table itself::

    claims    one word a claim, appended: end of the claimed rows (40 bits) | the worker's serial number (24 bits)
    values    one word a row: an int64, a float64, or where its result lies (see outcome.py)
    map       one word a row, if rows are mapped: the row of the payload that it stands for
    tags      one byte a row: 0 not done, else its outcome; stored after the value, and only once
    payload   functions and arguments (see payload.py)

A claim is one store and so is an outcome. Claims are made under the board's mutex; the cursor is the end of the last
claim. Rows of a claim run in order, so of a dead worker's rows only the first without a tag may have begun.
Cancelling stores a tag, under the mutex, if no claim covers the row. Posts are hints.
"""

from __future__ import annotations

from XME._pool.board import SERIAL_BITS

H_ROWS, H_CLAIMS, H_SEGMENT, H_PAYLOAD, H_PAYLOAD_AT, H_PAYLOAD_BYTES, H_FLAGS, H_WAITER = range(8)

POST_EACH = 1 << 48
MAPPED = 1 << 49
_WORKER = (1 << SERIAL_BITS) - 1

# Claims by the parent: it has closed the table.
PARENT = _WORKER

# LOST: the parent itself keeps the outcome (the worker died, the call timed out, a later table has the row).
PENDING, INT, FLOAT, NONE, TRUE, FALSE, OBJECT, ERROR, CANCELLED, LOST = range(10)


def table_bytes(rows: int, claims: int, *, mapped: bool) -> int:
    """Return how many bytes a table takes without its payload."""
    return -(-(8 * claims + (16 if mapped else 8) * rows + rows) // 16) * 16


class Table:
    """The memory of one table, for whoever works on it.

    Attributes:
        values: int64 view of the rows' values; `floats` and `places` are the same bytes as float64 and uint64.
        tags: one byte a row.
        tail: where the claims that have been read end; a hint.
        row_map: for each row the payload's row that it stands for, or None.
    """

    __slots__ = ("_buffer", "call", "claims", "floats", "places", "row_map", "rows", "slot", "tags", "tail", "values")

    def __init__(self, call: int, slot: int, head: memoryview, memory: memoryview) -> None:
        rows, claims = head[H_ROWS], head[H_CLAIMS]
        mapped = bool(head[H_FLAGS] & MAPPED)
        self.call = call
        self.slot = slot
        self.rows = rows
        self._buffer = memory
        self.claims = memory[: 8 * claims].cast("Q")
        values = memory[8 * claims : 8 * (claims + rows)]
        self.values = values.cast("q")
        self.floats = values.cast("d")
        self.places = values.cast("Q")
        tags_at = 8 * (claims + rows)
        self.row_map = None
        if mapped:
            self.row_map = memory[tags_at : tags_at + 8 * rows].cast("Q")
            tags_at += 8 * rows
        self.tags = memory[tags_at : tags_at + rows]
        self.tail = 0

    def cursor(self) -> tuple[int, int]:
        """Return (the first row that nobody has claimed, the place of the next claim)."""
        claims = self.claims
        tail = self.tail
        room = len(claims)
        while tail < room and claims[tail]:
            tail += 1
        # Other threads may store a smaller number here; it only says where to begin to look.
        self.tail = tail
        return (claims[tail - 1] >> SERIAL_BITS if tail else 0), tail

    def claim(self, place: int, end: int, worker: int) -> None:
        """Claim the rows from the cursor to `end` by one store; under the mutex, at the place `cursor` returned."""
        self.claims[place] = end << SERIAL_BITS | worker

    def claims_of(self, worker: int) -> list[range]:
        """Return the rows of a worker's claims, oldest first."""
        found = []
        first = 0
        for word in self.claims.tolist():
            if not word:
                break
            end = word >> SERIAL_BITS
            if word & _WORKER == worker:
                found.append(range(first, end))
            first = end
        return found

    def undone(self, rows: range) -> list[int]:
        """Return those of a range of rows that have no outcome."""
        tags = bytes(self.tags[rows.start : rows.stop])
        if 0 not in tags:
            return []
        return [rows.start + k for k, tag in enumerate(tags) if not tag]

    def is_claimed(self, row: int) -> bool:
        """True if a claim covers the row."""
        return row < self.cursor()[0]

    def cancel(self, row: int) -> bool:
        """Cancel a row that nobody has claimed, under the mutex; True means that it never starts."""
        if self.tags[row] or self.is_claimed(row):
            return False
        self.tags[row] = CANCELLED
        return True

    def release(self) -> None:
        """Let go of the memory."""
        for view in (self.claims, self.values, self.floats, self.places, self.row_map, self.tags, self._buffer):
            if view is not None:
                view.release()


def generation_needed(head: memoryview) -> int:
    """Return which generation of workers may claim rows of a table."""
    return int(head[H_FLAGS] >> 32 & 0xFFFF)


def claim_limit(head: memoryview) -> int:
    """Return how many rows a claim may have at most, 0 for as many as is good."""
    return int(head[H_FLAGS] & 0xFFFFFFFF)
