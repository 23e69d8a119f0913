"""What runs in a worker: one or more actors, each with a pipe to the controller.

    controller -> actor                         actor -> controller
    ("begin", Setup)                            ("ready", tries, waits, reads, thread, closes) | ("broken", sentence)
    ("op", Op, timeout_s, gate mode, inside)    ("done", Kind, detail)
                                                ("gate", number, place, is_idle), then it waits for a new mode
    ("free", FreeJob)                           ("done", Kind, detail)
    ("end",)                                    ("closed", names that were seen, what is left open, rounds)

A worker is a session of its own, so that whatever its lock starts can be found and ended. It ends with the controller.
"""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

from XME.testing import _gates
from XME.testing._actor import Board, Section
from XME.testing._adapt import Adapted, adapt
from XME.testing._event import OWNER_DIED, Kind, Op
from XME.testing._recorder import Recorder
from XME.testing._room import Room, make_in

_PR_SET_PDEATHSIG = 1
SHARED_MEMORY = "/dev/shm/"  # noqa: S108 - where Linux shows the names of shared memory and semaphores


@dataclass(frozen=True)
class Job:
    """What a worker is started with."""

    make_lock: Callable[..., Any]
    workers: tuple[int, ...]
    life: int
    parent: int
    lock: Any = None
    gates: tuple[str, ...] = ()
    verify: Callable[[Any], None] | None = None
    # If each worker is a process that makes its lock itself: how it was started.
    alone: str | None = None


@dataclass(frozen=True)
class Setup:
    """What a run begins with."""

    room: Room
    stepped: bool
    shared_read: bool


def main(job: Job, pipes: list[Connection]) -> None:
    """Serve until the controller says that it is over, or is gone."""
    os.setsid()
    _end_with_controller(job.parent)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    sys.addaudithook(_note_name)
    # What was there before the lock has no garbage of the lock's in it: then looking for that takes no time.
    gc.freeze()
    host = Host(job)
    actors = [Actor(host, worker, pipe) for worker, pipe in zip(job.workers, pipes, strict=True)]
    threads = [threading.Thread(target=actor.serve, daemon=True) for actor in actors[1:]]
    for thread in threads:
        thread.start()
    actors[0].serve()
    for thread in threads:
        thread.join()


def _end_with_controller(parent: int) -> None:
    if sys.platform == "linux":
        import ctypes

        # Under forkserver the parent is the server, which itself ends with the controller.
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() == 1 and parent != 1:
            os._exit(1)


class Host:
    """What the actors of one process have in common: the lock."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self._lock: Adapted | None = None
        self._guard = threading.Lock()
        self._users = 0
        self._files: set[tuple[str, str]] = set()
        self._mappings = 0

    def enter(self, setup: Setup) -> Adapted:
        """Return the lock of this run; the first actor of the process makes it."""
        with self._guard:
            self._users += 1
            if self._lock is None:
                self._files, self._mappings = open_files(), mappings()
                made = self.job.lock if self.job.lock is not None else make_in(self.job.make_lock, setup.room)
                adapted = adapt(made)
                self._require(made, adapted, setup)
                self._lock = adapted
                if setup.stepped:
                    _gates.install(_gates.files_of(self._lock, self.job.gates))
            return self._lock

    def _require(self, made: Any, adapted: Adapted, setup: Setup) -> None:
        """Refuse a lock of which what is found would be true, and mean nothing (TypeError)."""
        if setup.shared_read and adapted.take_read is None:
            msg = f"{type(made).__name__} has no acquire_read and release_read, so it is no reader-writer lock"
            raise TypeError(msg)
        home = type(adapted.lock).__module__
        maker = getattr(self.job.make_lock, "__module__", "")
        # A forked worker may have inherited one, unless it called multiprocessing itself; and any may have attached a
        # Security by its name, unless it called the class.
        is_new = home == "multiprocessing.synchronize" and (
            maker == "multiprocessing.context" or self.job.alone != "fork"
        )
        if self.job.alone and (is_new or home == maker == "XME.Security" or home in {"threading", "_thread"}):
            msg = (
                f"each worker is a process and has made a {type(adapted.lock).__name__} of its own, which no other "
                "sees: handed_over=True for a lock of multiprocessing's or a Security, between='threads' for one of "
                "threading's"
            )
            raise TypeError(msg)

    def leave(self, room: Room) -> tuple[list[str], int, int] | None:
        """Close the lock with the last actor that has used it, and return what it has left open.

        That is: files of the room by name, descriptors more, and mappings more, than before it was made.
        """
        with self._guard:
            self._users -= 1
            if self._users or self._lock is None:
                return None
            closes = self._lock.closes
            self._lock.close()
            self._lock = None
        gc.collect()
        now = open_files()
        new = now - self._files
        # What cannot be closed may keep its files as long as its process lives.
        mine = [target for _, target in new if closes and (room.folder + "/" in target or room.name in target)]
        return sorted(mine), len(now) - len(self._files), mappings() - self._mappings


def open_files(pid: int | None = None) -> set[tuple[str, str]]:
    """Return the descriptors of a process, this one's without a pid, and what they lead to."""
    folder, found = f"/proc/{pid or 'self'}/fd", set()
    with contextlib.suppress(OSError):
        for fd in os.listdir(folder):
            # The one by which this is read is gone by now.
            with contextlib.suppress(OSError):
                found.add((fd, os.readlink(f"{folder}/{fd}")))
    return found


