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
from collections.abc import Mapping
from typing import Any, Final, Self

from XME._containers import by_name, opening
from XME._containers import home as homes
from XME._containers.shared_dict import xmem_dict
from XME._core import named, registry
from XME._core.callable_module import name_the_class
from XME._core.domain import Domain
from XME._monitor.board import Board
from XME._monitor.place import KIND, Place
from XME._monitor.private import PrivateMessages
from XME._security.kinds import seconds
from XME.errors import BadMessage, UnshareableValue, UnusableKey
from XME.Security import Security
from XME.Security import _restored as _restored_security

__all__ = ["MAX_SIZE", "Monitor", "marshal", "unmarshal"]

# How many bytes a message takes at most, sealed as well as unpacked.
MAX_SIZE: Final = 256 << 20


class Monitor(Board):
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

    __slots__ = ()

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

    @classmethod
    def __xmem_object__(cls, label: str, *args: Any, **kwargs: Any) -> Self:
        """Return what ``xmem_object(label, Monitor, ...)`` is: a Monitor that is shared already."""
        made = cls(*args, **kwargs)
        made._label = str(label)
        made._place.shared()
        return made

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

    def _replace_all(self, content: dict[Any, Any], operator: Any) -> Any:
        """Let these be the only messages, as `update` sets some: all or nothing."""
        return self._as(
            operator,
            lambda private: private.put_all(content, alone=True),
            lambda shared: _put_alone(shared, content),
        )

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

    # -- sealing ---------------------------------------------------------------------------------------------------

    def marshal(self, *, key: Any = None, max_size: int = MAX_SIZE) -> bytes:
        """Return all messages of this instant as sealed bytes; see `marshal` below.

        >>> there = Monitor()
        >>> there.update({"a": 1, "b": (2, 3)})
        True
        >>> here = Monitor()
        >>> here.unmarshal(there.marshal(key=bytes(32)), key=bytes(32))
        True
        >>> here.get()
        {'a': 1, 'b': (2, 3)}
        """
        return marshal(self.get(), key=key, max_size=max_size)

    def unmarshal(
        self,
        m_message: Any,
        Operator: Any = "Undef",
        *,
        key: Any = None,
        max_age: float | None = None,
        max_size: int = MAX_SIZE,
    ) -> Any:
        """Merge the messages of sealed bytes into this Monitor, as `update` does, on behalf of an operator.

        Args and what is raised are those of `unmarshal` below; nothing is changed then.

        Returns:
            True or what the Security gives, as `update` does.
        """
        content = unmarshal(m_message, key=key, max_age=max_age, max_size=max_size)
        try:
            return self.update(content, Operator)
        except (UnshareableValue, UnusableKey, RecursionError, ValueError) as error:
            # What can be in a message can be in a shared dict, but for keys of a megabyte and the like.
            raise BadMessage.of(f"what is in it cannot be stored ({error!s:.120})") from error

    # -- names -----------------------------------------------------------------------------------------------------

    def publish(self, name: str) -> Self:
        """Give it a public name, under which `XME.attach` finds it from any program of this user.

        Its messages are moved; all handles that there are follow them. They live until the last process that uses it
        has dropped it or has ended; a handle counts from its first use after this on. A Security without a name gets
        the name ``name + "/security"``.

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


def marshal(messages: Any, *, key: Any = None, max_size: int = MAX_SIZE) -> bytes:
    """Return a dict of messages as sealed bytes: packed, compressed where that pays, encrypted and authenticated.

    Args:
        messages: a dict. In it may be None, numbers, text, bytes, lists, tuples, sets, dicts, dates and times, Decimal,
            UUID, arrays and numpy's scalars, and shared lists, dicts and arrays, which go in as their content.
        key: 32 bytes, or 64 hexadecimal digits, or several of those, of which the first seals; None: what the variable
            XME_KEY has, else the user's key file, which is made at first use.
        max_size: what the other side accepts.

    Raises:
        UnsealableValue: something else is in it, which is named; or it is too large.
        BadKey: there is no usable key; says what to do.

    Costs some 10 us, and 2 ms a megabyte.
    """
    from XME._monitor import keyring, sealing  # the import takes a tenth of a second, which few programs need

    if not isinstance(messages, (dict, Mapping)):
        msg = f"messages are a dict of them, and not a {type(messages).__name__}"
        raise TypeError(msg)
    return sealing.seal(dict(messages), keyring.keys_for(key), _size("max_size", max_size))


def unmarshal(
    m_message: Any, *, key: Any = None, max_age: float | None = None, max_size: int = MAX_SIZE
) -> dict[Any, Any]:
    """Return the messages of sealed bytes. Arrays in them are read-only.

    Args:
        m_message: what `marshal` returned, here or on another machine.
        key: as `marshal` has it; any of several may have sealed it.
        max_age: for how many seconds after it was sealed it is good; None: for ever. Within that time whoever has
            copied it can send it again.
        max_size: how many bytes it may take, sealed as well as unpacked.

    Raises:
        BadMessage: it was altered or cut, it is too old or too large, it was sealed with another key, or it is no
            message. Less than four times `max_size` of memory is taken in finding that out.
        BadKey: there is no usable key; says what to do.
        TypeError, ValueError: it is not bytes, or `max_age` and `max_size` are no numbers that make sense.

    Nothing in a message is executed: what is not data is refused.

    >>> unmarshal(marshal({"a": 1}, key=bytes(32)), key=bytes(32))
    {'a': 1}
    """
    from XME._monitor import keyring, sealing  # as above

    age = None if max_age is None else seconds("max_age", max_age)
    return sealing.unseal(m_message, keyring.keys_for(key), age, _size("max_size", max_size))


def _size(what: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        msg = f"{what} is a number of bytes, not {value!r:.60}"
        raise TypeError(msg)
    if value <= 0:
        msg = f"{what} is a number of bytes, 1 or more, not {value}"
        raise ValueError(msg)
    return value


def _put_all(shared: xmem_dict, content: dict[Any, Any]) -> None:
    if len(content) != 1:
        shared.update(content)
        return
    for key, value in content.items():
        # The quick way, which many keys at once have not.
        shared[key] = value


def _put_alone(shared: xmem_dict, content: dict[Any, Any]) -> None:
    with shared.atomic():
        shared.clear()
        shared.update(content)


def _delete(shared: xmem_dict, keys: tuple[Any, ...]) -> None:
    if not keys:
        shared.clear()
        return
    with shared.atomic():
        for key in dict.fromkeys(keys):
            # A KeyError undoes the transaction.
            del shared[key]


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
