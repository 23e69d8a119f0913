"""Names in shared memory: which domain, which object.

A name has 30 characters, which is as many as macOS allows behind the slash::

    xm  dddddddddddddddddddddd  ssssss
    |   |                       6 characters: the serial number in the domain (36 bits)
    |   22 characters: the domain's id (128 random bits)
    2 characters: XME's mark

A segment and its semaphore share one serial number; the C library puts ``sem.`` before a semaphore's file.
"""

from __future__ import annotations

import base64
import os
import re

FOLDER = "/dev/shm"  # noqa: S108 - this is where Linux keeps POSIX shared memory, not a temporary folder of ours
LENGTH = 30
SERIAL_BITS = 36
# The serial number of a domain's own file; objects begin after it.
DOMAIN_SERIAL = 0
_DIGITS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
_ID = re.compile(r"xm([\w-]{22})([\w-]{6})")


def new_id() -> str:
    """Return a new domain id: 128 random bits in 22 characters."""
    return base64.urlsafe_b64encode(os.urandom(16)).decode().rstrip("=")


def name_of(domain_id: str, serial: int) -> str:
    """Return the name of an object in a domain.

    >>> name_of("A" * 22, 1)
    'xmAAAAAAAAAAAAAAAAAAAAAAAAAAAB'
    """
    # Six digits to the base 64, which is what base64 gives, in a third of the time.
    high, low = divmod(serial, 1 << 18)
    a, b, c = high >> 12, high >> 6 & 63, high & 63
    d, e, f = low >> 12, low >> 6 & 63, low & 63
    return f"xm{domain_id}{_DIGITS[a]}{_DIGITS[b]}{_DIGITS[c]}{_DIGITS[d]}{_DIGITS[e]}{_DIGITS[f]}"


def parse(name: str) -> tuple[str, int] | None:
    """Return (domain id, serial number) of one of XME's names, or None for a foreign one.

    >>> parse(name_of("A" * 22, 77))
    ('AAAAAAAAAAAAAAAAAAAAAA', 77)
    >>> parse("psm_12345678")
    """
    match = _ID.fullmatch(name)
    if match is None:
        return None
    raw = base64.urlsafe_b64decode(match[2] + "AA")
    return match[1], int.from_bytes(raw, "big") >> (48 - SERIAL_BITS)


def public_file(name: str) -> str:
    """Return the file name under which the registry keeps a public name of this user."""
    import hashlib  # it loads OpenSSL, and few programs name anything

    digest = hashlib.blake2b(f"{os.geteuid()}\0{name}".encode(), digest_size=16).digest()
    return "xmn" + base64.urlsafe_b64encode(digest).decode().rstrip("=")


def path_of(name: str) -> str:
    """Return the path of a segment's file."""
    return f"{FOLDER}/{name}"


def semaphore_path(name: str) -> str:
    """Return the path of a semaphore's file."""
    return f"{FOLDER}/sem.{name}"