def mappings(pid: int | None = None) -> int:
    """Return how many mappings with a name a process has."""
    try:
        with open(f"/proc/{pid or 'self'}/maps", encoding="utf-8", errors="replace") as file:
            return sum(" /" in line for line in file)
    except OSError:
        return 0


def names_now() -> set[str]:
    """Return all names that there are in shared memory now, anybody's."""
    try:
        return {SHARED_MEMORY + name for name in os.listdir(SHARED_MEMORY)}
    except OSError:
        return set()


def top_name(name: str) -> str:
    """Return the name that somebody sees who lists shared memory: of a file in a folder, the folder's.

    >>> top_name("/dev/shm/folder/file")
    '/dev/shm/folder'
    """
    return SHARED_MEMORY + name.removeprefix(SHARED_MEMORY).partition("/")[0]


# What this worker has opened or mapped, by Python's own means, even if it did not keep it for long.
_opened: set[str] = set()


def _note_name(event: str, args: tuple[Any, ...]) -> None:
    if event == "open" and isinstance(args[0], str | bytes | os.PathLike):
        path = os.fsdecode(args[0])
        if path.startswith(SHARED_MEMORY):
            _opened.add(path)
    elif event == "mmap.__new__":
        with contextlib.suppress(OSError):
            name = os.readlink(f"/proc/self/fd/{args[0]}")
            if name.startswith(SHARED_MEMORY) and not name.endswith(" (deleted)"):
                _opened.add(name)


def shared_names(pid: int | None = None) -> set[str]:
    """Return the names in shared memory that a process, this one without a pid, has mapped or open."""
    found = {target for _, target in open_files(pid)}
    with contextlib.suppress(OSError), open(f"/proc/{pid or 'self'}/maps", encoding="utf-8", errors="replace") as file:
        found |= {line.rstrip("\n").split(maxsplit=5)[-1] for line in file if SHARED_MEMORY in line}
    return {name for name in found if name.startswith(SHARED_MEMORY) and not name.endswith(" (deleted)")}


