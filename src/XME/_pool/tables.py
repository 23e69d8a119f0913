"""The tables of running calls on the board: put there, closed, taken off.

A slot's call id is stored last and cleared first, and it is cleared under the board's mutex, so that nobody is between
reading the id and claiming. A worker that is stopped while it has the mutex is killed: it must not hold up a time limit
or the end of a call, and it loses nothing there, for it has not begun a row.
"""

from __future__ import annotations

from typing import Any

from XME._pool import board as b
from XME._pool import table as t
from XME._pool.calls import Part, RunningCall
from XME._pool.crew import Crew
from XME._pool.payload import Sent
from XME._pool.warm import WarmSegments

# Slots that only a running call may take, for rows that a death gave back.
_RESERVED_SLOTS = 8
# How long to wait for the board's mutex before who keeps it is killed.
_MUTEX_S = 0.25


class Tables:
    """The board's table slots; used under the dispatcher's lock."""

    def __init__(self, crew: Crew, warm: WarmSegments) -> None:
        self._crew = crew
        self._board = crew.board
        self._warm = warm
        # A set: a slot that is given back a second time, after a Ctrl-C in the middle of the first, is still one.
        self._free_slots = set(range(b.TABLES))

    def have_room(self) -> bool:
        """True if there is a slot for a new call."""
        return len(self._free_slots) > _RESERVED_SLOTS

    # -- put there -------------------------------------------------------------------------------------------------

    def publish(self, call: RunningCall, rows: int, row_map: list[int] | None, sent: Sent | None) -> None:
        """Fill a slot of the board; its call id is stored last, and makes it visible."""
        board = self._board
        nbytes = t.table_bytes(rows, rows, mapped=row_map is not None)
        payload = b"" if sent is None else sent.data
        slot = self._free_slots.pop()
        memory = None
        try:
            if nbytes + len(payload) > b.SMALL_TABLE_BYTES:
                memory = self._warm.blank(nbytes + len(payload))
                data, base, serial = memory.data, 0, memory.serial
            else:
                data, serial = board.small_table(slot), 0
                base = board.layout.tables_at + slot * b.SMALL_TABLE_BYTES
                data[:nbytes] = bytes(nbytes)
            if sent is not None:
                data[nbytes : nbytes + len(payload)] = payload
                call.payload = (serial, base + nbytes, len(payload))
            call_id = self._write_head(call, slot, rows, serial, mapped=row_map is not None)
            part = Part(t.Table(call_id, slot, board.head(slot), data), memory, row_map)
            if row_map is not None and part.table.row_map is not None:
                for k, row in enumerate(row_map):
                    part.table.row_map[k] = row
        except BaseException:
            self._free_slots.add(slot)
            if memory is not None:
                memory.unlink()
            raise
        call.parts.append(part)
        call.ids = range(call.ids.start or call_id, call_id + 1)
        board.ids[slot] = call_id

    def _write_head(self, call: RunningCall, slot: int, rows: int, serial: int, *, mapped: bool) -> int:
        words = self._board.words
        call_id = words[b.W_LAST_CALL] + 1
        words[b.W_LAST_CALL] = call_id
        head = self._board.head(slot)
        head[t.H_ROWS] = head[t.H_CLAIMS] = rows
        head[t.H_SEGMENT] = serial
        head[t.H_PAYLOAD], head[t.H_PAYLOAD_AT], head[t.H_PAYLOAD_BYTES] = call.payload
        head[t.H_FLAGS] = call.flags | (t.MAPPED if mapped else 0)
        head[t.H_WAITER] = call.waiter
        return int(call_id)

    def place_waiting(self, call: RunningCall) -> None:
        """Make a further table of the rows that deaths gave back; if there is no slot, a later look does it."""
        complete = [part for part in call.parts[1:] if 0 not in bytes(part.table.tags)]
        if complete and self._board.mutex.acquire(_MUTEX_S):
            try:
                self._clear(complete)
            finally:
                self._board.mutex.release()
            for part in complete:
                call.keep(part, self._crew.arenas.take)
                self._let_go(part)
        rows = list(call.waiting)
        if not rows or not self._free_slots:
            return
        try:
            self.publish(call, len(rows), rows, None)
        except (MemoryError, OSError) as error:
            reason = error
            call.fail(rows, lambda _row: reason)
        else:
            call.placed(rows)

    # -- closed ----------------------------------------------------------------------------------------------------

    def close(self, call: RunningCall) -> None:
        """Claim all that nobody has claimed; nothing of the call begins after that, but what is claimed already."""
        mutex = self._board.mutex
        while not mutex.acquire(_MUTEX_S):
            self._crew.kill_mutex_holder()
        try:
            for part in call.parts:
                cursor, place = part.table.cursor()
                if cursor < part.table.rows:
                    part.table.claim(place, part.table.rows, t.PARENT)
        finally:
            mutex.release()

    def cancel(self, call: RunningCall, row: int) -> bool:
        """Cancel a row that nobody has claimed; True means that it never starts."""
        table = call.parts[0].table
        if table.tags[row] or table.is_claimed(row):
            return False
        mutex = self._board.mutex
        while not mutex.acquire(_MUTEX_S):
            self._crew.kill_mutex_holder()
        try:
            return table.cancel(row)
        finally:
            mutex.release()

    # -- taken off -------------------------------------------------------------------------------------------------

    def take_off(self, call: RunningCall) -> None:
        """Take a call's tables off the board, and free their slots."""
        mutex = self._board.mutex
        while not mutex.acquire(_MUTEX_S):
            self._crew.kill_mutex_holder()
        try:
            self._clear(call.parts)
        finally:
            mutex.release()
        while call.parts:
            part = call.parts[-1]
            part.table.release()
            self._let_go(part)
            call.parts.pop()

    def _clear(self, parts: list[Part]) -> None:
        ids = self._board.ids
        for part in parts:
            if ids[part.table.slot] == part.table.call:
                ids[part.table.slot] = 0

    def _let_go(self, part: Part) -> None:
        self._free_slots.add(part.table.slot)
        if part.memory is not None:
            part.memory.unlink()
            part.memory.close()


def unread_places(call: RunningCall) -> list[Any]:
    """Return where the results lie that nobody has taken."""
    return [
        part.table.places[k]
        for part in call.parts
        for k, tag in enumerate(bytes(part.table.tags))
        if tag in (t.OBJECT, t.ERROR) and part.table.places[k]
    ]
