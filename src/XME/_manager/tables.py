"""What the manual calls by names with underscores: the tables of an XMEManager, as attributes."""

from __future__ import annotations

import reprlib
from abc import abstractmethod
from typing import TYPE_CHECKING, Any

from XME._manager.shared import XMEM

if TYPE_CHECKING:
    from XME._manager.shared import Shared


class Tables:
    """The tables of an XMEManager; what is in the value table is the thing that `get_table` gives."""

    _shared: Shared

    @abstractmethod
    def get_buffers(self) -> dict[Any, Any]:
        """Return a plain copy of the call buffer."""

    @property
    def __valuetable__(self) -> Any:
        """The value table, an `xmem_dict`."""
        return self._shared.table

    @property
    def __Buffer_Call__(self) -> dict[Any, Any]:
        """The call buffer, as `get_buffers` gives it."""
        return self.get_buffers()

    @property
    def __STATUS__(self) -> Any:
        """What each operator has said last, an `xmem_dict`."""
        return self._shared.status

    @property
    def __GUARD__(self) -> Any:
        """What the guard says and is told, an `xmem_dict`."""
        return self._shared.guard

    @property
    def __XMEM__(self) -> Any:
        """The manager's own functions by name, an `xmem_dict`."""
        return self._shared.table[XMEM]


def mapping_of(what: str, value: Any) -> dict[Any, Any]:
    """Return a mapping, or what gives pairs, as a dict; TypeError that says what it is for if it is neither."""
    try:
        return dict(value)
    except (TypeError, ValueError) as error:
        msg = f"{what} is a mapping, or pairs of a key and a value, not {reprlib.repr(value)}"
        raise TypeError(msg) from error
