"""How much memory does a key take in a dict of a million small entries, and what is left when all are deleted?

Shared memory is counted in the pages that its files have; of a Manager's server the private pages, of Redis what it
says itself. What was there before the first key is not counted. UltraDict's users have all of it once more, each in
its own private dict: this is a series of its own.
"""

from __future__ import annotations

import os
from pathlib import Path

from benchmarks.gates import in_fresh_process
from benchmarks.registry import Case, NotMeasuredError, Scale, Series
from benchmarks.stores.catalogue import ATTACHED_STORES, open_store
from benchmarks.stores.usage import private_bytes

WANTED, QUICK_WANTED = 1_000_000, 20_000
LOOKS = 1_000


def _reader_bytes(rival: str, token: object, wanted: int) -> int:
    """Return by how much the private memory of this process grows when it uses the dict."""
    with open_store(rival, public=True) as store:
        before = private_bytes(os.getpid())
        handle = store.attach(token)
        for number in range(0, wanted, wanted // LOOKS):
            store.get(handle, store.key(number))
        return private_bytes(os.getpid()) - before


def _run(rival: str, scale: Scale) -> list[Series]:
    if not Path("/proc/self/smaps_rollup").exists():
        raise NotMeasuredError("this kernel has no /proc/PID/smaps_rollup")
    with open_store(rival, public=True) as store:
        wanted = min(scale.pick(WANTED, QUICK_WANTED), store.largest)
        first = store.make(0)
        before = store.used_bytes(first)
        handle = store.make(wanted)
        full = store.used_bytes(handle) - (0 if store.apart else before)
        reader = in_fresh_process(_reader_bytes, rival, store.token(handle), wanted)
        store.delete_all(handle, [store.key(number) for number in range(wanted)])
        left = store.used_bytes(handle) - (0 if store.apart else before)
        store.drop(handle)
        store.drop(first)
    facts = {"keys": wanted}
    return [
        Series([full / wanted], "shared, filled", facts),
        Series([max(0, left) / wanted], "shared, all deleted", facts),
        Series([max(0, reader) / wanted], "private, in a process that reads 1,000", facts),
    ]


CASE = Case(
    "key_bytes",
    "memory of a key in a dict of 1,000,000 small entries",
    "bytes",
    ATTACHED_STORES,
    _run,
    limit_s=180.0,
)
