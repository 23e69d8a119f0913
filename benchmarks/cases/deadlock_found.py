"""How long after the wait that closes a circle is begun does somebody get the Deadlock?

Processes each hold a lock and ask for the next one's, all at once; the time runs from the last one's asking to the
report. No rival reports: their processes would wait for ever.
"""

from __future__ import annotations

import multiprocessing
import time
from typing import Any

from benchmarks.registry import Case, Scale, Series, need

_GRACE_S = 30.0
_CIRCLES = {"2 processes": 2, "3 processes": 3, "4 processes": 4}


def _work(locks: list[Any], me: int, pipe: Any) -> None:
    errors = need("XME.errors")
    mine, wanted = locks[me], locks[(me + 1) % len(locks)]
    while pipe.recv():
        with mine.holding("me"):
            pipe.send("held")
            pipe.recv()
            asked, told = time.monotonic(), None
            try:
                with wanted.holding("me"):
                    pass
            except errors.Deadlock:
                told = time.monotonic()
        pipe.send((asked, told))


def _hear(pipe: Any) -> Any:
    if not pipe.poll(_GRACE_S):
        raise TimeoutError("a deadlock was not reported")
    return pipe.recv()


def _one(pipes: list[Any]) -> tuple[float, int]:
    """Let all close the circle; returns how long it took to be reported (ms), and how many got the report."""
    for word in (True, "go"):
        for pipe in pipes:
            pipe.send(word)
        if word is True:
            assert [_hear(pipe) for pipe in pipes] == ["held"] * len(pipes)
    answers = [_hear(pipe) for pipe in pipes]
    reports = [told for _, told in answers if told is not None]
    return 1000 * (min(reports) - max(asked for asked, _ in answers)), len(reports)


def _series(label: str, count: int, scale: Scale) -> Series:
    security = need("XME.Security")
    locks = [security.Security(security.MUTEX) for _ in range(count)]
    context = multiprocessing.get_context("fork")
    pairs = [context.Pipe() for _ in range(count)]
    crew = [
        context.Process(target=_work, args=(locks, me, theirs), daemon=True) for me, (_, theirs) in enumerate(pairs)
    ]
    for process in crew:
        process.start()
    pipes = [mine for mine, _ in pairs]
    found = [_one(pipes) for _ in range(scale.pick(40, 8))]
    for pipe, process in zip(pipes, crew, strict=True):
        pipe.send(False)
        process.join(_GRACE_S)
    return Series([ms for ms, _ in found], label, {"most reports of one circle": max(number for _, number in found)})


def _run(_rival: str, scale: Scale) -> list[Series]:
    return [_series(label, count, scale) for label, count in _CIRCLES.items()]


CASE = Case(
    "deadlock_found", "from the wait that closes a circle to the Deadlock", "ms", ("xme",), _run,
    reach=dict.fromkeys(_CIRCLES, 200.0),
)  # fmt: skip
