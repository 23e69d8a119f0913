"""Canonical keys: equal exactly where a dict has one key, in every process, and the key that was written comes back."""

import collections
import datetime as dt
import decimal
import enum
import fractions
import os
import pathlib
import pickle
import subprocess
import sys
import uuid
import zoneinfo

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import assume, example, given

from tests.helpers import ROOT
from XME._store import keys
from XME.errors import UnusableKey

Pair = collections.namedtuple("Pair", "left right")  # noqa: PYI024 # the older way


class Colour(enum.Enum):
    RED = 1
    GREEN = "a"
    ALSO_RED = 1  # noqa: PIE796 # an alias


class Number(enum.IntEnum):
    ONE = 1
    TWO = 2


class Word(enum.StrEnum):
    A = "a"


class OldWord(str, enum.Enum):  # noqa: UP042 # the mix-in as it was before StrEnum
    A = "a"


class Bits(enum.Flag):
    A = 1
    B = 2


class Masks(enum.IntFlag):
    A = 1
    B = 2


class Label(str):
    __slots__ = ()


class AnyCase(str):
    __slots__ = ()

    def __eq__(self, other):
        return self.lower() == other.lower()

    def __hash__(self):
        return hash(self.lower())


UTC = dt.UTC
NAIVE = dt.datetime(2020, 1, 1)  # noqa: DTZ001 # what is tested
ZONES = [UTC, dt.timezone(dt.timedelta(hours=1)), dt.timezone(dt.timedelta(hours=-3, microseconds=5)),
         zoneinfo.ZoneInfo("Europe/Berlin"), zoneinfo.ZoneInfo("America/New_York")]

# The same few values in every spelling, so that equal pairs are drawn often.
WHOLE = [-1, 0, 1, 2, 255, 2**31, 2**53, 2**53 + 1, 2**63 - 1, 2**63, -(2**63), 2**64, 10**30]
SPELLINGS = [int, float, complex, fractions.Fraction, decimal.Decimal, np.float64, np.complex128]
HALVES = [0.5, -1.5, 0.1, 1e300, 5e-324, float("inf"), float("-inf")]
numbers = st.one_of(
    st.builds(lambda way, n: way(n), st.sampled_from(SPELLINGS), st.sampled_from(WHOLE)),
    st.builds(lambda way, n: way(n), st.sampled_from([np.int8, np.int64, np.uint8, np.float16, np.float32, np.bool_]),
              st.sampled_from([0, 1, 2, 5])),
    st.builds(lambda way, x: way(x), st.sampled_from([float, complex, decimal.Decimal, np.float64]),
              st.sampled_from(HALVES)),
    st.sampled_from([True, False, -0.0, complex(-0.0, 0), complex(0, 1), complex(-0.0, 1), 1j, np.complex64(1j),
                     fractions.Fraction(1, 2), fractions.Fraction(1, 10), fractions.Fraction(0.1),
                     decimal.Decimal("0.1"), decimal.Decimal("0.50"), decimal.Decimal("1e2"), decimal.Decimal("-0.0"),
                     decimal.Decimal("0E+999999"), np.float32(0.1), np.float16(0.5),
                     Number.ONE, Number.TWO, Masks.A, Masks.A | Masks.B]),
    st.integers(), st.floats(allow_nan=False), st.fractions(),
    st.decimals(allow_nan=False, min_value=-(10**40), max_value=10**40),
)
texts = st.one_of(
    st.sampled_from(["", "a", "ä", "\ud800\udc00", "\U00010000", Word.A, OldWord.A, np.str_("a"), np.str_("a\0"),
                     Label("a"), "1", b"", b"a", b"1", np.bytes_(b"a")]),
    st.text(), st.text(st.characters(categories=["Cs"])), st.binary(),
)
moments = st.one_of(
    st.sampled_from([dt.date(2020, 1, 1), NAIVE, NAIVE.replace(fold=1)]),
    st.dates(), st.datetimes(), st.timedeltas(), st.times(),
    st.builds(dt.datetime, st.just(2020), st.just(7), st.just(1), st.integers(0, 9), tzinfo=st.sampled_from(ZONES)),
    st.datetimes(timezones=st.sampled_from(ZONES)),
    st.builds(dt.time, st.integers(3, 7), tzinfo=st.sampled_from(ZONES)),
    st.builds(dt.timedelta, st.integers(0, 1), st.sampled_from([0, 86400])),
)
others = st.one_of(
    st.sampled_from([None, ..., Colour.RED, Colour.GREEN, Colour.ALSO_RED, Bits.A, Bits.A | Bits.B, Bits(0)]),
    st.uuids(), st.sampled_from([uuid.UUID(int=1), uuid.UUID(int=1, is_safe=uuid.SafeUUID.safe), uuid.UUID(int=2)]),
    st.builds(lambda kind, path: kind(path),
              st.sampled_from([pathlib.Path, pathlib.PurePosixPath, pathlib.PureWindowsPath]),
              st.sampled_from(["", "a", "A", "/a", "//a", "a/b", "a/./b", "a\\b", "C:/a", "c:a", "ä\udc80"])),
    st.builds(range, st.integers(-1, 2), st.integers(-1, 4), st.integers(1, 3)),
    st.builds(range, st.sampled_from([0, 2**70]), st.sampled_from([3, 2**70 + 2])),
)


