"""The tables of running calls on the board: put there, closed, taken off.

A slot's call id is stored last and cleared first, and it is cleared under the board's mutex, so that nobody is between
reading the id and claiming. A worker that is stopped while it has the mutex is killed: it must not hold up a time limit
or the end of a call, and it loses nothing there, for it has not begun a row.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import starmap
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
        self._free_slots = set(range(b.TABLES))

    def have_room(self) -> bool:
        """True if there is a slot for a new call."""
        return len(self._free_slots) > _RESERVED_SLOTS

    def show(self, call: RunningCall) -> bool:
        """True if a table of a call is on the board, for workers to claim."""
        return any(self._board.ids[part.table.slot] == part.table.call for part in call.parts)

    # -- put there -------------------------------------------------------------------------------------------------

    def publish(self, call: RunningCall, rows: int, row_map: list[int] | None, sent: Sent | None) -> None:
        """Fill a slot of the board; its call id is stored last, and makes it visible."""
        board = self._board
        nbytes = t.table_bytes(rows, rows, mapped=row_map is not None)
        payload = b"" if sent is None else sent.data
        memory = None
        slots: list[int] = []
        try:
            # In one call of C code, as when it is given back: a Ctrl-C must not strike with the slot in nobody's hands.
            slots.extend(starmap(self._free_slots.pop, [()]))
            slot = slots[0]
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
            part = Part(t.Table(call_id, slot, board.head(slot), data), memory, row_map, slots)
            if row_map is not None and part.table.row_map is not None:
                for k, row in enumerate(row_map):
                    part.table.row_map[k] = row
            call.parts.append(part)
        except BaseException:
            self._give_back(slots)
            if memory is not None:
                memory.unlink()
            raise
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
        if complete and self._under_mutex(lambda: self._clear(complete), kill=False):
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
        self._under_mutex(lambda: _claim_all(call.parts))

    def cancel(self, call: RunningCall, row: int) -> bool:
        """Cancel a row that nobody has claimed; True means that it never starts."""
        table = call.parts[0].table
        if table.tags[row] or table.is_claimed(row):
            return False
        return self._under_mutex(lambda: table.cancel(row))

    # -- taken off -------------------------------------------------------------------------------------------------

    def take_off(self, call: RunningCall) -> None:
        """Take a call's tables off the board, and free their slots."""
        self._under_mutex(lambda: self._clear(call.parts))
        leaving = call.leaving
        leaving.extend(part for part in call.parts if part not in leaving)
        # Before any of it goes: after a Ctrl-C in here the call is ended once more, and must not look into them.
        call.parts.clear()
        while leaving:
            leaving[-1].table.release()
            self._let_go(leaving[-1])
            leaving.pop()

    def _under_mutex(self, do: Callable[[], bool], *, kill: bool = True) -> bool:
        """Do something under the board's mutex; False if it is not to be had now and nobody is to be killed for it."""
        mutex = self._board.mutex
        depth = mutex.depth
        # No `finally`, and nothing before `try`: a Ctrl-C may strike between taking the mutex and any next step.
        try:
            # See Dispatcher._await_slot.
            while True:
                if mutex.acquire(_MUTEX_S):
                    break
                if not kill:
                    return False
                self._crew.kill_mutex_holder()
            done = do()
            mutex.release()
            return done
        except BaseException:
            while mutex.depth > depth:
                mutex.release()
            raise

    def _clear(self, parts: list[Part]) -> bool:
        ids = self._board.ids
        for part in parts:
            if ids[part.table.slot] == part.table.call:
                ids[part.table.slot] = 0
        return True

    def _give_back(self, slots: list[int]) -> None:
        # In one call of C code: given back twice, after a Ctrl-C, it might be another call's by then.
        self._free_slots.update(map(slots.pop, [0] * len(slots)))

    def _let_go(self, part: Part) -> None:
        self._give_back(part.slots)
        if part.memory is not None:
            part.memory.unlink()
            part.memory.close()


def _claim_all(parts: list[Part]) -> bool:
    for part in parts:
        cursor, place = part.table.cursor()
        if cursor < part.table.rows:
            part.table.claim(place, part.table.rows, t.PARENT)
    return True


def unread_places(call: RunningCall) -> list[Any]:
    """Return where the results lie that nobody has taken."""
    return [
        part.table.places[k]
        for part in call.parts
        for k, tag in enumerate(bytes(part.table.tags))
        if tag in (t.OBJECT, t.ERROR) and part.table.places[k]
    ]
