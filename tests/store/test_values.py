"""Values as tags, bytes and buffers: all comes back, arrays read-only, and what cannot travel says why."""

import array
import dataclasses
import datetime as dt
import decimal
import enum
import io
import multiprocessing
import os
import pickle
import re
import socket
import subprocess
import sys
import threading
import uuid

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import example, given

from tests.helpers import ROOT
from XME._containers.shared_array import xmem_array
from XME._store import pickling, values
from XME._store.values import AS_IT_IS, AS_VIEW, HAS_SERIALS, LARGE_BYTES, NOT_KEPT
from XME.errors import ContainerGone, UnshareableValue

# What a record may hold next to its value; larger ones have segments.
MOST_IN_A_RECORD = LARGE_BYTES + 64


@dataclasses.dataclass
class Point:
    x: int
    y: int


class Colour(enum.Enum):
    RED = 1


class OwnArray(np.ndarray):
    pass


class Segments:
    """Stands for the segments that a container makes: serial number -> bytes, a little longer than what is in them."""

    def __init__(self):
        self.contents = {}

    def store(self, value, owned=()):
        encoded = values.encode(value)
        serials = [self._add(raw) for raw in encoded.large]
        payload = encoded.payload
        if encoded.tag & HAS_SERIALS:
            payload = values.payload_with(encoded, serials, owned)
        assert 0 <= encoded.tag < 32
        assert all(raw.nbytes >= LARGE_BYTES for raw in encoded.large)
        assert values.serials_of(encoded.tag, payload) == serials
        return encoded, payload

    def _add(self, raw):
        self.contents[len(self.contents) + 7] = bytes(raw) + b"padding"
        return len(self.contents) + 6

    def open(self, serial):
        return memoryview(self.contents[serial])


def round_trip(value):
    """Return (value, how it may be kept), read from memory that is overwritten afterwards, as a log's may be."""
    segments = Segments()
    encoded, payload = segments.store(value)
    assert len(payload) <= MOST_IN_A_RECORD
    memory = bytearray(payload)
    with memoryview(memory) as view:
        back = values.decode(encoded.tag, view, segments.open)
    memory[:] = b"\xee" * len(memory)
    return back


def assert_nobody_writes(found):
    with pytest.raises(ValueError, match="read-only"):
        found[...] = found
    with pytest.raises(ValueError, match="cannot set WRITEABLE"):
        found.flags.writeable = True
    with pytest.raises(ValueError, match="cannot set WRITEABLE"):
        found.view().flags.writeable = True


leaves = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text(), st.binary(),
    st.text(st.characters(categories=["Cs", "Lu"])), st.binary().map(bytearray), st.complex_numbers(allow_nan=False),
    st.integers(-(2**63) - 2, -(2**63) + 2), st.integers(2**63 - 2, 2**63 + 2), st.decimals(allow_nan=False),
    st.datetimes(), st.uuids(), st.builds(Point, st.integers(), st.integers()), st.just(Colour.RED),
)
some_values = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.lists(inner, max_size=4).map(tuple),
        st.dictionaries(st.text(), inner, max_size=4),
        st.frozensets(leaves.filter(lambda leaf: getattr(type(leaf), "__hash__", None)), max_size=3),
    ),
    max_leaves=8,
)


@given(some_values)
@example(2**63)
@example(-(2**63))
@example("\ud800")
def test_any_value_comes_back(value):
    back, kept = round_trip(value)

    assert type(back) is type(value)
    assert back == value
    assert kept == NOT_KEPT or back.__hash__ is not None


@pytest.mark.parametrize("value", [
    "x" * LARGE_BYTES, "ä" * LARGE_BYTES, b"x" * LARGE_BYTES, bytearray(LARGE_BYTES), 1 << (8 * LARGE_BYTES),
    ["x" * 1000] * 1 + [str(n) for n in range(20_000)], {n: bytes(100) for n in range(2000)}, [b"x" * LARGE_BYTES, 1],
    [np.full(1000, n) for n in range(50)], "\ud800" * LARGE_BYTES], ids=lambda value: type(value).__name__)
def test_what_is_large_does_not_lie_in_the_record(value):
    encoded = values.encode(value)

    assert encoded.large
    assert len(values.payload_with(encoded, range(len(encoded.large)))) < 200
    back, _ = round_trip(value)
    assert pickle.dumps(back) == pickle.dumps(value)


