"""A change of a shared container: records are appended, and one store of the root word makes all of them public.

Whoever makes a change holds the container's mutex. Nothing here knows of locks, names or segments: what a change needs
of them is a `Room`.
"""

from __future__ import annotations

from typing import Any, Protocol

from XME._store import log, values
from XME._store.log import COMMIT, UNITS_MAX, Generation, units_for
from XME.errors import XMEError

# A generation of its own is at least this large: smaller ones would be outgrown at once.
_LEAST_BYTES = 8192
_HOT_UNITS = (1 << 16) // log.UNIT
_GENERATIONS = 1 << 32


class Room(Protocol):
    """Who gives memory for a new generation."""

    def new_memory(self, nbytes: int) -> tuple[memoryview, Any, int]:
        """Return zeroed memory that nobody else knows, what keeps it alive, and its serial number."""


class Change:
    """What a container will be when the change is committed.

    Attributes:
        generation: where records go; another one than the root's when that was outgrown.
        count: how many elements there are.
        end, extra: what log.Fields says.
        live: how many units the live records take.
        last: the place of the last record.
        high: where the next one begins.
        fresh: the serial number of a generation made by this change, 0 if there is none.
        given_up: serial numbers of generations that it has made and outgrown.
        dropped: serial numbers of the segments of values that it drops.
        orphaned: serial numbers of the containers that belong to values that it drops.
    """

    __slots__ = ("_room", "count", "dropped", "end", "extra", "fresh", "generation", "given_up", "high", "last", "live",
                 "origin", "orphaned", "started")  # fmt: skip

    def __init__(self, generation: Generation, root_place: int, room: Room) -> None:
        """Begin behind the root's record; what a dead writer left there is voided."""
        self.generation = self.origin = generation
        self.high = generation.begin(root_place)
        self.started = self.last = root_place
        _, self.count, self.end, self.live, self.extra = generation.fields(root_place)
        self.fresh = 0
        self.given_up: list[int] = []
        self.dropped: list[int] = []
        self.orphaned: list[int] = []
        self._room = room

    @property
    def root(self) -> int:
        """The root word that makes this change public."""
        return self.generation.number << 32 | self.last

    @property
    def is_empty(self) -> bool:
        """True if nothing was written."""
        return self.last == self.started and not self.fresh

    def mark(self) -> tuple[Any, ...]:
        """Return where the change stands, for `back`."""
        return (self.generation, self.high, self.last, self.count, self.end, self.live, self.extra, self.fresh,
                len(self.dropped), len(self.orphaned))  # fmt: skip

    def back(self, mark: tuple[Any, ...]) -> None:
        """Undo what was changed since a mark: its records are voided, as a dead writer's are."""
        if self.fresh not in (0, mark[7]):
            self.given_up.append(self.fresh)
        if mark[7] in self.given_up:
            self.given_up.remove(mark[7])
        self.generation, high, self.last, self.count, self.end, self.live, self.extra, self.fresh = mark[:8]
        self.generation.void(high)
        self.high = self.generation.words[log.G_HIGH]
        del self.dropped[mark[8] :], self.orphaned[mark[9] :]

    def fits(self, units: int) -> bool:
        """True if so many units can be appended here."""
        return self.high + units <= self.generation.size

    def fits_as_removal(self, units: int) -> bool:
        """True if a record of so many units that takes something away can be appended here."""
        return self.high + units <= self.generation.whole

    def write(self, tag: int, key: bytes, value: bytes, previous: int, extra: int) -> int:
        """Append a record that fits, and return its place."""
        place = self.high
        fields = (previous, self.count, self.end, self.live, extra)
        self.high = self.generation.append(place, tag, key, value, fields)
        self.last = place
        return place

    def commit_record(self) -> None:
        """Append a record that only says what the container is now."""
        self.write(COMMIT, b"", b"", 0, self.extra)

    def drop(self, place: int, tag: int, value: memoryview) -> None:
        """Count a record as garbage, and note what it refers to; the caller has it replaced."""
        self.live -= self.generation.units(place)
        if tag & values.HAS_SERIALS and tag < log.FIRST_OTHER:
            self.dropped += values.serials_of(tag, value)
            self.orphaned += values.owned_of(tag, value)

    def begin_generation(self, units: int, slots: int, order: int) -> Generation:
        """Lay out a new generation with room for so many units of records; nothing leads there yet.

        Raises:
            SharedMemoryFull: there is no room.
        """
        if units >= UNITS_MAX:
            msg = f"a shared container holds at most {UNITS_MAX * log.UNIT:,} bytes, without large values"
            raise XMEError(msg)
        if self.origin.number + 1 >= _GENERATIONS:
            msg = "this container has used up its generations (2**32): copy it into a new one"
            raise XMEError(msg)
        nbytes = max(_LEAST_BYTES, log.with_spare(log.first_record(slots, order) + units) * log.UNIT)
        data, keeper, serial = self._room.new_memory(nbytes)
        made = log.lay_out(data, self.origin.number + 1, slots, order)
        made.keeper = keeper
        if self.fresh:
            self.given_up.append(self.fresh)
        self.fresh = serial
        return made


def room_wanted(live: int, units: int, size: int) -> int:
    """Return how many units a new generation gets.

    So much that garbage stays below half of it; but a small container that is changed again and again, and so outgrows
    one generation after the other, gets twice as much each time, up to a bound: a new one costs some 100 us.
    """
    return max(2 * (live + units) + 2 * units_for(0, 0), min(2 * size, _HOT_UNITS))
