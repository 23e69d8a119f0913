"""The keys that seal messages: `key=`, or the variable XME_KEY, or the user's key file, which is made at first use.

Each is one key or several: the first seals, all of them open, so that a key can be replaced while messages are on their
way. A key is 32 bytes, as text 64 hexadecimal digits.
"""

from __future__ import annotations

import os
import secrets
import stat
import tempfile
from collections.abc import Iterable
from functools import lru_cache
from typing import Any, Final, NamedTuple

from XME.errors import BadKey

KEY_BYTES: Final = 32
VARIABLE: Final = "XME_KEY"
_MAKE_ONE: Final = 'python -c "import secrets; print(secrets.token_hex(32))" makes one'
_HEADER: Final = "# Keys of XME's messages, one a line: the first seals, all of them open.\n"
_LARGEST_FILE: Final = 1 << 16


class _Known(NamedTuple):
    """A key file as it was read."""

    mark: tuple[Any, ...]
    keys: tuple[bytes, ...]


_files: dict[str, _Known] = {}


def keys_for(key: Any = None) -> tuple[bytes, ...]:
    """Return the keys that count, the one that seals first.

    Args:
        key: 32 bytes, or 64 hexadecimal digits, or several of those; None: what XME_KEY or the key file has.

    Raises:
        BadKey: there is none, or it is no key; says what to do.
    """
    if key is not None:
        given = [key] if isinstance(key, (bytes, bytearray, str)) else list(key) if isinstance(key, Iterable) else [key]
        if not given:
            raise BadKey.of("key=", "is empty", "pass 32 bytes, or leave it away for XME_KEY or the key file")
        return tuple(_parsed(one, "key=") for one in given)
    text = os.environ.get(VARIABLE)
    if text is not None:
        return _of_text(text, VARIABLE)
    return _of_file()


def _parsed(key: Any, source: str) -> bytes:
    if isinstance(key, str):
        try:
            key = bytes.fromhex(key)
        except ValueError:
            reason = "is text, but not hexadecimal digits alone"
            raise BadKey.of(source, reason, f"a key is 64 of them: {_MAKE_ONE}") from None
    if not isinstance(key, (bytes, bytearray)):
        raise BadKey.of(source, f"is a {type(key).__name__}", "a key is 32 bytes, or 64 hexadecimal digits")
    if len(key) != KEY_BYTES:
        reason = f"has {len(key)} bytes, and a key has {KEY_BYTES}"
        raise BadKey.of(source, reason, f"as text it has 64 hexadecimal digits: {_MAKE_ONE}")
    return bytes(key)


@lru_cache(maxsize=8)
def _of_text(text: str, source: str) -> tuple[bytes, ...]:
    parts = text.replace(",", " ").split()
    if not parts:
        raise BadKey.of(source, "is empty", f"unset it, or set it to a key: {_MAKE_ONE}")
    return tuple(_parsed(part, source) for part in parts)


# -- the key file ------------------------------------------------------------------------------------------------------


def key_file() -> str:
    """Return where this user's key file is, whether it exists or not.

    Raises:
        BadKey: there is no home directory.
    """
    folder = os.environ.get("XDG_CONFIG_HOME")
    if not folder:
        home = os.path.expanduser("~")
        if home == "~" or not os.path.isdir(home):
            shown = "the key file" if home == "~" else f"the key file in the home directory {home!r}"
            reason = "cannot be: there is no home directory"
            raise BadKey.of(shown, reason, f"set {VARIABLE} to a key, or pass key=; {_MAKE_ONE}")
        folder = os.path.join(home, ".config")
    return os.path.join(folder, "xme", "key")


def _of_file() -> tuple[bytes, ...]:
    path = key_file()
    known = _files.get(path)
    try:
        status = os.stat(path)
        if known is None or known.mark != _mark_of(status):
            known = _files[path] = _read(path)
    except FileNotFoundError:
        try:
            _make(path)
            known = _files[path] = _read(path)
        except OSError as error:
            reason = f"cannot be made ({error.strerror})"
            raise BadKey.of(f"the key file {path!r}", reason, f"set {VARIABLE} to a key, or pass key=") from None
    except OSError as error:
        reason = f"cannot be read ({error.strerror})"
        raise BadKey.of(f"the key file {path!r}", reason, f"mend that, or set {VARIABLE} to a key") from None
    return known.keys


def _mark_of(status: os.stat_result) -> tuple[Any, ...]:
    return status.st_ino, status.st_mtime_ns, status.st_ctime_ns, status.st_size, status.st_mode, status.st_uid


def _read(path: str) -> _Known:
    # Without waiting for a writer, were it a pipe.
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    with open(fd, "rb") as file:
        # Of the file that is open: its name may lead to another one meanwhile.
        status = os.fstat(fd)
        source = f"the key file {path!r}"
        if not stat.S_ISREG(status.st_mode):
            raise BadKey.of(source, "is no file", "remove it: a new one is made")
        if status.st_uid != os.geteuid():
            raise BadKey.of(source, f"belongs to the user with the number {status.st_uid}", "use a file of your own")
        if status.st_mode & 0o077:
            reason = f"may be read by others (mode {stat.S_IMODE(status.st_mode):04o})"
            advice = f"chmod 600 {path}, or, if somebody may have read it, remove it: a new one is made"
            raise BadKey.of(source, reason, advice)
        text = file.read(_LARGEST_FILE).decode("ascii", "replace")
    lines = [line.partition("#")[0] for line in text.splitlines()]
    return _Known(_mark_of(status), _of_text(" ".join(lines), source))


def _make(path: str) -> None:
    """Make a key file with a new key, whole or not at all; of several who do that at once, one wins."""
    folder = os.path.dirname(path)
    os.makedirs(folder, mode=0o700, exist_ok=True)
    fd, temporary = tempfile.mkstemp(prefix=".key-", dir=folder)
    try:
        with open(fd, "w", encoding="ascii") as file:
            file.write(f"{_HEADER}{secrets.token_hex(KEY_BYTES)}\n")
            file.flush()
            os.fsync(fd)
        os.link(temporary, path)
    except FileExistsError:
        # Another process was quicker: its key counts.
        return
    finally:
        os.unlink(temporary)
