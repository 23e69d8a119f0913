"""The registry: which public name belongs to which domain.

An entry is one small file in the same tmpfs as the segments, so that who sees the one sees the other. It is made
without a name, filled, and then linked; it holds JSON, and nothing in it is ever executed. The entry only points: what
a name means lives and dies with the domain that it names, and an entry of a dead domain means nothing::

    add       registry lock; the entry there is a dead domain's -> that is swept, the entry removed; linked. Likewise
              if it is of a program that was killed, though others of its domain live: it is theirs to leave
    read      no lock; one file, whole or not there
    remove    registry lock; read again: it still names that domain -> unlinked

The lock is a file as well, and nothing of XME may stay when nobody uses it: whoever holds the lock unlinks its file
before letting go, and whoever gets it looks whether the path still names the file that is locked.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

from XME._core import domain as domains
from XME._core import layout, memory, names, sweep
from XME.errors import BadSegment, DomainEnded, NameTaken

_VERSION = 1
_DAMAGED = "its registry entry is damaged (python -m XME clean removes it, and the name is free again)"
_MARK = "xmn"
_LENGTH = len(names.public_file(""))
_LARGEST_ENTRY = 1 << 20
_PAUSE_S = 0.002
# As many bytes as a domain's label holds, from which `python -m XME ls` and the last one out know the name.
MAX_NAME_BYTES = 128


@dataclass(frozen=True, slots=True)
class Entry:
    """What a public name stands for.

    Attributes:
        name: the public name.
        domain: the id of the named domain.
        serial: the serial number of its segment there.
        kind: which class opens it, for instance "array".
        metadata: what that class needs to know, as JSON has it.
    """

    name: str
    domain: str
    serial: int
    kind: str
    metadata: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Leftover:
    """An entry that points nowhere: the file, the public name if it could be read, and why it is of no use."""

    path: str
    name: str | None
    reason: str


def check_name(name: Any) -> None:
    """Refuse what cannot be a public name (TypeError, ValueError)."""
    if not isinstance(name, str):
        msg = f"a public name is a str, not {type(name).__name__}"
        raise TypeError(msg)
    if not name or "\0" in name or len(name.encode()) > MAX_NAME_BYTES:
        msg = f"a public name has 1 to {MAX_NAME_BYTES} bytes of UTF-8 and no NUL, this is {name!r}"
        raise ValueError(msg)


def read(name: str) -> Entry | None:
    """Return the entry of a public name, whether its domain lives or not; None if there is none.

    Raises:
        BadSegment: the entry is damaged, or of another version of XME.
        PermissionError: it belongs to another user.
    """
    return _read(names.path_of(names.public_file(name)), name)


def _read(path: str, shown: str) -> Entry | None:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        return None
    except PermissionError:
        msg = f"the entry of {shown!r} belongs to another user"
        raise PermissionError(msg) from None
    try:
        size = memory.require_owner(fd, shown).st_size
        data = os.read(fd, min(size, _LARGEST_ENTRY))
    finally:
        os.close(fd)
    entry = _parsed(data, shown)
    if names.path_of(names.public_file(entry.name)) != path:
        raise BadSegment.of(shown, f"its registry entry was written for the name {entry.name!r}")
    return entry


def _parsed(data: bytes, shown: str) -> Entry:
    try:
        fields = json.loads(data)
        version = fields.pop("version")
        entry = Entry(**fields) if version == _VERSION else None
    except (ValueError, TypeError, KeyError, AttributeError):
        raise BadSegment.of(shown, _DAMAGED) from None
    if entry is None:
        raise BadSegment.of(shown, f"its registry entry is of version {version}, and this is {_VERSION}")
    good = names.parse(names.name_of(entry.domain, 0)) if isinstance(entry.domain, str) else None
    kinds = (isinstance(entry.name, str), isinstance(entry.serial, int), isinstance(entry.metadata, dict))
    if good is None or not all(kinds):
        raise BadSegment.of(shown, _DAMAGED)
    return entry


def is_alive(entry: Entry, *, with_owner: bool = False) -> bool:
    """True unless the domain of an entry has ended or everybody in it is provably dead.

    Args:
        entry: which.
        with_owner: False as well if it is a program's whose first process is dead: what that has published ends when
            the others leave it, and its program, started again, wants the name.
    """
    try:
        domain = domains.inspect(entry.domain)
    except DomainEnded:
        return False
    except (BadSegment, PermissionError):
        # Of another version, or another user's: nothing is proved.
        return True
    try:
        return not domain.ended and domain.is_inhabited() and not (with_owner and _has_lost_its_owner(domain))
    finally:
        domain.close_view()


def _has_lost_its_owner(domain: domains.Domain) -> bool:
    words = domain.words
    number, incarnation = words[layout.W_OPENER] - 1, words[layout.W_OPENER_INCARNATION]
    return domain.kind == layout.PROGRAM and domain.is_dead(number, incarnation)


def require_free(name: str) -> None:
    """Raise NameTaken if a living domain has the name, and sweep a dead one; `add` looks again under the lock."""
    entry = read(name)
    if entry is None:
        return
    if is_alive(entry, with_owner=True):
        raise NameTaken.of(name)
    # Its entry is about to be replaced, and with it the last trace that leads there by name.
    with sweep.looking_at(entry.domain) as domain:
        if domain is not None:
            domain.sweep_if_dead()


def add(entry: Entry) -> None:
    """Publish a name; nothing happens if it is published as exactly that.

    Raises:
        NameTaken: a living domain has it.
        SharedMemoryFull: there is no room for the entry.
    """
    path = names.path_of(names.public_file(entry.name))
    data = json.dumps({"version": _VERSION, **asdict(entry)}).encode()
    fd = memory.new_file()
    try:
        with memory.room_for(len(data)):
            os.pwrite(fd, data, 0)
        with locked():
            if read(entry.name) == entry:
                return
            require_free(entry.name)
            memory.unlink(path)
            memory.link(fd, path)
    finally:
        os.close(fd)


def remove(name: str, domain_id: str, serial: int | None = None) -> bool:
    """Remove a name if it still points to this domain, or to this segment there; True if it did.

    The caller knows that the domain is dead, or with a `serial` that this segment is: others there may have got the
    name since.
    """
    with locked():
        try:
            entry = read(name)
        except BadSegment:
            return False
        if entry is None or entry.domain != domain_id or serial not in (None, entry.serial):
            return False
        memory.unlink(names.path_of(names.public_file(name)))
        return True


def names_of(domain_id: str, serial: int | None = None) -> list[str]:
    """Return the names that point to a domain, or to one segment there (1 us for each file in the folder)."""
    return [entry.name for entry in entries() if entry.domain == domain_id and serial in (None, entry.serial)]


def _paths() -> list[str]:
    found = []
    for file in os.scandir(names.FOLDER):
        if file.name.startswith(_MARK) and len(file.name) == _LENGTH:
            with contextlib.suppress(FileNotFoundError):
                if file.stat(follow_symlinks=False).st_uid == os.geteuid():
                    found.append(file.path)
    return found


def entries() -> Iterator[Entry]:
    """Yield every entry of this user that can be read, its domain alive or not."""
    for path in _paths():
        with contextlib.suppress(BadSegment, PermissionError):
            entry = _read(path, os.path.basename(path))
            if entry is not None:
                yield entry


def _why_useless(path: str) -> Leftover | None:
    try:
        entry = _read(path, os.path.basename(path))
    except BadSegment as error:
        return Leftover(path, None, error.reason) if "damaged" in error.reason else None
    if entry is None or is_alive(entry):
        return None
    return Leftover(path, entry.name, "everybody who used it has ended")


def leftovers() -> list[Leftover]:
    """Return the entries of this user that point to no living domain."""
    return [found for path in _paths() if (found := _why_useless(path))]


def prune(*, damaged: bool = True) -> list[Leftover]:
    """Remove the entries of this user that point to no living domain; returns what was removed.

    Args:
        damaged: whether those go as well that cannot be read: what they stood for may live.

    A lock file that a killed process left goes as well: taking the lock and letting it go removes it.
    """
    if not _useless(damaged) and not os.path.lexists(_lock_path()):
        return []
    with locked():
        found = _useless(damaged)
        for leftover in found:
            memory.unlink(leftover.path)
    return found


def _useless(damaged: bool) -> list[Leftover]:
    return [found for found in leftovers() if damaged or found.name is not None]


# -- the lock ----------------------------------------------------------------------------------------------------------


def load_lock() -> Callable[..., bool]:
    """Import filelock's descriptor lock; called early by who will need it at exit, when imports may fail."""
    # A tenth of a second that only those pay who use public names.
    from filelock import lock_descriptor

    return lock_descriptor


