"""The bar of ``progress=True``: rows done, rate, time left."""

from __future__ import annotations

import time
from typing import Any, Final

# seconds; the terminal is not written to more often, so that a million short rows cost nothing
_INTERVAL: Final = 0.1


class ProgressBar:
    """A bar on stderr that shows how many of ``total`` rows are done; without a terminal only its last state.

    It has no thread, because a process that forks should have none: it moves when ``update`` is called.

    :param console: a ``rich.console.Console`` to draw on instead of stderr.

    >>> import io, rich.console
    >>> paper = io.StringIO()
    >>> bar = ProgressBar(3, console=rich.console.Console(file=paper, width=60))
    >>> bar.update(3)
    >>> bar.close()
    >>> "3/3 rows" in paper.getvalue()
    True
    """

    def __init__(self, total: int, console: Any = None) -> None:
        # rich takes longer to import than all of XME, and most calls draw no bar.
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        self._bar = Progress(
            BarColumn(bar_width=None),
            TextColumn("{task.completed:.0f}/{task.total:.0f} rows"),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(elapsed_when_finished=True),
            console=console or Console(stderr=True),
            auto_refresh=False,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._task = self._bar.add_task("", total=total, rate="")
        self._started = self._drawn = time.monotonic()
        self._bar.start()

    def update(self, done: int) -> None:
        """Show that ``done`` rows are done; costs nothing when the last drawing is less than 0.1 s old."""
        self._done = done
        now = time.monotonic()
        if now - self._drawn >= _INTERVAL:
            self._drawn = now
            self._draw(now)

    def close(self) -> None:
        """Draw the last state and leave it standing; a second time does nothing."""
        if self._bar.live.is_started:
            self._draw(time.monotonic())
            self._bar.stop()

    _done = 0

    def _draw(self, now: float) -> None:
        elapsed = now - self._started
        rate = f"{self._done / elapsed:,.1f} rows/s" if elapsed > 0 else ""
        self._bar.update(self._task, completed=self._done, rate=rate)
        self._bar.refresh()
