"""A hundred thousand dicts in one dict, in processes that may have no more than 1,024 files open.

The rivals that hold files for every dict, or take a message to a server for each, get as many as they manage.
"""

from __future__ import annotations

import contextlib
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from multiprocessing import Manager
from pathlib import Path
from typing import Any

from benchmarks.cases.sizes import some_numbers
from benchmarks.clock import samples
from benchmarks.gates import in_fresh_process
from benchmarks.registry import Case, NotMeasuredError, Scale, Series, need
from benchmarks.stores.base import unique_name

WANTED = {"xme": 100_000, "manager": 2_000, "ultradict": 100_000}
FILES, BATCH, LOOKS = 1_024, 500, 500
Parts = tuple[Any, Callable[[int], Any]]


@contextmanager
def _xme() -> Iterator[Parts]:
    xme = need("XME")
    outer = xme.xmem_dict({})
    yield outer, lambda number: xme.xmem_dict({"value": number})


@contextmanager
def _manager() -> Iterator[Parts]:
    with Manager() as manager:
        outer = manager.dict()
        yield outer, lambda number: manager.dict({"value": number})


@contextmanager
def _ultradict() -> Iterator[Parts]:
    outer = need("UltraDict").UltraDict(name=unique_name(), recurse=True, buffer_size=1 << 24)
    try:
        # With `recurse` it makes shared ones of the plain dicts that are put in.
        yield outer, lambda number: {"value": number}
    finally:
        _unlink_all_open()


def _unlink_all_open() -> None:
    """Unlink all shared memory that this process holds open: without another file to open, UltraDict cannot."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (FILES + 16, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    for descriptor in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            target = descriptor.readlink()
            if target.parent == Path("/dev/shm"):
                target.unlink()


_MAKERS: dict[str, Callable[[], Any]] = {"xme": _xme, "manager": _manager, "ultradict": _ultradict}


def _put(outer: Any, inner: Callable[[int], Any], numbers: range) -> None:
    for number in numbers:
        try:
            outer[number] = inner(number)
        except OSError as error:
            raise NotMeasuredError(f"dict number {number + 1:,} failed: {error}") from error


def _made(outer: Any, inner: Callable[[int], Any], wanted: int) -> list[float]:
    found = []
    for start in range(0, wanted, BATCH):
        numbers = range(start, min(wanted, start + BATCH))
        found += samples(partial(_put, outer, inner, numbers), 1, scale=1e6 / len(numbers), warm_up=0)
    return found


def _look(outer: Any, number: int) -> None:
    assert outer[number]["value"] == number


def _reached(outer: Any, wanted: int) -> tuple[list[float], int]:
    """Return the µs of each look at a dict that this process has never seen, and the limit of its files."""
    numbers = some_numbers(wanted, LOOKS + 20)
    # The first ones find the code cold.
    for number in numbers[:20]:
        _look(outer, number)
    found = [samples(partial(_look, outer, number), 1, scale=1e6, warm_up=0)[0] for number in numbers[20:]]
    return found, resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def _run(rival: str, scale: Scale) -> list[Series]:
    # The children inherit it.
    resource.setrlimit(resource.RLIMIT_NOFILE, (FILES, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    wanted = scale.pick(WANTED[rival], min(WANTED[rival], 1_500))
    with _MAKERS[rival]() as (outer, inner):
        made = _made(outer, inner, wanted)
        assert len(outer) == wanted
        reached, limit = in_fresh_process(_reached, outer, wanted)
        assert limit == FILES
    facts = {"dicts": wanted, "files that may be open": FILES}
    return [Series(made, "made", facts), Series(reached, "reached from another process", facts)]


CASE = Case(
    "nested",
    "a dict in a dict of 100,000 dicts",
    "µs",
    tuple(_MAKERS),
    _run,
    reach={"made": 200.0, "reached from another process": 300.0},
    limit_s=180.0,
)
