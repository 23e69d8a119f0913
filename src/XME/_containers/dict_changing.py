"""What of a shared dict changes it, beside setting one key."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Self

from XME._containers import nesting
from XME._containers.dict_reading import DictReading
from XME._containers.struck import whole
from XME._core.ledger import Kind
from XME._store import keys

_MISSING: Any = object()


class _Item(NamedTuple):
    """A key and a value, ready for TableChange.put."""

    key: bytes
    hashed: int
    spelling: bytes
    tag: int
    value: bytes


class DictChanging(DictReading):
    """The changing half of `xmem_dict`."""

    __slots__ = ()

    def __setitem__(self, key: Any, value: Any) -> None:
        raise NotImplementedError

    @whole
    def __delitem__(self, key: Any) -> None:
        canonical = keys.canonical(key)
        change = self._begin()
        try:
            if not change.delete(canonical, keys.stable_hash(canonical)):
                raise KeyError(key)
            self._give_back(change)
        except BaseException:
            self._fail()
            raise
        self._end()

    def _give_back(self, change: Any) -> None:
        """Let memory go that is mostly garbage; whoever deletes does that."""
        if change.is_wasteful:
            change.shrink()

    @whole
    def pop(self, key: Any, default: Any = _MISSING) -> Any:
        """Delete a key and return its value; a shared list or dict that nested=True made comes as a plain one.

        Raises:
            KeyError: there is no such key, and no `default` was given.

        Costs some 10 us.

        >>> from XME._containers.shared_dict import xmem_dict
        >>> xmem_dict({"a": [1, 2]}, nested=True).pop("a")
        [1, 2]
        """
        with self.atomic():
            try:
                value = self[key]
            except KeyError:
                if default is _MISSING:
                    raise
                return default
            value = self._parting(value)
            del self[key]
        return value

    @whole
    def popitem(self) -> tuple[Any, Any]:
        """Delete the key that was inserted last, and return it and its value (see `pop`).

        Raises:
            KeyError: the dict is empty.

        >>> from XME._containers.shared_dict import xmem_dict
        >>> xmem_dict(a=1, b=2).popitem()
        ('b', 2)
        """
        with self.atomic():
            key = next(reversed(self), _MISSING)
            if key is _MISSING:
                msg = "popitem(): dictionary is empty"
                raise KeyError(msg)
            value = self._parting(self[key])
            del self[key]
        return key, value

    def _parting(self, value: Any) -> Any:
        """Return a value that is about to be deleted: what belongs to this dict is gone then, so its content."""
        return nesting.plain(value, {}) if nesting.is_child(value, self) else value

    @whole
    def setdefault(self, key: Any, default: Any = None) -> Any:
        """Return the value of a key; if there is none, set it to `default` first, as one step.

        >>> from XME._containers.shared_dict import xmem_dict
        >>> xmem_dict(a=1).setdefault("b", 2)
        2
        """
        try:
            return self[key]
        except KeyError:
            pass
        with self.atomic():
            try:
                return self[key]
            except KeyError:
                self[key] = default
            return self[key]

    @whole
    def clear(self) -> None:
        """Delete all keys; the memory goes back."""
        change = self._begin()
        try:
            if change.count:
                change.clear()
        except BaseException:
            self._fail()
            raise
        self._end()

    def update(self, other: Any = (), /, **items: Any) -> None:
        """Set all keys that a mapping, an iterable of pairs and the keywords have, as one step.

        Raises:
            UnshareableValue, SharedMemoryFull: nothing is changed.

        Costs some 5 us a key; needs memory for all encoded items.

        >>> from XME._containers.shared_dict import xmem_dict
        >>> d = xmem_dict(a=1)
        >>> d.update({"b": 2}, c=3)
        >>> d
        xmem_dict({'a': 1, 'b': 2, 'c': 3})
        """
        self._put_all(plain_dict(other, items))

    @whole
    def _put_all(self, content: dict[Any, Any]) -> None:
        if not content:
            return
        made: dict[int, Kind] = {}
        encoded: list[_Item] = []
        try:
            for key, value in content.items():
                encoded.append(self._encoded_item(key, value, made))
        except BaseException:
            self._unlink(made)
            raise
        change = self._begin(made)
        try:
            for item in encoded:
                change.put(*item)
        except BaseException:
            self._fail()
            raise
        self._end()

    def _encoded_item(self, key: Any, value: Any, made: dict[int, Kind]) -> _Item:
        canonical = keys.canonical(key)
        tag, payload, parts = self._encode(value, f"[{key!r}]")
        made.update(parts)
        return _Item(canonical, keys.stable_hash(canonical), keys.spelled(key, canonical), tag, payload)

    def _fill(self, content: Any) -> None:
        self.update(content)

    def __ior__(self, other: Any) -> Self:
        """Update with a mapping or an iterable of pairs."""
        self.update(other)
        return self

    @whole
    def apply(self, key: Any, function: Callable[[Any], Any], default: Any = _MISSING) -> Any:
        """Set a key to what a function makes of its value, as one step, and return that.

        The function runs in this process under the dict's mutex; others read the old value meanwhile. If it raises, the
        dict is unchanged.

        Args:
            key: the key.
            function: called with the value.
            default: what it is called with if there is no such key.

        Raises:
            KeyError: there is no such key, and no `default` was given.

        >>> from XME._containers.shared_dict import xmem_dict
        >>> d = xmem_dict(words=["a"])
        >>> d.apply("words", lambda words: [*words, "b"])
        ['a', 'b']
        """
        with self.atomic():
            try:
                value = self[key]
            except KeyError:
                if default is _MISSING:
                    raise
                value = default
            result = function(value)
            self[key] = result
        return result

    @whole
    def increment(self, key: Any, by: Any = 1, default: Any = 0) -> Any:
        """Add to the value of a key, as one step, and return the sum.

        Args:
            key: the key.
            by: what is added.
            default: what it is added to if there is no such key.

        >>> from XME._containers.shared_dict import xmem_dict
        >>> d = xmem_dict(apples=3)
        >>> d.increment("apples"), d.increment("pears", by=2)
        (4, 2)
        """
        with self.atomic():
            total = self.get(key, default) + by
            self[key] = total
        return total


def plain_dict(other: Any, items: dict[str, Any]) -> dict[Any, Any]:
    """Return what dict(other, **items) is, in its own words where that is nothing."""
    if isinstance(other, DictReading):
        other = other.copy()
    if type(other) is dict and not items:
        return other
    return dict(other, **items)
