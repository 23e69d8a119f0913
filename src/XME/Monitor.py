"""Messages between processes and between programs, behind a Security; sealed, they also travel to other machines.

    get, items, m[key], len, in      read; take no lock, and see one instant
    update, delete                   change, for operators whom the Security lets; all or nothing
    wait                             sleeps until a message changes
    marshal, unmarshal               all messages as sealed bytes, and back: encrypted, and never with pickle

A Monitor that only one process knows is a private thing, and cheap. It becomes shared when another process may get to
know it: when it is pickled or published, when the process forks, or when `__Message__` is asked for.
"""

from __future__ import annotations

import copy
from collections.abc import ItemsView, Iterator
from typing import Any, Self

from XME._containers import by_name, opening
from XME._containers import home as homes
from XME._containers.home import W_ROOT
from XME._containers.shared_dict import xmem_dict
from XME._core import named, registry
from XME._core.callable_module import name_the_class
from XME._core.domain import Domain
from XME._monitor.place import KIND, Place
from XME._monitor.private import PrivateMessages
from XME._monitor.watching import Watch, deadline_of, left_of
from XME.Security import Security
from XME.Security import _restored as _restored_security

__all__ = ["Monitor"]

_SHOWN = 60


class Monitor:
    """A board of messages: keys and values as in `xmem_dict`, that every process which gets it reads and changes.

    It pickles as a name, under every start method, and `publish` lets unrelated programs find it. ``XME.xmem_object(
    "label", Monitor, security=sec)`` makes a shared one as well: no object's mutex is taken for its methods, so nothing
    is held while one waits.

    Args:
        security: who may change messages, and when; None: everybody. Reading is free.
        name: a public name, as `publish` gives it.

    Costs some 10 us; 200 us more when it becomes shared.

    >>> board = Monitor()
    >>> board.update({"done": 3, "of": 10})
    True
    >>> board["done"], "of" in board, len(board)
    (3, True, 2)
    """

    __slots__ = ("__weakref__", "_label", "_place", "_security")

    def __init__(self, security: Security | None = None, *, name: str | None = None) -> None:
        """Make a new one, without messages.

        Raises:
            TypeError: `security` is no Security.
            NameTaken: the public name is in use.
        """
        kind: type = type(security)
        if security is not None and not issubclass(kind, Security):
            msg = f"security= wants an XME.Security.Security, and not {security!r:.60}"
            raise TypeError(msg)
        self._bind(Place(), security, "Monitor")
        if name is not None:
            self.publish(name)

    def _bind(self, place: Place, security: Security | None, label: str) -> None:
        self._place = place
        self._security = security
        self._label = label

    @classmethod
    def __xmem_object__(cls, label: str, *args: Any, **kwargs: Any) -> Self:
        """Return what ``xmem_object(label, Monitor, ...)`` is: a Monitor that is shared already."""
        made = cls(*args, **kwargs)
        made._label = str(label)
        made._place.shared()
        return made

    # -- reading ---------------------------------------------------------------------------------------------------

    def get(self, *keys: Any) -> Any:
        """Return a message, several, or all, as they are at one instant.

        Args:
            *keys: one: its value is returned; several: a dict of them; none: a dict of all.

        Raises:
            KeyError: there is no such message.

        Costs as much as reading an `xmem_dict`. Values are copies; shared containers in them stay shared.

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

    # -- changing --------------------------------------------------------------------------------------------------

    def update(self, newmessage: Any, Operator: Any = "Undef") -> Any:
        """Set messages, all or none of them.

        Args:
            newmessage: a mapping of them, or what `dict` takes.
            Operator: on whose behalf.

        Returns:
            True. If the Security does not let this operator, nothing is changed, and it is what the Security's
            DeadLockFun gives: by default the false text DEADLOCKMARK_ONLOCK.

        Raises:
            UnshareableValue: a value does not pickle; nothing is changed.
            SharedMemoryFull: there is no room; nothing is changed.
            ShortLived: a shared container was put into a Monitor with a public name, which may outlive it.

        Costs some 5 us, 3 us more behind a Security.
        """
        content = dict(newmessage)
        return self._as(Operator, lambda private: private.put_all(content), lambda shared: _put_all(shared, content))

    def delete(self, *keys: Any, Operator: Any = "Undef") -> Any:
        """Delete these messages, or all if no key is given; all or none of them.

        Returns:
            True or what the Security gives, as `update` does.

        Raises:
            KeyError: one of them does not exist; nothing is deleted.

        >>> board = Monitor()
        >>> board.update({"a": 1, "b": 2})
        True
        >>> board.delete("a")
        True
        >>> board.get()
        {'b': 2}
        """

        def of_private(private: PrivateMessages) -> bool:
            private.delete(keys)
            return True

        return self._as(Operator, of_private, lambda shared: _delete(shared, keys))

    def _as(self, operator: Any, of_private: Any, of_shared: Any) -> Any:
        """Change the messages on an operator's behalf."""
        security = self._security
        if security is None:
            self._place.change(of_private, of_shared)
            return True
        depth = security._mutex.depth
        # No `finally`: a Ctrl-C may strike before its first instruction, so what counts is what this thread holds.
        try:
            # Before the dict's mutex, which nobody holds who waits.
            answer = security.acquire(operator)
            if answer is True:
                self._place.change(of_private, of_shared)
                security.release(operator)
        except BaseException:
            if security._mutex.depth > depth:
                security.release(operator)
            raise
        return answer

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

        Sleeps in the kernel, holds nothing meanwhile, and is woken by `update` and `delete`, in some 50 us. If the one
        who changed a message was killed right after that, or changed ``__Message__`` himself, it is noticed within a
        tenth of a second.

        >>> board = Monitor()
        >>> moment = board.moment
        >>> board.update({"a": 1})
        True
        >>> board.wait("a", since=moment), board.wait("a", timeout=0.01)
        (True, False)
        """
        deadline = deadline_of(timeout)
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

    # -- names -----------------------------------------------------------------------------------------------------

    @property
    def name(self) -> str | None:
        """The public name under which `XME.attach` finds it, or None."""
        return self._place.read(lambda _private: None, lambda shared: shared.name)

    def publish(self, name: str) -> Self:
        """Give it a public name, under which `XME.attach` finds it from any program of this user.

        Its messages are moved; all handles that there are follow them. They live until the last process that uses it
        has dropped it or has ended. A Security without a name gets the name ``name + "/security"``.

        Raises:
            NameTaken: the name is in use.
            ValueError: it has another one already.
            ShortLived: a message is a shared container of this program, which may end before.
            MutexError: this thread has the Security.
        """
        registry.check_name(name)
        named.tidy()
        own = self.name
        if own == name:
            return self
        if own is not None:
            msg = f"this Monitor is published as {own!r} already"
            raise ValueError(msg)
        registry.load_lock()
        registry.require_free(name)
        security = self._security
        if security is not None and security.name is None:
            security.publish(f"{name}/security")
        guard = None if security is None else list(security.__reduce__()[1])
        self._place.publish(name, {"label": self._label, "security": guard})
        return self

    def unlink(self) -> None:
        """Take it away, for everybody (see `xmem_dict.unlink`); who waits gets ContainerGone."""
        self._place.shared().unlink()

    # -- travelling ------------------------------------------------------------------------------------------------

    def __reduce__(self) -> Any:
        """Pickle as names."""
        return _restored, (type(self), self._place.shared(), self._security, self._label)

    def __copy__(self) -> dict[Any, Any]:
        return copy.copy(self.get())

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        return copy.deepcopy(self.get(), memo)


def _several(shared: xmem_dict, keys: tuple[Any, ...]) -> dict[Any, Any]:
    root = shared.map()[W_ROOT]
    found = {key: shared[key] for key in keys}
    if shared.map()[W_ROOT] == root:
        return found
    with shared.atomic():
        return {key: shared[key] for key in keys}


def _put_all(shared: xmem_dict, content: dict[Any, Any]) -> None:
    if len(content) != 1:
        shared.update(content)
        return
    for key, value in content.items():
        # The quick way, which many keys at once have not.
        shared[key] = value


def _delete(shared: xmem_dict, keys: tuple[Any, ...]) -> None:
    if not keys:
        shared.clear()
        return
    with shared.atomic():
        for key in dict.fromkeys(keys):
            # A KeyError undoes the transaction.
            del shared[key]


def _cut(text: str) -> str:
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def _restored(cls: type[Monitor], messages: xmem_dict, security: Security | None, label: str) -> Monitor:
    monitor = cls.__new__(cls)
    monitor._bind(Place(messages), security, label)
    return monitor


def open_entry(domain: Domain, entry: registry.Entry) -> Monitor:
    """Open a published Monitor from its registry entry; named.lock is held."""
    with named.explaining(domain, entry.name):
        messages = opening.handle_of(homes.DICT, domain, entry.serial, entry.name)
    guard = entry.metadata["security"]
    security = None if guard is None else _restored_security(*guard)
    return _restored(Monitor, messages, security, str(entry.metadata["label"]))


by_name.add_opener(KIND, open_entry)
name_the_class(__name__, "Monitor")
