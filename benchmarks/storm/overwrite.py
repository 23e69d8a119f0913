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
from XME._containers import flight
from XME._core import names, program

_ELEMENTS = 1 << 17
# Beside what there was: a new generation, a new value, what a dead one left, each with what it replaces.
_MORE_NAMES = 8
# The same in bytes; of the arrays, half of these names may be one, with the pages of its header.
_MORE_BYTES = {"values": 1 << 20, "children": 1 << 20, "arrays": _MORE_NAMES // 2 * (8 * _ELEMENTS + 8192) + (1 << 18)}
# Without kills, a kind that takes longer is stuck.
_LONGEST_S = 3600.0


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


def _leak() -> None:
    """A value that was overwritten stays."""
    flight.unlink = lambda *_: None


def _swell() -> None:
    """Each array is stored in more and more memory, under one name."""

    def _set_wider(shared: Any, number: int) -> None:
        shared["array"] = np.full(_ELEMENTS + number * 4096, number)

    _KINDS["arrays"] = (_set_wider, lambda shared: int(shared["array"][0]))


# What is planted in the writers, to see that the storm finds it.
FAULTS: dict[str, Callable[[], None]] = {"leak": _leak, "swell": _swell}


def judge(kind: str, samples: list[tuple[int, int]], last: tuple[int, int]) -> list[str]:
    """Return what is wrong with (names, bytes) of shared memory, as sampled and at the end: both must be flat."""
    first = samples[min(2, len(samples) - 1)]
    wrong = []
    for what, at, more in (("names", 0, _MORE_NAMES), ("bytes", 1, _MORE_BYTES[kind])):
        most = max(found[at] for found in samples)
        if max(most, last[at]) > first[at] + more:
            wrong.append(f"{kind}: {first[at]:,} {what} became {most:,}, and {last[at]:,} at the end")
    return wrong


def run(counts: dict[str, int], seed: int, kill_every_s: float, fault: str | None = None) -> dict[str, Any]:
    """Overwrite each kind so often, with a kill every so many seconds (0: none)."""
    dice = random.Random(seed)
    begun = time.monotonic()
    result: dict[str, Any] = {"kills": 0, "seed": seed, "fault": fault, "killed_in": {}, "violations": []}
    result["shared_memory"] = {}
    if fault is not None:
        FAULTS[fault]()
    for kind, count in counts.items():
        kills = _one(kind, count, dice, kill_every_s, result)
        result["kills"] += kills
        result["killed_in"][kind] = kills
    result["seconds"] = time.monotonic() - begun
    if fault is not None:
        _take_away()
    return result


def _take_away() -> None:
    """Unlink what a planted fault has left, of which no ledger knows any more."""
    domain = program.program_domain()
    for name in os.listdir(names.FOLDER):
        if domain.id in name and name != os.path.basename(domain.path):
            os.unlink(os.path.join(names.FOLDER, name))


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
    try:
        shared._check()
    except AssertionError as error:
        result["violations"].append(f"{kind}, at the end: {error}")
    first, last = samples[min(2, len(samples) - 1)], _usage(domain_id)
    most = max(found[0] for found in samples), max(found[1] for found in samples)
    result["shared_memory"][kind] = {"overwrites": count, "early": first, "most": most, "at the end": last}
    result["violations"] += judge(kind, samples, last)
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
