"""What does it cost to seal and to open a megabyte: random float64, which does not shrink, and English text?

Beside it is pickle, which neither compresses nor encrypts, and executes what it reads.
"""

from __future__ import annotations

import pickle
import pydoc_data.topics
import random
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.clock import samples
from benchmarks.registry import Case, Scale, Series, need

_BYTES = 1 << 20
# 500 MB/s.
_REACH_MS = _BYTES / 500e6 * 1e3
_KEY = bytes(range(32))


def english() -> str:
    """Return a megabyte of English: Python's manual, and then its words in random order, so that nothing repeats."""
    manual = "".join(pydoc_data.topics.topics.values())
    words = manual.split()
    dice = random.Random(1)
    more = " ".join(dice.choice(words) for _ in range(_BYTES // 4))
    return (manual + more).encode("ascii", "replace")[:_BYTES].decode()


def _ways(rival: str) -> tuple[Callable[[Any], bytes], Callable[[bytes], Any]]:
    if rival == "pickle":
        return lambda messages: pickle.dumps(messages, 5), pickle.loads
    module = need("XME.Monitor")
    return lambda messages: module.marshal(messages, key=_KEY), lambda sealed: module.unmarshal(sealed, key=_KEY)


def _run(rival: str, scale: Scale) -> list[Series]:
    seal, unseal = _ways(rival)
    numbers = np.random.default_rng(1).random(_BYTES // 8)
    found = []
    for name, value in (("float64", numbers), ("text", english())):
        messages = {"value": value}
        sealed = seal(messages)
        assert np.array_equal(unseal(sealed)["value"], value)
        times = scale.pick(200, 20)
        facts = {"bytes sealed": len(sealed)}
        found.append(Series(samples(lambda m=messages: seal(m), times, scale=1e3), f"{name} sealed", facts))
        found.append(Series(samples(lambda s=sealed: unseal(s), times, scale=1e3), f"{name} opened", facts))
    return found


CASE = Case(
    "message_large",
    "1 MiB as a sealed message (2.1 ms is 500 MB/s)",
    "ms",
    ("xme", "pickle"),
    _run,
    reach={f"{name} {way}": _REACH_MS for name in ("float64", "text") for way in ("sealed", "opened")},
)
