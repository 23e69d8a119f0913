"""What only travels to a new process: multiprocessing's own locks, queues and values.

They refuse to be pickled except while a process is being started. So an argument that is one is remembered, workers are
started that get it, and the payload names it by a key. A crew's *generation* counts how often that happened; a call
that needs generation n is only claimed by workers of n and later.
"""

from __future__ import annotations

import sys
import threading
import weakref
from collections.abc import Callable
from multiprocessing import context
from multiprocessing.reduction import ForkingPickler
from typing import Any

from XME._store import codec

# Filled in a worker when it starts: what it was given, by key.
given: dict[int, Any] = {}
# How many processes it may start in its turn; None where nobody has said.
cores: int | None = None

_TYPES = {
    "multiprocessing.synchronize": ("Lock", "RLock", "Semaphore", "BoundedSemaphore", "Condition", "Event", "Barrier"),
    "multiprocessing.queues": ("Queue", "JoinableQueue", "SimpleQueue"),
    "multiprocessing.sharedctypes": ("SynchronizedBase",),
    "multiprocessing.connection": ("Connection",),
}

# A table has 16 bits for the generation that it needs.
_LAST_GENERATION = (1 << 16) - 1


def fetch(key: int) -> Any:
    """Return in a worker what it was given under a key when it was started."""
    return given[key]


def _types() -> list[type]:
    # Another thread may be in the middle of importing a module; then there is nothing of its classes yet.
    found = [getattr(sys.modules.get(module), name, None) for module, names in _TYPES.items() for name in names]
    return [kind for kind in found if kind is not None]


def _raw_types() -> list[type]:
    """Return the ctypes of which multiprocessing has made values without a lock."""
    how = getattr(sys.modules.get("multiprocessing.sharedctypes"), "reduce_ctype", None)
    if how is None:
        return []
    registered: dict[type, Any] = ForkingPickler._extra_reducers  # type: ignore[attr-defined] # not in typeshed
    return [kind for kind, reducer in list(registered.items()) if reducer is how]


class _Rehearsal:
    """Stands for a process that is being started: descriptors need not really be handed over."""

    def duplicate_for_child(self, fd: int) -> int:
        return fd

    DupFd = duplicate_for_child


class Inheritance:
    """What the workers of a crew are given when they start."""

    def __init__(self, start_method: str) -> None:
        self.generation = 0
        # By key, while somebody else still has them.
        self._objects: dict[int, weakref.ref[Any]] = {}
        self._keys: dict[int, int] = {}
        # What was named since `take_used` was last called.
        self.used: list[Any] = []
        self._start_method = start_method
        self._lock = threading.Lock()

    def objects(self) -> dict[int, Any]:
        """Return what a worker that starts now is given."""
        with self._lock:
            return self._living()

    def _living(self) -> dict[int, Any]:
        found = {key: reference() for key, reference in self._objects.items()}
        self._objects = {key: self._objects[key] for key, obj in found.items() if obj is not None}
        self._keys = {id(obj): key for key, obj in found.items() if obj is not None}
        return {key: obj for key, obj in found.items() if obj is not None}

    def take_used(self) -> list[Any]:
        """Return what a call has named; the caller keeps it alive as long as the call runs."""
        used, self.used = self.used, []
        return used

    def reducers(self) -> dict[type, Callable[[Any], Any]]:
        """Return how the codec pickles each of these types: as a key."""
        return {**dict.fromkeys(_types(), self._reduce), **dict.fromkeys(_raw_types(), self._reduce_raw)}

    def _reduce_raw(self, obj: Any) -> Any:
        # Only those that lie in multiprocessing's own shared memory; others are values.
        return self._reduce(obj) if hasattr(obj, "_wrapper") else NotImplemented

    def _reduce(self, obj: Any) -> Any:
        with self._lock:
            key = self._keys.get(id(obj))
            if key is None or self._objects[key]() is not obj:
                key = self._enter(obj)
            self.used.append(obj)
        return fetch, (key,)

    def _enter(self, obj: Any) -> int:
        self._rehearse(obj)
        if self.generation == _LAST_GENERATION:
            advice = "use the same ones again, or make another XME object"
            raise codec.Refused(obj, f"number {_LAST_GENERATION + 1} of its kind on these workers", advice)
        key = self.generation + 1
        self._objects[key] = weakref.ref(obj)
        self._keys[id(obj)] = key
        # Last: a worker of this generation has it.
        self.generation = key
        return key

    def _rehearse(self, obj: Any) -> None:
        """Pickle it as the start of a worker would: what fails there would fail for every later call too."""
        if self._start_method == "fork":
            return
        before = context.get_spawning_popen()
        rehearsal: Any = _Rehearsal()
        context.set_spawning_popen(rehearsal)
        try:
            ForkingPickler.dumps(obj)
        except Exception as error:
            kind = f"{type(obj).__module__}.{type(obj).__qualname__}"
            advice = f"make it with multiprocessing.get_context({self._start_method!r}), as the workers are"
            raise codec.Refused(obj, f"a {kind} that no worker can get ({error})", advice) from error
        finally:
            context.set_spawning_popen(before)
