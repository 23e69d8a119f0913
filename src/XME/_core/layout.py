"""The layout of a domain's file.

All numbers are 8-byte words in native order, and all-zero is the first valid state of each::

    offset            what
    0                 magic
    8                 version of this layout
    16                capacity: how many participants at once
    24                ended: 1 once the domain's opener has ended
    32                the last incarnation that was given (37 bits)
    40                the next block of serial numbers (2**12 names a block)
    48                kind: 1 a program's domain, 2 a named container's
    56                the opener's number + 1
    64                the opener's incarnation
    72                made at (ns since the epoch)
    80                1 once a container of a program's domain has been given a public name
    128 .. 255        label, UTF-8, zero-padded
    256 + 128 k       the row of participant k:
       + 0               incarnation, stored last; 0: nobody
       + 8               pid
       + 16              start time (clock ticks since boot)
       + 24              pid namespace (inode)
       + 32              joined at (ns since the epoch)
       + 40              how many ledger entries have ever been used; outlives the participant
       + 64 .. 127       name, UTF-8, zero-padded
    2**20 + 2**24 k   the ledger of participant k: 2**20 entries of 16 bytes, written with pwrite (see ledger.py)
    2**38 + 2**16 k   what the threads of participant k wait for, written with pwrite (see waitboard.py)

The bytes that are locked lie far behind the end of the file: locks need no bytes there.
"""

from __future__ import annotations

import time

MAGIC = int.from_bytes(b"XMEDOM\0\1", "little")
VERSION = 1

W_MAGIC, W_VERSION, W_CAPACITY, W_ENDED, W_INCARNATION, W_BLOCK, W_KIND, W_OPENER = range(8)
W_OPENER_INCARNATION, W_MADE, W_PUBLISHED = 8, 9, 10
LABEL = slice(128, 256)

ROWS_AT = 256
ROW_BYTES = 128
ROW_WORDS = ROW_BYTES // 8
R_INCARNATION, R_PID, R_START, R_NAMESPACE, R_JOINED, R_LEDGER_END = range(6)
R_NAME = slice(64, 128)

LEDGER_AT = 1 << 20
LEDGER_BYTES = 1 << 24

WAITS_AT = 1 << 38
WAITS_BYTES = 1 << 16

LEASE_AT = 1 << 40
ADMIN_AT = 1 << 41
RECOVERY_AT = 1 << 42

PROGRAM, NAMED = 1, 2

INCARNATION_BITS = 37
CAPACITY_MAX = 4096
BLOCK_NAMES = 1 << 12


def file_bytes(capacity: int) -> int:
    """Return how many bytes the header and the rows of a domain take."""
    return ROWS_AT + capacity * ROW_BYTES


def row_word(number: int) -> int:
    """Return the index of the first word of a participant's row."""
    return (ROWS_AT + number * ROW_BYTES) // 8


def new_header(kind: int, label: str, capacity: int) -> bytearray:
    """Return the bytes before the rows of a domain that is made now."""
    head = bytearray(ROWS_AT)
    words = memoryview(head).cast("Q")
    words[W_MAGIC], words[W_VERSION] = MAGIC, VERSION
    words[W_CAPACITY], words[W_KIND], words[W_MADE] = capacity, kind, time.time_ns()
    text = label.encode()[: LABEL.stop - LABEL.start]
    head[LABEL.start : LABEL.start + len(text)] = text
    return head


def incarnations(words: memoryview, capacity: int) -> list[int]:
    """Return the incarnation in each row; 0 where nobody is."""
    return words[row_word(0) + R_INCARNATION : row_word(capacity) : ROW_WORDS].tolist()