@contextlib.contextmanager
def locked() -> Iterator[None]:
    """Hold this user's registry lock; the kernel frees it when its holder dies.

    Raises:
        RuntimeError: this thread holds it already (a signal handler came in between).
        PermissionError: another user has made a file of its name.
    """
    global _holder, _held_fd
    if _holder == threading.get_ident():
        msg = "a signal handler uses a public name while its own thread is changing the registry"
        raise RuntimeError(msg)
    path = _lock_path()
    with _threads:
        _holder = threading.get_ident()
        _held_fd = -1
        try:
            _take(path, load_lock())
            yield
        finally:
            # Twice: a second Ctrl-C may strike the first.
            try:
                _give_back(path)
            finally:
                _give_back(path)


def _give_back(path: str) -> None:
    global _holder, _held_fd
    fd = _held_fd
    if fd >= 0:
        # Unlinked while it is held, so nothing stays; unlocked by hand, because a fork of another thread may have
        # copied the descriptor, and then closing ours frees nothing.
        if memory.still_named(fd, path):
            memory.unlink(path)
        _held_fd = -1
        fcntl.flock(fd, fcntl.LOCK_UN)
        os.close(fd)
    _holder = 0


def _lock_path() -> str:
    return names.path_of(f"xmlock.{os.geteuid()}")


def _take(path: str, lock_descriptor: Callable[..., bool]) -> None:
    global _held_fd
    while True:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            memory.require_owner(fd, os.path.basename(path))
            while memory.still_named(fd, path):
                if lock_descriptor(fd, blocking=False):
                    if memory.still_named(fd, path):
                        # Here, and not by who called: until then the clause below closes it.
                        _held_fd = fd
                        return
                    break
                time.sleep(_PAUSE_S)
        except BaseException:
            _held_fd = -1
            os.close(fd)
            raise
        os.close(fd)


_threads = threading.Lock()
_holder = 0
_held_fd = -1


def _after_fork_in_child() -> None:
    global _threads, _holder, _held_fd
    if _held_fd >= 0:
        os.close(_held_fd)
    _threads = threading.Lock()
    _holder = 0
    _held_fd = -1


os.register_at_fork(after_in_child=_after_fork_in_child)
