"""What workers share beside the lock: a board with the tripwire, and the section that walks over it.

The board is a mapped file of 8-byte words::

    0   mark of who is inside (1 + worker, and its life), 0 at first
    1   number of sections, counted without any guard
    8 + k      what worker k is doing: an Op, or 0
    264 + k    how many rounds worker k has done
"""

from __future__ import annotations

import mmap
import os
import time
from collections.abc import Callable
from typing import Any

from XME.testing._checks import MET
from XME.testing._event import Kind, Op
from XME.testing._gates import Gate

MAX_WORKERS = 256
_MARK, _COUNT, _DOING, _DONE = 0, 1, 8, 8 + MAX_WORKERS
BOARD_BYTES = 8 * (_DONE + MAX_WORKERS)


class Board:
    """The shared words."""

    def __init__(self, path: str) -> None:
        """Map the file, which the controller has made."""
        fd = os.open(path, os.O_RDWR)
        try:
            self._map = mmap.mmap(fd, BOARD_BYTES)
        finally:
            os.close(fd)
        self.words = memoryview(self._map).cast("Q")

    def enter(self, worker: int, op: Op | None) -> None:
        """Say what a worker is doing, for the controller that wants to kill it there."""
        self.words[_DOING + worker] = op or 0

    def doing(self, worker: int) -> int:
        """What a worker said that it was doing."""
        return int(self.words[_DOING + worker])

    def count_round(self, worker: int) -> None:
        """One round more is done."""
        self.words[_DONE + worker] += 1

    def rounds(self, worker: int) -> int:
        """How many rounds a worker has done, in all its lives."""
        return int(self.words[_DONE + worker])

    @property
    def sections(self) -> int:
        """What the unguarded count says."""
        return int(self.words[_COUNT])

    def close(self) -> None:
        """Let go of the file."""
        self.words.release()
        self._map.close()


class Section:
    """What is done while the lock is held."""

    def __init__(self, board: Board, worker: int, life: int, gate: Gate, verify: Callable[[], None] | None) -> None:
        self._words = board.words
        self._id = (life << 16) + worker + 1
        self._gate = gate
        self._verify = verify

    def run(self, inside: tuple[str, float] | None) -> tuple[Kind, str]:
        """Walk over the tripwire; ``inside`` is how (write, read or shared) and for how many seconds."""
        how, pause = inside or ("write", 0.0)
        if self._verify is not None:
            try:
                self._verify()
            except Exception as error:
                return Kind.RAISED, f"verify {error!r}"
        walk = {"write": self._alone, "read": self._beside_readers}.get(how, self._with_others)
        return walk(pause)

    def _rest(self, pause: float) -> None:
        # Let others try: a lock that excludes nobody shows it here.
        self._gate.arrive("in the section", is_idle=True)
        if pause:
            time.sleep(pause)

    def _alone(self, pause: float) -> tuple[Kind, str]:
        words = self._words
        words[_MARK] = self._id
        count = words[_COUNT]
        self._rest(pause)
        met = words[_MARK]
        words[_COUNT] = count + 1
        words[_MARK] = 0
        return (Kind.OK, "counted") if met == self._id else (Kind.RAISED, MET + _name(met))

    def _beside_readers(self, pause: float) -> tuple[Kind, str]:
        # A writer that was killed leaves its mark; one that is alive changes it.
        before = self._words[_MARK], self._words[_COUNT]
        self._rest(pause)
        after = self._words[_MARK], self._words[_COUNT]
        return (Kind.OK, "read") if before == after else (Kind.RAISED, MET + _name(after[0]))

    def _with_others(self, pause: float) -> tuple[Kind, str]:
        self._rest(pause)
        return Kind.OK, "shared"


def _name(mark: Any) -> str:
    return f"worker {(int(mark) & 0xFFFF) - 1}" if mark else "somebody who has left"
