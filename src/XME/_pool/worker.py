"""A worker process: finds tables on the board, claims rows, runs them, lets go.

It joins the program's domain, watches the process that started it (and ends when that does, after sweeping if it is the
last one out), and sleeps on the crew's wake semaphore. A post is a hint: it looks again every slice.
"""

from __future__ import annotations

import contextlib
import io
import os
import pickle
import sys
import time
import traceback
from typing import Any, NamedTuple

from XME._core import program, segment
from XME._core.participant import Identity
from XME._pool import board as b
from XME._pool import inherited, parent_watch, table
from XME._pool.arena import Arena
from XME._pool.arguments import Mappings
from XME._pool.cores import affine_cores
from XME._pool.interrupts import ignore_interrupts
from XME._pool.runner import Call
from XME.errors import BadSegment, ContainerGone, DomainEnded, DomainFull

# How long an idle worker sleeps before it looks again, should a post have been lost.
_IDLE_S = 0.2
# A claim should take about this long: long enough that its cost does not show, short enough to balance the end.
_CLAIM_S = 0.004
# A claim is at most so many times as large as the one before: the first rows may be the cheap ones.
_GROWTH = 8
# How long a worker that has just run something looks for more before it sleeps: as long as a caller takes from one
# short call to the next.
_SPIN_S = 200e-6


class Setup(NamedTuple):
    """What a worker is started with."""

    domain_id: str
    serials: tuple[int, int, int]
    workers: int
    slot: int
    serial: int
    generation: int
    parent: Identity
    cores: int
    initializer: bytes | None
    max_rows: int | None
    inherited: dict[int, Any]


def main(setup: Setup) -> None:
    """Serve until told to stop; the target of a worker process."""
    # Ctrl-C goes to every process of the terminal; what becomes of a call is its parent's decision.
    ignore_interrupts()
    _print_whole_lines()
    parent_watch.start(setup.parent, setup.domain_id)
    inherited.cores = setup.cores
    inherited.given.update(setup.inherited)
    try:
        domain = program.join(setup.domain_id)
        board = b.attach(domain, setup.serials, setup.workers)
    except (DomainEnded, ContainerGone):
        # The crew was shut down before this worker had begun.
        return
    except DomainFull as error:
        with contextlib.suppress(DomainEnded, ContainerGone):
            b.note_refusal(setup.domain_id, setup.serials, setup.workers, setup.slot, str(error))
        sys.exit(1)
    worker = Worker(setup, board)
    worker.introduce()
    if setup.initializer is not None:
        _initialize(setup.initializer, board, setup.slot)
    with contextlib.suppress(DomainEnded):
        worker.serve()


