"""Failures that nobody has fetched go to the log "XME" when their manager goes: nothing is lost silently.

Where a `gfun` ends they are raised; this is for programs that use a manager without one. The program that has made a
manager says it, when the next manager is made or when the program ends.
"""

from __future__ import annotations

import atexit
import logging
import os
import sys
import weakref
from collections import deque
from typing import TYPE_CHECKING

from XME.errors import XMEError

if TYPE_CHECKING:
    from XME._manager.buffer import CallBuffer

_log = logging.getLogger("XME")
# Of managers that this process has made: those in use, and what finalizers have left of the others.
_used: weakref.WeakSet[CallBuffer] = weakref.WeakSet()
_dropped: deque[CallBuffer] = deque()
_exit_handler_of = 0


def watch(owner: object, buffer: CallBuffer) -> None:
    """Log what will be unfetched in a buffer when its owner is dropped or this program ends."""
    say_dropped()
    _used.add(buffer)
    # A finalizer may run in the middle of anything, so it only leaves word.
    weakref.finalize(owner, _dropped.append, buffer).atexit = False
    _say_at_exit()


def say_dropped() -> None:
    """Log what is unfetched of managers that were dropped."""
    while _dropped:
        try:
            buffer = _dropped.popleft()
        except IndexError:
            return
        _used.discard(buffer)
        _say(buffer)


def _say_all() -> None:
    say_dropped()
    for buffer in list(_used):
        _say(buffer)


def _say(buffer: CallBuffer) -> None:
    try:
        failed = buffer.take_failures()
    except XMEError as unreadable:
        _log.error("what has failed in an XMEManager and was never fetched cannot be read: %s", unreadable)
        return
    for number, name, error in failed:
        _log.error("XMEManager: call %d, %s, failed, and nobody has fetched that", number, name, exc_info=error)


def _say_at_exit() -> None:
    global _exit_handler_of
    if _exit_handler_of == os.getpid():
        return
    _exit_handler_of = os.getpid()
    util = sys.modules.get("multiprocessing.util")
    if util is None:
        atexit.register(_say_all)
    else:
        # A child of multiprocessing ends without atexit. Before the domains are left, which has priority -100.
        util.Finalize(None, _say_all, exitpriority=-50)


def after_fork_in_child() -> None:
    """Leave the parent's managers to the parent."""
    _used.clear()
    _dropped.clear()
