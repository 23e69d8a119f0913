"""Waiting for messages to change.

A message has changed when its key leads to another record of the shared dict. Whoever changes the dict stores its root
word, and then wakes all who wait for that word. Killed in between (or changing the dict without a Monitor), he wakes
nobody, so who waits looks again after a slice.
"""

from __future__ import annotations

import time
from typing import Any

from XME._containers.home import W_GONE, W_ROOT
from XME._containers.shared_dict import xmem_dict
from XME._core.futex import Word
from XME._store import keys as store_keys
from XME._store import table
from XME._store.index import find
from XME._store.log import DELETED, PLACE_MASK, Generation
from XME.errors import ContainerGone, DomainEnded

# How late a change is noticed at worst.
SLICE_S = 0.1


class Record:
    """What a key led to at one root."""

    __slots__ = ("_generation", "_is_live", "_place")

    def __init__(self, generation: Generation, limit: int, key: bytes, hashed: int) -> None:
        """Look a key up."""
        self._generation = generation
        # Also that of a deletion, so that the deletion is a change.
        self._place = generation.public(find(generation, key, hashed)[1], limit)
        self._is_live = bool(self._place) and generation.tag(self._place) != DELETED

    def was_there(self, root: int) -> bool:
        """True if it was like this at an earlier root; of another generation that cannot be told."""
        return self._generation.number == root >> 32 and self._place <= root & PLACE_MASK

    def is_same(self, old: Record | None) -> bool:
        """True if the key has led to the same before."""
        if old is None:
            return False
        if old._generation is self._generation:
            return old._place == self._place
        if not old._is_live or not self._is_live:
            return old._is_live == self._is_live
        # The records have moved: those that say the same are the same.
        return self._content() == old._content()

    def _content(self) -> tuple[int, memoryview]:
        return table.split(self._generation, self._place)[1:]


class Watch:
    """What some keys of a shared dict led to at one moment."""

    __slots__ = ("_keys", "_messages", "_records", "_root")

    def __init__(self, messages: xmem_dict, keys: tuple[Any, ...], since: int | None = None) -> None:
        """Note what there is now.

        Args:
            messages: the dict.
            keys: those that matter; none: all.
            since: a root word that the dict had; what has changed after it counts as a change.
        """
        self._messages = messages
        self._keys = [(canonical := store_keys.canonical(key), store_keys.stable_hash(canonical)) for key in keys]
        self._root: int
        self._records: list[Record | None]
        self._root, found = self._look()
        self._records = [*found]
        if since is not None and since != self._root:
            self._records = [record if record.was_there(since) else None for record in found]
            self._root = since

    def _look(self) -> tuple[int, list[Record]]:
        root, generation = self._messages.current()
        limit = root & PLACE_MASK
        return root, [Record(generation, limit, key, hashed) for key, hashed in self._keys]

    def has_changed(self, messages: xmem_dict) -> bool:
        """True if one of the keys leads to something else now; `messages` is where they are now."""
        is_here = messages is self._messages
        self._messages = messages
        if is_here and messages.map()[W_ROOT] == self._root:
            return False
        root, records = self._look()
        if self._keys and all(now.is_same(old) for old, now in zip(self._records, records, strict=True)):
            self._root, self._records = root, [*records]
            return False
        return True

    def sleep(self, seconds: float) -> None:
        """Sleep until the dict may have changed, at most a slice.

        Raises:
            ContainerGone: it was unlinked.
            DomainEnded: the program that owns it has ended, so nobody can change it any more.
        """
        messages = self._messages
        words = messages.map()
        if words[W_GONE]:
            raise ContainerGone.of(messages._called)
        if messages.domain.ended:
            raise DomainEnded.of(messages.domain.id)
        root = words[W_ROOT]
        if root == self._root:
            Word(words, W_ROOT).wait(root, min(seconds, SLICE_S))


def deadline_of(timeout: float | None) -> float | None:
    """Return when a wait is over, on the monotonic clock; None: never."""
    return None if timeout is None else time.monotonic() + timeout


def left_of(deadline: float | None) -> float:
    """Return how many seconds are left, 0 if none."""
    return SLICE_S if deadline is None else max(0.0, deadline - time.monotonic())