def test_below_the_limit_there_is_no_segment():
    for value in ("x" * (LARGE_BYTES - 1), b"x" * (LARGE_BYTES - 1), np.zeros(LARGE_BYTES - 1, "u1")):
        assert not values.encode(value).tag & HAS_SERIALS


ARRAYS = [
    np.arange(5), np.arange(6.0).reshape(2, 3), np.asfortranarray(np.arange(6.0).reshape(2, 3)), np.arange(10)[::2],
    np.arange(6)[::-1], np.array(3), np.zeros((0, 3)), np.zeros(3, "M8[us]"), np.zeros(3, "m8"), np.array(["a", "ä"]),
    np.array([b"a"]), np.zeros(3, [("a", "i4"), ("t", "M8[s]")]), np.array([True]), np.arange(3, dtype=">i4"),
    np.arange(3, dtype="c8"), np.zeros(3, "V5"), np.broadcast_to(np.arange(3), (2, 3)),
    np.zeros(2, np.dtype("f8", metadata={"unit": "m"})), np.arange(3, dtype="f2"), np.arange(3, dtype="longdouble"),
    np.arange(4).reshape(2, 2).view(np.matrix), np.arange(4).view(OwnArray), np.zeros(3, "i4,f8").view(np.recarray),
]


@pytest.mark.parametrize("factor", [1, 40_000])
@pytest.mark.parametrize("wrap", [lambda a: a, lambda a: {"deep": [a]}, lambda a: [a, lambda: 1]],
                         ids=["alone", "inside", "beside a function"])
@pytest.mark.parametrize("number", range(len(ARRAYS)))
def test_an_array_comes_back_read_only_at_any_size(number, wrap, factor):
    small = ARRAYS[number]
    given_ = np.repeat(small, factor).view(type(small))[::1] if factor > 1 and small.ndim == 1 else small
    back, kept = round_trip(wrap(given_))
    while not isinstance(back, np.ndarray):
        back = next(iter(back.values())) if isinstance(back, dict) else back[0]

    assert type(back) is type(given_)
    assert (back.dtype, back.shape) == (given_.dtype, given_.shape)
    assert back.dtype.metadata == given_.dtype.metadata
    np.testing.assert_array_equal(back, given_)
    assert_nobody_writes(back)
    assert kept == (AS_VIEW if wrap(1) == 1 and type(given_) is np.ndarray else NOT_KEPT)


@pytest.mark.parametrize("value", [
    np.zeros(LARGE_BYTES, "u1"), np.zeros(LARGE_BYTES)[::2], np.zeros(LARGE_BYTES, "M8[s]"),
    np.zeros((300, 300), order="F"), np.zeros(LARGE_BYTES, "i4,M8[s]")], ids=lambda value: value.dtype.name)
def test_a_large_array_is_a_view_of_its_segment(value):
    segments = Segments()
    encoded, payload = segments.store({"deep": [value]})
    memory = bytearray(segments.contents.popitem()[1])

    back, _ = values.decode(encoded.tag, memoryview(payload), lambda _: memoryview(memory))
    memory[:] = b"\1" * len(memory)
    assert back["deep"][0].view("u1").min() == 1 if value.flags.c_contiguous else back["deep"][0].T.any()
    assert_nobody_writes(back["deep"][0])


def test_what_numpy_cannot_make_immutable_is_read_only_and_not_kept():
    objects, _ = round_trip({"a": np.array([1, "a", None], object)})
    masked, kept = round_trip(np.ma.array([1, 2], mask=[False, True]))

    assert not objects["a"].flags.writeable
    assert not masked.flags.writeable
    assert masked.tolist() == [1, None]
    assert kept == NOT_KEPT
    assert round_trip(np.array([None]))[1] == NOT_KEPT


def test_mutable_buffers_come_back_as_copies_of_ones_own():
    for value in (bytearray(b"abc"), [bytearray(b"abc")], array.array("i", [1]), bytearray(LARGE_BYTES)):
        back, kept = round_trip(value)
        inner = back[0] if isinstance(back, list) else back
        inner[0] = 9
        assert kept == NOT_KEPT


