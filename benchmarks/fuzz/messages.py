"""Altered messages into `Monitor.unmarshal`: it takes them or says BadMessage, and nothing else ever happens."""

from __future__ import annotations

import random
import time
import warnings
from collections import Counter
from collections.abc import Callable
from typing import Any

import zstandard

from benchmarks.fuzz.seeds import KEY, packed_seeds, sealed
from XME.errors import BadMessage
from XME.Monitor import MAX_SIZE, Monitor

_PLAIN, _ZSTANDARD = range(2)
# What makes msgpack and the extensions do something: heads of lists, dicts, texts and extensions, and large counts.
_TOKENS = (
    b"\x80", b"\x81", b"\x90", b"\x91", b"\xa0", b"\xc0", b"\xc1", b"\xc4\x01", b"\xc6\xff\xff\xff\xff",
    b"\xc7\x00\x01", b"\xc7\x00\x02", b"\xc7\x00\x03", b"\xc7\x00\x04", b"\xc7\x00\x05", b"\xc7\x00\x06",
    b"\xc7\x00\x07", b"\xc7\x00\x08", b"\xc7\x00\x09", b"\xd6\xff\0\0\0\0", b"\xc7\x08\x20", b"\xd8\x21", b"\xd4\x22",
    b"\xd8\x23", b"\xdc\xff\xff", b"\xdd\xff\xff\xff\xff", b"\xde\xff\xff", b"\xdf\x7f\xff\xff\xff", b"\xcb", b"\xcf",
    b"\xd3", b"\xd9\xff", b"\xdb\x00\x10\x00\x00", b"\xed\xa0\x80", b"\xff" * 9,
)  # fmt: skip


def _altered(data: bytes, rng: random.Random, others: list[bytes]) -> bytes:
    """Return bytes with one to five changes: flips, cuts, insertions, pieces of other messages."""
    made = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 3, 5))):
        place = rng.randrange(len(made) + 1)
        way = rng.randrange(7)
        if way == 0 and made:
            made[place % len(made)] ^= 1 << rng.randrange(8)
        elif way == 1 and made:
            made[place % len(made)] = rng.randrange(256)
        elif way == 2:
            del made[place : place + rng.randrange(1, 9)]
        elif way == 3:
            made[place:place] = rng.choice(_TOKENS)
        elif way == 4:
            made[place : place + rng.randrange(9)] = rng.choice(_TOKENS)
        elif way == 5:
            other = rng.choice(others)
            begin = rng.randrange(len(other))
            made[place:place] = other[begin : begin + rng.randrange(1, 40)]
        else:
            begin = rng.randrange(len(made) + 1)
            made[place:place] = made[begin : begin + rng.randrange(1, 40)] * rng.randrange(1, 4)
    return bytes(made)


def _altered_before(rng: random.Random, packed: list[bytes]) -> bytes:
    """Return a message that was altered before it was sealed with the right key."""
    body = rng.choice(packed)
    way = rng.randrange(10)
    if way < 6:
        body = _altered(body, rng, packed)
        return sealed(body, _PLAIN, len(body))
    if way < 8:
        body = _altered(body, rng, packed)
        return sealed(zstandard.compress(body, 1), _ZSTANDARD, len(body))
    length = len(body)
    frame = _altered(zstandard.compress(body, 1), rng, packed)
    if way == 8:
        return sealed(frame, _ZSTANDARD, length)
    return sealed(frame, rng.randrange(4), rng.choice((0, length - 1, length, length + 1, 10**10, 2**64 - 1)) % 2**64)


def _altered_after(rng: random.Random, packed: list[bytes], ready: list[bytes]) -> bytes:
    """Return a message that was altered on its way."""
    message = rng.choice(ready)
    while (made := _altered(message, rng, packed)) == message:
        pass
    return made


def run(count: int, seed: int, report: Callable[[str], None]) -> dict[str, Any]:
    """Send `count` altered messages, half of them altered before they were sealed; returns what happened."""
    rng = random.Random(seed)
    packed = packed_seeds()
    ready = [sealed(body, _PLAIN, len(body)) for body in packed]
    board = Monitor()
    answers: Counter[str] = Counter()
    reasons: Counter[str] = Counter()
    failures: list[dict[str, str]] = []
    slowest_s = 0.0
    grown_from = 0
    began = time.monotonic()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for turn in range(count):
            before = bool(turn & 1)
            message = _altered_before(rng, packed) if before else _altered_after(rng, packed, ready)
            start = time.perf_counter()
            try:
                board.unmarshal(message, key=KEY)
            except BadMessage as error:
                answers["refused"] += 1
                reasons[error.reason.split("(")[0].split(" has ")[0][:60].strip()] += 1
                if len(board):
                    failures.append({"error": "something was changed", "message": message.hex()})
            except Exception as error:
                failures.append({"error": f"{type(error).__name__}: {error}"[:300], "message": message.hex()})
            else:
                answers["taken"] += 1
                if not before:
                    failures.append({"error": "taken though altered on its way", "message": message.hex()})
            slowest_s = max(slowest_s, time.perf_counter() - start)
            if len(board):
                board.delete()
            if turn == count // 10:
                grown_from = resident_bytes()
            if turn % 100_000 == 99_999:
                report(f"{turn + 1:,} messages, {dict(answers)}, {len(failures)} failures, {resident_bytes() >> 20} MB")
    return {
        "count": count, "seed": seed, "seconds": time.monotonic() - began, "answers": dict(answers),
        "reasons": dict(reasons.most_common()), "failures": failures[:100], "failed": len(failures),
        "slowest_s": slowest_s, "grown_bytes": resident_bytes() - grown_from, "max_size": MAX_SIZE,
    }  # fmt: skip


def resident_bytes() -> int:
    """Return how much memory this process has."""
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * 4096
