"""What only travels to a new process: multiprocessing's own locks, queues and values.

They refuse to be pickled except while a process is being started. So an argument that is one is remembered, workers are
started that get it, and the payload names it by a key. A crew's *generation* counts how often that happened; a call
that needs generation n is only claimed by workers of n and later.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

# Filled in a worker when it starts: what it was given, by key.
given: dict[int, Any] = {}

_TYPES = {
    "multiprocessing.synchronize": ("Lock", "RLock", "Semaphore", "BoundedSemaphore", "Condition", "Event", "Barrier"),
    "multiprocessing.queues": ("Queue", "JoinableQueue", "SimpleQueue"),
    "multiprocessing.sharedctypes": ("Synchronized", "SynchronizedArray", "SynchronizedString"),
}


def fetch(key: int) -> Any:
    """Return in a worker what it was given under a key when it was started."""
    return given[key]


def _types() -> list[type]:
    found = []
    for module, classes in _TYPES.items():
        loaded = sys.modules.get(module)
        if loaded is not None:
            found += [getattr(loaded, name) for name in classes]
    return found


class Inheritance:
    """What the workers of a crew are given when they start."""

    def __init__(self) -> None:
        self.generation = 0
        self.objects: dict[int, Any] = {}

    def reducers(self) -> dict[type, Callable[[Any], Any]]:
        """Return how the codec pickles each of these types: as a key."""
        return dict.fromkeys(_types(), self._reduce)

    def _reduce(self, obj: Any) -> Any:
        if id(obj) not in self.objects:
            # Kept alive, so that the key stays its own.
            self.objects[id(obj)] = obj
            self.generation += 1
        return fetch, (id(obj),)