@pytest.mark.parametrize(("value", "how"), [
    (1, AS_IT_IS), (2**99, AS_IT_IS), ("a", AS_IT_IS), (b"a", AS_IT_IS), (None, AS_IT_IS), (1.5, AS_IT_IS),
    ((1, ("a", frozenset({2}))), AS_IT_IS), (frozenset(), AS_IT_IS), (dt.date(2020, 1, 1), AS_IT_IS),
    (decimal.Decimal(1), AS_IT_IS), (uuid.UUID(int=1), AS_IT_IS), (np.float64(1), AS_IT_IS), (range(3), AS_IT_IS),
    ("x" * LARGE_BYTES, AS_IT_IS), (np.zeros(3), AS_VIEW), (np.zeros(99_999), AS_VIEW), ([], NOT_KEPT),
    ((1, []), NOT_KEPT), ({}, NOT_KEPT), ({1}, NOT_KEPT), (bytearray(), NOT_KEPT), (Point(1, 2), NOT_KEPT),
    ((np.zeros(3),), NOT_KEPT), (np.zeros(1, "i4,i4")[0], NOT_KEPT)], ids=lambda value: type(value).__name__)
def test_only_what_nobody_can_change_may_be_kept(value, how):
    assert round_trip(value)[1] == how


def test_shared_containers_that_a_value_refers_to_are_told():
    first, second = xmem_array(3), xmem_array(3)
    value = {"a": first, "b": [second[1:], first]}
    encoded = values.encode(value)

    assert {id(getattr(child, "_hold", None)) for child in encoded.children} == {id(first._hold), id(second._hold)}
    assert encoded.tag & HAS_SERIALS
    assert not encoded.large
    payload = values.payload_with(encoded, [], [41, 42])
    assert values.serials_of(encoded.tag, payload) == []
    assert values.owned_of(encoded.tag, payload) == [41, 42]
    back, kept = values.decode(encoded.tag, memoryview(payload), None)
    back["b"][0][0] = 5
    assert first.tolist() == [0, 0, 0]
    assert second.tolist() == [0, 5, 0]
    assert kept == NOT_KEPT


def test_containers_beside_what_only_cloudpickle_takes_are_told_once():
    shared = xmem_array(3)

    assert values.encode([shared, lambda: 1]).children == [shared] or len(values.encode([shared, max]).children) == 1
    assert len(values.encode([shared, lambda: shared]).children) == 1


def test_nobody_collects_outside_of_an_encoding():
    shared = xmem_array(3)
    with pytest.raises(UnshareableValue):
        values.encode([shared, threading.Lock()])

    assert not pickling.is_collecting()
    outer = []
    pickling.collected(outer, values.encode, [shared])
    assert outer == []
    pickling.collected(outer, pickle.dumps, shared)
    assert len(outer) == 1
    assert not pickling.is_collecting()


def test_each_thread_collects_for_itself():
    shared = xmem_array(3)
    ours = []

    def pickle_elsewhere():
        thread = threading.Thread(target=pickle.dumps, args=(shared,))
        thread.start()
        thread.join()

    pickling.collected(ours, pickle_elsewhere)
    assert ours == []


def test_copies_of_shared_arrays_are_plain_values():
    copy = xmem_array(np.arange(6)).copy()[::2]
    encoded = values.encode({"a": copy})
    back, _ = round_trip({"a": copy})

    assert not encoded.children
    assert back["a"].tolist() == [0, 2, 4]
    assert_nobody_writes(back["a"])


def test_a_container_that_is_gone_says_so_itself():
    shared = xmem_array(3)
    shared.unlink()

    with pytest.raises(ContainerGone):
        values.encode([shared])


def test_pandas_and_arrow_lie_in_segments_and_are_read_only():
    pandas, arrow = pytest.importorskip("pandas"), pytest.importorskip("pyarrow")
    frame = pandas.DataFrame({"n": np.arange(50_000), "x": np.linspace(0, 1, 50_000), "t": ["a", "b"] * 25_000,
                              "when": pandas.date_range("2020", periods=50_000, freq="h")})
    table = arrow.table({"n": np.arange(50_000), "t": ["a", "b"] * 25_000})
    encoded = values.encode({"f": frame, "t": table})
    back, _ = round_trip({"f": frame, "t": table})

    assert len(encoded.large) >= 3
    pandas.testing.assert_frame_equal(back["f"], frame)
    assert back["f"].groupby("t").x.sum().shape == (2,)
    assert not back["f"].n.to_numpy().flags.writeable
    assert back["t"].equals(table)
    assert not back["t"]["n"].chunk(0).buffers()[1].is_mutable


