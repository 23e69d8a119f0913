"""A worker ends when the process that started it has ended, and the last one out sweeps."""

from __future__ import annotations

import contextlib
import os
import select
import threading
import time

from XME._core import handles, memory, participant, program, sweep
from XME._core.participant import Identity

# How long the clearing away may take. Should a lock be held by a thread that does not go on, the next program sweeps.
_GRACE_S = 1.0
_LOOK_S = 0.2
_PAUSE_S = 0.001


def start(parent: Identity, domain_id: str) -> None:
    """Watch the process that started this one from now on; it may be dead already."""
    threading.Thread(target=_await_end, args=(parent, domain_id), daemon=True, name="XME-parent-watch").start()


def _await_end(parent: Identity, domain_id: str) -> None:
    try:
        pidfd = os.pidfd_open(parent.pid)
    except (OSError, AttributeError):
        pidfd = -1
    while participant.is_found_alive(parent):
        # Looked at after the descriptor was opened, so that it is not a later process's with the same pid.
        if pidfd < 0:
            time.sleep(_LOOK_S)
        else:
            poller = select.poll()
            poller.register(pidfd, select.POLLIN)
            poller.poll()
    deadline = threading.Timer(_GRACE_S, os._exit, (1,))
    deadline.daemon = True
    deadline.start()
    try:
        _leave(domain_id)
    finally:
        os._exit(1)


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
            with sweep.looking_at(domain_id) as deserted:
                if deserted is not None:
                    deserted.sweep_if_dead()
            os._exit(1)
