"""Arguments: common ones are the same read-only object for all rows of a worker, split ones belong to their row."""

import dataclasses
import os
import pickle

import numpy as np
import pytest

import XME
from tests.helpers import run_python

BIG = 40_000


def run(pool, function, *args, **kwargs):
    return XME.XME(function, executor=pool).fun(*args, **kwargs)


@dataclasses.dataclass
class Box:
    content: object
    more: object = None


# -- common ----------------------------------------------------------------------------------------------------------


def arrays_in(value):
    if isinstance(value, np.ndarray):
        found = [value]
        if value.dtype.hasobject:
            found += [part for item in value.flat for part in arrays_in(item)]
        return found
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, Box):
        value = [value.content, value.more]
    return [part for item in value for part in arrays_in(item)] if isinstance(value, list | tuple) else []


def look(row, value):
    try:
        for array in arrays_in(value):
            array[...] = array.copy()
    except ValueError as error:
        written = str(error)
    else:
        written = "written"
    return os.getpid(), id(value), [array.flags.writeable for array in arrays_in(value)], written


def describe(value):
    array = np.asarray(value)
    content = repr(array.tolist()) if array.dtype.hasobject else array.tobytes()
    return type(value).__name__, str(array.dtype), array.shape, content


def describe_all(value):
    return [describe(array) for array in arrays_in(value)]


def records(n):
    return np.rec.array(np.zeros(n, dtype=[("a", "i4"), ("b", "M8[s]")]))


