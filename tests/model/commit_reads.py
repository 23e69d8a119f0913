"""The store's records and how they are found: by readers, and by writers with their own records included.

Whoever reads is a generator: it yields the address of a load and is sent what lies there.
"""

from typing import NamedTuple

VOID, LIVE, ALL = "void", "live", 1 << 32
# Key: (hash, first slot).
HASH = {"a": (0, 0), "b": (0, 0), "c": (1, 0)}


class Caught(Exception):
    """A promise was broken."""


class Restart(Exception):
    """A reader begins again, with what it has mapped by now."""


class Record(NamedTuple):
    """A record: previous word of its slot, key, value (None: deleted), number of elements, and what holds after it.

    end: dict: positions used; list: start offset. extra: dict: position; list: place of the position index.
    """

    previous: int
    key: object
    value: object
    count: int
    end: int
    extra: int


class Shape(NamedTuple):
    """What a generation's segment says of itself before it is linked: slots, probe bound, positions."""

    slots: int = 4
    bound: int = 2
    positions: int = 4


def run(steps, memory):
    """Answer all loads of a generator at once."""
    answer = None
    try:
        while True:
            answer = load(memory, steps.send(answer))
    except StopIteration as stop:
        return stop.value


def load(memory, address):
    if address[0] == "record":
        return memory.get(("head", *address[1:])), memory.get(("body", *address[1:]))
    return memory.get(address, 0)


def whole(answer):
    head, body = answer
    if not head or body is None:
        raise Caught("a record that is not whole is used")
    return head[1], body


def first_public(serial, place, limit, fault=""):
    """The newest record at or below `place` that is public at `limit`: (place, record), or (0, None)."""
    while place:
        tag, body = whole((yield "record", serial, place))
        if place <= limit and (tag != VOID or fault == "a reader does not look for VOID"):
            return place, body
        if body.previous >= place:
            raise Caught("a chain does not fall")
        place = body.previous
    return 0, None


def probe(serial, key, shape, fault=""):
    """The slot of a key and its newest word; the slot that it may take and 0; (None, 0) if the bound is passed."""
    code, first = HASH[key]
    for k in range(min(shape.bound, shape.slots)):
        slot = (first + k) % shape.slots
        word = yield "slot", serial, slot
        if not word:
            return slot, 0
        if word[0] == code:
            body = whole((yield "record", serial, word[1]))[1]
            if body.key == key:
                return slot, word[1]
        if fault:
            body = (yield from first_public(serial, word[1], ALL))[1]
            if body and body.value is None:
                return slot, word[1]
    return None, 0


def opened(mapped, fault):
    """Read the root and map its generation: (root, serial of the generation, what is mapped)."""
    root = yield ("root",)
    generation = root[0] if root else 0
    serial = 0
    if generation or fault == "the number after the serial, and zero is a number":
        serial = yield "word", generation & 1
    if serial not in mapped:
        known = not serial or (yield "name", serial)
        if not known or (fault != "the number is not looked at" and (yield "number", serial) != generation):
            if (yield ("root",)) == root:
                raise Caught("a segment is gone, or another's, and the root has not changed")
            raise Restart
    return root or (0, 0), serial, mapped | {serial}


def last_record(serial, place):
    if not place:
        return Record(0, None, None, 0, 0, 0)
    return whole((yield "record", serial, place))[1]


def dict_items(serial, place, limit, fault=""):
    last = yield from last_record(serial, place)
    items = []
    for position in range(last.end):
        slot = yield "order", serial, position
        word = yield "slot", serial, slot
        _, body = yield from first_public(serial, word and word[1], limit, fault)
        free = fault == "iteration takes whatever its slot leads to"
        if body and body.value is not None and (body.extra == position or free):
            items.append((body.key, body.value))
    return last.count, tuple(items)


def list_items(serial, place, limit, fault=""):
    last = yield from last_record(serial, place)
    start = last.end
    if fault == "the start is a word of its own":
        start = yield "start", serial
    items = []
    for k in range(last.count):
        word = yield "slot", serial, (last.extra, start + k)
        items.append((yield from first_public(serial, word and word[1], limit, fault))[1])
    return last.count, tuple(body and body.value for body in items)
