"""Files of shared memory: made whole or not at all, reserved before they are mapped.

A file is made without a name (O_TMPFILE), filled, and then linked to its name, so that nobody ever attaches half of
one and a killed maker leaves nothing.
"""

from __future__ import annotations

import contextlib
import errno
import mmap
import os
import sys
import time
from typing import Any

from XME._core import names
from XME.errors import NameTaken, SharedMemoryFull

_refusing = False
# What a file without content takes, about.
_FILE_BYTES = 1024
# In which stat(2) counts, whatever the file system's own blocks are.
_STAT_BLOCK = 512
_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.ENOMEM})
# Python keeps a descriptor for every mapping up to 3.12; later it can be told not to.
_MAP_OPTIONS: dict[str, Any] = {"trackfd": False} if sys.version_info >= (3, 13) else {}


def new_file() -> int:
    """Return a descriptor of a new file in shared memory that has no name yet.

    Raises:
        SharedMemoryFull: there are as many files as there may be.
    """
    with room_for(_FILE_BYTES):
        return os.open(names.FOLDER, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)


def full(wanted: int, failed: int | None = None) -> SharedMemoryFull:
    """Return the error for `wanted` bytes that could not be had, with what is free now.

    Args:
        wanted: how many.
        failed: descriptor of the file that could not be filled; what was written to it is as good as free.
    """
    stat = os.statvfs(names.FOLDER)
    free = stat.f_bavail * stat.f_frsize
    if failed is not None:
        file = os.fstat(failed)
        # A file without a name goes when it is closed; one that has a name keeps what it has.
        free += 0 if file.st_nlink else file.st_blocks * _STAT_BLOCK
    return SharedMemoryFull.of(wanted, free, stat.f_blocks * stat.f_frsize, names.FOLDER)


@contextlib.contextmanager
def room_for(wanted: int, fd: int | None = None) -> Any:
    """Turn the kernel's 'no space' into SharedMemoryFull, which says how much was wanted and what is free.

    Args:
        wanted: how many bytes.
        fd: of the file that is filled, if there is one.
    """
    try:
        yield
    except OSError as error:
        if error.errno in _NO_ROOM:
            raise full(wanted, fd) from error
        raise


def reserve(fd: int, nbytes: int) -> None:
    """Make the file `nbytes` long and reserve its pages, so that no store into it can be a SIGBUS."""
    with room_for(nbytes, fd):
        os.posix_fallocate(fd, 0, nbytes)


def refuse_names() -> None:
    """Let no thread of this process name anything any more: it is about to end, and sweeps what there is."""
    global _refusing
    _refusing = True
    # One that has just looked comes to its end.
    time.sleep(0.002)


def link(fd: int, path: str) -> None:
    """Give the file its name; NameTaken if that exists."""
    if _refusing:
        msg = "this process is ending and makes nothing new in shared memory"
        raise RuntimeError(msg)
    try:
        # A directory descriptor, though unused with absolute paths, is what makes Python call linkat, which follows
        # the link from /proc to a file that has no name.
        os.link(f"/proc/self/fd/{fd}", path, src_dir_fd=fd, follow_symlinks=True)
    except FileExistsError as error:
        raise NameTaken.of(os.path.basename(path)) from error
    except OSError as error:
        if error.errno in _NO_ROOM:
            raise full(0) from error
        raise


def open_file(path: str) -> int:
    """Open an existing file of ours; FileNotFoundError, PermissionError (with the name)."""
    return os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)


def require_owner(fd: int, name: str) -> os.stat_result:
    """Return the file's status, or raise PermissionError (with the name) if it is another user's."""
    status = os.fstat(fd)
    if status.st_uid != os.geteuid():
        msg = f"shared memory {name!r} belongs to user {status.st_uid}, and this is user {os.geteuid()}"
        raise PermissionError(msg)
    return status


def reopen(fd: int) -> int:
    """Open the same file once more: a descriptor with locks of its own, which the other's closing does not drop."""
    return os.open(f"/proc/self/fd/{fd}", os.O_RDWR | os.O_CLOEXEC)


def map_file(fd: int, nbytes: int, *, writable: bool = True) -> mmap.mmap:
    """Map the first `nbytes` of a file, shared."""
    protection = mmap.PROT_READ | (mmap.PROT_WRITE if writable else 0)
    return mmap.mmap(fd, nbytes, flags=mmap.MAP_SHARED, prot=protection, **_MAP_OPTIONS)


def map_private(fd: int, nbytes: int, offset: int) -> mmap.mmap:
    """Map `nbytes` from a page-aligned `offset` so that what is stored there is seen by nobody else."""
    protection = mmap.PROT_READ | mmap.PROT_WRITE
    return mmap.mmap(fd, nbytes, flags=mmap.MAP_PRIVATE, prot=protection, offset=offset, **_MAP_OPTIONS)


def unlink(path: str) -> None:
    """Remove a name; the memory lives as long as somebody maps it."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)


def is_there(path: str) -> bool:
    """True if a name exists."""
    return os.path.lexists(path)


def still_named(fd: int, path: str) -> bool:
    """True if `path` still names the file behind `fd`, and not nothing or a successor."""
    try:
        there = os.stat(path, follow_symlinks=False)
    except FileNotFoundError:
        return False
    here = os.fstat(fd)
    return (there.st_dev, there.st_ino) == (here.st_dev, here.st_ino)
