"""Who is this process; is that one dead, provably.

A participant of a domain is a number, an incarnation that is never given twice, a row in the domain's file, and a
lease: one byte of that file under a lock that the kernel frees after the last thread of the process is gone.

*Dead* means: the lease is free **and** no process with the row's pid and start time lives in our pid namespace. The
lease is asked first, because a leader whose threads go on shows state Z and lives. In doubt: alive.
"""

from __future__ import annotations

import functools
import os
import select
import sys
import time
from typing import NamedTuple

# States of /proc/<pid>/stat in which a process stores nothing more.
_GONE = frozenset("ZXx")
# How often a process is looked at whose end the kernel does not tell.
_LOOK_S = 0.2


class Identity(NamedTuple):
    """A process, named so that a later one with the same pid is another: pid, start time (ticks), pid namespace."""

    pid: int
    start_time: int
    pid_namespace: int


def read_stat(pid: int) -> tuple[str, int] | None:
    """Return (state, start time in clock ticks since boot) of a process, or None if there is none."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            text = file.read()
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The command's name stands in parentheses and may itself hold blanks and parentheses.
    fields = text[text.rindex(b")") + 2 :].split()
    return fields[0].decode(), int(fields[19])


@functools.cache
def _pid_namespace() -> int:
    return os.stat("/proc/self/ns/pid").st_ino


def identity_of(pid: int) -> Identity | None:
    """Return the identity of a process of our own pid namespace, dead but not reaped ones included; None: no such."""
    stat = read_stat(pid)
    return None if stat is None else Identity(pid, stat[1], _pid_namespace())


@functools.cache
def myself() -> Identity:
    """Return the identity of this process (the first time 20 us or more)."""
    pid = os.getpid()
    stat = read_stat(pid)
    if stat is None:
        msg = "XME needs /proc to tell processes apart: mount it (mount -t proc proc /proc)"
        raise RuntimeError(msg)
    return Identity(pid, stat[1], _pid_namespace())


def is_found_alive(who: Identity) -> bool:
    """True if the process is found running in our own pid namespace; False says nothing by itself."""
    if who.pid_namespace != _pid_namespace():
        return False
    stat = read_stat(who.pid)
    return stat is not None and stat[1] == who.start_time and stat[0] not in _GONE


def is_found_dead(who: Identity) -> bool:
    """True if the process was of our own pid namespace and is not found there; False says nothing by itself."""
    return who.pid_namespace == _pid_namespace() and not is_found_alive(who)


def await_end(who: Identity) -> None:
    """Wait until a process of our own pid namespace has ended with all its threads: only then its leases are free."""
    try:
        pidfd = os.pidfd_open(who.pid)
    except ProcessLookupError:
        return
    except (OSError, AttributeError):
        # An old kernel, or none that is Linux.
        while is_found_alive(who):
            time.sleep(_LOOK_S)
        return
    try:
        stat = read_stat(who.pid)
        # Looked at after the descriptor was opened: it may be a later process's with the same pid.
        if stat is not None and stat[1] == who.start_time:
            poller = select.poll()
            poller.register(pidfd, select.POLLIN)
            poller.poll()
    finally:
        os.close(pidfd)


def display_name() -> str:
    """Return how this process is called in messages: multiprocessing's name, else the program's."""
    multiprocessing = sys.modules.get("multiprocessing.process")
    if multiprocessing is not None:
        name: str = multiprocessing.current_process().name
        if name != "MainProcess":
            return name
    return os.path.basename(sys.argv[0] if sys.argv else "") or "python"


def _after_fork_in_child() -> None:
    # By the pid alone a child in a pid namespace of its own could be taken for its parent.
    _pid_namespace.cache_clear()
    myself.cache_clear()


os.register_at_fork(after_in_child=_after_fork_in_child)
