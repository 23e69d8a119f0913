"""Looking at the whole structure of a shared container: is everything there that the root promises, and nothing else.

For tests, and for whoever suspects a damage; reading and changing trust what is written here.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from XME._containers import home as homes
from XME._containers import opening
from XME._containers.home import W_EVEN, W_GONE, W_PARENT, W_REFERS, W_ROOT, W_WHAT, Home
from XME._core import ledger, memory, names, segment
from XME._store import index, keys, log, sequence, table, values
from XME._store.log import G_GIVEN, G_HIGH, G_NUMBER, PLACE_MASK, Generation
from XME.errors import BadSegment, ContainerGone


def check(home: Home, *, settled: bool = False) -> None:
    """Raise an AssertionError that says everything that is wrong with a container, and with those that belong to it.

    Takes the mutex, changes nothing, and costs a look at every record. Inside a change of this thread it looks at what
    is public.

    Args:
        home: the container.
        settled: nothing may be in flight, either: nobody is changing it, and a change has come after every death.
    """
    words = home.map()
    with home.mutex:
        root, generation = home.current()
        parts = _Parts([], [])
        wrong = list(_faults(home, root, generation, parts, settled))
    # Not under this mutex: nobody waits for a child's while he has its parent's.
    for serial in parts.containers:
        try:
            _check_child(home, serial, settled)
        except (ContainerGone, BadSegment, AssertionError) as error:
            # Dropped meanwhile it may be gone.
            if words[W_ROOT] == root:
                wrong.append(str(error))
    if wrong:
        msg = f"the shared {homes.NAMES[home.kind]} {home.segment_name} is damaged: " + "; ".join(wrong)
        raise AssertionError(msg)


def _check_child(home: Any, serial: int, settled: bool) -> None:
    kind = segment.attach_anew(home.domain, serial).words()[W_WHAT] & 0xFF
    child = opening.handle_of(kind, home.domain, serial, home._public_name)
    if child.map()[W_PARENT] != home.serial:
        msg = f"the container {serial} belongs to another one"
        raise AssertionError(msg)
    check(child, settled=settled)


class _Parts(NamedTuple):
    """The serial numbers of what belongs to a container's values."""

    segments: list[int]
    containers: list[int]


def _faults(home: Home, root: int, generation: Generation, parts: _Parts, settled: bool) -> Iterator[str]:
    limit = root & PLACE_MASK
    if not generation.is_sound or generation.words[G_NUMBER] != root >> 32:
        yield f"generation {root >> 32} has unsound numbers at its start"
        return
    records = set(_walked(generation, limit))
    if limit not in records:
        yield f"the root names place {limit}, where no record begins"
        return
    yield from _faults_behind(generation, limit)
    live: list[int] = []
    yield from (_list_faults if home.kind == homes.LIST else _table_faults)(generation, limit, records, live)
    yield from _number_faults(home, generation, limit, live)
    for place in live:
        yield from _value_faults(home, generation, place, parts)
    yield from _name_faults(home, root, parts, settled)


# -- records -----------------------------------------------------------------------------------------------------------


def _walked(generation: Generation, limit: int) -> Iterator[int]:
    place = generation.first
    while place <= limit:
        yield place
        units = generation.units(place)
        if not units or place + units > generation.whole:
            return
        place += units


def _faults_behind(generation: Generation, limit: int) -> Iterator[str]:
    """What lies behind the root: nothing, or what a dead writer has begun and nobody has voided yet."""
    words = generation.words
    place = limit + generation.units(limit)
    high = words[G_HIGH]
    if not place <= high <= generation.whole:
        yield f"the high-water place is {high}, the root's record ends at {place}, the generation at {generation.whole}"
        return
    while place < high and words[2 * place]:
        place += generation.units(place)
    if place > high:
        yield f"the last record ends at {place}, behind the high-water place {high}"
    if generation.tag(limit) == log.VOID:
        yield "the root's record is void"


def _chain(generation: Generation, place: int, records: set[int], limit: int) -> Iterator[str]:
    """Follow what a slot or position leads to, down to the first record that it ever led to."""
    while place:
        if place <= limit and place not in records:
            yield f"something leads to place {place}, where no record begins"
            return
        if place > limit and not generation.words[2 * place]:
            yield f"something leads to place {place}, whose record is not whole"
            return
        before = generation.ints[4 * place + 2]
        if before >= place:
            yield f"the record at {place} says that it replaced one at {before}"
            return
        place = before


# -- dicts and objects -------------------------------------------------------------------------------------------------


