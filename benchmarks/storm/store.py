"""The store storm: a controller kills processes that change and read shared containers, and starts new ones.

Witnesses: a checksum in every value, sums that transfers conserve, counts that were acknowledged, what one commit has
set together; the time since a process last came to the end of anything; the files in shared memory, which must become
no more; and `_check()` on every container at the end.
"""

from __future__ import annotations

import contextlib
import gc
import mmap
import os
import random
import signal
import time
import traceback
from collections import Counter
from collections.abc import Callable
from typing import Any

from benchmarks.storm import store_faults
from benchmarks.storm import store_work as w
from XME._core import names, program

# A process that comes to the end of nothing for so long is stuck.
STUCK_S = 10.0
_SAMPLE_EVERY = 20
_TEXT_BYTES = 1 << 12


class Storm:
    """The controller's side."""

    def __init__(self, seed: int, processes: int, fault: str | None) -> None:
        self.dice = random.Random(seed)
        self.fault = fault
        self.shop = w.Shop(processes)
        self.domain = program.program_domain()
        self.board = memoryview(mmap.mmap(-1, 8 * w.ROW * processes)).cast("Q")
        self.pids = [0] * processes
        self.killed_in: Counter[str] = Counter()
        self.violations: list[str] = []
        # (files, bytes) of the domain, now and then.
        self.samples: list[tuple[int, int]] = []
        self.told, self.tell = os.pipe()
        os.set_blocking(self.told, False)

    def start(self, slot: int, work: Callable[..., None] = w.live) -> None:
        """Fork a process into a slot."""
        self.board[slot * w.ROW + w.R_PROGRESS] = time.monotonic_ns()
        seed = self.dice.getrandbits(64)
        pid = os.fork()
        if pid == 0:
            code = 0
            try:
                if self.fault is not None:
                    store_faults.plant(self.fault)
                work(self.shop, self.board, slot, seed)
            except BaseException:
                code = 3
                with contextlib.suppress(OSError):
                    os.write(self.tell, traceback.format_exc(limit=-6).encode()[-_TEXT_BYTES:])
            finally:
                os._exit(code)
        self.pids[slot] = pid

    def end_one(self, slot: int, *, kill: bool) -> None:
        """Reap the process in a slot, killed or by itself."""
        if kill:
            os.kill(self.pids[slot], signal.SIGKILL)
        _, status = os.waitpid(self.pids[slot], 0)
        self.pids[slot] = 0
        if kill and os.WIFSIGNALED(status):
            self.killed_in[self._work_of(slot)] += 1
        elif status:
            self.violations.append(f"slot {slot} ended by itself, status {status}: {self._said()}")

    def _said(self) -> str:
        with contextlib.suppress(BlockingIOError):
            return os.read(self.told, 1 << 16).decode(errors="replace")
        return ""

    def _work_of(self, slot: int) -> str:
        return w.WORK[self.board[slot * w.ROW + w.R_WORK]].__name__

    def find_stuck(self) -> None:
        """Note who came to the end of nothing for too long."""
        now = time.monotonic_ns()
        for slot in range(len(self.pids)):
            idle = (now - self.board[slot * w.ROW + w.R_PROGRESS]) / 1e9
            if idle > STUCK_S:
                doing = self._work_of(slot)
                self.violations.append(f"slot {slot} is stuck for {idle:.0f} s in {doing}")

    def sample(self) -> tuple[int, int]:
        """Return how many files the domain has in shared memory, and their bytes."""
        found = nbytes = 0
        for entry in os.scandir(names.FOLDER):
            if self.domain.id in entry.name:
                with contextlib.suppress(FileNotFoundError):
                    nbytes += entry.stat(follow_symlinks=False).st_blocks * 512
                    found += 1
        return found, nbytes

    def one_kill(self) -> None:
        """Kill somebody at a random time, and start a successor."""
        # Not a wait for anything: the time is part of the dice.
        time.sleep(self.dice.random() ** 2 * 0.06)
        slot = self.dice.randrange(len(self.pids))
        self.end_one(slot, kill=True)
        self.start(slot)
        if sum(self.killed_in.values()) % _SAMPLE_EVERY == 0:
            self.samples.append(self.sample())
            self.find_stuck()

    def end(self) -> None:
        """Kill all; their successors change everything once; then look at everything."""
        for slot in range(len(self.pids)):
            if self.pids[slot]:
                self.end_one(slot, kill=True)
        for _ in range(2):
            # All at once, so that each number is given again.
            for slot in range(len(self.pids)):
                self.start(slot, w.once)
            for slot in range(len(self.pids)):
                self.end_one(slot, kill=False)
        for container in self.shop.containers():
            try:
                container._check(settled=True)
            except Exception as error:
                self.violations.append(f"at the end: {error}")
        w.look_at_counts(w.Worker(self.shop, self.board, 0, 0))

    def drop(self) -> None:
        """Drop all containers: then no name but the domain's own may be left."""
        for container in self.shop.containers():
            container.unlink()
        del self.shop, container
        gc.collect()
        self.domain.names.tidy()
        left = [name for name in os.listdir(names.FOLDER) if self.domain.id in name]
        if left != [os.path.basename(self.domain.path)]:
            self.violations.append(f"left in shared memory: {len(left)} names: {left[:5]}")

    def judge_samples(self) -> None:
        """Shared memory must be flat: the second half of the storm takes no more than the first."""
        half = len(self.samples) // 2
        if half < 2:
            return
        first, second = (
            tuple(map(max, zip(*part, strict=True))) for part in (self.samples[:half], self.samples[half:])
        )
        # Room for what a storm happens to have at its worst moment.
        if second[0] > 1.5 * first[0] + 50 or second[1] > 1.5 * first[1] + (8 << 20):
            self.violations.append(f"shared memory grows: (files, bytes) {first} at first, then {second}")


def run(minutes: float, seed: int, processes: int, fault: str | None) -> dict[str, Any]:
    """Run the storm and return its counts and violations."""
    storm = Storm(seed, processes, fault)
    began = time.monotonic()
    try:
        for slot in range(processes):
            storm.start(slot)
        while time.monotonic() - began < 60 * minutes and not storm.violations:
            storm.one_kill()
        storm.judge_samples()
    finally:
        kills = Counter(storm.killed_in)
        storm.end()
    storm.drop()
    rows = [storm.board[slot * w.ROW : (slot + 1) * w.ROW].tolist() for slot in range(processes)]
    return {
        "kills": sum(kills.values()),
        "seed": seed,
        "processes": processes,
        "fault": fault,
        "seconds": round(time.monotonic() - began, 1),
        "done": sum(row[w.R_DONE] for row in rows),
        "acknowledged": [sum(row[word] for row in rows) for word in (w.R_DICT, w.R_LIST, w.R_OBJECT)],
        "killed_in": dict(kills.most_common()),
        "shared_memory": {"files": max(s[0] for s in storm.samples), "bytes": max(s[1] for s in storm.samples)}
        if storm.samples
        else {},
        "violations": storm.violations,
    }
