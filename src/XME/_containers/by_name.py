"""`attach`: open what another program shares under a public name."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

from XME._containers import home, opening, shared_array
from XME._core import memory, named, names, program, registry
from XME._core.domain import Domain
from XME._core.registry import Entry
from XME.errors import BadSegment, ContainerGone, DomainEnded

_OPENERS: dict[str, Callable[[Domain, Entry], Any]] = {
    "array": shared_array.open_entry,
    **dict.fromkeys(home.NAMES.values(), opening.open_entry),
}
# Kinds that stand above the containers: the module that brings its opener when it is loaded.
_LATER = {"security": "XME.Security", "object": "XME._containers.shared_object", "monitor": "XME.Monitor"}


def add_opener(kind: str, opener: Callable[[Domain, Entry], Any]) -> None:
    """Let `attach` open what is published as `kind`."""
    _OPENERS[kind] = opener


def attach(name: str) -> Any:
    """Return the shared container with this public name, of whatever program of this user.

    This process then keeps what was made with a name alive as well, until it drops its last handle or ends; a list,
    dict or object that was published ends with its program.

    Args:
        name: what `name=` or `.publish(name)` said.

    Raises:
        NameUnknown: nobody alive shares anything under this name.
        BadSegment: its memory or its entry is damaged, or of another version of XME.
        PermissionError: it belongs to another user.

    Costs some 100 us, whatever the size.

    >>> from XME._containers.shared_array import xmem_array
    >>> prices = xmem_array([3, 1, 2], name="attach-doctest")
    >>> attach("attach-doctest").sort()
    >>> prices.tolist()
    [1, 2, 3]
    """
    # Here, because whoever attaches to one program after the other would keep something of each.
    program.leave_ended(opening.has_handles)
    while True:
        with named.joining(name) as (entry, domain):
            try:
                return _opened(domain, entry)
            except (ContainerGone, DomainEnded):
                # Of another one, which opening it needs?
                if not domain.ended and memory.is_there(names.path_of(names.name_of(domain.id, entry.serial))):
                    raise
                # Unlinked since the entry was read, or by one who was killed before he could remove the name; another
                # may have the name by now.
                registry.remove(name, domain.id, entry.serial)


def _opened(domain: Domain, entry: Entry) -> Any:
    if entry.kind in _LATER:
        importlib.import_module(_LATER[entry.kind])
    opener = _OPENERS.get(entry.kind)
    if opener is None:
        raise BadSegment.of(entry.name, f"this version of XME knows no container of the kind {entry.kind!r}")
    return opener(domain, entry)
