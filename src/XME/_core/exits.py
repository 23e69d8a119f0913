"""What is to be done at the end of this process, whichever way it ends in order."""

from __future__ import annotations

import atexit
import os
import sys
from collections.abc import Callable

# Which process each was registered in: a fork's child registers its own.
_registered: dict[Callable[[], None], int] = {}


def at_exit(function: Callable[[], None], priority: int) -> None:
    """Call a function at the end of this process, once however often this is asked for.

    Args:
        function: what to call.
        priority: below 0; who has a higher one is called before.
    """
    if _registered.get(function) == os.getpid():
        return
    _registered[function] = os.getpid()
    util = sys.modules.get("multiprocessing.util")
    if util is None:
        # The last that was registered is called first; what has the lower priority is registered first.
        atexit.register(function)
    else:
        # A child of multiprocessing ends without atexit; and a parent joins its children at exit, who still need what
        # this takes away: a priority below 0 comes after that.
        util.Finalize(None, function, exitpriority=priority)
