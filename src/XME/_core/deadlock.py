"""Deadlocks: a cycle of threads, each waiting for what the next one holds.

Nodes are threads (participant, incarnation, thread), across processes and domains. A wait that lasts longer than a
slice is written down with all that its thread holds (waitboard.py), under a serial number; a thread that holds nothing
can be in no cycle and writes nothing. Then, at every slice::

    look      what I hold is still held (else: a new serial); my record's beat
    search    from my wait to who has what I want, to what those wait for ...; only along waits older than mine,
              until somebody waits for what I hold: then my wait is the youngest of a cycle
    note      the others' beats, after the whole cycle was read
    confirm   a slice later: every record is still the same wait, and every beat has changed

Why that is never a false one: each of the others has looked after the whole cycle was read, and waited from before
that until then; so at the moment between all of them waited, and held what they hold, at once. Who waits holds what it
holds until its wait ends, so none of them can be helped by another. What is no deadlock does not get there: a holder
that goes on has no record, one that died or was stopped has no beat, and one that has just been given its lock is
waited for by nobody who holds that.

The youngest wait of a cycle gets the error and the others go on. A record that cannot be written (more threads wait
than there are places, shared memory is full) means: no report. Nor is there one if what holds the others up is beyond
the some 300 locks that fit into a record.
"""

from __future__ import annotations

import os
import threading
import time
from typing import Any, Protocol

from XME._core import participant, waitboard
from XME._core.handles import handles, living
from XME._core.waitboard import Domains, Lock, Place, Record, Serial
from XME.errors import Deadlock

# What a wait is for: a hold that excludes all others has to end, or those that share.
ALONE, SHARED = "w", "r"


class Waitable(Protocol):
    """What a wait needs to know of its lock."""

    _party: Any
    _serial: int

    def title(self) -> str:
        """Return how messages call it."""

    def holders_of(self, kind: str) -> list[tuple[int, int]]:
        """Return the participants (and incarnations) that have it."""

    def kinds_held(self) -> str:
        """Return the kinds of hold that the calling thread has on it."""


