"""Content that changes in one store: two records, of which one word says which counts.

The word is a generation; record ``generation & 1`` has the content, with the generation and a CRC before it. Whoever
changes it writes the other record and then the word: killed anywhere, what counts is whole. Who reads while the record
is written over (the content has then changed twice) sees by the CRC or the word that he has to read again. Writers
keep each other out by a lock that the kernel frees when its owner dies.
"""

from __future__ import annotations

import struct
import threading
from collections.abc import Callable
from zlib import crc32

from XME._core import layout, ofd
from XME._core.domain import Domain
from XME.errors import BadSegment, MutexError

_HEAD = struct.Struct("<QII")
RECORD_BYTES = 16 << 10
TWIN_BYTES = 2 * RECORD_BYTES
_LOOKS = 1000


class TwinRecord:
    """One such content.

    Attributes:
        word: a view of the word; a changed value means changed content.
    """

    __slots__ = ("_data", "_domain", "_lock", "_serial", "word")

    def __init__(self, domain: Domain, serial: int, word: memoryview, data: memoryview) -> None:
        """Bind to a word and the bytes of the two records; `serial` names the writers' lock."""
        self._domain = domain
        self._serial = serial
        self.word = word
        self._data = data
        self._lock = threading.RLock()

    @staticmethod
    def first(content: bytes) -> bytes:
        """Return what the records' bytes begin with when the word is still 0."""
        return _packed(0, content)

    def read(self) -> tuple[int, bytes]:
        """Return (generation, content).

        Raises:
            BadSegment: it stays unreadable.
        """
        for _ in range(_LOOKS):
            generation = self.word[0]
            start = (generation & 1) * RECORD_BYTES
            found, length, checksum = _HEAD.unpack_from(self._data, start)
            content = bytes(self._data[start + _HEAD.size : start + _HEAD.size + length])
            if found == generation and crc32(content) == checksum and self.word[0] == generation:
                return generation, content
        raise BadSegment.of(self._domain.label or self._domain.id, "neither of its records is whole")

    def change(self, change: Callable[[int, bytes], bytes | None]) -> bool:
        """Replace the content, with every other writer kept out.

        Args:
            change: gets generation and content, and returns the new content, or None to leave it as it is.

        Returns:
            True if it was replaced.

        Raises:
            ValueError: it is too long.
            DomainEnded: the program that owns it has ended.
            MutexError: a signal handler wants to change what its own thread is just changing.
        """
        if self._lock._is_owned():  # type: ignore[attr-defined] # threading.Condition uses it
            msg = "a signal handler tried to change a setting that its own thread is just changing: set a flag in it"
            raise MutexError(msg)
        self._domain.require()
        place = layout.RECOVERY_AT + self._serial
        # No context manager of our own: an exception between its __enter__ and the block would leave the byte taken.
        with self._lock:
            fd = self._domain.fd
            try:
                ofd.lock(fd, place)
                content = change(*self.read())
                if content is not None:
                    self._replace(content)
            finally:
                # Twice: a second Ctrl-C may strike the first; to free what is free does nothing.
                try:
                    ofd.unlock(fd, place)
                finally:
                    ofd.unlock(fd, place)
        return content is not None

    def _replace(self, content: bytes) -> None:
        if _HEAD.size + len(content) > RECORD_BYTES:
            msg = f"the settings take {len(content):,} bytes, and there is room for {RECORD_BYTES - _HEAD.size:,}"
            raise ValueError(msg)
        generation = self.word[0] + 1
        start = (generation & 1) * RECORD_BYTES
        packed = _packed(generation, content)
        self._data[start : start + len(packed)] = packed
        self.word[0] = generation

    def renew_lock(self) -> None:
        """In a fork's child: another thread of the parent may have had it."""
        self._lock = threading.RLock()


def _packed(generation: int, content: bytes) -> bytes:
    return _HEAD.pack(generation, len(content), crc32(content)) + content
