"""The script of a guard: Python code that runs beside it, in a thread of the same process, and never ends unheard of.

The guard asks while it has nothing else to do, and how the script ends says who hears of what it raises::

    it ends before the guard, or within ten seconds of being told    gfun raises it
    it goes on                                                       gfun raises TimeoutError; later, the log "XME"
    the guard itself fails                                           gfun raises that; the log "XME"
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

_log = logging.getLogger("XME")
# So long it may go on when the guard wants to end.
_PATIENCE_S = 10.0


class Script:
    """A script that runs once.

    Args:
        text: the code; without any there is nothing to wait for.
        names: what it sees.
        tell: called when it has ended.
    """

    def __init__(self, text: str, names: Mapping[str, Any], tell: Callable[[], None]) -> None:
        self._text = text
        self._names = dict(names)
        self._tell = tell
        self._error: BaseException | None = None
        self._thread: threading.Thread | None = None
        self._told_at: float | None = None
        self._was_left = False

    def start(self) -> None:
        """Begin to run it."""
        if self._text.strip():
            self._thread = threading.Thread(target=self._run, name="XME-guard-script", daemon=True)
            self._thread.start()

    def _run(self) -> None:
        try:
            exec(compile(self._text, "<script of XMEGuard>", "exec"), self._names)  # noqa: S102 - the user's own
        except BaseException as error:
            # Looked at from the other side in the other order: one of the two says it.
            self._error = error
            if self._was_left:
                self._say(error)
        finally:
            self._tell()

    @property
    def _runs(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    def is_worth_waiting(self) -> bool:
        """True while it runs and has not been told for too long; the first call is when it is told."""
        if not self._runs:
            return False
        now = time.monotonic()
        if self._told_at is None:
            self._told_at = now
        return now - self._told_at < _PATIENCE_S

    def end(self) -> None:
        """Raise what it has raised.

        Raises:
            TimeoutError: it still runs.
        """
        self._was_left = True
        runs = self._runs
        if self._error is not None:
            raise self._error
        if runs:
            msg = (
                f"the script of XMEGuard still runs {_PATIENCE_S:g} s after the guard has run all calls, and goes on "
                "in the guard's process: let it end; a loop in it asks for __GUARD__.Status, which is False by then"
            )
            raise TimeoutError(msg)

    def leave(self) -> None:
        """Let it go on; what it has raised, or will, goes to the log."""
        self._was_left = True
        if self._error is not None:
            self._say(self._error)

    def _say(self, error: BaseException) -> None:
        _log.error("the script of XMEGuard failed, and its gfun has not waited for that", exc_info=error)
