"""Who waits for what and holds what meanwhile: records that other processes read, in the domain's file.

Only a wait that lasts longer than a slice is written down, and what the waiting thread holds is written with it: every
member of a cycle waits, so nobody needs a record of what a thread holds that goes on. The part of participant k begins
at ``WAITS_AT + WAITS_BYTES k`` (layout.py)::

    0              how many places have ever been used
    2048 p         place p (1 to 31), one for each thread that waits:
      + 0             length of the text (4 bytes), its CRC-32 (4 bytes)
      + 8             incarnation of the writer
      + 16            beat: changes whenever the waiter has looked that all of it is still so
      + 24            JSON: serial number, who, what is waited for, who has that, what is held, titles of that

What is held are lists [domain, kind of hold, serial numbers]: some 300 locks of one domain fit. The titles of what is
held are left out if all of them do not fit, and what is held beyond that too: so a cycle may be missed, and none is
made up.

A record is written with one pwrite inside a page. Who reads while it is written, or finds what a killed writer left
half, sees by the CRC that it is none. It means nothing once its waiter has stopped looking, so nothing needs cleaning:
a record whose beat stands still is no evidence.
"""

from __future__ import annotations

import contextlib
import json
import os
import struct
import time
from collections.abc import Callable, Iterator
from itertools import groupby
from typing import Any, NamedTuple
from zlib import crc32

from XME._core import layout
from XME._core.domain import Domain, inspect
from XME.errors import BadSegment, DomainEnded

_HEAD = struct.Struct("<IIQQ")
_BEAT_AT = 16
_COUNT = struct.Struct("<Q")
PLACE_BYTES = 2048
PLACES = layout.WAITS_BYTES // PLACE_BYTES - 1

# (when it began, pid, thread): no two waits have the same, and later ones are larger.
Serial = tuple[int, int, int]
# (domain, serial number, kind of hold): "w" holds alone, "r" shares.
Lock = tuple[str, int, str]


class Record(NamedTuple):
    """One wait, as it was read."""

    domain: str
    number: int
    incarnation: int
    place: int
    beat: int
    serial: Serial
    facts: dict[str, Any]

    @property
    def wanted(self) -> Lock:
        """The hold that is waited for to end."""
        domain, lock, kind = self.facts["wants"]
        return domain, lock, kind

    @property
    def holders(self) -> list[tuple[int, int]]:
        """Who had that when the waiter looked last: (participant, incarnation)."""
        return [(number, incarnation) for number, incarnation in self.facts["from"]]

    def holds(self, lock: Lock) -> bool:
        """True if the waiting thread holds this."""
        return lock in list(self._held())

    def title_of(self, lock: Lock) -> str | None:
        """Return how the waiting thread calls what it holds; None if that did not fit."""
        titles = zip(self._held(), self.facts["titles"], strict=False)
        return next((str(title) for held, title in titles if held == lock), None)

    def _held(self) -> Iterator[Lock]:
        for domain, kind, serials in self.facts["holds"]:
            yield from ((domain, serial, kind) for serial in serials)


def _at(number: int, place: int) -> int:
    return layout.WAITS_AT + number * layout.WAITS_BYTES + place * PLACE_BYTES


class Place:
    """A place of this process in one domain, from the first record of a wait to its end."""

    __slots__ = ("_domain", "_free", "_incarnation", "_number", "_place")

    def __init__(self, domain: Domain) -> None:
        """Take a free place; LookupError if there is none."""
        self._domain = domain
        self._number, self._incarnation = domain.number, domain.incarnation
        key = domain.id, domain.incarnation
        # Taking and giving back are single operations on a list, so threads and finalizers need no lock.
        self._free = _free.setdefault(key, list(range(PLACES, 0, -1)))
        self._place = 0
        self._place = self._free.pop()

    def write(self, facts: bytes) -> bool:
        """Write the record; False if it is too long or shared memory is full."""
        if _HEAD.size + len(facts) > PLACE_BYTES or self._domain.incarnation != self._incarnation:
            return False
        head = _HEAD.pack(len(facts), _checksum(self._incarnation, facts), self._incarnation, time.monotonic_ns())
        try:
            self._raise_count()
            os.pwrite(self._domain.fd, head + facts, _at(self._number, self._place))
        except OSError:
            return False
        return True

    def _raise_count(self) -> None:
        count = os.pread(self._domain.fd, _COUNT.size, _at(self._number, 0))
        if len(count) < _COUNT.size or _COUNT.unpack(count)[0] < self._place:
            os.pwrite(self._domain.fd, _COUNT.pack(self._place), _at(self._number, 0))

    def beat(self) -> None:
        """Say that all of it is still so."""
        with contextlib.suppress(OSError):
            os.pwrite(self._domain.fd, _COUNT.pack(time.monotonic_ns()), _at(self._number, self._place) + _BEAT_AT)

    def clear(self) -> None:
        """Take the record away."""
        if self._domain.incarnation == self._incarnation:
            with contextlib.suppress(OSError):
                os.pwrite(self._domain.fd, bytes(_HEAD.size), _at(self._number, self._place))

    def __del__(self) -> None:
        if self._place:
            self._free.append(self._place)