def _table_faults(generation: Generation, limit: int, records: set[int], live: list[int]) -> Iterator[str]:
    end = generation.fields(limit).end
    given = generation.words[G_GIVEN]
    if not end <= given <= generation.order:
        yield f"{end} positions count, {given} were given, and there is room for {generation.order}"
        return
    found: dict[bytes, int] = {}
    for slot in range(generation.slots):
        word = generation.words[log.GENERATION_BYTES // 8 + slot]
        if word:
            yield from _slot_faults(generation, limit, slot, word, records, found)
    ordered = [index.at_position(generation, position, limit) for position in range(end)]
    live += [place for place in ordered if place]
    yield from _gap_faults(generation, ordered)
    if len(set(live)) < len(live):
        yield "a record stands at two positions"
    if missing := set(found.values()) - set(live):
        yield f"{len(missing)} keys can be found but stand at no position below {end}"
    if missing := set(live) - set(found.values()):
        yield f"{len(missing)} records stand at a position but no slot leads to them"


def _gap_faults(generation: Generation, ordered: list[int]) -> Iterator[str]:
    """Look at what records say of the positions before their own that were empty when their keys came."""
    former = -1
    for position, place in enumerate(ordered):
        if place:
            below = generation.ints[4 * place + 7]
            if below and not former + 1 < below <= position + 1:
                yield f"the record at {place} says that positions {below - 1} to {position} are empty, {former} is not"
            former = position


def _slot_faults(
    generation: Generation, limit: int, slot: int, word: int, records: set[int], found: dict[bytes, int]
) -> Iterator[str]:
    newest = word & PLACE_MASK
    wrong = list(_chain(generation, newest, records, limit))
    if wrong or not newest:
        yield from wrong or [f"slot {slot} has a hash and no record"]
        return
    key = bytes(generation.key(newest))
    if keys.stable_hash(key) != word >> 32:
        yield f"slot {slot} bears another hash than its key {key!r}"
    if index.find(generation, key, word >> 32).slot != slot:
        yield f"the key {key!r} of slot {slot} is not found there"
    place = newest
    while place:
        if bytes(generation.key(place)) != key:
            yield f"the record at {place} is of another key than the one that replaced it"
        place = generation.ints[4 * place + 2]
    public = generation.public(newest, limit)
    if public and generation.tag(public) != log.DELETED:
        found[key] = public


# -- lists -------------------------------------------------------------------------------------------------------------


def _list_faults(generation: Generation, limit: int, records: set[int], live: list[int]) -> Iterator[str]:
    _, count, start, _, at = generation.fields(limit)
    if not at:
        if count:
            yield f"{count} elements and no position index"
        return
    if at not in records or generation.tag(at) != log.INDEX:
        yield f"at {at} there is no position index"
        return
    room = sequence.capacity(generation, at)
    if start + count > room:
        yield f"{count} elements from position {start} on, and the index has {room}"
        return
    for position in range(room):
        wrong = list(_chain(generation, generation.ints[4 * at + sequence.BODY_AT + position], records, limit))
        if wrong:
            yield f"position {position}: {wrong[0]}"
            return
    live += sequence.places(generation, limit)
    if 0 in live:
        yield f"no element at position {live.index(0)}"
    if len(set(live)) < len(live):
        yield "a record stands at two positions"


# -- what the root says ------------------------------------------------------------------------------------------------


def _number_faults(home: Home, generation: Generation, limit: int, live: list[int]) -> Iterator[str]:
    _, count, _, said, extra = generation.fields(limit)
    if count != len(live):
        yield f"the root says {count} elements, and there are {len(live)}"
    places = [*live, extra] if home.kind == homes.LIST and extra else live
    units = sum(map(generation.units, places))
    if said != units:
        yield f"the root says {said} live units, and there are {units}"


def _value_faults(home: Home, generation: Generation, place: int, parts: _Parts) -> Iterator[str]:
    if not place or generation.tag(place) >= log.FIRST_OTHER:
        yield f"the record at {place} is no value"
        return
    _, tag, data = table.split(generation, place)
    if not tag & values.HAS_SERIALS:
        return
    if not home.words[W_REFERS]:
        yield f"the record at {place} refers to segments, and nothing says that any record does"
    for serial in values.serials_of(tag, data):
        if serial in parts.segments:
            yield f"the segment {serial} belongs to two records"
        if not _is_there(home, serial):
            yield f"the segment {serial} of a value is missing"
        parts.segments.append(serial)
    parts.containers.extend(values.owned_of(tag, data))


def _is_there(home: Home, serial: int) -> bool:
    return memory.is_there(names.path_of(names.name_of(home.domain.id, serial)))


# -- names -------------------------------------------------------------------------------------------------------------


def _name_faults(home: Home, root: int, parts: _Parts, settled: bool) -> Iterator[str]:
    """What exists in the ledger and in shared memory, against what the root uses."""
    in_use = {*parts.segments, *parts.containers}
    if root >> 32:
        in_use.add(home.words[W_EVEN + (root >> 32 & 1)])
    entries = [entry for number in range(home.domain.capacity) for entry in home.domain.entries(number)]
    entries = [entry for entry in entries if entry.owner == home.serial or entry.serial in in_use]
    if unknown := in_use - {entry.serial for entry in entries}:
        yield f"in use, but in no ledger: {sorted(unknown)}"
    in_flight = {entry.serial: entry.kind.name for entry in entries if entry.kind in ledger.IN_FLIGHT}
    orphans = {entry.serial for entry in entries if _is_there(home, entry.serial)} - in_use - in_flight.keys()
    if orphans and not home.words[W_GONE]:
        yield f"orphans: {sorted(orphans)}"
    if settled and in_flight:
        yield f"still in flight: {in_flight}"
