"""`xmem_dict`: a dict in shared memory."""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping
from typing import Any

from XME._containers import container
from XME._containers import home as homes
from XME._containers.container import CACHED, Container
from XME._core import named, program
from XME._store import index, keys, table, values
from XME._store.log import PLACE_MASK


class xmem_dict(Container, MutableMapping[Any, Any]):
    """A dict that all processes that get it read and change, in shared memory."""

    __slots__ = ()

    _KIND = homes.DICT
    _CHANGE = table.TableChange

    def __init__(self, init: Any = (), *, name: str | None = None, nested: bool = False) -> None:
        """Make a new shared dict."""
        named.tidy()
        self._found(program.program_domain(), nested=nested)
        if init:
            self.update(init)

    # -- reading ---------------------------------------------------------------------------------------------------

    def __getitem__(self, key: Any) -> Any:
        """Return the value of a key."""
        try:
            entry = self._cache[key]
            if entry[0] == self._stamp[0]:
                return entry[1]
        except (KeyError, TypeError):
            pass
        return self._get(key)

    def _get(self, key: Any) -> Any:
        root, generation, limit = self._look()
        if root:
            entry = self._cache.get(key)
            if entry is not None and entry[4] is generation and generation.words[entry[2]] & PLACE_MASK == entry[3]:
                entry[0] = root
                return entry[1]
        canonical = keys.canonical(key)
        slot, place = table.lookup(generation, limit, canonical, keys.stable_hash(canonical))
        if not place:
            raise KeyError(key)
        _, tag, data = table.split(generation, place)
        value, kept = values.decode(tag, data, self._open_value)
        if kept == values.AS_IT_IS and root:
            self._keep(key, root, value, slot, place, generation)
        return value

    def _keep(self, key: Any, root: int, value: Any, slot: int, place: int, generation: Any) -> None:
        cache = self._cache
        if len(cache) >= CACHED:
            cache.clear()
        cache[key] = [root, value, 8 + slot, place, generation]

    def __len__(self) -> int:
        """Return how many keys there are."""
        return self._numbers()[0]

    def __iter__(self) -> Iterator[Any]:
        """Yield the keys of one instant."""
        _, generation, limit = self._look()
        _, end, _ = self._numbers()
        for place in index.in_order(generation, end, limit):
            yield keys.restore(bytes(generation.key(place)), table.split(generation, place)[0])

    # -- changing --------------------------------------------------------------------------------------------------

    def __setitem__(self, key: Any, value: Any) -> None:
        """Set a key."""
        canonical = keys.canonical(key)
        tag, payload, made = self._encode(value, f"[{key!r}]")
        hashed = keys.stable_hash(canonical)
        spelling = keys.spelled(key, canonical)
        change = self._begin(made)
        try:
            change.put(canonical, hashed, spelling, tag, payload)
        except BaseException:
            self._fail()
            raise
        self._end()

    def __delitem__(self, key: Any) -> None:
        """Delete a key."""
        canonical = keys.canonical(key)
        change = self._begin()
        try:
            if not change.delete(canonical, keys.stable_hash(canonical)):
                raise KeyError(key)
        except BaseException:
            self._fail()
            raise
        self._end()


container.CLASSES[homes.DICT] = xmem_dict
