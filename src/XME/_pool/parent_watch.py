"""A worker ends when the process that started it has ended, and the last one out sweeps.

A row may be inside a lock, or in `atomic()`, for as long as it likes. Its worker cannot leave the domain then, and ends
without leaving; so that somebody sweeps after it, it starts a program that does so as soon as it has ended.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
import traceback
from multiprocessing import spawn

from XME._core import handles, memory, participant, program, sweep
from XME._core.participant import Identity

# How long leaving may take: a thread on its way through a mutex is out in microseconds.
_GRACE_S = 0.5
_PAUSE_S = 0.001
# With this process's sys.path. It has another parent before the last thread of this one has ended.
_SWEEP = """
import sys
sys.path[:] = sys.argv[5:]
from XME._core import participant, sweep
participant.await_end(participant.Identity(*map(int, sys.argv[1:4])))
sweep.sweep_if_deserted(sys.argv[4])
"""


def start(parent: Identity, domain_id: str) -> None:
    """Watch the process that started this one from now on; it may be dead already."""
    threading.Thread(target=_await_end, args=(parent, domain_id), daemon=True, name="XME-parent-watch").start()


def _await_end(parent: Identity, domain_id: str) -> None:
    participant.await_end(parent)
    deadline = threading.Timer(_GRACE_S, _end_and_sweep, (domain_id,))
    deadline.daemon = True
    deadline.start()
    try:
        _leave(domain_id)
    except BaseException:
        traceback.print_exc()
        raise
    finally:
        _end_and_sweep(domain_id)


def _leave(domain_id: str) -> None:
    """Leave, sweep if nobody else is there, and end; with the locks kept, so that this process's work joins no more."""
    memory.refuse_names()
    with program._lock:
        domain = program.known(domain_id)
        with contextlib.nullcontext() if domain is None else domain.lock:
            # While a thread is on its way through a mutex it is still there, and nobody could sweep.
            while domain is not None and domain.joined:
                domain.leave(in_use=handles.leave_party(domain))
                time.sleep(_PAUSE_S)
            program.leave_all()
            # A worker that had not joined yet may be the only one who can: the parent was killed while it started it.
            sweep.sweep_if_deserted(domain_id)
            os._exit(1)


def _end_and_sweep(domain_id: str) -> None:
    """End without leaving, and see to it that the domain is swept after that."""
    try:
        # A frozen program's executable is the program itself.
        if not getattr(sys, "frozen", False):
            python = os.fsdecode(spawn.get_executable())
            command = [python, "-c", _SWEEP, *map(str, participant.myself()), domain_id, *sys.path]
            os.posix_spawn(python, command, os.environ)
    finally:
        os._exit(1)