KINDS = {
    "small": lambda: np.arange(3),
    "big": lambda: np.arange(float(BIG)),
    "strided": lambda: np.arange(2.0 * BIG)[::2],
    "negative strides": lambda: np.arange(float(BIG))[::-1],
    "small strided": lambda: np.arange(10)[::3],
    "fortran": lambda: np.asfortranarray(np.arange(float(BIG)).reshape(200, 200)),
    "neither": lambda: np.arange(float(BIG)).reshape(20, 20, 100).transpose(1, 0, 2),
    "empty": lambda: np.empty((0, 3), "f4"),
    "no dimensions": lambda: np.array(3),
    "structured": lambda: np.zeros(BIG, dtype=[("a", "u1"), ("b", "f8", 2)]),
    "structured with time": lambda: np.zeros(BIG, dtype=[("a", "M8[s]"), ("b", "i2")]),
    "big-endian": lambda: np.arange(BIG, dtype=">i4"),
    "datetime": lambda: np.arange(BIG).astype("M8[s]"),
    "small timedelta": lambda: np.arange(3).astype("m8[D]"),
    "text": lambda: np.array(["a", "äöü"] * BIG),
    "bytes": lambda: np.array([b"x", b""] * BIG),
    "without a size": lambda: np.array(["", ""], dtype="S0"),
    "objects": lambda: np.array([1, "two", None, np.arange(3)], dtype=object),
    "matrix": lambda: np.arange(float(BIG)).reshape(200, 200).view(np.matrix),
    "records": lambda: records(BIG),
    "masked": lambda: np.ma.array(np.arange(BIG), mask=np.arange(BIG) % 2 == 0),
    "broadcast": lambda: np.broadcast_to(np.arange(4.0), (BIG, 4)),
    "half": lambda: np.arange(100, dtype="f2"),
    "complex": lambda: np.arange(BIG) * 1j,
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_common_array_is_read_only_and_the_same_object_for_all_rows_of_a_worker(fork, kind):
    value = KINDS[kind]()

    seen = run(fork, look, XME.Array(range(20)), value)

    assert all(not any(writeable) for _, _, writeable, _ in seen)
    assert len({(pid, place) for pid, place, _, _ in seen}) == len({pid for pid, _, _, _ in seen})
    if np.size(value):
        assert all("read-only" in written for *_, written in seen)


@pytest.mark.parametrize("kind", KINDS)
def test_a_common_array_arrives_with_its_class_dtype_shape_and_content(fork, kind):
    value = KINDS[kind]()

    assert run(fork, describe_all, [value]) == (describe_all([value]),)


def test_arrays_are_read_only_at_any_depth(pool):
    value = {"a": [np.arange(5), (np.arange(float(BIG)),)], "b": Box(np.ones((300, 300))[::2], {"c": records(3)})}

    (found,) = run(pool, look, 0, value)

    assert found[2] == [False] * 4


def test_the_mask_of_a_common_masked_array_is_read_only_too(fork):
    def write(array):
        array.mask[0] = True

    with pytest.raises(ValueError, match="read-only"):
        run(fork, write, np.ma.array([1, 2], mask=[False, True]))


def write_into(array):
    array[0] = 1


def test_writing_into_a_common_array_says_what_to_do(pool):
    with pytest.raises(ValueError, match="read-only") as caught:
        run(pool, write_into, np.zeros(3))

    (note,) = caught.value.__notes__
    assert "array.copy()" in note
    assert "XME.xmem_array(array)" in note
    assert "XME.Array(array)" in note
    assert "array.copy()" in str(caught.value.__cause__)


def add_in_place(array):
    array += 1
    return array


def test_what_is_derived_from_a_common_array_is_writable(fork):
    def half(array):
        own = array.copy()
        own += 1
        return (array / 2 + own).sum()

    assert run(fork, half, np.ones(BIG)) == (2.5 * BIG,)


def test_an_argument_that_is_passed_twice_arrives_as_one_object(fork):
    shared = np.arange(BIG)

    assert run(fork, lambda a, b: a is b[0], shared, [shared]) == (True,)


def test_a_memory_map_travels_as_an_array(pool, tmp_path):
    mapped = np.memmap(tmp_path / "file", dtype="f8", mode="w+", shape=(BIG,))
    mapped[:] = 3
    before = pool.statistics()

    assert run(pool, np.sum, mapped) == (3.0 * BIG,)
    assert sum(run(pool, np.sum, XME.Array(mapped, blocks=4))) == 3.0 * BIG

    after = pool.statistics()
    assert after.bytes_pickled - before.bytes_pickled < 20_000
    assert after.bytes_shared - before.bytes_shared >= 2 * mapped.nbytes


def test_no_large_array_is_pickled(fork):
    before = fork.statistics()

    values = [make() for kind, make in KINDS.items() if kind not in ("objects", "masked", "broadcast")]
    run(fork, len, values)

    after = fork.statistics()
    assert after.bytes_pickled - before.bytes_pickled < 50_000
    assert after.bytes_shared - before.bytes_shared > 2_000_000


# -- split -----------------------------------------------------------------------------------------------------------


def same(value):
    return value


@pytest.mark.parametrize(
    "values",
    [
        [1, "two", None, (3, [4])],
        (5, 6),
        range(3, 30, 4),
        "split",
        b"bytes",
        bytearray(b"ab"),
        {"a": 1}.items(),
        {"a": 1}.keys(),
        {1, 2},
        (k * k for k in range(5)),
        [],
        [[]],
        np.arange(4),
        memoryview(b"view"),
        ["x" * 100_000, "y"],
        [10**30, -0.0, True],
    ],
    ids=lambda values: type(values).__name__,
)
def test_every_iterable_splits(pool, values):
    array = XME.Array(values)

    assert run(pool, same, array) == tuple(array)


@pytest.mark.long
@pytest.mark.parametrize("dtype", ["i1", "u8", "f4", "f8", "c16", "?", "M8[s]", "m8[ms]", "U5", "S3"])
@pytest.mark.parametrize("rows", [3, 9_000])
def test_elements_of_an_array_keep_their_type(fork, dtype, rows):
    values = np.arange(rows).astype(dtype)

    results = run(fork, same, XME.Array(values))

    assert {type(result) for result in results} == {values.dtype.type}
    assert np.array_equal(np.array(results, dtype), values)


@pytest.mark.parametrize("shape", [(5, 4), (5, 30_000), (5, 200_000)])
def test_a_row_of_an_array_is_the_rows_own(pool, shape):
    values = np.zeros(shape)

    results = run(pool, add_in_place, XME.Array(values))

    assert not values.any()
    assert all(result.shape == shape[1:] and (result == 1).all() and result.flags.writeable for result in results)
    assert all((again == 1).all() for again in run(pool, add_in_place, XME.Array(values)))


@pytest.mark.parametrize("length", [2, 7, 100, 1_000_000])
def test_blocks_of_an_array_are_the_rows_own(pool, length):
    values = np.arange(float(length))

    results = run(pool, add_in_place, XME.Array(values, blocks=7))

    assert [len(result) for result in results] == [len(part) for part in np.array_split(values, 7)]
    assert np.array_equal(np.concatenate(results), values + 1)
    assert np.array_equal(values, np.arange(float(length)))


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "no dimensions"])
@pytest.mark.parametrize("blocks", [None, 3])
def test_every_kind_of_array_splits(fork, kind, blocks):
    values = KINDS[kind]()[:500]
    array = XME.Array(values, blocks)

    results = run(fork, same, array)

    for result, expected in zip(results, array, strict=True):
        assert type(result) is type(expected)
        assert describe(result) == describe(expected)
        assert getattr(result, "flags", None) is None or np.ndim(result) == 0 or result.flags.writeable


def double(part):
    part *= 2
    return part.shape


def test_a_shared_array_in_blocks_is_written_in_place(pool):
    shared = XME.xmem_array(np.ones((10, 3)))

    assert run(pool, double, XME.Array(shared, blocks=4)) == ((3, 3), (3, 3), (2, 3), (2, 3))
    run(pool, double, XME.Array(shared))

    assert (shared == 4).all()