# What is free in each membership of this process.
_free: dict[tuple[str, int], list[int]] = {}


def _checksum(incarnation: int, facts: bytes) -> int:
    return crc32(facts, incarnation & 0xFFFFFFFF)


def encode(serial: Serial, facts: dict[str, Any], holds: list[Lock], titles: list[str]) -> bytes:
    """Return the text of a record: without titles, and with fewer holds, if it would be too long.

    Args:
        serial: of the wait.
        facts: the rest of it.
        holds: what is held.
        titles: how that is called.
    """
    longest = PLACE_BYTES - _HEAD.size
    order = sorted(range(len(holds)), key=lambda index: (holds[index][0], holds[index][2]))
    holds, titles = [holds[index] for index in order], [titles[index] for index in order]
    text = _text(serial, facts, holds, titles)
    while len(text) > longest and holds:
        # First without titles, then as many holds as fit at a guess: each time fewer.
        holds = holds if titles else holds[: len(holds) * longest // len(text)]
        titles = []
        text = _text(serial, facts, holds, titles)
    return text


def _text(serial: Serial, facts: dict[str, Any], holds: list[Lock], titles: list[str]) -> bytes:
    groups = [(*key, [held[1] for held in group]) for key, group in groupby(holds, key=lambda held: (held[0], held[2]))]
    whole = {"serial": serial, **facts, "holds": groups, "titles": titles}
    return json.dumps(whole, separators=(",", ":")).encode()


def read(domain: Domain, number: int) -> Iterator[Record]:
    """Yield what is written down of one participant's waits, by whoever had the number."""
    data = os.pread(domain.fd, 2 * PLACE_BYTES, _at(number, 0))
    if len(data) < _COUNT.size:
        return
    count = min(_COUNT.unpack_from(data)[0], PLACES)
    if count > 1:
        data += os.pread(domain.fd, (count - 1) * PLACE_BYTES, _at(number, 2))
    for place in range(1, count + 1):
        record = _parsed(domain.id, number, place, data[place * PLACE_BYTES : (place + 1) * PLACE_BYTES])
        if record is not None:
            yield record


def again(domain: Domain, record: Record) -> Record | None:
    """Read a record once more; None if that wait is over."""
    data = os.pread(domain.fd, PLACE_BYTES, _at(record.number, record.place))
    now = _parsed(record.domain, record.number, record.place, data)
    if now is None or (now.serial, now.incarnation) != (record.serial, record.incarnation):
        return None
    return now


def _parsed(domain_id: str, number: int, place: int, data: bytes) -> Record | None:
    if len(data) < _HEAD.size:
        return None
    length, checksum, incarnation, beat = _HEAD.unpack_from(data)
    text = data[_HEAD.size : _HEAD.size + length]
    if not length or _checksum(incarnation, text) != checksum:
        return None
    facts = json.loads(text)
    when, pid, thread = facts["serial"]
    return Record(domain_id, number, incarnation, place, beat, (when, pid, thread), facts)


class Domains:
    """The domains that a search meets; those that this process has not joined are looked at from outside."""

    def __init__(self, first: Domain) -> None:
        self._known: dict[str, Domain | None] = {first.id: first}
        self._views: list[Domain] = []

    def find(self, domain_id: str) -> Domain | None:
        """Return a domain by its id, or None if it is gone."""
        if domain_id not in self._known:
            self._known[domain_id] = self._open(domain_id)
        return self._known[domain_id]

    def _open(self, domain_id: str) -> Domain | None:
        domain = find_joined(domain_id)
        if domain is not None and domain.joined:
            return domain
        try:
            view = inspect(domain_id)
        except (DomainEnded, BadSegment, PermissionError):
            return None
        self._views.append(view)
        return view

    def close(self) -> None:
        """Give up what was only looked at."""
        for view in self._views:
            view.close_view()


def _find_none(_domain_id: str) -> Domain | None:
    return None


# Set by program.py, which knows what this process has joined.
find_joined: Callable[[str], Domain | None] = _find_none