class Actor:
    """One user of the lock: a process, or a thread of one."""

    def __init__(self, host: Host, worker: int, pipe: Connection) -> None:
        self.host = host
        self.worker = worker
        self.life = host.job.life
        self._pipe = pipe
        self.gate = _gates.Gate(self._ask)
        self._call = 0
        self._rounds = 0

    def _ask(self, number: int, place: str, is_idle: bool) -> int:
        self._pipe.send(("gate", number, place, is_idle))
        return int(self._pipe.recv())

    def serve(self) -> None:
        """Do what the controller says."""
        while True:
            try:
                command, *arguments = self._pipe.recv()
                if command == "exit":
                    return
                self._pipe.send(getattr(self, f"_on_{command}")(*arguments))
            except (EOFError, ConnectionResetError, BrokenPipeError):
                return

    # -- commands --------------------------------------------------------------------------------------------------

    def _on_begin(self, setup: Setup) -> tuple[Any, ...]:
        room = setup.room
        try:
            self.lock = self.host.enter(setup)
        except Exception as error:
            return "broken", f"make_lock() failed in a worker: {error!r}", threading.get_native_id()
        self._call = 0
        self._room, self._rounds = room, 0
        self.recorder = Recorder(room.path(f"w{self.worker}"), self.worker, self.life)
        self.board = Board(room.path("board"))
        verify = self.host.job.verify
        inner = None if verify is None else lambda: verify(self.lock.lock)
        self.section = Section(self.board, self.worker, self.life, self.gate, inner)
        self.operations: dict[Op, Callable[[float | None], Any]] = {
            Op.ACQUIRE: self.lock.acquire,
            Op.RELEASE: lambda _: self.lock.release(),
            Op.ACQUIRE_READ: self.lock.acquire_read if setup.shared_read else self.lock.acquire,
            Op.RELEASE_READ: lambda _: self.lock.release_read() if setup.shared_read else self.lock.release(),
        }
        reads = self.lock.take_read is not None
        return "ready", self.lock.tries, self.lock.waits, reads, threading.get_native_id(), self.lock.closes

    def _on_op(self, op: Op, timeout_s: float | None, mode: _gates.Mode, inside: Any) -> tuple[Any, ...]:
        return "done", *self.perform(op, timeout_s, mode, inside)

    def _on_free(self, job: Any) -> tuple[Any, ...]:
        job.run(self)
        return "done", Kind.OK, ""

    def _on_end(self) -> tuple[Any, ...]:
        names = shared_names()
        self.board.close()
        self.recorder.close()
        del self.lock, self.operations, self.section
        left = self.host.leave(self._room)
        return "closed", sorted(names | _opened), left, self._rounds

    def count_round(self) -> None:
        """One round more is done, in this life."""
        self.board.count_round(self.worker)
        self._rounds += 1

    # -- one operation ---------------------------------------------------------------------------------------------

    def perform(
        self, op: Op, timeout_s: float | None, mode: _gates.Mode = _gates.FREE, inside: Any = None
    ) -> tuple[Kind, str]:
        """Do one operation between its two records; an exception of the lock is an answer."""
        self._call += 1
        write = self.recorder.write
        write(op, Kind.INVOKE, self._call, timeout_s)
        self.board.enter(self.worker, op)
        try:
            kind, detail = self._answer(op, timeout_s, mode, inside)
        finally:
            self.board.enter(self.worker, None)
        write(op, kind, self._call, timeout_s, detail)
        return kind, detail

    def _answer(self, op: Op, timeout_s: float | None, mode: _gates.Mode, inside: Any) -> tuple[Kind, str]:
        gate = self.gate
        gate.arm(mode)
        try:
            gate.arrive(f"before {op.name.lower()}")
            if op is Op.SECTION:
                return self.section.run(inside)
            answer = self.operations[op](timeout_s)
            gate.arrive(f"after {op.name.lower()}")
        except Exception as error:
            return Kind.RAISED, f"{type(error).__name__}: {error}"
        finally:
            gate.disarm()
        if op in {Op.RELEASE, Op.RELEASE_READ}:
            return Kind.OK, ""
        if answer and self.lock.owner_died:
            return Kind.OK, OWNER_DIED
        return (Kind.OK if answer else Kind.REFUSED), ""


def sleep_between(low: float, high: float, share: float) -> None:
    """Pause for a share (0 to 1) of the way between two times."""
    pause = low + (high - low) * share
    if pause > 0:
        time.sleep(pause)
