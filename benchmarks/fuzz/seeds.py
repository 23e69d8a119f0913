"""Messages to begin with, of every type that can be in one, and sealing of bytes that no `marshal` has made."""

from __future__ import annotations

import datetime as dt
import decimal
import os
import time
import uuid
import zoneinfo
from typing import Any

import numpy as np

from XME._monitor import packing, sealing

KEY = bytes(range(32))

SEEDS: tuple[dict[Any, Any], ...] = (
    {},
    {"a": 1, "b": -1, "c": 2**70, "d": -(2**70), "e": 1.5, "f": True, "g": None, "h": "text", "i": b"bytes"},
    {"tuple": (1, (2, ())), "set": {1, "a"}, "frozen": frozenset({(1,), b"x"}), (1, "key"): [[], {}, [{}]]},
    {"complex": 1 - 2j, "decimal": decimal.Decimal("1.20"), "uuid": uuid.UUID(int=7)},
    {
        "date": dt.date(2020, 1, 2),
        "time": dt.time(1, 2, 3),
        "delta": dt.timedelta(-1, 2, 3),
        "there": dt.datetime(2020, 1, 2, 3, tzinfo=zoneinfo.ZoneInfo("Europe/Berlin")),
        "fixed": dt.datetime(2020, 1, 2, tzinfo=dt.UTC),
    },
    {"array": np.arange(12.0).reshape(3, 4), "dates": np.array(["2020-01-01"], "M8[D]"), "scalar": np.float32(1.5)},
    {"records": np.array([(1, 2.0)], dtype=[("a", "<i4"), ("b", "<f8", (1,))]), "text": np.array(["ab", "c"])},
    {"mark": "7f3a", "function": "add", "args": [1, 2], "kwargs": {"x": [1.0] * 50}},
    {"long": "the quick brown fox jumps over the lazy dog " * 100, "list": list(range(300))},
)


def packed_seeds() -> list[bytes]:
    """Return the seeds as msgpack."""
    return [packing.pack(messages) for messages in SEEDS]


def sealed(body: bytes, how: int, length: int) -> bytes:
    """Seal any bytes with the right key, under a head that says anything."""
    key = sealing._ready(KEY)
    nonce = os.urandom(12)
    head = sealing._HEAD.pack(sealing._MAGIC, key.id, nonce, time.time_ns(), length, how)
    return head + key.cipher.encrypt(nonce, body, head)
