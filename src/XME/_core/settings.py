"""The settings of a Security, as all processes see them, and as bytes."""

from __future__ import annotations

import pickle
from dataclasses import dataclass, replace
from hashlib import blake2b
from typing import Any

_LONGEST_KEY = 24


@dataclass(frozen=True)
class Settings:
    """What may be changed while others use the lock.

    Attributes:
        kind: the lock type, as a number.
        registered: who may have a READWRITE lock alone.
        authorised: who may have an AUTHORISATION lock.
        wait_s: how long an acquire waits if it does not say; 0: no limit.
        mute_s: when a waiter for a MUTEX looks again at the latest.
        on_acquire, on_release: the DeadLockFuns, pickled; None: the marks.
        moved: where it is now, if it was published: domain, serial number, public name.
        generation: of which change they are; it is not among the bytes.
    """

    kind: int
    registered: bytes
    authorised: frozenset[bytes]
    wait_s: float = 0.0
    mute_s: float = 0.1
    on_acquire: bytes | None = None
    on_release: bytes | None = None
    moved: tuple[str, int, str] | None = None
    generation: int = 0

    def changed(self, **fields: Any) -> Settings:
        """Return the same with some fields changed."""
        return replace(self, **fields)

    def encoded(self) -> bytes:
        """Return it as bytes."""
        return pickle.dumps(tuple(vars(self).values())[:-1], 5)


def decoded(generation: int, data: bytes) -> Settings:
    """Return settings from their bytes."""
    fields: list[Any] = [*pickle.loads(data), generation]
    return Settings(*fields)


def short(key: bytes) -> bytes:
    """Return what stands for an operator's canonical bytes in the settings, where room is scarce."""
    return key if len(key) <= _LONGEST_KEY else b"\xff" + blake2b(key, digest_size=_LONGEST_KEY).digest()
