"""Sealed messages: what goes in comes out, and everything else is refused whole."""

import datetime as dt
import pickle
import subprocess
import sys
import time
from collections import OrderedDict
from enum import IntEnum
from typing import NamedTuple

import msgpack
import numpy as np
import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import XME
from tests.helpers import ROOT
from tests.monitor.messages import ARRAYS, KEY, MESSAGES, opened, same, sealed_anyway
from XME import Security
from XME.errors import BadMessage, UnsealableValue
from XME.Monitor import MAX_SIZE, Monitor, marshal, unmarshal

LARGE = {"array": np.arange(30_000.0), "text": "words and words " * 5000, 5: [1.5, (2, {"x": b"y"})]}
QUICK = settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])


# -- what goes in comes out --------------------------------------------------------------------------------------


@QUICK
@given(MESSAGES)
def test_round_trip(messages):
    assert same(unmarshal(marshal(messages, key=KEY), key=KEY), messages)


@QUICK
@given(ARRAYS)
def test_round_trip_of_arrays_and_their_scalars(array):
    scalars = list(array.reshape(-1)[:2])
    back = unmarshal(marshal({"array": array, "scalars": scalars}, key=KEY), key=KEY)
    assert same(back["array"], array)
    assert not back["array"].flags.writeable
    assert [type(scalar) for scalar in back["scalars"]] == [type(scalar) for scalar in scalars]
    assert all(
        np.asarray(a).tobytes() == np.asarray(b).tobytes() for a, b in zip(back["scalars"], scalars, strict=True)
    )


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("step", [1, 2])
def test_arrays_of_any_layout(order, step):
    array = np.asarray(np.arange(24).reshape(4, 6), order=order)[::step, ::step]
    assert same(unmarshal(marshal({"a": array}, key=KEY), key=KEY)["a"], np.array(array))


def test_shared_containers_go_in_as_their_content():
    nested = XME.xmem_dict({"list": XME.xmem_list([1, (2,)])})
    board = Monitor()
    board.update({"dict": nested, "array": XME.xmem_array([1.0, 2.0])})
    back = unmarshal(board.marshal(key=KEY), key=KEY)
    assert back["dict"] == {"list": [1, (2,)]}
    assert back["array"].tolist() == [1.0, 2.0]


def test_zones_folds_and_offsets():
    import zoneinfo

    berlin = dt.datetime(2020, 10, 25, 2, 30, tzinfo=zoneinfo.ZoneInfo("Europe/Berlin"), fold=1)
    fixed = dt.datetime(2020, 1, 1, tzinfo=dt.timezone(dt.timedelta(hours=-3, seconds=7)))
    back = unmarshal(marshal({"berlin": berlin, "fixed": fixed}, key=KEY), key=KEY)
    assert str(back["berlin"].tzinfo) == "Europe/Berlin"
    assert back["berlin"].utcoffset() == berlin.utcoffset()
    assert back["fixed"] == fixed
    assert back["fixed"].utcoffset() == fixed.utcoffset()


def test_text_that_shrinks_is_compressed_and_noise_is_not():
    assert len(marshal({"a": "the same " * 100_000}, key=KEY)) < 20_000
    noise = np.random.default_rng(1).random(100_000)
    assert 0 < len(marshal({"a": noise}, key=KEY)) - noise.nbytes < 1000


def test_two_monitors():
    there, here = Monitor(), Monitor()
    there.update(LARGE)
    here.update({"mine": 1})
    assert here.unmarshal(there.marshal(key=KEY), key=KEY) is True
    assert list(here) == ["mine", *LARGE]
    assert np.array_equal(here["array"], LARGE["array"])


def test_unmarshal_is_an_update_on_behalf_of_an_operator():
    board = XME.xmem_object("guarded", Monitor, security=Security.Security())
    message = marshal({"a": 1}, key=KEY)
    assert board.unmarshal(message, key=KEY) == Security.DEADLOCKMARK_ONLOCK
    assert board.get() == {}
    assert board.unmarshal(message, board.security.ADMIN, key=KEY) is True
    assert board.get() == {"a": 1}


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_any_bytes_are_taken(kind):
    assert unmarshal(kind(marshal({"a": 1}, key=KEY)), key=KEY) == {"a": 1}