@st.composite
def parts(draw):
    # Not one_of alone: a failure shows the strategy, which is long.
    return draw(st.one_of(numbers, texts, moments, others))


some_keys = st.recursive(
    parts(),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map(tuple),
        st.frozensets(inner, max_size=3),
        st.builds(Pair, inner, inner),
    ),
    max_leaves=4,
)


def are_one_key(left, right):
    try:
        return len({left: 0, right: 0}) == 1
    except TypeError:
        # Decimal(2) == np.int64(2) raises: a dict cannot say either.
        assume(False)


def canonical(key):
    try:
        return keys.canonical(key)
    except UnusableKey:
        # A zone's repeated hour.
        assume(False)


@given(numbers, numbers)
@example(2**53 + 1, float(2**53))
@example(decimal.Decimal("0.1"), 0.1)
@example(np.float32(0.1), 0.1)
def test_numbers_are_one_key_exactly_if_a_dict_says_so(left, right):
    assert (canonical(left) == canonical(right)) == are_one_key(left, right)


@given(some_keys, some_keys)
@example(("a", 1), ("a", True))
@example((b"a",), ("a",))
@example(dt.datetime(2020, 1, 1, 1, tzinfo=ZONES[1]), dt.datetime(2020, 1, 1, tzinfo=UTC))
def test_any_two_are_one_key_exactly_if_a_dict_says_so(left, right):
    assert (canonical(left) == canonical(right)) == are_one_key(left, right)


@given(moments, moments)
def test_moments_are_one_key_exactly_if_a_dict_says_so(left, right):
    assert (canonical(left) == canonical(right)) == are_one_key(left, right)


@given(texts | others, texts | others)
def test_other_keys_are_one_key_exactly_if_a_dict_says_so(left, right):
    assert (canonical(left) == canonical(right)) == are_one_key(left, right)


def loses_zeros(key):
    # numpy's text does when it is pickled; then a plain text comes back.
    if isinstance(key, tuple | frozenset):
        return any(map(loses_zeros, key))
    return isinstance(key, np.character) and key[-1:] in ("\0", b"\0")


@given(some_keys)
def test_the_very_key_comes_back(key):
    data = canonical(key)
    back = keys.restore(data, keys.spelled(key, data))

    assert {back: 0} == {key: 0}
    if loses_zeros(key):
        return
    assert type(back) is type(key)
    # Sets may show their elements in another order.
    assert repr(back) == repr(key) or isinstance(key, frozenset | tuple)


@given(some_keys)
@example(dt.time(0, tzinfo=ZONES[1]))
@example(dt.time(23, tzinfo=ZONES[2]))
@example((range(2**70),))
def test_canonical_bytes_alone_give_an_equal_key(key):
    data = canonical(key)
    try:
        back = keys.restore(data)
    except OverflowError:
        # A moment in UTC that lies before the year 1 or after 9999.
        assume(False)

    assert are_one_key(back, key)
    assert keys.canonical(back) == data


@pytest.mark.parametrize(
    "key", ["a", "", "ä", 7, -(2**80), b"x", None, ..., 1.5, (1, ("a", None)), frozenset({1, 2}), Colour.RED, Bits.A,
            dt.date(2020, 1, 1), dt.datetime(2020, 1, 1, tzinfo=UTC), dt.timedelta(1), uuid.UUID(int=1),
            pathlib.Path("/a"), range(3), fractions.Fraction(1, 3), 1j], ids=repr)
def test_ordinary_keys_need_no_spelling(key):
    assert keys.spelled(key, keys.canonical(key)) == b""


PROGRAM = """
import sys, pickle
from XME._store import keys
for key in pickle.load(sys.stdin.buffer):
    data = keys.canonical(key)
    print(data.hex(), keys.stable_hash(data), keys.spelled(key, data).hex())
"""


