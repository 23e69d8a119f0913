"""How values get into a shared container, and how a container gets into other processes."""

from __future__ import annotations

from typing import Any

from XME._containers import flight, nesting, opening
from XME._containers.home import OBJECT, W_GONE, W_PARENT, W_REFERS, W_STORED
from XME._containers.naming import Named
from XME._core import layout, program
from XME._core.ledger import Kind
from XME._store import pickling, values
from XME.errors import ContainerGone, DomainEnded, ShortLived


class Handed(Named):
    """The base of the shared containers that encodes values, and is pickled as a name."""

    __slots__ = ()

    _KIND = 0

    def _straightened(self) -> None:
        """Forget what else an exception may have left half-done (see struck.straighten)."""

    # -- values ----------------------------------------------------------------------------------------------------

    def _encode(self, value: Any, where: str) -> tuple[int, bytes, dict[int, Kind]]:
        """Return (tag, bytes, what was made for it); called before the mutex is taken, because large buffers take time.

        Raises:
            UnshareableValue: it does not pickle.
            SharedMemoryFull: there is no room for its large buffers.
            ValueError: it refers to a container that may end before this one.
        """
        if self._is_nested and nesting.is_nestable(value):
            child = nesting.shared_child(self, value)
            tag, payload, _ = self._encode_value(child, where)
            return tag, payload, {child.serial: Kind.CONTAINER}
        return self._encode_value(value, where)

    def _encode_value(self, value: Any, where: str) -> tuple[int, bytes, dict[int, Kind]]:
        tag, payload, large, children = encoded = values.encode(value, where)
        if not tag & values.HAS_SERIALS:
            return tag, payload, {}
        self.map()[W_REFERS] = 1
        owned = [child.serial for child in children if self._takes(child)]
        made = flight.store_buffers(self, large)
        return tag, values.payload_with(encoded, made, owned), dict.fromkeys(made, Kind.VALUE)

    def _takes(self, child: Any) -> bool:
        """Return whether a container that is put in belongs to this one; refuse one that may end before it."""
        domain = child.domain if isinstance(child, Named) else child._hold.segment.domain
        # What another program has made ends with that, whenever it likes.
        if domain is not self.domain and (self.domain.kind == layout.NAMED or domain.kind == layout.PROGRAM):
            raise ShortLived.of(self.name or self._called, *_shown(child))
        if not isinstance(child, Named) or domain is not self.domain:
            return False
        words = child.map()
        if words[W_PARENT] != self.serial:
            return False
        words[W_STORED] = 2 if words[W_STORED] else 1
        return True

    # -- handing over ----------------------------------------------------------------------------------------------

    def __reduce__(self) -> Any:
        """Pickle as a name.

        Raises:
            ContainerGone: it was unlinked.
            DomainEnded: the program that owns it has ended.
        """
        domain = self.domain
        if self._public_name is not None and domain.ended:
            raise ContainerGone.of(self._public_name)
        if not domain.joined:
            program.join(domain.id)
        if domain.ended:
            raise DomainEnded.of(domain.id)
        if self.map()[W_GONE]:
            raise ContainerGone.of(self._called)
        domain.names.mark_handed(self.serial)
        pickling.met(self)
        origin = program.origin_beside(domain)
        where = self._KIND, domain.id, self.serial, self._public_name
        return opening.restored, where if origin is None else (*where, origin)


def _shown(child: Any) -> tuple[str, str]:
    """Return what a message says of a container that may end too early, and what may be put in instead."""
    if not isinstance(child, Named):
        return repr(child), "store a plain copy (.copy())"
    if child.kind == OBJECT:
        obj: Any = child
        where = "one that its own program has made, without a public name"
        advice = f"store a plain copy (copy.copy(it)), or put it into {where}"
        return repr(obj.handle()), advice
    return repr(child), "store a plain copy, or make the outer one with nested=True and store plain lists and dicts"
