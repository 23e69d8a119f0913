"""The overwriting storm: one writer overwrites the same places again and again, and is killed every second.

Shared memory must stay as it was after the first few: what is overwritten goes, also what a killed writer had half
done. Each value says how often its place was overwritten, and the next writer goes on there, so nothing that was
acknowledged can be lost without being seen.
"""

from __future__ import annotations

import mmap
import os
import random
import signal
import time
from collections.abc import Callable
from typing import Any

import numpy as np

import XME
from XME._core import names, program

# Beside what there was: a new generation, a new value, what a dead one left, each with what it replaces.
_MORE_NAMES = 8
# Without kills, a kind that takes longer is stuck.
_LONGEST_S = 3600.0
_ELEMENTS = 1 << 17


def _set_value(shared: Any, number: int) -> None:
    shared["nest"]["number"] = number


def _set_child(shared: Any, number: int) -> None:
    shared["child"] = {"number": number}


def _set_array(shared: Any, number: int) -> None:
    shared["array"] = np.full(_ELEMENTS, number)


def _array_number(shared: Any) -> int:
    array = shared["array"]
    if array[0] != array[-1] or len(array) != _ELEMENTS:
        msg = f"torn: {array[0]} and {array[-1]}"
        raise AssertionError(msg)
    return int(array[0])


# What overwrites, and what says how often that was done.
_KINDS: dict[str, tuple[Callable[[Any, int], None], Callable[[Any], int]]] = {
    "values": (_set_value, lambda shared: int(shared["nest"]["number"])),
    "children": (_set_child, lambda shared: int(shared["child"]["number"])),
    "arrays": (_set_array, _array_number),
}


def _usage(domain_id: str) -> tuple[int, int]:
    """Return how many names a domain has, and how many bytes they take."""
    found = [entry for entry in os.scandir(names.FOLDER) if domain_id in entry.name]
    total = 0
    for entry in found:
        try:
            total += entry.stat().st_blocks * 512
        except FileNotFoundError:
            continue
    return len(found), total


def _write(kind: str, shared: Any, count: int, done: Any) -> None:
    overwrite, number_of = _KINDS[kind]
    for number in range(number_of(shared) + 1, count + 1):
        overwrite(shared, number)
        # Acknowledged.
        done[0] = number


def run(counts: dict[str, int], seed: int, kill_every_s: float) -> dict[str, Any]:
    """Overwrite each kind so often, with a kill every so many seconds (0: none)."""
    dice = random.Random(seed)
    begun = time.monotonic()
    result: dict[str, Any] = {"kills": 0, "seed": seed, "killed_in": {}, "violations": [], "shared_memory": {}}
    for kind, count in counts.items():
        kills = _one(kind, count, dice, kill_every_s, result)
        result["kills"] += kills
        result["killed_in"][kind] = kills
    result["seconds"] = time.monotonic() - begun
    return result


def _one(kind: str, count: int, dice: random.Random, kill_every_s: float, result: dict[str, Any]) -> int:
    shared = XME.xmem_dict(nest={"number": 0}, child={"number": 0}, array=np.zeros(_ELEMENTS), nested=True)
    domain_id = program.program_domain().id
    done = memoryview(mmap.mmap(-1, 8)).cast("Q")
    kills = 0
    samples = []
    number_of = _KINDS[kind][1]
    while number_of(shared) < count:
        pid = os.fork()
        if pid == 0:
            try:
                _write(kind, shared, count, done)
                os._exit(0)
            finally:
                os._exit(1)
        seconds = kill_every_s * dice.uniform(0.5, 1.5) if kill_every_s else _LONGEST_S
        code, sampled = _watch(pid, domain_id, seconds)
        samples += sampled
        kills += code == -signal.SIGKILL
        if code not in (0, -signal.SIGKILL) or (code and not kill_every_s):
            result["violations"].append(f"{kind}: the writer ended with {code}")
            break
        if number_of(shared) < done[0]:
            result["violations"].append(f"{kind}: {done[0]} were acknowledged, and {number_of(shared)} is there")
    shared._check()
    first, last = samples[min(2, len(samples) - 1)], _usage(domain_id)
    most = max(found[0] for found in samples), max(found[1] for found in samples)
    result["shared_memory"][kind] = {"overwrites": count, "early": first, "most": most, "at the end": last}
    if most[0] > first[0] + _MORE_NAMES or last[0] > first[0] + _MORE_NAMES:
        result["violations"].append(f"{kind}: {first[0]} names became {most[0]}, and {last[0]} at the end")
    shared.unlink()
    return kills


def _watch(pid: int, domain_id: str, seconds: float) -> tuple[int, list[tuple[int, int]]]:
    """Look at shared memory until a writer ends, killed when the time is over; returns how it ended, and the looks."""
    until = time.monotonic() + seconds
    samples = []
    is_killed = False
    while True:
        samples.append(_usage(domain_id))
        found, status = os.waitpid(pid, 0 if is_killed else os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status), samples
        if time.monotonic() >= until:
            os.kill(pid, signal.SIGKILL)
            is_killed = True
        time.sleep(0.05)
