"""How a worker's process is started."""

from __future__ import annotations

import contextlib
import importlib
import multiprocessing
import os
import sys
import time
from collections.abc import Iterator
from typing import Any

from XME.errors import CrewFailed

# How long a fork server that was interrupted may take to end.
_SERVER_GOES_S = 2.0


def refuse_while_importing() -> None:
    """Raise what says more than multiprocessing does if this is a worker that is still importing the program."""
    if getattr(multiprocessing.current_process(), "_inheriting", False):
        msg = (
            "a worker process imports the program to find its functions, and the program starts workers while it is "
            "imported: put what is to run once, XME(...) and its calls, below `if __name__ == '__main__':`"
        )
        raise CrewFailed(msg, deaths=0, exitcode=None)


def start(process: Any) -> None:
    """Start a process.

    Raises:
        what multiprocessing raises.
    """
    with _main_has_its_file():
        is_served = getattr(process, "_start_method", None) == "forkserver"
        deadline = time.monotonic() + (_SERVER_GOES_S if is_served else 0.0)
        while True:
            try:
                process.start()
            except (ConnectionError, EOFError):
                # A Ctrl-C ends a fork server that is just starting. multiprocessing starts another as soon as that one
                # has gone, and until then tells whoever wants a process that nobody listens.
                if time.monotonic() >= deadline:
                    raise
                time.sleep(_SERVER_GOES_S / 100)
            else:
                return


@contextlib.contextmanager
def _main_has_its_file() -> Iterator[None]:
    """Let a new process not look for a program that came from standard input; its functions travel by value."""
    main = sys.modules.get("__main__")
    path = getattr(main, "__file__", None)
    if main is None or path is None or os.path.exists(path):
        yield
        return
    del main.__file__
    try:
        yield
    finally:
        main.__file__ = path


def context_of(start_method: str | None) -> Any:
    """Return multiprocessing's context for a start method, None for the platform's default.

    Raises:
        ValueError: there is no such start method.
    """
    try:
        context = multiprocessing.get_context(start_method)
    except ValueError:
        known = ", ".join(map(repr, multiprocessing.get_all_start_methods()))
        msg = f"start_method must be None or one of {known}, not {start_method!r}"
        raise ValueError(msg) from None
    if context.get_start_method() == "forkserver":
        _preload(context)
    return context


def _preload(context: Any) -> None:
    """Let the fork server import once what every worker needs, unless the user has said what it is to import."""
    server = importlib.import_module("multiprocessing.forkserver")._forkserver
    if getattr(server, "_preload_modules", None) == ["__main__"]:
        context.set_forkserver_preload(["__main__", "XME._pool.worker", "cloudpickle"])