def fill_field(record):
    record["a"] = 7


def test_a_record_of_a_shared_array_is_shared(fork):
    shared = XME.xmem_array(np.zeros(3, dtype=[("a", "i4")]))
    plain = np.zeros(3, dtype=[("a", "i4")])

    run(fork, fill_field, XME.Array(shared))
    run(fork, fill_field, XME.Array(plain))

    assert shared["a"].tolist() == [7, 7, 7]
    assert plain["a"].tolist() == [0, 0, 0]


def append_one(_row, items):
    items.append(1)
    return len(items)


def test_a_shorter_column_repeats_its_last_element_anew_for_each_row(pool):
    assert run(pool, append_one, XME.Array(range(50)), XME.Array([[], []])) == (1,) * 50


def fill(_row, array):
    was = array.sum()
    array[:] = 1
    return was


@pytest.mark.parametrize("size", [3, BIG])
def test_a_repeated_array_is_each_rows_own(fork, size):
    assert run(fork, fill, XME.Array(range(30)), XME.Array([np.zeros(size)] * 2)) == (0,) * 30
    assert run(fork, fill, XME.Array(range(30)), XME.Array(np.zeros((2, size)))) == (0,) * 30


def test_split_lists_with_large_arrays_inside_are_the_rows_own(pool):
    values = [{"k": k, "array": np.full(BIG, float(k))} for k in range(12)]

    def spoil(value):
        value["array"] += 1
        return value["k"], value["array"][0]

    assert run(pool, spoil, XME.Array(values)) == tuple((k, k + 1.0) for k in range(12))
    assert [value["array"][0] for value in values] == list(range(12))


def test_a_few_large_values_among_many_small_ones(fork):
    values = [np.zeros(BIG) if k % 700 == 699 else (k,) for k in range(3000)]

    assert run(fork, len, XME.Array(values)) == tuple(map(len, values))


@pytest.mark.long
def test_a_million_rows_of_strings(fork):
    values = [f"row {k}" for k in range(1_000_000)]

    assert run(fork, len, XME.Array(values)) == tuple(map(len, values))


def test_split_and_common_keywords(pool):
    def show(a, /, b, *, c, d=4):
        return a, b, c, d

    expected = tuple((a, 9, c, 4) for a, c in zip("xyz", [[1], [2], [2]], strict=True))
    assert run(pool, show, XME.Array("xyz"), c=XME.Array([[1], [2]]), b=9) == expected


def test_functions_with_an_empty_column_beside_others(pool):
    xme = XME.XME(same, same, executor=pool)

    assert xme.funs(tagr_array=[[XME.Array([])], [XME.Array((1, 2))]]) == ((), (1, 2))


class Fragile:
    def __init__(self, k):
        self.k = k

    def __reduce__(self):
        return fragile, (self.k,)


def fragile(k):
    if k == 5:
        raise LookupError("five does not arrive")
    return Fragile(k)


def test_a_value_that_does_not_unpickle_fails_rows_and_not_the_pool(pool):
    with pytest.raises((LookupError, XME.RowErrors)) as caught:
        run(pool, lambda value: value.k, XME.Array([Fragile(k) for k in range(8)]))

    failures = caught.value.failures
    assert 5 in failures
    assert all("five does not arrive" in str(error) for error in failures.values())
    assert run(pool, same, XME.Array(range(3))) == (0, 1, 2)


LIMITED = """
import resource, sys
import numpy as np
import XME

def total(item):
    return float(item.sum())

if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
    with XME.XME(total, start_method=sys.argv[1]) as xme:
        for k in range(2):
            items = [np.full(10_000, float(i + k)) for i in range(400)]
            assert xme.fun(xme.Array(items)) == tuple(10_000.0 * (i + k) for i in range(400))
            wide = np.full((200, 40_000), float(k))
            assert xme.fun(xme.Array(wide)) == (40_000.0 * k,) * 200
    print("done")
"""


@pytest.mark.parametrize("start_method", [
    "fork", pytest.param("spawn", marks=pytest.mark.slow), pytest.param("forkserver", marks=pytest.mark.slow),
])
def test_thousands_of_arrays_need_few_descriptors(start_method):
    done = run_python(LIMITED, start_method)

    assert (done.stdout, done.stderr, done.returncode) == ("done\n", "", 0)


def test_an_array_object_pickles_as_what_it_holds():
    again = pickle.loads(pickle.dumps(XME.Array([1, 2], blocks=2)))

    assert list(again) == [[1], [2]]


@pytest.mark.long
def test_rows_share_nothing_that_they_may_change(fork):
    settings = {"count": 0}

    def count(pair):
        pair[0]["count"] += 1
        return pair[0]["count"]

    assert run(fork, count, XME.Array([(settings, k) for k in range(200)])) == (1,) * 200
