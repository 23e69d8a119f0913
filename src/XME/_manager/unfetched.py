"""Failures that nobody has fetched go to the log "XME" when their manager goes: nothing is lost silently.

Where a `gfun` ends they are raised; this is for programs that use a manager without one. The program that has made a
manager says it, when the next manager is made or when the program ends.
"""

from __future__ import annotations

import logging
import weakref
from collections import deque
from typing import TYPE_CHECKING

from XME._core import dropped
from XME._core.exits import at_exit
from XME._core.handles import living
from XME._core.program import LEAVING
from XME.errors import XMEError

if TYPE_CHECKING:
    from XME._manager.buffer import CallBuffer

_log = logging.getLogger("XME")
# Of managers that this process has made: those in use, and what finalizers have left of the others.
_used: weakref.WeakSet[CallBuffer] = weakref.WeakSet()
_dropped: deque[CallBuffer] = deque()


def watch(owner: object, buffer: CallBuffer) -> None:
    """Log what will be unfetched in a buffer when its owner is dropped or this program ends."""
    say_dropped()
    _used.add(buffer)
    weakref.finalize(owner, _dropped.append, buffer).atexit = False
    # Before the domains are left.
    at_exit(_say_all, LEAVING + 1)


def say_dropped() -> None:
    """Log what is unfetched of managers that were dropped."""
    for buffer in dropped.each(_dropped):
        _say(buffer)


def _say_all() -> None:
    say_dropped()
    for buffer in living(_used):
        _say(buffer)


def _say(buffer: CallBuffer) -> None:
    try:
        failed = buffer.take_failures()
    except XMEError as unreadable:
        _log.error("what has failed in an XMEManager and was never fetched cannot be read: %s", unreadable)
        return
    for number, name, error in failed:
        _log.error("XMEManager: call %d, %s, failed, and nobody has fetched that", number, name, exc_info=error)


def after_fork_in_child() -> None:
    """Leave the parent's managers to the parent."""
    _used.clear()
    _dropped.clear()
