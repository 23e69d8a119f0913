"""Where a Monitor's messages are: with this process alone, or in a shared dict, which may have moved under a name.

A Monitor that is published moves into a domain of its own. In one commit the old dict loses its messages and gets the
address of the new one; the mark, which is stored before, only tells readers to look for the address. So a publisher who
is killed has moved them or has not, and every handle of the old dict finds the new one.
"""

from __future__ import annotations

import contextlib
import os
import threading
import weakref
from collections.abc import Callable
from typing import Any, Final, TypeVar

from XME._containers import home as homes
from XME._containers import opening
from XME._containers.home import W_ROOT, W_STORED
from XME._containers.shared_dict import xmem_dict
from XME._containers.struck import whole
from XME._core import named, registry
from XME._core.futex import Word
from XME._core.handles import living
from XME._monitor.private import PrivateMessages
from XME.errors import ContainerGone

T = TypeVar("T")

KIND: Final = "monitor"
# The only key of a dict whose messages have moved.
_ADDRESS: Final = b"\0XME: moved to"
# In W_STORED, which counts the places of a nested container, and these are not nested.
_MARK: Final = 3


class Place:
    """The messages of one Monitor, as this process has them."""

    __slots__ = ("__weakref__", "_lock", "_next", "_private", "_shared", "_word")

    def __init__(self, shared: xmem_dict | None = None) -> None:
        """Bind to a shared dict, or begin with no messages that nobody else can see."""
        self._lock = threading.RLock()
        self._private: PrivateMessages | None = None if shared is not None else PrivateMessages()
        self._shared = shared
        # Where publish is moving them: whatever strikes it, the new dict must not go when it has them.
        self._next: xmem_dict | None = None
        # The root word to wake waiters by, and the words that it is in.
        self._word: tuple[Any, Word] | None = None
        if shared is None:
            _private_ones.add(self)

    # -- where -----------------------------------------------------------------------------------------------------

    def shared(self) -> xmem_dict:
        """Return the shared dict, made now if nobody else could see the messages before.

        Raises:
            SharedMemoryFull: there is no room for it.
        """
        shared = self._shared
        if shared is None:
            with self._lock:
                shared = self._shared
                if shared is None:
                    shared = xmem_dict(self._own().copy())
                    # From here on the shared one counts.
                    self._shared = shared
                    self._private = None
                    _private_ones.discard(self)
        while is_marked(shared) and self._follow(shared):
            shared = self._shared
            assert shared is not None
        return shared

    def _own(self) -> PrivateMessages:
        if self._private is None:
            raise ContainerGone.of("Monitor", "its process was forked when there was no shared memory left for it")
        return self._private

    def _follow(self, shared: xmem_dict) -> bool:
        """Go where these messages have moved; False if they have not."""
        address = shared.get(_ADDRESS)
        if address is None:
            return False
        self._shared = opening.restored(homes.DICT, *address)
        self._next = None
        return True

    # -- using -----------------------------------------------------------------------------------------------------

    def read(self, of_private: Callable[[PrivateMessages], T], of_shared: Callable[[xmem_dict], T]) -> T:
        """Return what a function reads from the messages, wherever they are."""
        while True:
            shared = self._shared
            if shared is None:
                with self._lock:
                    if self._shared is None:
                        return of_private(self._own())
                continue
            try:
                found = of_shared(shared)
            except KeyError:
                if is_marked(shared) and self._follow(shared):
                    continue
                raise
            # After the reading: what was read before the mark was right.
            if not is_marked(shared) or not self._follow(shared):
                return found

    def change(self, of_private: Callable[[PrivateMessages], bool], of_shared: Callable[[xmem_dict], Any]) -> None:
        """Change the messages by a function, all or nothing, and wake who waits for that.

        Args:
            of_private: returns False, having changed nothing, if only a shared dict will do.
            of_shared: called under the dict's mutex.
        """
        while self._shared is None:
            with self._lock:
                if self._shared is None and of_private(self._own()):
                    return
            self.shared()
        while True:
            shared = self._shared
            assert shared is not None
            if _changed(shared, of_shared):
                self.wake(shared)
                return
            self._follow(shared)

    def wake(self, shared: xmem_dict) -> None:
        """Wake who waits for the messages to change."""
        words = shared.words
        known = self._word
        if known is None or known[0] is not words:
            if words is None:
                words = shared.map()
            known = self._word = words, Word(words, W_ROOT)
        known[1].wake()

    # -- moving ----------------------------------------------------------------------------------------------------

    def publish(self, name: str, metadata: dict[str, Any]) -> None:
        """Move the messages into a domain of their own, with a public name.

        Raises:
            NameTaken: the name is in use.
            ValueError: they have a name already.
            ShortLived: a message is a shared container of this program.
        """
        shared = self.shared()
        domain = None
        try:
            with shared.atomic():
                if shared.name is not None or (is_marked(shared) and _ADDRESS in shared):
                    msg = f"this Monitor has a public name already: {self.shared().name!r}"
                    raise ValueError(msg)
                with named.founding(name) as domain:
                    made = self._next = _founded(domain, name, shared.copy())
                    registry.add(registry.Entry(name, domain.id, made.serial, KIND, metadata))
                    shared.words[W_STORED] = _MARK
                    shared.clear()
                    shared[_ADDRESS] = (domain.id, made.serial, name)
        except BaseException:
            if domain is not None and not domain.ended and not is_address_of(shared, domain.id):
                named.end(domain)
            raise
        self._follow(shared)
        self.wake(shared)

    # -- forks -----------------------------------------------------------------------------------------------------

    def forget_after_fork(self) -> None:
        """In a fork's child: private messages that could not be shared are the parent's."""
        self._lock = threading.RLock()
        if self._shared is None:
            self._private = None


@whole
def _changed(shared: xmem_dict, function: Callable[[xmem_dict], Any]) -> bool:
    """Change a dict by a function; False if its messages have moved."""
    # Given back by `whole` after an exception: what a Ctrl-C strikes below may have given back all of it already.
    shared.mutex.acquire()
    # Nobody moves them meanwhile.
    is_here = not (is_marked(shared) and _ADDRESS in shared)
    if is_here:
        function(shared)
    shared.mutex.release()
    return is_here


def _founded(domain: Any, name: str, content: dict[Any, Any]) -> xmem_dict:
    made = xmem_dict.__new__(xmem_dict)
    made._found(domain)
    made._bear(name)
    made._fill(content)
    # It belongs to all who attach: its maker's leaving must not unlink it.
    domain.names.mark_handed(made.serial)
    return made


def is_marked(shared: xmem_dict) -> bool:
    """True if a dict's messages may have moved."""
    words = shared.words
    return bool((shared.map() if words is None else words)[W_STORED] == _MARK)


def is_address_of(shared: xmem_dict, domain_id: str) -> bool:
    """True if a dict's messages have moved to this domain."""
    address = shared.get(_ADDRESS) if is_marked(shared) else None
    return address is not None and address[0] == domain_id


_private_ones: weakref.WeakSet[Place] = weakref.WeakSet()


def _before_fork() -> None:
    for place in living(_private_ones):
        # Where it fails, the child says so, if it ever uses these messages.
        with contextlib.suppress(Exception):
            place.shared()


def _after_fork_in_child() -> None:
    for place in living(_private_ones):
        place.forget_after_fork()


os.register_at_fork(before=_before_fork, after_in_child=_after_fork_in_child)