def test_manager_proxies_travel():
    with multiprocessing.get_context("spawn").Manager() as manager:
        proxy, event = manager.list([1]), manager.Event()
        (back, its_event), _ = round_trip((proxy, event))
        back.append(2)
        its_event.set()
        assert list(proxy) == [1, 2]
        assert event.is_set()


ADVICE = {
    "lock": "it is a threading lock (_thread.lock); leave it out: every method of a container is atomic, and atomic() "
            "makes one of several",
    "shared lock": "it is a multiprocessing Lock, which a process must be given when it starts; pass it to the "
                   "processes as an argument; to guard a container use its atomic()",
    "generator": "it is a generator; store list(...) of it",
    "file": f"it is an open file ({os.devnull!r}); store its path",
    "socket": "it is a socket; store the address",
}


def _culprit(name, stack):
    match name:
        case "lock":
            return threading.Lock()
        case "shared lock":
            return multiprocessing.Lock()
        case "generator":
            return (n for n in ())
        case "file":
            stack.append(open(os.devnull, encoding="ascii"))  # noqa: SIM115 # closed at the end of the test
            return stack[-1]
        case _:
            stack.append(socket.socket())
            return stack[-1]


@pytest.mark.parametrize("name", ADVICE)
def test_what_cannot_travel_says_where_it_is_and_what_to_do(name):
    stack = []
    with pytest.raises(UnshareableValue) as caught:
        values.encode({"k": [1, _culprit(name, stack)]}, "d['a']")

    assert str(caught.value) == (
        f"d['a']['k'][1] cannot be stored in a shared container, which is as it was: {ADVICE[name]}"
    )
    assert caught.value.where == "d['a']['k'][1]"
    assert isinstance(pickle.loads(pickle.dumps(caught.value)), TypeError)
    for each in stack:
        each.close()


class Stubborn:
    def __reduce_ex__(self, _protocol):
        raise ValueError("I stay here")


def test_an_object_that_refuses_is_named_with_its_reason():
    text = re.escape("the value[1] cannot be stored") + ".*Stubborn.*ValueError: I stay here.*store plain data"
    with pytest.raises(UnshareableValue, match=text):
        values.encode([1, Stubborn()])


class Hungry:
    def __reduce_ex__(self, _protocol):
        raise MemoryError("none left")


def test_lack_of_memory_is_not_a_value_that_does_not_pickle():
    with pytest.raises(MemoryError, match="none left"):
        values.encode([Hungry()])


def test_a_way_that_is_registered_later_is_seen(monkeypatch):
    import copyreg

    kind = type("Late", (), {"__module__": __name__})
    monkeypatch.setitem(globals(), "Late", kind)
    kind.__qualname__ = "Late"
    values.encode([kind()])
    monkeypatch.setitem(copyreg.dispatch_table, kind, lambda _obj: (str, ("by copyreg",)))

    assert round_trip([kind()])[0] == ["by copyreg"]


def test_reading_a_file_in_memory_is_a_value():
    back, _ = round_trip(io.BytesIO(b"abc"))
    assert back.read() == b"abc"


PROGRAM = """
import sys, pickle, dataclasses
from XME._store import values
if sys.argv[1] == "same":
    @dataclasses.dataclass
    class Point:
        x: int
        seen = 0
        def double(self): return self.x * 20
if sys.argv[1] == "write":
    @dataclasses.dataclass
    class Point:
        x: int
        seen = 0
        def double(self): return self.x * 2
    encoded = values.encode([Point(4), lambda: Point(1)])
    Point.seen = 1
    again = values.decode(encoded.tag, memoryview(encoded.payload), None)[0]
    assert type(again[0]) is Point and again[0] == Point(4) and Point.seen == 1
    pickle.dump((encoded.tag, encoded.payload), sys.stdout.buffer)
else:
    tag, payload = pickle.load(sys.stdin.buffer)
    (point, function), _ = values.decode(tag, memoryview(payload), None)
    print(point.x, point.double(), function().x, type(point) is globals().get("Point"))
"""


def _run(how, data=b""):
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    return subprocess.run([sys.executable, "-c", PROGRAM, how], input=data, env=environment, check=True,
                          stdout=subprocess.PIPE, timeout=30).stdout


def test_classes_of_main_are_ones_own_where_there_are_such_and_come_along_where_not():
    written = _run("write")

    assert _run("read", written).decode().split() == ["4", "8", "1", "False"]
    assert _run("same", written).decode().split() == ["4", "80", "1", "True"]
