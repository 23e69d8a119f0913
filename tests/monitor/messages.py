"""What can be in a message, for Hypothesis; and messages that somebody has tampered with."""

import math
import struct
import zoneinfo

import numpy as np
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from XME._monitor import sealing

KEY = bytes(range(32))
ZONES = ["UTC", "Europe/Berlin", "America/New_York"]

INTEGERS = st.one_of(st.integers(), st.integers(-(2**70), 2**70))
TEXT = st.text(st.characters(codec=None), max_size=20)
PLAIN = st.one_of(
    st.none(), st.booleans(), INTEGERS, st.floats(allow_nan=False), TEXT, st.binary(max_size=20),
    st.complex_numbers(allow_nan=False), st.decimals(allow_nan=False), st.uuids(), st.dates(), st.times(),
    st.timedeltas(), st.datetimes(timezones=st.none() | st.sampled_from([zoneinfo.ZoneInfo(zone) for zone in ZONES])),
)  # fmt: skip
HASHABLE = st.recursive(
    PLAIN, lambda inner: st.lists(inner, max_size=3).map(tuple) | st.frozensets(inner, max_size=3), max_leaves=4
)
DTYPES = st.one_of(
    hnp.integer_dtypes(), hnp.floating_dtypes(), hnp.complex_number_dtypes(), hnp.boolean_dtypes(),
    hnp.unicode_string_dtypes(max_len=4), hnp.byte_string_dtypes(max_len=4), hnp.datetime64_dtypes(),
    hnp.timedelta64_dtypes(),
)  # fmt: skip
ARRAYS = hnp.arrays(
    st.one_of(DTYPES, hnp.nested_dtypes(DTYPES, max_itemsize=50)), hnp.array_shapes(min_dims=0, min_side=0)
)
VALUES = st.recursive(
    HASHABLE,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(HASHABLE, inner, max_size=3), st.sets(HASHABLE, max_size=3),
        st.lists(inner, max_size=3).map(tuple),
    ),
    max_leaves=8,
)  # fmt: skip
MESSAGES = st.dictionaries(HASHABLE, VALUES, max_size=4)


def same(one, other):
    """Equal, and of the same types all the way down."""
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        pairs = zip(one.items(), other.items(), strict=True)
        return len(one) == len(other) and all(same(a, b) and same(c, d) for (a, c), (b, d) in pairs)
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, float):
        return one == other and math.copysign(1, one) == math.copysign(1, other)
    if isinstance(one, np.ndarray):
        return one.dtype == other.dtype and one.shape == other.shape and one.tobytes() == other.tobytes()
    return one == other


def sealed_anyway(packed, how=0, length=None, key=KEY):
    """Seal bytes that no `marshal` has made, with the right key."""
    nonce = bytes(12)
    ready = sealing._ready(key)
    length = len(packed) if length is None else length
    head = sealing._HEAD.pack(sealing._MAGIC, ready.id, nonce, 0, length, how)
    return head + AESGCM(key).encrypt(nonce, packed, head)


def opened(message, key=KEY):
    """The packed bytes of a sealed message, decompressed."""
    nonce, length, how = message[8:20], *struct.unpack_from("<QI", message, 28)
    packed = AESGCM(key).decrypt(nonce, message[40:], message[:40])
    return sealing._expanded(packed, length) if how else packed
