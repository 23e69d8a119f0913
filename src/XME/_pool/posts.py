"""Posts on a crew's wake semaphore: they are hints, so there may be too few or too many of them."""

from __future__ import annotations

from XME._core.semaphore import Semaphore

# After so many rounds of posts to the workers, those that nobody took are taken back.
_ROUNDS = 1000


class Posts:
    """Wakes a crew's workers."""

    def __init__(self, wake: Semaphore, workers: int) -> None:
        self._wake = wake
        self._workers = workers
        self._rounds = 0

    def send(self, rows: int) -> None:
        """Wake as many workers as so many rows keep busy."""
        for _ in range(min(rows, self._workers)):
            self._wake.release()
        # Busy workers take no posts: what has piled up would keep them awake for nothing afterwards. Who sleeps looks
        # by himself after a slice.
        self._rounds += 1
        if self._rounds > _ROUNDS:
            self._rounds = 0
            self._wake.drain()
            for _ in range(self._workers):
                self._wake.release()