@pytest.mark.parametrize("wrong", ["text", 5, None])
def test_what_is_no_bytes_is_a_type_error(wrong):
    with pytest.raises(TypeError, match="bytes"):
        unmarshal(wrong, key=KEY)
    with pytest.raises(TypeError, match="dict"):
        marshal(wrong, key=KEY)


# -- what cannot be in one ---------------------------------------------------------------------------------------


class Pair(NamedTuple):
    a: int
    b: int


Colour = IntEnum("Colour", "RED")


class Text(str):
    __slots__ = ()


@pytest.mark.parametrize(
    "value",
    [object(), print, Pair(1, 2), Colour.RED, OrderedDict(a=1), Text("a"), np.array([object()]), range(3), Monitor],
    ids=lambda value: type(value).__name__,
)
def test_what_is_no_data_is_refused_and_named(value):
    with pytest.raises(UnsealableValue, match=r"message\['a'\]\[1\]\['b'\] cannot be in a sealed message"):
        marshal({"a": [0, {"b": value}]}, key=KEY)


def test_a_key_that_is_no_data_is_named():
    with pytest.raises(UnsealableValue, match="a key of message cannot be"):
        marshal({Colour.RED: 1}, key=KEY)


def test_too_deep_or_itself():
    deep = []
    for _ in range(2000):
        deep = [deep]
    itself = {}
    itself["me"] = itself
    for messages in ({"deep": deep}, itself):
        with pytest.raises(UnsealableValue, match="deep"):
            marshal(messages, key=KEY)
    for _ in range(1600):
        (deep,) = deep
    assert unmarshal(marshal({"deep": deep}, key=KEY), key=KEY) == {"deep": deep}


def test_too_large_is_refused_before_it_is_sent():
    for messages in ({"a": bytes(2000)}, {"a": [()] * 500}):
        with pytest.raises(UnsealableValue, match="max_size=1,000"):
            marshal(messages, key=KEY, max_size=1000)


# -- everything else is refused ----------------------------------------------------------------------------------


class Trap:
    def __reduce__(self):
        return (pytest.fail, ("pickle has run",))


def refused(message, board=None, **options):
    """The reason why a message is refused; the board is as it was."""
    board = Monitor() if board is None else board
    board.update({"before": 1})
    with pytest.raises(BadMessage) as caught:
        board.unmarshal(message, key=KEY, **options)
    assert board.get() == {"before": 1}
    return caught.value.reason


@QUICK
@given(st.data())
def test_an_altered_byte(data):
    message = bytearray(marshal({"a": [1, "two", (3.0,)]}, key=KEY))
    place = data.draw(st.integers(0, len(message) - 1))
    message[place] ^= data.draw(st.integers(1, 255))
    assert refused(bytes(message))


def test_a_cut_or_lengthened_message():
    message = marshal({"a": 1}, key=KEY)
    for wrong in [message[:k] for k in range(len(message))] + [message + b"\0", b"", bytes(100)]:
        assert refused(wrong)


def test_another_key():
    assert "key" in refused(marshal({"a": 1}, key=b"x" * 32))


def test_several_keys_may_open():
    message = marshal({"a": 1}, key=[KEY, b"y" * 32])
    assert unmarshal(message, key=["79" * 32, KEY.hex()]) == {"a": 1}
    with pytest.raises(BadMessage):
        unmarshal(message, key=b"y" * 32)


def test_too_old_and_from_the_future(monkeypatch):
    message = marshal({"a": 1}, key=KEY)
    now = time.time_ns()
    monkeypatch.setattr("XME._monitor.sealing.time.time_ns", lambda: now + 100 * 10**9)
    assert "100.0 s old" in refused(message, max_age=60)
    assert unmarshal(message, key=KEY) == unmarshal(message, key=KEY, max_age=101) == {"a": 1}
    monkeypatch.setattr("XME._monitor.sealing.time.time_ns", lambda: now - 100 * 10**9)
    assert "future" in refused(message, max_age=60)


