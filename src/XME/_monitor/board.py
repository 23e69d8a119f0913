"""The half of a Monitor that looks and waits."""

from __future__ import annotations

from collections.abc import ItemsView, Iterator
from typing import Any

from XME._containers.home import W_ROOT
from XME._containers.shared_dict import xmem_dict
from XME._monitor.place import Place
from XME._monitor.private import PrivateMessages
from XME._monitor.watching import Watch, deadline_of, left_of
from XME._security.kinds import seconds
from XME.Security import Security

_SHOWN = 60


class Board:
    """Messages that are looked at."""

    __slots__ = ("__weakref__", "_label", "_place", "_security")

    def _bind(self, place: Place, security: Security | None, label: str) -> None:
        self._place = place
        self._security = security
        self._label = label

    # -- reading ---------------------------------------------------------------------------------------------------

    def get(self, *keys: Any) -> Any:
        """Return a message, several, or all, as they are at one instant.

        Args:
            *keys: one: its value is returned; several: a dict of them; none: a dict of all.

        Raises:
            KeyError: there is no such message.

        Costs as much as reading an `xmem_dict`. Values are copies; shared containers in them stay shared.

        >>> from XME.Monitor import Monitor
        >>> board = Monitor()
        >>> board.update({"a": 1, "b": [2]})
        True
        >>> board.get("a"), board.get("a", "b"), board.get()
        (1, {'a': 1, 'b': [2]}, {'a': 1, 'b': [2]})
        """
        if len(keys) == 1:
            return self[keys[0]]
        if not keys:
            return self._place.read(PrivateMessages.copy, xmem_dict.copy)
        return self._place.read(
            lambda private: {key: private.get(key) for key in keys}, lambda shared: _several(shared, keys)
        )

    def __getitem__(self, key: Any) -> Any:
        """Return a message; KeyError if there is none."""
        return self._place.read(lambda private: private.get(key), lambda shared: shared[key])

    def items(self) -> ItemsView[Any, Any]:
        """Return the pairs of key and message, of one instant.

        >>> from XME.Monitor import Monitor
        >>> board = Monitor()
        >>> board.update({"a": 1})
        True
        >>> list(board.items())
        [('a', 1)]
        """
        messages: dict[Any, Any] = self.get()
        return messages.items()

    def __len__(self) -> int:
        """Return how many messages there are."""
        return self._place.read(len, len)

    def __contains__(self, key: Any) -> bool:
        return self._place.read(lambda private: key in private, lambda shared: key in shared)

    def __iter__(self) -> Iterator[Any]:
        """Yield the keys of one instant."""
        return iter(self._place.read(list, list))

    __hash__ = object.__hash__

    @property
    def __Message__(self) -> xmem_dict:
        """The shared dict of the messages; who changes it asks no Security, and wakes waiters a tenth of a second late.

        Ask for it anew after `publish`, which moves the messages.
        """
        return self._place.shared()

    # -- waiting ---------------------------------------------------------------------------------------------------

    def wait(self, *keys: Any, timeout: float | None = None, since: int | None = None) -> bool:
        """Sleep until one of these messages, or any if no key is given, is set or deleted.

        Args:
            *keys: what matters.
            timeout: for how many seconds at most; None: no limit.
            since: a `moment`; what has changed after it counts, so that nothing is missed between two waits. If the
                dict was reorganised since, that is taken for a change.

        Returns:
            True; False if the time is over.

        Raises:
            ContainerGone: the Monitor was unlinked.
            DomainEnded: the program that owns it has ended: nobody can change it any more.
            TypeError, ValueError: `timeout` is no number of seconds, or `since` no moment.

        Sleeps in the kernel, holds nothing meanwhile, and is woken by `update` and `delete`, in some 50 us. If the one
        who changed a message was killed right after that, or changed ``__Message__`` himself, it is noticed within a
        tenth of a second.

        >>> from XME.Monitor import Monitor
        >>> board = Monitor()
        >>> moment = board.moment
        >>> board.update({"a": 1})
        True
        >>> board.wait("a", since=moment), board.wait("a", timeout=0.01)
        (True, False)
        """
        deadline = deadline_of(None if timeout is None else seconds("timeout", timeout))
        kind: type = type(since)
        if since is not None and not issubclass(kind, int):
            msg = f"since= wants a moment of this Monitor (board.moment), not {since!r:.60}"
            raise TypeError(msg)
        watch = Watch(self._place.shared(), keys, since)
        while not watch.has_changed(self._place.shared()):
            left = left_of(deadline)
            if left <= 0:
                return False
            watch.sleep(left)
        return True

    @property
    def moment(self) -> int:
        """What tells `wait` from where on changes count; it grows with each change, and is only good for that."""
        return int(self._place.shared().map()[W_ROOT])

    # -- looking ---------------------------------------------------------------------------------------------------

    def get_str(self) -> str:
        """Return a text with the messages, one a line, long ones cut, and what guards them.

        >>> from XME.Monitor import Monitor
        >>> board = Monitor()
        >>> board.update({"a": 1})
        True
        >>> print(board.get_str())
        <Monitor 'Monitor', 1 message, no Security>
          a: 1
        """
        messages = self.get()
        lines = [f"  {key}: {_cut(repr(value))}" for key, value in messages.items()]
        guard = "no Security" if self._security is None else repr(self._security)
        return "\n".join([f"{self._head(len(messages))}, {guard}>", *lines])

    def _head(self, count: int) -> str:
        name = "" if self.name is None else f", name={self.name!r}"
        return f"<Monitor {self._label!r}{name}, {count} message{'' if count == 1 else 's'}"

    def __repr__(self) -> str:
        return f"{self._head(len(self))}>"

    @property
    def security(self) -> Security | None:
        """The Security that guards it, or None."""
        return self._security

    @property
    def name(self) -> str | None:
        """The public name under which `XME.attach` finds it, or None."""
        return self._place.read(lambda _private: None, lambda shared: shared.name)


def _several(shared: xmem_dict, keys: tuple[Any, ...]) -> dict[Any, Any]:
    root = shared.map()[W_ROOT]
    found = {key: shared[key] for key in keys}
    if shared.map()[W_ROOT] == root:
        return found
    with shared.atomic():
        return {key: shared[key] for key in keys}


def _cut(text: str) -> str:
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
