"""What of a shared dict only reads: instants, iteration, comparison, copies."""

from __future__ import annotations

import copy
import reprlib
from collections.abc import ItemsView, Iterator, KeysView, Mapping, ValuesView
from typing import Any, NamedTuple

from XME._containers import dict_views, nesting
from XME._containers.container import BUSY, Container
from XME._containers.home import W_REFERS
from XME._store import index, keys, restoring, table, values
from XME._store.log import PLACE_MASK, Generation
from XME.errors import ContainerGone, XMEError

# So often an instant is looked for whose large values are all there, before the mutex is taken for it.
_TRIES = 3
_MISSING: Any = object()


class Instant(NamedTuple):
    """What the dict is at one root, or in the middle of this thread's own change; it stays so while this is kept.

    Attributes:
        root: the root word, or 0.
        generation: where its records are.
        limit: the place of the last record that counts.
        end: behind the last position that counts.
    """

    root: int
    generation: Generation
    limit: int
    end: int

    def places(self, *, backwards: bool = False) -> Iterator[int]:
        """Yield the places of its records in the order of insertion."""
        return index.in_order(self.generation, self.end, self.limit, backwards=backwards)

    def key(self, place: int) -> Any:
        """Return the key of a record."""
        return restoring.restore(bytes(self.generation.key(place)), table.split(self.generation, place)[0])


