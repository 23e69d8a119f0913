"""Messages that nobody but this process can see yet: in ordinary memory, and as a shared dict would keep them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, NamedTuple

from XME._store import codec, values

# What these keys are does not depend on the process.
_KEYS = frozenset({str, int, bytes})
_LONGEST_KEY = 256
_SIZED = frozenset({str, bytes})
_LARGEST = 1 << 14


class _Stored(NamedTuple):
    """A value that could be changed, as bytes: who reads it gets a copy."""

    tag: int
    payload: bytes


_MISSING: Final = object()


def _no_segment(serial: int) -> memoryview:
    raise AssertionError(serial)


class PrivateMessages:
    """A dict of messages of one process; what it cannot keep as a shared dict does, it refuses."""

    __slots__ = ("_kept",)

    def __init__(self) -> None:
        self._kept: dict[Any, Any] = {}

    def put_all(self, content: dict[Any, Any], *, alone: bool = False) -> bool:
        """Set all keys, or none: False if only a shared dict can keep these values (large, or shared themselves).

        Args:
            content: the keys and their values.
            alone: whether all others go.

        Raises:
            UnshareableValue: a value does not pickle.
        """
        made: dict[Any, Any] = {}
        for key, value in content.items():
            kind = type(value)
            if type(key) not in _KEYS or (type(key) is not int and len(key) > _LONGEST_KEY):
                return False
            if kind not in codec.PLAIN_TYPES:
                encoded = values.encode(value, f"[{key!r}]")
                if encoded.large or encoded.children or encoded.tag & values.HAS_SERIALS:
                    return False
                made[key] = _Stored(encoded.tag, encoded.payload)
            elif kind in _SIZED and len(value) > _LARGEST:
                return False
            else:
                made[key] = value
        if alone:
            self._kept = made
        else:
            self._kept.update(made)
        return True

    def get(self, key: Any) -> Any:
        """Return the value of a key; KeyError if there is none."""
        value = self._kept[key]
        return _decoded(value) if type(value) is _Stored else value

    def copy(self) -> dict[Any, Any]:
        """Return all messages."""
        return {key: _decoded(value) if type(value) is _Stored else value for key, value in self._kept.items()}

    def delete(self, keys: tuple[Any, ...]) -> None:
        """Delete these keys, without any all of them; KeyError, and nothing is deleted, if one is missing."""
        if not keys:
            self._kept.clear()
            return
        for key in keys:
            if key not in self._kept:
                raise KeyError(key)
        for key in keys:
            self._kept.pop(key, _MISSING)

    def __len__(self) -> int:
        return len(self._kept)

    def __contains__(self, key: Any) -> bool:
        return key in self._kept

    def __iter__(self) -> Iterator[Any]:
        return iter(list(self._kept))


def _decoded(stored: _Stored) -> Any:
    return values.decode(stored.tag, memoryview(stored.payload), _no_segment)[0]