PACKED = {
    "nothing": b"",
    "no dict": msgpack.packb([1]),
    "more behind": msgpack.packb({}) + b"\0",
    "nested 10,000 deep": b"\x81\xa1a" + b"\x91" * 10_000 + b"\0",
    "nested 10,000 deep in dicts": b"\x81\xa1a" * 10_000 + b"\0",
    "a list of 4,000,000,000": b"\x81\xa1a\xdd\xff\xff\xff\xff",
    "a dict of 4,000,000,000": b"\x81\xa1a\xdf\xff\xff\xff\xff",
    "claims in claims": b"\x81\xa1a" + b"\xdd\x00\x10\x00\x00" * 900,
    "bytes of 4 GB": b"\x81\xa1a\xc6\xff\xff\xff\xff",
    "unhashable key": msgpack.packb({"a": 1}).replace(b"\xa1a", b"\x91\x01"),
    "a mark alone": msgpack.packb({"a": msgpack.ExtType(1, b"")}),
    "a mark as second": msgpack.packb({"a": [1, msgpack.ExtType(1, b"")]}),
    "a mark with content": msgpack.packb({"a": [msgpack.ExtType(1, b"x")]}),
    "an unknown extension": msgpack.packb({"a": msgpack.ExtType(99, b"x")}),
    "a pickle": pickle.dumps({"a": Trap()}),
    "a pickle as an extension": msgpack.packb({"a": msgpack.ExtType(80, pickle.dumps(Trap()))}),
    "an array of objects": msgpack.packb({"a": [msgpack.ExtType(4, b""), "|O", [1], False, bytes(8)]}),
    "an array larger than its bytes": msgpack.packb({"a": [msgpack.ExtType(4, b""), "<f8", [2**40], False, bytes(8)]}),
    "an array smaller than its bytes": msgpack.packb({"a": [msgpack.ExtType(4, b""), "<f8", [0], False, bytes(8)]}),
    "an array of negative length": msgpack.packb({"a": [msgpack.ExtType(4, b""), "<f8", [-1], False, bytes(8)]}),
    "an array of no dtype": msgpack.packb({"a": [msgpack.ExtType(4, b""), "nonsense", [1], False, bytes(8)]}),
    "a scalar of objects": msgpack.packb({"a": [msgpack.ExtType(5, b""), "|O", bytes(8)]}),
    "a date that is none": msgpack.packb({"a": [msgpack.ExtType(7, b""), "2020-13-13"]}),
    "a zone that is a path": msgpack.packb({"a": [msgpack.ExtType(6, b""), "2020-01-01", 0, "../../etc/passwd"]}),
    "a set of lists": msgpack.packb({"a": [msgpack.ExtType(2, b""), [1]]}),
    "a timedelta of text": msgpack.packb({"a": [msgpack.ExtType(9, b""), "1", "2", "3"]}),
    "bytes that are no text": b"\x81\xa1a\xa1\xff",
    "a number that is none": msgpack.packb({"a": msgpack.ExtType(34, b"x1")}),
    "a UUID too short": msgpack.packb({"a": msgpack.ExtType(35, b"x")}),
    "a complex too short": msgpack.packb({"a": msgpack.ExtType(33, b"x")}),
    "a key of 10 MB": msgpack.packb({"a" * 10_000_000: 1}),
}


@pytest.mark.parametrize("what", PACKED)
def test_nonsense_that_was_sealed_with_the_right_key(what):
    board = Monitor()
    board._place.shared()
    assert refused(sealed_anyway(PACKED[what]), board)


def test_a_head_that_lies():
    packed = msgpack.packb({"a": "b" * 1000})
    body = zstandard.ZstdCompressor().compress(packed)
    assert "10,000,000,000" in refused(sealed_anyway(body, how=1, length=10_000_000_000))
    assert refused(sealed_anyway(body, how=1, length=len(packed) - 1))
    assert refused(sealed_anyway(packed, length=len(packed) + 1))
    assert refused(sealed_anyway(packed, how=2))
    assert refused(sealed_anyway(packed, how=1))
    assert refused(sealed_anyway(body + b"\0", how=1, length=len(packed)))
    assert refused(sealed_anyway(body[:-3], how=1, length=len(packed)))
    unsized = zstandard.ZstdCompressor(write_content_size=False).compress(packed)
    assert refused(sealed_anyway(unsized, how=1, length=len(packed)))
    assert unmarshal(sealed_anyway(body, how=1, length=len(packed)), key=KEY) == {"a": "b" * 1000}