class DictReading(Container):
    """The reading half of `xmem_dict`."""

    __slots__ = ()

    def __getitem__(self, key: Any) -> Any:
        raise NotImplementedError

    # -- instants --------------------------------------------------------------------------------------------------

    def _instant(self) -> Instant:
        change = self._change
        if change is not None and change is not BUSY and self.mutex.held:
            return Instant(0, change.generation, change.last, change.end)
        root, generation = self.current()
        limit = root & PLACE_MASK
        _, _, end, _, _ = generation.fields(limit)
        return Instant(root, generation, limit, end)

    def _pinned(self) -> tuple[Instant, dict[int, Any]]:
        """Return an instant and, by place, those of its values that a later commit may unlink: they are opened now."""
        for _ in range(_TRIES):
            instant = self._instant()
            opened, is_whole = self._opened(instant)
            # What is missing at a root that is still the container's was taken away by somebody else.
            if is_whole or not instant.root or instant.root == self._instant().root:
                return instant, opened
        with self.mutex:
            instant = self._instant()
            return instant, self._opened(instant)[0]

    def _opened(self, instant: Instant) -> tuple[dict[int, Any], bool]:
        opened: dict[int, Any] = {}
        is_whole = True
        if self.map()[W_REFERS]:
            for place in instant.places():
                if instant.generation.tag(place) & values.HAS_SERIALS:
                    try:
                        opened[place] = self._value_at(instant.generation, place)
                    except ContainerGone:
                        is_whole = False
        return opened, is_whole

    def _value_at(self, generation: Generation, place: int) -> Any:
        _, tag, data = table.split(generation, place)
        return values.decode(tag, data, self._open_value)[0]

    def _pairs(self, *, backwards: bool = False) -> Iterator[tuple[Any, Any]]:
        """Return an iterator over the items of this instant."""
        instant, opened = self._pinned()

        def pair(place: int) -> tuple[Any, Any]:
            value = opened.pop(place, _MISSING)
            if value is _MISSING:
                value = self._value_at(instant.generation, place)
            return instant.key(place), value

        return map(pair, instant.places(backwards=backwards))

    # -- what a dict has -------------------------------------------------------------------------------------------

    def __len__(self) -> int:
        """Return how many keys there are (0.5 us, at any size)."""
        return self._numbers()[0]

    def __iter__(self) -> Iterator[Any]:
        """Yield the keys of one instant, in the order of insertion, whatever is written meanwhile."""
        instant = self._instant()
        return map(instant.key, instant.places())

    def __reversed__(self) -> Iterator[Any]:
        instant = self._instant()
        return map(instant.key, instant.places(backwards=True))

    def __contains__(self, key: Any) -> bool:
        try:
            if self._cache[key][0] == self._stamp[0]:
                return True
        except (KeyError, TypeError):
            pass
        canonical = keys.canonical(key)
        _, generation, limit = self._look()
        return table.lookup(generation, limit, canonical, keys.stable_hash(canonical))[1] != 0

    def get(self, key: Any, default: Any = None) -> Any:
        """Return the value of a key, or `default` if there is none; costs as much as ``d[key]``."""
        try:
            return self[key]
        except KeyError:
            return default

    def keys(self) -> KeysView[Any]:
        """Return a view of the keys, with the operations of a set.

        A view is always of what the dict is when it is used. Each use (an iteration, a comparison, an operator) sees
        one instant, whatever is written meanwhile; an iteration keeps the memory of its instant until it ends, which is
        at most as much as the dict's own.

        >>> from XME._containers.shared_dict import xmem_dict
        >>> xmem_dict(a=1, b=2).keys() & {"b", "c"}
        {'b'}
        """
        return dict_views.Keys(self)

    def values(self) -> ValuesView[Any]:
        """Return a view of the values; see `keys`.

        Values of 64 KiB and more are mapped when an iteration begins, so that it finds them whatever is deleted.

        >>> from XME._containers.shared_dict import xmem_dict
        >>> list(xmem_dict(a=1, b=2).values())
        [1, 2]
        """
        return dict_views.Values(self)

    def items(self) -> ItemsView[Any, Any]:
        """Return a view of the pairs of key and value; see `keys` and `values`.

        >>> from XME._containers.shared_dict import xmem_dict
        >>> list(xmem_dict(a=1, b=2).items())
        [('a', 1), ('b', 2)]
        """
        return dict_views.Items(self)

    def copy(self) -> dict[Any, Any]:
        """Return a plain dict with the keys and values of one instant; what is shared inside stays shared.

        >>> from XME._containers.shared_dict import xmem_dict
        >>> xmem_dict(a=1).copy()
        {'a': 1}
        """
        return dict(self._pairs())

    __copy__ = copy

    def todict(self) -> dict[Any, Any]:
        """Return a plain dict in which the shared lists and dicts inside are plain as well, to any depth.

        Each of them is of one instant, but not all of the same: that would take a transaction over each.

        >>> from XME._containers.shared_dict import xmem_dict
        >>> xmem_dict({"a": {"b": [1]}}, nested=True).todict()
        {'a': {'b': [1]}}
        """
        plain: dict[Any, Any] = nesting.plain(self, {})
        return plain

    def _fill_plain(self, memo: dict[int, tuple[Any, Any]]) -> dict[Any, Any]:
        plain: dict[Any, Any] = {}
        memo[id(self)] = self, plain
        for key, value in self._pairs():
            plain[key] = nesting.plain(value, memo)
        return plain

    def __deepcopy__(self, memo: dict[int, Any]) -> dict[Any, Any]:
        """Return a plain dict with copies of everything."""
        plain: dict[Any, Any] = {}
        memo[id(self)] = plain
        for key, value in self._pairs():
            plain[copy.deepcopy(key, memo)] = copy.deepcopy(value, memo)
        return plain

    def __eq__(self, other: object) -> bool:
        if other is self:
            return True
        if isinstance(other, DictReading):
            return self.copy() == other.copy()
        if isinstance(other, Mapping):
            return self.copy() == dict(other.items())
        return NotImplemented

    __hash__ = None  # type: ignore[assignment] # as a dict has it

    def __or__(self, other: Any) -> Any:
        """Return a plain dict with the items of both; the other's values win."""
        return {**self.copy(), **_copied(other)} if isinstance(other, Mapping) else NotImplemented

    def __ror__(self, other: Any) -> Any:
        return {**other, **self.copy()} if isinstance(other, Mapping) else NotImplemented

    @reprlib.recursive_repr("xmem_dict({...})")
    def __repr__(self) -> str:
        name = "" if self.name is None else f", name={self.name!r}"
        try:
            return f"xmem_dict({self.copy()!r}{name})"
        except XMEError as error:
            return f"<xmem_dict{name}: {type(error).__name__}>"


def _copied(other: Any) -> Any:
    return other.copy() if isinstance(other, DictReading) else other