class Wait:
    """One wait of the calling thread, from the end of its first slice on."""

    def __init__(self, lock: Waitable, kind: str = ALONE, operator: str | None = None) -> None:
        """Remember what is waited for; nothing is written yet.

        Args:
            lock: the lock.
            kind: which hold of others must end: ALONE or SHARED.
            operator: on whose behalf, for messages.
        """
        self.error: Exception | None = None
        self.operator = operator
        self._began = time.time()
        self._lock = lock
        self._kind = kind
        # What this thread holds; None: not looked yet.
        self._held: list[tuple[Any, str]] | None = None
        self._holders: list[tuple[int, int]] = []
        self._places: list[Place] = []
        self._serial: Serial = (0, 0, 0)
        self._facts: dict[str, Any] = {}
        self._suspects: list[Record] = []

    def turn_to(self, lock: Waitable, kind: str) -> None:
        """Wait for something else from now on."""
        self.end()
        self._lock = lock
        self._kind = kind

    def goes_on(self) -> bool:
        """Look whether it makes sense to wait on; False with `error` set if not. Called after each slice."""
        if self._look():
            self.error = self._judge()
        return self.error is None

    def end(self) -> None:
        """Take the record away: the wait is over."""
        self._clear()
        self._held = None

    def given_up(self) -> bool:
        """End the wait and raise what ended it; False if that was its time limit."""
        self.end()
        if self.error is not None:
            raise self.error
        return False

    def _clear(self) -> None:
        for place in self._places:
            place.clear()
        self._places = []
        self._suspects = []
        self._facts = {}

    # -- my own record ---------------------------------------------------------------------------------------------

    def _look(self) -> bool:
        """Bring the record up to date; False if there is none, since nothing is held or it cannot be written."""
        if self._held is None or not all(kind in handle.kinds_held() for handle, kind in self._held):
            self._held = [(handle, kind) for handle in living(handles) for kind in handle.kinds_held()]
            self._clear()
            if self._held:
                self._open()
        if not self._places:
            return False
        holders = self._lock.holders_of(self._kind)
        if holders != self._holders or not self._facts:
            self._holders = holders
            return self._write()
        for place in self._places:
            place.beat()
        return True

    def _open(self) -> None:
        self._serial = time.monotonic_ns(), os.getpid(), threading.get_native_id()
        assert self._held is not None
        parties = {handle._party.id: handle._party for handle, _ in self._held}
        parties[self._lock._party.id] = self._lock._party
        try:
            self._places = [Place(party) for party in parties.values() if party.joined]
        except LookupError:
            self._places = []

    def _write(self) -> bool:
        assert self._held is not None
        self._facts = {
            "who": [participant.display_name(), os.getpid(), threading.current_thread().name, self.operator],
            "since": self._began,
            "wants": self._wanted,
            "title": self._lock.title(),
            "from": self._holders,
        }
        holds = [(handle._party.id, handle._serial, kind) for handle, kind in self._held]
        text = waitboard.encode(self._serial, self._facts, holds, [handle.title() for handle, _ in self._held])
        if all(place.write(text) for place in self._places):
            return True
        self._clear()
        return False

    @property
    def _wanted(self) -> Lock:
        return self._lock._party.id, self._lock._serial, self._kind

    # -- the others' -----------------------------------------------------------------------------------------------

    def _judge(self) -> Deadlock | None:
        domains = Domains(self._lock._party)
        try:
            if self._suspects:
                return self._confirm(domains)
            self._suspects = self._noted(self._search(domains), domains)
        except OSError:
            # A domain that was left or has ended meanwhile: its descriptor is closed.
            self._suspects = []
        finally:
            domains.close()
        return None

    def _search(self, domains: Domains) -> list[Record]:
        """Return the rest of a cycle in which this wait is the youngest, beginning at who has what is wanted."""
        seen = {self._serial}
        mine = {(handle._party.id, handle._serial, kind) for handle, kind in self._held or ()}
        # Depth first, with the way that led to each.
        todo: list[tuple[Lock, list[tuple[int, int]], list[Record]]] = [(self._wanted, self._holders, [])]
        while todo:
            wanted, holders, way = todo.pop()
            for record in _waits_of_holders(domains, wanted, holders):
                if record.serial >= self._serial or record.serial in seen:
                    continue
                seen.add(record.serial)
                if record.wanted in mine:
                    return [*way, record]
                todo.append((record.wanted, record.holders, [*way, record]))
        return []

    def _noted(self, cycle: list[Record], domains: Domains) -> list[Record]:
        """Read the cycle once more, for the beats that it has now that all of it was read."""
        now = [_again(domains, record) for record in cycle]
        found = [record for record in now if record is not None]
        return found if len(found) == len(cycle) else []

    def _confirm(self, domains: Domains) -> Deadlock | None:
        for record in self._suspects:
            now = _again(domains, record)
            if now is None:
                self._suspects = []
                return None
            if now.beat == record.beat:
                return None
        return Deadlock.of(self._told())

    def _told(self) -> list[dict[str, Any]]:
        """Return the cycle for the error: each with what it holds that the one before it wants."""
        titles = {(handle._party.id, handle._serial, kind): handle.title() for handle, kind in self._held or ()}
        links = [_link(self._facts, titles[self._suspects[-1].wanted])]
        wanted = self._wanted
        for record in self._suspects:
            # It is what the one before waits for, and has a title there.
            links.append(_link(record.facts, record.title_of(wanted) or links[-1]["waits_for"]))
            wanted = record.wanted
        return links


def _link(facts: dict[str, Any], holds: str) -> dict[str, Any]:
    process, pid, thread, operator = facts["who"]
    return {
        "process": process, "pid": pid, "thread": thread, "operator": operator, "holds": holds,
        "waits_for": facts["title"], "since": facts["since"],
    }  # fmt: skip


def _waits_of_holders(domains: Domains, lock: Lock, holders: list[tuple[int, int]]) -> list[Record]:
    """Return the waits of threads that hold a lock."""
    domain = domains.find(lock[0])
    if domain is None:
        return []
    return [
        record
        for number, incarnation in holders
        for record in waitboard.read(domain, number)
        if record.incarnation == incarnation and record.holds(lock) and not domain.is_dead(number, incarnation)
    ]


def _again(domains: Domains, record: Record) -> Record | None:
    domain = domains.find(record.domain)
    if domain is None or domain.is_dead(record.number, record.incarnation):
        return None
    return waitboard.again(domain, record)


def of_this_thread(title: str, wants: str, operator: str | None = None) -> Deadlock:
    """Return the error for a thread that would wait for itself.

    Args:
        title: what it holds.
        wants: what it would wait for.
        operator: on whose behalf.
    """
    who = [participant.display_name(), os.getpid(), threading.current_thread().name, operator]
    return Deadlock.of([_link({"who": who, "title": wants, "since": time.time()}, title)])
