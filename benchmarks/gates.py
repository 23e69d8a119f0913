"""Named semaphores that every rival's workers can open, and processes made for one sample."""

from __future__ import annotations

import multiprocessing
import os
import secrets
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from typing import Any

from benchmarks.registry import NotMeasuredError, need


@contextmanager
def gates(count: int) -> Iterator[tuple[tuple[str, ...], list[Any]]]:
    """Make ``count`` semaphores of value 0; gives their names and the semaphores, and unlinks them at the end."""
    posix_ipc = need("posix_ipc")
    names = tuple(f"/bench-{os.getpid():x}-{secrets.token_hex(4)}" for _ in range(count))
    made = [posix_ipc.Semaphore(name, posix_ipc.O_CREX, initial_value=0) for name in names]
    try:
        yield names, made
    finally:
        for gate in made:
            gate.unlink()
            gate.close()


def _answer(connection: Connection, function: Callable[..., Any], args: tuple[Any, ...]) -> None:
    try:
        answer = function(*args)
    except Exception as error:
        traceback.print_exc()
        # The text alone if need be: not every exception survives the way.
        answer = error if isinstance(error, NotMeasuredError) else RuntimeError(f"{type(error).__name__}: {error}")
    connection.send(answer)


def in_fresh_process(function: Callable[..., Any], *args: Any, limit_s: float = 60.0, method: str = "spawn") -> Any:
    """Return ``function(*args)`` from a new interpreter: nothing in it is warm; from a child of fork, if so chosen.

    Raises:
        TimeoutError: when there is no answer after ``limit_s`` seconds; the process is killed.
        NotMeasuredError: when the function raises it there.
        RuntimeError: when the function raises anything else; the text names it, the traceback is on stderr.
        EOFError: when the process ended without an answer.
    """
    context: Any = multiprocessing.get_context(method)
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_answer, args=(theirs, function, args))
    process.start()
    theirs.close()
    try:
        if not ours.poll(limit_s):
            process.kill()
            raise TimeoutError(f"{function.__qualname__} gave no answer in {limit_s:g} s")
        answer = ours.recv()
    finally:
        process.join(limit_s)
        ours.close()
    if isinstance(answer, Exception):
        raise answer
    return answer
