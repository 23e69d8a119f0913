"""The mutex storm: a controller kills contenders for one RobustMutex and starts new ones.

Witnesses: an unguarded counter, which two holders at once would make too small; an occupancy word, which nobody may
find changed; and the time until somebody is inside again, which says whether the mutex was lost. Contenders want the
mutex all the time, so the next attempt after a kill is made at once, and the time from the kill to the next entry is
the time from the next attempt to its success, or a little more.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import random
import signal
import statistics
import time
from typing import Any

from benchmarks.storm import contender as c
from XME._core import shared_mutex

# Nobody inside for so long: the mutex is lost.
LOST_S = 5.0
_WEIGHTS = {c.ACQUIRE: 25, c.SECTION: 25, c.RELEASE: 25, c.RECOVERY: 25}
# Kills in each phase, as a share of all.
_SHARE = 0.05
_MEDIAN_MS = 80.0


class Storm:
    """The controller's side."""

    def __init__(self, seed: int, contenders: int, fault: str | None) -> None:
        self.dice = random.Random(seed)
        self.fault = fault
        self.mutex: Any = shared_mutex.create()
        self.live: Any = c.live
        self.violation_texts = c.VIOLATIONS
        self.board = memoryview(mmap.mmap(-1, 8 * (c.HEAD + contenders * c.ROW))).cast("Q")
        self.pids = [0] * contenders
        self.killed_in = [0] * len(c.PHASES)
        self.times: list[tuple[int, int]] = []
        self.violations: list[str] = []

    def _row(self, slot: int) -> int:
        return c.HEAD + slot * c.ROW

    def phase(self, slot: int) -> int:
        """What a contender is doing now."""
        return self.board[self._row(slot) + c.R_PHASE]

    def start(self, slot: int) -> None:
        """Fork a contender into a slot."""
        self.board[self._row(slot) + c.R_PHASE] = c.AWAY
        seed = self.dice.getrandbits(64)
        pid = os.fork()
        if pid == 0:
            with contextlib.suppress(BaseException):
                self.live(self.mutex, self.board, slot, seed, self.fault)
            # It never returns: an exception ended it.
            os._exit(3)
        self.pids[slot] = pid

    def kill(self, slot: int) -> tuple[int, int]:
        """Kill a contender; returns (the phase in which it died, when it was dead)."""
        os.kill(self.pids[slot], signal.SIGKILL)
        _, status = os.waitpid(self.pids[slot], 0)
        dead_at = time.monotonic_ns()
        self.pids[slot] = 0
        if not os.WIFSIGNALED(status):
            self.violations.append(f"a contender ended by itself, status {status}")
        phase = self.phase(slot)
        self.killed_in[phase] += 1
        return phase, dead_at

    def find_victim(self, wanted: int) -> int:
        """Return a slot in the wanted phase, or after some time any."""
        slots = list(range(len(self.pids)))
        self.dice.shuffle(slots)
        end = time.monotonic() + (0.1 if wanted == c.RECOVERY else 0.02)
        while time.monotonic() < end:
            for slot in slots:
                if self.phase(slot) == wanted:
                    return slot
            time.sleep(20e-6)
        return slots[0]

    def await_entry(self, since: int) -> int | None:
        """Return how long after `since` (ns) somebody was inside, or None if nobody is."""
        entered = [self._row(slot) + c.R_ENTERED for slot in range(len(self.pids))]
        end = time.monotonic() + LOST_S
        while time.monotonic() < end:
            later = [self.board[word] - since for word in entered if self.board[word] > since]
            if later:
                return min(later)
            time.sleep(0.0002)
        return None

    def one_kill(self) -> None:
        """Kill once, start a successor, and wait until somebody is inside again."""
        wanted = self.dice.choices(list(_WEIGHTS), list(_WEIGHTS.values()))[0]
        if wanted == c.RECOVERY and not any(self.phase(slot) == c.RECOVERY for slot in range(len(self.pids))):
            # Somebody must have died inside before anybody recovers.
            slot = self.find_victim(c.SECTION)
            self.kill(slot)
            self.start(slot)
        slot = self.find_victim(wanted)
        phase, dead_at = self.kill(slot)
        self.start(slot)
        taken = self.await_entry(dead_at)
        if taken is None:
            self.violations.append(
                f"nobody could take the mutex within {LOST_S:g} s after a kill in {c.PHASES[phase]}: {self.mutex!r}"
            )
        else:
            self.times.append((phase, taken // 1000))
        if self.board[c.VIOLATION]:
            what = self.violation_texts[self.board[c.VIOLATION]]
            self.violations.append(f"process {self.board[c.VIOLATOR]} {what}")

    def end(self) -> None:
        """Kill all, and compare the unguarded counter with what each says that it counted."""
        for slot, pid in enumerate(self.pids):
            if pid:
                self.kill(slot)
        if not self.violations and not self.mutex.acquire(LOST_S):
            self.violations.append("the mutex cannot be taken after the storm")
        counted = sum(self.board[self._row(slot) + c.R_COUNTED] for slot in range(len(self.pids)))
        total = self.board[c.COUNTER]
        # Who was killed between the two stores has counted once more than it says.
        if not counted <= total <= counted + self.killed_in[c.SECTION]:
            self.violations.append(f"the unguarded counter says {total}, the contenders counted {counted}")


def run(kills: int, seed: int, contenders: int, fault: str | None, limit_ms: float) -> dict[str, Any]:
    """Run the storm and return its counts, times and violations."""
    return rage(Storm(seed, contenders, fault), kills, seed, limit_ms)


def rage(storm: Storm, kills: int, seed: int, limit_ms: float) -> dict[str, Any]:
    """Run a storm that is ready and return its counts, times and violations."""
    contenders = len(storm.pids)
    began = time.monotonic()
    try:
        for slot in range(contenders):
            storm.start(slot)
        storm.await_entry(0)
        while sum(storm.killed_in) < kills and not storm.violations:
            storm.one_kill()
        done = sum(storm.killed_in)
        killed_in = list(storm.killed_in)
    finally:
        storm.end()
    _judge(storm, killed_in, limit_ms)
    return {
        "kills": done,
        "seed": seed,
        "contenders": contenders,
        "fault": storm.fault,
        "seconds": round(time.monotonic() - began, 1),
        "entries": storm.board[c.COUNTER],
        "killed_in": dict(zip(c.PHASES, killed_in, strict=True)),
        "summary_ms": _summaries(storm.times),
        "violations": storm.violations,
        "times_us": {name: [us for at, us in storm.times if at == phase] for phase, name in enumerate(c.PHASES)},
    }


def _judge(storm: Storm, killed_in: list[int], limit_ms: float) -> None:
    if storm.violations:
        return
    times = [us / 1000 for _, us in storm.times]
    longest, median = max(times), statistics.median(times)
    if longest >= limit_ms:
        storm.violations.append(f"{longest:.0f} ms until somebody was inside again: {limit_ms:g} is the limit")
    if median >= _MEDIAN_MS:
        storm.violations.append(f"{median:.0f} ms is the median time: {_MEDIAN_MS:g} is the limit")
    for phase in _WEIGHTS:
        if killed_in[phase] < _SHARE * sum(killed_in):
            storm.violations.append(f"only {killed_in[phase]} kills fell into {c.PHASES[phase]}: that shows too little")


def _summaries(times: list[tuple[int, int]]) -> dict[str, dict[str, float]]:
    groups = {"all": [us for _, us in times]}
    groups |= {name: [us for at, us in times if at == phase] for phase, name in enumerate(c.PHASES)}
    return {name: _summary(group) for name, group in groups.items() if group}


def _summary(group: list[int]) -> dict[str, float]:
    ordered = sorted(group)
    p99 = ordered[min(len(ordered) - 1, int(0.99 * len(ordered)))]
    return {"median": statistics.median(ordered) / 1000, "p99": p99 / 1000, "max": ordered[-1] / 1000}