def test_more_than_max_size():
    message = marshal({"a": "b" * 10_000}, key=KEY)
    assert "max_size" in refused(message, max_size=9_000)
    assert "max_size" in refused(marshal({"a": np.random.default_rng(1).random(2000)}, key=KEY), max_size=9_000)
    assert "max_size" in refused(marshal({"a": [()] * 1000}, key=KEY), max_size=9_000)
    assert unmarshal(message, key=KEY, max_size=20_000)["a"] == "b" * 10_000


@QUICK
@given(MESSAGES, st.data())
def test_altered_before_it_was_sealed(messages, data):
    """Whatever comes out is refused, or is a message."""
    packed = bytearray(opened(marshal(messages, key=KEY)))
    for _ in range(data.draw(st.integers(1, 3))):
        packed[data.draw(st.integers(0, len(packed) - 1))] = data.draw(st.integers(0, 255))
    try:
        found = unmarshal(sealed_anyway(bytes(packed)), key=KEY)
    except BadMessage:
        return
    assert type(found) is dict


# -- memory ------------------------------------------------------------------------------------------------------

BOMBS = """
import gc, sys
import msgpack, zstandard
from tests.monitor.messages import KEY, sealed_anyway
from XME.errors import BadMessage
from XME.Monitor import Monitor

size = int(sys.argv[1])


def squeezed(packed):
    return sealed_anyway(zstandard.ZstdCompressor(level=1).compress(packed), how=1, length=len(packed))


def listed(element, count):
    return b"\\x81\\xa1a\\xdd" + count.to_bytes(4, "big") + element * count


def keyed(count):
    return b"\\x81\\xa1a\\xdf" + count.to_bytes(4, "big") + b"\\x90\\x01" * count


bombs = {
    "claims 10 GB": lambda: sealed_anyway(b"", how=1, length=10**10),
    "expands 1:1000": lambda: squeezed(msgpack.packb({"a": bytes(size - 100)})),
    "expands past max_size": lambda: squeezed(msgpack.packb({"a": bytes(size + 100)})),
    "empty dicts": lambda: squeezed(listed(b"\\x80", size - 100)),
    "empty lists": lambda: squeezed(listed(b"\\x90", size - 100)),
    "few empty lists": lambda: squeezed(listed(b"\\x90", size // 100)),
    "small numbers": lambda: squeezed(listed(b"\\x01", size - 100)),
    "sets": lambda: squeezed(listed(b"\\x91\\xc7\\x00\\x02", size // 4 - 100)),
    "one wide character": lambda: squeezed(msgpack.packb({"a": "a" * (size - 100) + chr(0x1F600)})),
    "claims in claims": lambda: squeezed(b"\\x81\\xa1a" + b"\\xdc\\xff\\xff" * (size // 100)),
    "large claims in claims": lambda: squeezed(
        b"\\x81\\xa1a" + b"\\xdd\\x00\\x10\\x00\\x00" * 1000 + bytes(1 << 21)
    ),
    "nested deep": lambda: squeezed(b"\\x81\\xa1a" + b"\\x91" * (size - 100) + b"\\0"),
    "lists as keys": lambda: squeezed(keyed(size // 4)),
}


def peak():
    with open("/proc/self/status") as file:
        return 1024 * int(next(line for line in file if line.startswith("VmHWM")).split()[1])


board = Monitor()
board.unmarshal(sealed_anyway(msgpack.packb({"warm": "up"})), key=KEY)
for name, make in bombs.items():
    message = make()
    gc.collect()
    # The peak so far is that of making the bomb: it is set back.
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")
    before = peak() - len(message)
    try:
        board.unmarshal(message, key=KEY, max_size=size)
        answer = "taken"
    except BadMessage:
        answer = "refused"
    print(name, answer, (peak() - before) / size, sep=";")
    board.delete()
"""


@pytest.mark.parametrize("size", [8 << 20, pytest.param(MAX_SIZE, marks=[pytest.mark.slow, pytest.mark.timeout(300)])])
def test_bombs_take_less_than_four_times_max_size(size):
    done = subprocess.run(
        [sys.executable, "-c", BOMBS, str(size)], cwd=ROOT, capture_output=True, text=True, timeout=250
    )
    assert done.returncode == 0, done.stderr
    answers = [line.split(";") for line in done.stdout.splitlines()]
    assert len(answers) == 13
    for bomb, answer, peak in answers:
        assert float(peak) < 4, bomb
        assert answer == ("taken" if bomb in {"expands 1:1000", "few empty lists"} else "refused"), bomb