def _print_whole_lines() -> None:
    """Write what functions print line by line: a pipe's buffer would break lines, and keep them until the end."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(line_buffering=True, write_through=False)


def _initialize(data: bytes, board: b.Board, index: int) -> None:
    try:
        function, args = pickle.loads(data)  # our own parent wrote it
        function(*args)
    except BaseException:
        board.set_reason(index, f"the initializer failed: {traceback.format_exc(limit=-3)}")
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)


class Worker:
    """One worker's work."""

    def __init__(self, setup: Setup, board: b.Board) -> None:
        self._setup = setup
        self._board = board
        self._me = board.worker(setup.slot)
        self._ids = board.ids
        self._mutex = board.mutex
        self._serial = setup.serial
        # A guided claim takes this part of what is left.
        self._share = setup.workers
        self._arena = Arena(board.domain, self._me)
        self._exhausted: set[int] = set()
        self._pending: list[Mappings] = []
        self._left = setup.max_rows
        # More of them than there are cores would only take time from the caller and from each other. A successor may
        # have a slot of the second half.
        cores = affine_cores()
        self._spin_s = _SPIN_S if cores > 1 and setup.slot % (setup.workers // 2) < cores else 0.0

    def introduce(self) -> None:
        """Say who we are; the incarnation last, because it makes the rest valid."""
        me, domain = self._me, self._board.domain
        me[b.S_NUMBER] = domain.number
        me[b.S_SERIAL] = self._setup.serial
        me[b.S_INCARNATION] = domain.incarnation

    def serve(self) -> None:
        """Claim and run rows until told to stop or until there were enough."""
        me, words, wake = self._me, self._board.words, self._board.wake
        while True:
            if self._work():
                # The next call often comes at once, and falling asleep and waking up take longer than a short call.
                wake.spin(self._spin_s)
                continue
            if self._left == 0 or words[b.W_STOP] or me[b.S_END]:
                break
            self._let_go_of_pending()
            before = time.perf_counter_ns()
            wake.wait(_IDLE_S)
            me[b.S_WAITING] += time.perf_counter_ns() - before
        me[b.S_RETIRED] = 1

    def _work(self) -> bool:
        """Serve every table that has rows to claim; True if there was one."""
        ids = self._board.ids.tolist()
        found = sorted((call, slot) for slot, call in enumerate(ids) if call and call not in self._exhausted)
        served = False
        for call, slot in found:
            if self._left == 0:
                break
            served |= self._serve_table(call, slot)
        if len(self._exhausted) > 2 * b.TABLES:
            self._exhausted &= set(ids)
        return served

    def _serve_table(self, call: int, slot: int) -> bool:
        head = self._board.head(slot)
        opened = self._open(call, slot, head)
        if opened is None:
            self._exhausted.add(call)
            return False
        rows, memory = opened
        served = _Service(self, rows, head).run()
        if memory is not None:
            memory.close()
        if self._left != 0:
            self._exhausted.add(call)
        return served

    def _open(self, call: int, slot: int, head: memoryview) -> tuple[table.Table, segment.Segment | None] | None:
        """Map a table; None if it is gone, or meant for younger workers."""
        board = self._board
        if table.generation_needed(head) > self._setup.generation:
            return None
        serial = head[table.H_SEGMENT]
        memory = None
        try:
            if serial:
                memory = segment.attach_anew(board.domain, serial)
            data = memory.data if memory is not None else board.small_table(slot)
            found = table.Table(call, slot, head, data)
        except (ContainerGone, DomainEnded, BadSegment, ValueError):
            return None
        # The head may have been that of the slot's next table; claims look again, under the mutex.
        return (found, memory) if board.ids[slot] == call else None

    # -- what a service needs of its worker ------------------------------------------------------------------------

    def claim(self, rows: table.Table, pace: int, limit: int) -> tuple[int, int] | None:
        """Claim up to `pace` rows by one store, fewer towards the end; None if there is nothing left."""
        mutex = self._board.mutex
        mutex.acquire()
        try:
            if self._ids[rows.slot] != rows.call:
                return None
            first, place = rows.cursor()
            remaining = rows.rows - first
            if remaining <= 0:
                return None
            size = min(limit, remaining) if limit else min(pace, remaining // self._share or 1)
            if self._left is not None:
                if self._left == 0:
                    return None
                size = min(size, self._left)
                self._left -= size
            self._me[b.S_CALL] = rows.call
            rows.claims[place] = first + size << b.SERIAL_BITS | self._serial
        finally:
            mutex.release()
        return first, first + size

    @property
    def has_no_quota(self) -> bool:
        """True if this worker may run any number of rows."""
        return self._left is None

    def claim_one(self, rows: table.Table) -> int:
        """Claim the next row alone; -1 if there is none. It is what `claim` does, without what one row never needs."""
        claims = rows.claims
        tail = rows.tail
        end = rows.rows
        mutex = self._mutex
        mutex.acquire()
        try:
            while tail < end and claims[tail]:
                tail += 1
            first: int = claims[tail - 1] >> b.SERIAL_BITS if tail else 0
            if first >= end or self._ids[rows.slot] != rows.call:
                return -1
            claims[tail] = first + 1 << b.SERIAL_BITS | self._serial
        finally:
            mutex.release()
        rows.tail = tail + 1
        return first

    def begin(self, rows: table.Table, head: memoryview) -> Call:
        """Read the payload of a call that this worker has a claim of."""
        board = self._board
        serial, offset, nbytes = head[table.H_PAYLOAD], head[table.H_PAYLOAD_AT], head[table.H_PAYLOAD_BYTES]
        mappings = Mappings(board.domain, rows.call)
        if not serial:
            payload = bytes(board.segment.data[offset : offset + nbytes])
        else:
            memory = segment.attach_anew(board.domain, serial)
            payload = bytes(memory.data[offset : offset + nbytes])
            memory.close()
        try:
            cancellable = bool(head[table.H_FLAGS] & table.POST_EACH)
            return Call(rows, payload, mappings, self._arena, cancellable=cancellable)
        except BaseException as error:  # what is unpickled may raise anything; the rows then fail with it
            return Call.unreadable(rows, mappings, self._arena, error)

    def count(self, rows: int, claims: int, nanoseconds: int) -> None:
        """Add to the statistics."""
        me = self._me
        me[b.S_ROWS] += rows
        me[b.S_CLAIMS] += claims
        me[b.S_WORKING] += nanoseconds
        me[b.S_SHARED] = self._arena.shared
        me[b.S_PICKLED] = self._arena.pickled

    def post(self, head: memoryview) -> None:
        """Wake whoever waits for this table."""
        try:
            self._board.waiter(head[table.H_WAITER]).release()
        except ContainerGone:
            self._board.forget_waiter(head[table.H_WAITER])

    def finish(self, mappings: Mappings) -> None:
        """Let go of a call's arguments, or note that something still refers to them."""
        if not mappings.let_go():
            self._pending.append(mappings)
            self._note_pending()
        self._me[b.S_CALL] = 0

    def _let_go_of_pending(self) -> None:
        if self._pending:
            self._pending = [mappings for mappings in self._pending if not mappings.let_go()]
            self._note_pending()

    def _note_pending(self) -> None:
        calls = [mappings.call for mappings in self._pending]
        # Widened before it is narrowed: at no instant is a call outside that should be inside.
        self._me[b.S_DIRTY_HIGH] = max(calls, default=0)
        self._me[b.S_DIRTY_LOW] = min(calls, default=0)


class _Service:
    """A worker's work on one table: claims until nothing is left."""

    def __init__(self, worker: Worker, rows: table.Table, head: memoryview) -> None:
        self._worker = worker
        self._table = rows
        self._head = head
        self._limit = table.claim_limit(head)
        self._post_each = bool(head[table.H_FLAGS] & table.POST_EACH)

    def run(self) -> bool:
        """Serve the table; True if at least one row was claimed."""
        worker, rows = self._worker, self._table
        claim = worker.claim(rows, 1, self._limit)
        if claim is None:
            rows.release()
            return False
        call = worker.begin(rows, self._head)
        if self._post_each or not self._limit:
            self._run_paced(call, claim)
        else:
            self._run_limited(call, claim)
        call.close()
        mappings = call.mappings
        del call
        worker.finish(mappings)
        rows.release()
        return True

    def _run_paced(self, call: Call, claim: tuple[int, int] | None) -> None:
        """Claim as much as takes a good while, but never more than a share of what is left."""
        worker, rows = self._worker, self._table
        posted = False
        pace = 1
        while claim is not None:
            first, end = claim
            before = time.perf_counter_ns()
            call.run(first, end)
            elapsed = time.perf_counter_ns() - before
            worker.count(end - first, 1, elapsed)
            pace = max(1, min(int(_CLAIM_S * 1e9 * (end - first) / max(1, elapsed)), _GROWTH * pace))
            posted = self._post_each or end >= rows.rows
            if posted:
                worker.post(self._head)
            call.mappings.drop_private()
            claim = worker.claim(rows, pace, self._limit) if end < rows.rows else None
        if not posted:
            worker.post(self._head)

    def _run_limited(self, call: Call, claim: tuple[int, int] | None) -> None:
        """Claim as many rows as the caller allows: the loop that one task a claim costs."""
        worker, rows, limit, mappings = self._worker, self._table, self._limit, call.mappings
        counted = claims = 0
        before = time.perf_counter_ns()
        run_one = call.one_by_one()
        take = worker.claim_one if limit == 1 and worker.has_no_quota else None
        while claim is not None:
            first, end = claim
            for row in range(first, end):
                run_one(row)
            claims += 1
            counted += end - first
            if mappings.has_private:
                mappings.drop_private()
            if take is not None:
                claims += self._run_singles(take, run_one, mappings)
                counted += claims - 1
                break
            claim = worker.claim(rows, 1, limit)
        worker.count(counted, claims, time.perf_counter_ns() - before)
        worker.post(self._head)

    def _run_singles(self, take: Any, run_one: Any, mappings: Any) -> int:
        rows = self._table
        count = 0
        while (row := take(rows)) >= 0:
            run_one(row)
            count += 1
            if mappings.has_private:
                mappings.drop_private()
        return count
