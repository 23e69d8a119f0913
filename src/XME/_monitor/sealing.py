"""Messages as sealed bytes: packed (packing.py), compressed where that pays, encrypted and authenticated.

::

    0     "XME", version
    4     which key: the first 4 bytes of a hash of it
    8     nonce, 12 random bytes
    20    when it was sealed: nanoseconds since the epoch
    28    bytes of the packed messages
    36    how: 0 as they are, 1 zstandard
    40    AES-256-GCM of that; the tag is of everything before it as well

Nothing of a message is believed before the tag is right, and nothing that it then claims is allocated before it was
compared with `max_size`: at most three times that is taken, the sealed bytes included.
"""

from __future__ import annotations

import hashlib
import os
import struct
import threading
import time
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Final, NamedTuple

import zstandard
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from XME._monitor import packing
from XME._monitor.weighing import TooHeavyError, require_light
from XME.errors import BadMessage, UnsealableValue

_HEAD = struct.Struct("<4s4s12sQQI")
_MAGIC: Final = b"XME\x01"
_TAG_BYTES: Final = 16
_PLAIN, _ZSTANDARD = range(2)
_LEAST: Final = 2048
# From here on speed counts more than size: a message is to be sealed as fast as a good network takes it.
_LARGE: Final = 1 << 16
_LEVEL, _LEVEL_LARGE = 1, -20
_PIECE: Final = 4096
# It pays if a sample becomes smaller than this.
_PAYS: Final = 0.9


class Key(NamedTuple):
    """A key that is ready for use."""

    id: bytes
    cipher: AESGCM


@lru_cache(maxsize=16)
def _ready(key: bytes) -> Key:
    return Key(hashlib.sha256(b"XME message key\0" + key).digest()[:4], AESGCM(key))


class _Local(threading.local):
    """The compressors of a thread: they may not be shared."""

    def __init__(self) -> None:
        super().__init__()
        self.small = zstandard.ZstdCompressor(level=_LEVEL)
        self.large = zstandard.ZstdCompressor(level=_LEVEL_LARGE)
        self.back = zstandard.ZstdDecompressor()


_local = _Local()


def seal(messages: dict[Any, Any], keys: Sequence[bytes], max_size: int) -> bytes:
    """Return messages as sealed bytes.

    Args:
        messages: a dict of them.
        keys: the first seals.
        max_size: what who opens it accepts.

    Raises:
        UnsealableValue: a value cannot be in a message, or they are larger than that.
    """
    packed = packing.pack(messages)
    _require_size(packed, max_size)
    how, body = _squeezed(packed)
    key = _ready(keys[0])
    nonce = os.urandom(12)
    head = _HEAD.pack(_MAGIC, key.id, nonce, time.time_ns(), len(packed), how)
    return head + key.cipher.encrypt(nonce, body, head)


def _require_size(packed: bytes, max_size: int) -> None:
    try:
        if len(packed) > max_size:
            raise TooHeavyError
        require_light(packed, max_size, packing.SETS)
    except TooHeavyError:
        advice = "send them in parts, lists of numbers as arrays, or give both sides a larger max_size"
        raise UnsealableValue.of(
            "this much", f"more than max_size={max_size:,} bytes, packed or unpacked", advice
        ) from None


def _squeezed(packed: bytes) -> tuple[int, bytes]:
    if len(packed) < _LEAST:
        return _PLAIN, packed
    if len(packed) < _LARGE:
        body = _local.small.compress(packed)
    else:
        middle = len(packed) // 2
        sample = packed[:_PIECE] + packed[middle : middle + _PIECE] + packed[-_PIECE:]
        if len(_local.small.compress(sample)) > _PAYS * len(sample):
            return _PLAIN, packed
        body = _local.large.compress(packed)
    return (_ZSTANDARD, body) if len(body) < _PAYS * len(packed) else (_PLAIN, packed)


def unseal(message: Any, keys: Sequence[bytes], max_age: float | None, max_size: int) -> dict[Any, Any]:
    """Return the messages of sealed bytes.

    Args:
        message: bytes.
        keys: any of them may have sealed it.
        max_age: for how many seconds it is good; None: for ever.
        max_size: how many bytes it may take, sealed as well as unpacked.

    Raises:
        BadMessage: it is refused.
        TypeError: it is not bytes.
    """
    if not isinstance(message, (bytes, bytearray, memoryview)):
        msg = f"a sealed message is bytes, not {type(message).__name__}"
        raise TypeError(msg)
    sealed = memoryview(message).cast("B")
    key, nonce, made_ns, length, how = _head_of(sealed, keys, max_size)
    head = sealed[: _HEAD.size]
    try:
        packed = key.cipher.decrypt(nonce, sealed[_HEAD.size :], head)
    except InvalidTag:
        raise BadMessage.of("it was altered on its way") from None
    _require_age(made_ns, max_age)
    if length > max_size:
        raise _too_large(f"unpacked it has {length:,} bytes", max_size)
    if how == _ZSTANDARD:
        packed = _expanded(packed, length)
    if how > _ZSTANDARD or len(packed) != length:
        raise BadMessage.of("its head and its content do not fit")
    return _unpacked(packed, max_size)


def _head_of(sealed: memoryview, keys: Sequence[bytes], max_size: int) -> tuple[Key, bytes, int, int, int]:
    if len(sealed) < _HEAD.size + _TAG_BYTES:
        raise BadMessage.of(f"it has {len(sealed)} bytes, which is too short")
    if len(sealed) > max_size + _HEAD.size + _TAG_BYTES:
        raise _too_large(f"it has {len(sealed):,} bytes", max_size)
    magic, key_id, nonce, made_ns, length, how = _HEAD.unpack_from(sealed)
    if magic != _MAGIC:
        raise BadMessage.of("it does not begin as a message of this version of XME does")
    for key in map(_ready, keys):
        if key.id == key_id:
            return key, nonce, made_ns, length, how
    raise BadMessage.of("it was sealed with a key that is not known here", "give both programs the same key (XME_KEY)")


def _too_large(what: str, max_size: int) -> BadMessage:
    return BadMessage.of(f"{what}, and max_size is {max_size:,}", "have it sent in parts, or allow more")


def _require_age(made_ns: int, max_age: float | None) -> None:
    if max_age is None:
        return
    age = (time.time_ns() - made_ns) / 1e9
    if age > max_age:
        raise BadMessage.of(f"it is {age:.1f} s old, and max_age is {max_age:g} s", "have it sent again")
    if age < -max_age:
        raise BadMessage.of(f"it comes from {-age:.1f} s in the future", "set the clocks of both machines")


def _expanded(body: bytes, length: int) -> bytes:
    try:
        # Says what it allocates, and must not say more than the head.
        if zstandard.get_frame_parameters(body).content_size != length:
            raise BadMessage.of("its head and its content do not fit")
        expanded: bytes = _local.back.decompress(body, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise BadMessage.of(f"what is in it does not decompress ({error})") from None
    return expanded


def _unpacked(packed: bytes, max_size: int) -> dict[Any, Any]:
    try:
        return packing.unpack(packed, max_size)
    except MemoryError:
        raise
    except TooHeavyError as error:
        if "memory" in str(error):
            raise _too_large("unpacked it takes more memory", max_size) from None
        raise BadMessage.of(f"what is in it is no message ({error})") from None
    except Exception as error:
        # Whatever msgpack, numpy and the types inside say of bytes that this module has not made.
        reason = f"what is in it is no message ({type(error).__name__}: {error!s:.80})"
        raise BadMessage.of(reason) from None
