"""HeartJump: says that a row is alive, so that the guard knows when nobody is left who could append."""

from __future__ import annotations

import contextlib
import threading
from types import TracebackType
from typing import Any, Self


class HeartJump:
    """A beat of one operator: while it beats, the guard does not end.

    It stops at `stop`, at the end of its row, or with its process: a heart whose process is dead does not beat,
    whatever it has said last. Also as a ``with`` block.

    Args:
        Operator: whose entry in ``__STATUS__`` is kept fresh.
        XMEManager: the manager.
        LoopTime: after how many seconds it is written again; the guard does not depend on it.

    >>> from XME.Manager import XMEManager
    >>> manager = XMEManager()
    >>> with HeartJump("me", manager):
    ...     "me" in manager.get_table("__STATUS__")
    True
    """

    def __init__(self, Operator: Any, XMEManager: Any, LoopTime: float = 1) -> None:
        if not hasattr(XMEManager, "begin_guarded"):
            msg = f"HeartJump(Operator, XMEManager): the second is the row's XMEManager, not {XMEManager!r}"
            raise TypeError(msg)
        if not isinstance(LoopTime, (int, float)) or isinstance(LoopTime, bool) or not LoopTime > 0:
            msg = f"LoopTime is a number of seconds, more than 0, not {LoopTime!r}"
            raise ValueError(msg)
        self.Operator = Operator
        self.XMEManager = XMEManager
        self.LoopTime = LoopTime
        self._ended: threading.Event | None = None
        self._thread: threading.Thread | None = None

    @property
    def beats(self) -> bool:
        """True between start and stop."""
        return self._ended is not None

    def start(self) -> None:
        """Begin to beat; it was seen when this returns."""
        if self._ended is not None:
            return
        manager = self.XMEManager
        ended = self._ended = threading.Event()
        try:
            manager._hearts.append(self)
            manager._ring.begin_heart(self)
            manager.status(self.Operator)
            thread = threading.Thread(target=self._beat, args=(ended,), name="XME-heart", daemon=True)
            thread.start()
            self._thread = thread
        except BaseException:
            self.stop()
            raise

    def _beat(self, ended: threading.Event) -> None:
        while not ended.wait(self.LoopTime):
            # The program may have ended, or shared memory be full: who is dead is not known by what stands there.
            with contextlib.suppress(Exception):
                self.XMEManager.status(self.Operator)

    def stop(self) -> None:
        """Stop to beat; does nothing if it does not."""
        ended = self._ended
        if ended is None:
            return
        ended.set()
        # Before it is waited for: a Ctrl-C in that must not leave a heart that counts.
        ring = self.XMEManager._ring
        ring.end_heart(self)
        with contextlib.suppress(ValueError):
            self.XMEManager._hearts.remove(self)
        if not ring.hearts():
            # The guard may be waiting for that.
            ring.wake()
        thread = self._thread
        if thread is not None:
            thread.join()
        self._ended = self._thread = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
