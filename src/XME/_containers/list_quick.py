"""The short ways of the most frequent changes of a shared list: one small element, room for it, and nothing to settle.

What stands in the way of a short way makes it say no, and the caller goes the long way (container.py), which settles,
grows and recovers. The order of the stores is the long way's: high-water word, body, head, position, root. So a kill
or a Ctrl-C in here leaves what one there leaves.
"""

from __future__ import annotations

import struct
from typing import Any

from XME._containers.container import BUSY
from XME._containers.home import MUTEX_AT, W_GONE, W_ROOT, W_SETTLED
from XME._store import values
from XME._store.log import COMMIT, G_HIGH, HEADER_BYTES, PAD_SHIFT, PLACE_MASK, TAG_SHIFT
from XME._store.sequence import NUMBERS

_FIELDS = struct.Struct("<6I").pack
_COMMIT_HEAD = 2 | COMMIT << TAG_SHIFT


def _is_ready(home: Any, generation: Any, root: int, last: int) -> bool:
    """True if the root's record is the last one that anybody has begun, and nothing else is to be done before."""
    return (
        root >> 32 == generation.number
        and last + generation.ints[4 * last] == generation.words[G_HIGH]
        and home[W_SETTLED] == home[MUTEX_AT]
        and not home[W_GONE]
    )


def append(container: Any, tag: int, payload: bytes) -> bool:
    """Add an element at the end; False if it must go the long way."""
    mutex = container.mutex
    mutex.acquire()
    try:
        home = container.words
        generation = container._generation
        if home is None or generation is None or container._change is not None or container._is_dirty:
            return False
        # A signal handler of this thread must not come in between (see Container._begin).
        container._change = BUSY
        try:
            root = home[W_ROOT]
            last = root & PLACE_MASK
            if not _is_ready(home, generation, root, last):
                return False
            data = generation.data
            ints = generation.ints
            count, end, live, at = NUMBERS(data, last * 16 + 12)
            word = 4 * at + 8 + end + count
            high = last + ints[4 * last]
            used = HEADER_BYTES + len(payload)
            units = (used + 15) >> 4
            # An index ends with its record; there is none at 0.
            if not at or word >= 4 * (at + ints[4 * at]) or high + units > generation.size:
                return False
            words = generation.words
            words[G_HIGH] = high + units
            fields = _FIELDS(ints[word], count + 1, end, live + units, at, 0)
            data[high * 16 + 8 : high * 16 + used] = fields + payload
            words[2 * high] = units | tag << TAG_SHIFT | (units * 16 - used) << PAD_SHIFT
            ints[word] = high
            # The commit.
            home[W_ROOT] = root - last + high
            return True
        finally:
            container._change = None
    finally:
        mutex.release()


def replace(container: Any, index: int, tag: int, payload: bytes) -> bool:
    """Set an element; False if it must go the long way."""
    mutex = container.mutex
    mutex.acquire()
    try:
        home = container.words
        generation = container._generation
        if home is None or generation is None or container._change is not None or container._is_dirty:
            return False
        # A signal handler of this thread must not come in between (see Container._begin).
        container._change = BUSY
        try:
            root = home[W_ROOT]
            last = root & PLACE_MASK
            if not _is_ready(home, generation, root, last):
                return False
            data = generation.data
            ints = generation.ints
            count, end, live, at = NUMBERS(data, last * 16 + 12)
            position = index + count if index < 0 else index
            high = last + ints[4 * last]
            used = HEADER_BYTES + len(payload)
            units = (used + 15) >> 4
            if not 0 <= position < count or high + units > generation.size:
                return False
            word = 4 * at + 8 + end + position
            newest = ints[word]
            words = generation.words
            if words[2 * newest] >> TAG_SHIFT & 0xFF >= values.HAS_SERIALS:
                # Void, or with parts that go.
                return False
            words[G_HIGH] = high + units
            fields = _FIELDS(newest, count, end, live + units - ints[4 * newest], at, 0)
            data[high * 16 + 8 : high * 16 + used] = fields + payload
            words[2 * high] = units | tag << TAG_SHIFT | (units * 16 - used) << PAD_SHIFT
            ints[word] = high
            # The commit.
            home[W_ROOT] = root - last + high
            return True
        finally:
            container._change = None
    finally:
        mutex.release()


def pop(container: Any, at_front: bool) -> tuple[int, memoryview] | None:
    """Take the first or the last element away; returns its tag and bytes, or None if it must go the long way."""
    mutex = container.mutex
    mutex.acquire()
    try:
        home = container.words
        generation = container._generation
        if home is None or generation is None or container._change is not None or container._is_dirty:
            return None
        # A signal handler of this thread must not come in between (see Container._begin).
        container._change = BUSY
        try:
            root = home[W_ROOT]
            last = root & PLACE_MASK
            if not _is_ready(home, generation, root, last):
                return None
            data = generation.data
            ints = generation.ints
            count, end, live, at = NUMBERS(data, last * 16 + 12)
            high = last + ints[4 * last]
            if not count or high + 2 > generation.size or 8 * live < generation.size > 4096:
                return None
            newest = ints[4 * at + 8 + end + (0 if at_front else count - 1)]
            words = generation.words
            tag = words[2 * newest] >> TAG_SHIFT & 0xFF
            if tag >= values.PICKLE:
                # Void, with parts that go, or perhaps with code of the user's that makes the value, and may fail.
                return None
            words[G_HIGH] = high + 2
            live -= ints[4 * newest]
            data[high * 16 + 8 : high * 16 + HEADER_BYTES] = _FIELDS(0, count - 1, end + at_front, live, at, 0)
            words[2 * high] = _COMMIT_HEAD
            # The commit.
            home[W_ROOT] = root - last + high
            return tag, generation.value(newest)
        finally:
            container._change = None
    finally:
        mutex.release()
