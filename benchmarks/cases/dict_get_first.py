"""What does it cost to get a value that this process has never got?

Another process has made the dict. A child attaches it, gets one value, so that what is done at the first access is
done, and then gets keys that nobody here has seen, each once.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from benchmarks.cases.sizes import label, reach_at_all_sizes, sizes, some_numbers
from benchmarks.clock import samples
from benchmarks.gates import in_fresh_process
from benchmarks.registry import Case, Scale, Series
from benchmarks.stores.base import Store
from benchmarks.stores.catalogue import ATTACHED_STORES, open_store
from benchmarks.stores.keeper import Keeper, keeper

MOST_S = 0.1


def _read_new(store: Store, token: Any, count: int, limit_s: float) -> tuple[float, int]:
    """Return the µs a value, and of how many values."""
    handle = store.attach(token)
    first, *numbers = some_numbers(count, 4_000)
    seconds = samples(partial(store.read, handle, [store.key(first)]), 1, scale=1.0, warm_up=0)[0]
    # Of the dicts whose every access costs their whole size, a few are enough.
    keys = [store.key(number) for number in numbers[: max(3, min(len(numbers), int(limit_s / seconds)))]]
    return samples(partial(store.read, handle, keys), 1, scale=1e6 / len(keys), warm_up=0)[0], len(keys)


def _one_size(store: Store, other: Keeper, count: int, scale: Scale) -> Series:
    token = other.make(count)
    answers = [in_fresh_process(_read_new, store, token, count, MOST_S, method="fork") for _ in range(scale.pick(9, 3))]
    facts = {"operations a sample": answers[0][1], "size": count}
    return Series([figure for figure, _ in answers], label(count), facts)


def _run(rival: str, scale: Scale) -> list[Series]:
    with open_store(rival, public=True) as store, keeper(rival) as other:
        # The code is warm in the children when it is warm here: the dict that made it so is another one.
        handle = store.attach(other.make(WARM_KEYS))
        store.read(handle, [store.key(number) for number in range(WARM_KEYS)])
        store.detach(handle)
        del handle
        return [_one_size(store, other, count, scale) for count in sizes(store, scale)]


WARM_KEYS = 1_000
CASE = Case(
    "dict_get_first",
    "get a value that this process has never got",
    "µs",
    ATTACHED_STORES,
    _run,
    reach=reach_at_all_sizes(2.0),
)
