"""The log: one line format, written whole whatever the number of processes, to the screen and to a file.

    (Warning)2023-10-20 03:34:27(pid@114796):----message

Who does what: every process writes its own lines and none collects them. Each line is one write under a record lock on
the very file, pipe or terminal that it goes to. The kernel frees such a lock when its holder dies, so a killed worker
stops nobody, and no lock file is left behind.
"""

from __future__ import annotations

import fcntl
import os
import select
import sys
import threading
import time as _clock
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any, Final

from XME._core.callable_module import name_the_class

__all__ = ["Logputter"]

_THIS_PROCESS: Final = object()


class _Threads:
    """The lock between the threads of this process; record locks only exclude other processes."""

    # Reentrant, so that a signal handler that logs in the middle of a write does not wait for its own thread.
    lock = threading.RLock()

    @classmethod
    def renew(cls) -> None:
        """Forget a lock that another thread held at a fork: that thread does not exist in the child."""
        cls.lock = threading.RLock()


os.register_at_fork(after_in_child=_Threads.renew)


def _stand_in() -> int:
    # Slow to import, and only systems without record locks on pipes come here.
    import tempfile

    name = os.path.join(tempfile.gettempdir(), f"XME-screen-{os.getuid()}.lock")
    return os.open(name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)


@contextmanager
def _alone(fd: int) -> Iterator[None]:
    """Keep every other thread and process of ours from writing to what ``fd`` refers to."""
    with _Threads.lock:
        guard = fd
        try:
            fcntl.lockf(fd, fcntl.LOCK_EX)
        except OSError:
            # Some systems (macOS) have no record locks on pipes; one file for all screens of the user stands in.
            guard = _stand_in()
            fcntl.lockf(guard, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.lockf(guard, fcntl.LOCK_UN)
            if guard != fd:
                os.close(guard)


def _write_all(fd: int, data: bytes) -> None:
    """Write everything: a full pipe takes a long line in parts, which is why the lock is held around this."""
    rest = memoryview(data)
    while rest:
        try:
            rest = rest[os.write(fd, rest) :]
        except BlockingIOError:
            select.select([], [fd], [])


def _descriptor(stream: Any) -> int | None:
    try:
        fd = stream.fileno()
    except (AttributeError, OSError, ValueError):
        return None
    return fd if isinstance(fd, int) and fd >= 0 else None


def _to_stream(stream: Any, text: str) -> None:
    """Write one text to the screen, or to whatever object has been put in its place."""
    fd = _descriptor(stream)
    if fd is None:
        with _Threads.lock:
            _write_text(stream, text)
        return
    with _alone(fd):
        if stream in (sys.__stdout__, sys.__stderr__):
            # What was printed before must come before, and the line must not wait in a buffer that a fork copies.
            stream.flush()
            _write_all(fd, text.encode(stream.encoding or "utf-8", "backslashreplace"))
        else:
            _write_text(stream, text)
            stream.flush()


def _write_text(stream: Any, text: str) -> None:
    # A character that the screen does not know must not fail the row that logs it.
    try:
        stream.write(text)
    except UnicodeEncodeError as error:
        stream.write(text.encode(error.encoding, "backslashreplace").decode(error.encoding))


def _to_file(name: str, text: str) -> None:
    # Opened for each line: nothing to inherit or to leak, a rotated file is noticed, and a forked child has a file
    # position of its own. It costs about 5 microseconds.
    fd = os.open(name, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        with _alone(fd):
            _write_all(fd, text.encode("utf-8", "backslashreplace"))
    finally:
        os.close(fd)


def _usable(logfile: str | os.PathLike[str] | None) -> str | None:
    if logfile is None:
        return None
    if isinstance(logfile, bytes) or not isinstance(logfile, str | os.PathLike):
        message = f"logfile is the name of a file (str or PathLike), not {logfile!r}"
        raise TypeError(message)
    name = os.path.abspath(os.fspath(logfile))
    folder = os.path.dirname(name)
    if not os.path.isdir(folder):
        message = f"the log file {name!r} cannot be written: there is no folder {folder!r}, make it first"
        raise FileNotFoundError(message)
    if os.path.isdir(name):
        message = f"the log file {name!r} cannot be written: it is a folder"
        raise IsADirectoryError(message)
    return name


class Logputter:
    """The log's settings, and ``write_log``, which writes one entry as the settings say.

    Attributes, all of which may be changed at any time: ``logfile`` (name or None), ``print_in_screen``, ``time``,
    ``processing`` (the pid mark), ``msgtype`` (False hides all types), ``default_msgtype``, ``indent`` (False ignores
    indents), ``indent_type`` and ``indent_num`` (what an indent is made of). An object pickles by its settings.

    :param logfile: name of the file that lines are appended to; it is made absolute, so a later chdir changes nothing.
    :raises FileNotFoundError: if the folder of ``logfile`` is missing.

    >>> log = Logputter(time=False, processing=False)
    >>> log.write_log("half", "done", msgtype="Warning", indent=1)
    (Warning):----half done
    """

    def __init__(
        self,
        logfile: str | os.PathLike[str] | None = None,
        *,
        print_in_screen: bool = True,
        time: bool = True,
        msgtype: bool = True,
        default_msgtype: str = "Message",
        processing: bool = True,
        indent: bool = True,
        indent_type: str = "-",
        indent_num: int = 4,
    ) -> None:
        self.logfile = logfile
        self.print_in_screen = print_in_screen
        self.time = time
        self.msgtype = msgtype
        self.default_msgtype = default_msgtype
        self.processing = processing
        self.indent = indent
        self.indent_type = indent_type
        self.indent_num = indent_num

    @property
    def logfile(self) -> str | None:
        """The absolute name of the file that lines are appended to, or None.

        >>> Logputter("run.log").logfile == os.path.abspath("run.log")
        True
        """
        return self._logfile

    @logfile.setter
    def logfile(self, logfile: str | os.PathLike[str] | None) -> None:
        self._logfile = _usable(logfile)

    def write_log(
        self,
        *message: Any,
        msgtype: str | bool | None = None,
        indent: int = 0,
        pid: Any = _THIS_PROCESS,
        sep: str | None = " ",
        end: str | None = "\n",
        file: IO[str] | None = None,
        flush: bool = False,
    ) -> None:
        """Write one entry, whole, to the screen and to the log file; about 10 microseconds each.

        :param msgtype: shown in front, in brackets; True shows ``default_msgtype``, None or False shows nothing.
        :param indent: how many indents stand before the message.
        :param pid: shown after the time, by default that of the calling process; None shows nothing.
        :param sep: joins the parts of the message, as in ``print``.
        :param end: comes last, as in ``print``.
        :param file: takes the place of the screen for this entry, whatever ``print_in_screen`` says.
        :param flush: flushes ``file``; the screen and the log file are always flushed.
        :raises OSError: if the file or the screen cannot be written.

        >>> log = Logputter(time=False)
        >>> log.write_log("x", 1, msgtype=True, pid=7, sep="=")
        (Message)(pid@7):x=1
        """
        separator = " " if sep is None else sep
        text = self._head(msgtype, pid) + self._indent(indent) + separator.join(map(str, message))
        self._put(text + ("\n" if end is None else end), file)
        if flush and file is not None:
            file.flush()

    def copy(self) -> Logputter:
        """Give an object with the same settings; what is changed on it stays its own.

        >>> log = Logputter()
        >>> log.copy().time, log.copy() is log
        (True, False)
        """
        twin = type(self).__new__(type(self))
        twin.__dict__.update(self.__dict__)
        return twin

    def write_header(self, text: str, *, to_screen: bool) -> None:
        """Write ``text`` without any mark, always to the log file, and to the screen if ``to_screen`` is true.

        >>> Logputter().write_header("XME", to_screen=True)
        XME
        """
        if to_screen and sys.stdout is not None:
            _to_stream(sys.stdout, text + "\n")
        if self._logfile is not None:
            _to_file(self._logfile, text + "\n")

    def __repr__(self) -> str:
        settings = ", ".join(f"{name.lstrip('_')}={value!r}" for name, value in self.__dict__.items())
        return f"Logputter({settings})"

    def _head(self, msgtype: str | bool | None, pid: Any) -> str:
        kind = self.default_msgtype if msgtype is True else msgtype
        head = f"({kind})" if self.msgtype and kind else ""
        if self.time:
            head += _clock.strftime("%Y-%m-%d %H:%M:%S")
        if self.processing and pid is not None:
            head += f"(pid@{os.getpid() if pid is _THIS_PROCESS else pid})"
        return head and head + ":"

    def _indent(self, indent: int) -> str:
        return self.indent_type * (self.indent_num * indent) if self.indent else ""

    def _put(self, text: str, file: IO[str] | None) -> None:
        screen = file if file is not None else sys.stdout if self.print_in_screen else None
        if screen is not None:
            _to_stream(screen, text)
        if self._logfile is not None:
            _to_file(self._logfile, text)


name_the_class(__name__, "Logputter")
