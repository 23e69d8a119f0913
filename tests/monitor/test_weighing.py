"""The scale reads msgpack as msgpack does, and its weights are no lighter than what is made."""

import sys

import msgpack
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.monitor.messages import MESSAGES
from XME._monitor import packing
from XME._monitor.weighing import TooHeavyError, _Scale, require_light

QUICK = settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])
NO_LIMIT = 1 << 62


def weighed(packed):
    """Return how many bytes were read, and what they weigh."""
    scale = _Scale(packed, NO_LIMIT, packing.SETS)
    scale.weigh()
    return scale._at, scale._weight


def size_of(value):
    """What an object and all in it takes, each as often as it is met."""
    size = sys.getsizeof(value)
    if isinstance(value, dict):
        return size + sum(size_of(key) + size_of(part) for key, part in value.items())
    if isinstance(value, (list, tuple, set, frozenset)):
        return size + sum(map(size_of, value))
    if isinstance(value, np.ndarray) and value.base is not None:
        return size + size_of(value.base)
    return size


@QUICK
@given(MESSAGES)
def test_what_is_packed_is_read_to_its_end_and_weighs_what_it_takes(messages):
    packed = packing.pack(messages)
    read, weight = weighed(packed)
    assert read == len(packed)
    assert weight + 1000 >= size_of(packing.unpack(packed, NO_LIMIT))


@QUICK
@given(st.one_of(st.binary(max_size=60), MESSAGES.map(packing.pack)), st.data())
def test_the_scale_takes_what_msgpack_takes(data, more):
    data = bytearray(data)
    if data:
        data[more.draw(st.integers(0, len(data) - 1))] = more.draw(st.integers(0, 255))
    unpacker = msgpack.Unpacker(strict_map_key=False, timestamp=1, ext_hook=lambda _code, _data: 0, raw=True)
    unpacker.feed(bytes(data))
    try:
        unpacker.skip()
    except (msgpack.OutOfData, ValueError):
        return
    read, _ = weighed(bytes(data))
    assert read == unpacker.tell()


@pytest.mark.parametrize(
    "packed",
    [
        b"", b"\xdd\xff\xff\xff\xff", b"\xdc\x00\x05\x01", b"\x93\x01\x02", b"\xa5abc", b"\xc1", b"\xcf\0",
        b"\xc7\xff\x01", b"\xdf\xff\xff\xff\xff", b"\xdd\x00", b"\x82\x01\x02",
    ],
)  # fmt: skip
def test_what_claims_more_than_it_has_is_refused(packed):
    with pytest.raises(TooHeavyError, match=r"claims more|not msgpack"):
        weighed(packed)


@pytest.mark.parametrize("packed", [b"\xdc\xff\xff" * 1000, b"\xdd\x00\x10\x00\x00" * 10])
def test_places_are_not_made_before_they_were_counted(packed):
    """Both are too few bytes to be too heavy, whatever they are, but for what they claim."""
    with pytest.raises(TooHeavyError):
        require_light(packed, 1 << 28, packing.SETS)
