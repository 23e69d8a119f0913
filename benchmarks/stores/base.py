"""What a case may ask of a store of keys."""

from __future__ import annotations

import itertools
import os
import pickle
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

_numbers = itertools.count()


def unique_name() -> str:
    """Return a name that no other process and no earlier call has."""
    return f"bench-{os.getpid():x}-{next(_numbers)}"


def memory_folder() -> str:
    """Make a folder in memory: a rival that keeps files is not to be measured by the disk."""
    return tempfile.mkdtemp(prefix="bench-", dir="/dev/shm" if Path("/dev/shm").is_dir() else None)


class Store:
    """One rival's way to share keys and small values; handles are what ``make`` and ``attach`` return."""

    # More keys than this would take minutes to fill in.
    largest = 1_000_000
    # Whether ``used_bytes`` counts nothing but one handle's own: else everything in the same server or domain.
    apart = True
    # Whether a second process must inherit the handle by fork: attached by name, nothing would keep writers apart.
    inherited = False

    def key(self, number: int) -> Any:
        """Return the key with this number."""
        return f"key-{number}"

    def items(self, count: int) -> dict[Any, Any]:
        """Return what a store of ``count`` keys is made of: small integers."""
        return {self.key(number): number for number in range(count)}

    def make(self, count: int, room: int = 0) -> Any:
        """Share ``count`` keys, with ``room`` bytes for what comes later where that must be said beforehand."""
        raise NotImplementedError

    def token(self, handle: Any) -> Any:
        """Return what another process attaches by."""
        return pickle.dumps(handle)

    def attach(self, token: Any) -> Any:
        """Return a handle of what another process has made."""
        return pickle.loads(token)

    def detach(self, handle: Any) -> None:
        """Let go of what ``attach`` has returned; the others keep it."""

    def drop(self, handle: Any) -> None:
        """Take what ``make`` has returned away again."""

    def close(self) -> None:
        """End what the store itself has started."""

    def read(self, handle: Any, keys: Iterable[Any]) -> None:
        """Get all these keys."""
        for key in keys:
            _ = handle[key]

    def write(self, handle: Any, keys: Iterable[Any]) -> None:
        """Set all these keys."""
        for value, key in enumerate(keys):
            handle[key] = value

    def delete_all(self, handle: Any, keys: Sequence[Any]) -> None:
        """Delete these keys, which are all that there are."""
        for key in keys:
            del handle[key]

    def get(self, handle: Any, key: Any) -> Any:
        """Return one value."""
        return handle[key]

    def put_array(self, handle: Any, key: Any, array: Any) -> None:
        """Set a key to an array."""
        handle[key] = array

    def array_ends(self, handle: Any, key: Any) -> tuple[float, float]:
        """Get an array, and return its first and last element."""
        array = handle[key]
        return float(array[0]), float(array[-1])

    def used_bytes(self, handle: Any) -> int:
        """Return the bytes of shared memory, or of a server's memory, that are taken now (see ``apart``)."""
        raise NotImplementedError