@pytest.mark.parametrize("seed", ["0", "1", "random"])
def test_every_process_has_the_same_bytes_and_hashes(seed):
    some = ["a", "ü", 1, 2**70, 1.5, b"b", None, ("a", frozenset(range(20)) | {"x", "y", "z"}), uuid.UUID(int=3),
            dt.datetime(2020, 1, 1, tzinfo=UTC), pathlib.Path("/a"), decimal.Decimal("0.1"), np.float64(2)]
    environment = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(ROOT / "src")}
    shown = subprocess.run([sys.executable, "-c", PROGRAM], input=pickle.dumps(some), env=environment, check=True,
                           capture_output=True, timeout=30).stdout.decode().splitlines()

    ours = [(data := keys.canonical(key)).hex() + f" {keys.stable_hash(data)} {keys.spelled(key, data).hex()}"
            for key in some]
    assert shown == ours


def test_a_hash_is_32_bits_and_never_zero():
    # CRC-32 of these four bytes is zero.
    assert keys.stable_hash(b"\xff\xff\xff\xff") != 0
    assert all(0 < keys.stable_hash(keys.canonical(n)) < 2**32 for n in range(1000))


def test_hashes_of_counted_keys_hardly_collide():
    hashes = {keys.stable_hash(keys.canonical(f"key {n}")) & 0xFFFFF for n in range(50_000)}

    # So many different ones has a random function with these 20 bits: 48,830.
    assert len(hashes) > 48_000


def test_an_unhashable_key_gets_the_text_of_the_builtin():
    for key in ([], {}, set(), bytearray(), ([],), (1, {}), np.zeros(1)):
        with pytest.raises(TypeError) as ours:
            keys.canonical(key)
        with pytest.raises(TypeError) as builtin:
            hash(key)
        assert str(ours.value) == str(builtin.value)


@pytest.mark.parametrize(
    ("key", "text"),
    [
        (float("nan"), ("a key of type float cannot be stored in a shared container: NaN is not equal to itself, so "
                        "nobody would find it again; use None or a str")),
        (("a", decimal.Decimal("NaN")), "a key of type decimal.Decimal"),
        (complex(0, float("nan")), "NaN"),
        (np.float32("nan"), "NaN"),
        (decimal.Decimal("1e999999999"), "exponent"),
        (object(), ("a key of type object cannot be stored in a shared container: only its own class knows what it is "
                    "equal to, which is not the same in every process; use a str, bytes, a number or a tuple of such "
                    "that stands for it")),
        (np.longdouble(1), "use a str, bytes, a number"),
        (AnyCase("a"), "AnyCase cannot be stored"),
        (memoryview(b"a"), "use bytes(key)"),
        (np.datetime64("2020-01-01"), "use key.item()"),
        (np.timedelta64(1, "s"), "use key.item()"),
        (dt.datetime(2020, 10, 25, 2, 30, tzinfo=ZONES[3]), "use key.astimezone(datetime.timezone.utc)"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_has_no_canonical_form_is_refused(key, text):
    with pytest.raises(UnusableKey) as caught:
        keys.canonical(key)

    assert text in str(caught.value)
    assert isinstance(pickle.loads(pickle.dumps(caught.value)), TypeError)


def test_an_enum_that_no_other_process_finds_is_refused():
    Hidden = enum.Enum("Hidden", "A")

    with pytest.raises(UnusableKey, match="define the class at the top of a module"):
        keys.canonical(Hidden.A)


def test_a_pandas_timestamp_says_what_to_use():
    pandas = pytest.importorskip("pandas")

    with pytest.raises(UnusableKey, match="to_pydatetime"):
        keys.canonical(pandas.Timestamp("2020-01-01"))


@pytest.mark.parametrize(("key", "equal"), [(Pair(1, 2), (1, 2)), (Number.ONE, 1), (Word.A, "a"), (Label("a"), "a")])
def test_where_its_class_is_unknown_an_equal_key_comes_back(key, equal, monkeypatch):
    data = keys.canonical(key)
    spelled = keys.spelled(key, data)
    monkeypatch.delattr(sys.modules[__name__], type(key).__name__)

    back = keys.restore(data, spelled)
    assert back == equal
    assert type(back) is type(equal)


def test_classes_that_are_made_on_the_fly_can_go():
    for _ in range(2000):
        keys.canonical(type("Fleeting", (str,), {})("a"))

    assert len(keys._WAYS) <= keys._REMEMBERED
