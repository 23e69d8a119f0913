"""Arrays, entries and tables: columns of arguments become rows."""

import collections
import pickle

import cloudpickle
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import XME.ArrayOperator
import XME.Logputter
from XME.ArrayOperator import Array, ArrayOperator, Entry, ExecutionTable, Injected

lengths = st.integers(0, 40)


@given(lengths, st.integers(1, 50))
def test_blocks_are_those_of_array_split(length, blocks):
    data = np.arange(length)
    expected = [part.tolist() for part in np.array_split(data, blocks)]
    assert [part.tolist() for part in Array(data, blocks=blocks)] == expected
    assert [list(part) for part in Array(range(length), blocks)] == expected


@given(st.lists(st.integers(), min_size=1), st.integers(0, 60))
def test_a_row_beyond_the_end_is_the_last(values, row):
    assert Array(values).row(row) == (values[row] if row < len(values) else values[-1])


@given(st.lists(lengths, max_size=5), st.one_of(st.none(), st.integers(0, 9)))
def test_the_longest_array_says_how_many_rows(counts, calnum):
    columns = tuple(Array(range(count)) for count in counts)
    expected = max(counts) if counts else 1 if calnum is None else calnum
    if counts and ((max(counts) and not min(counts)) or calnum not in (None, max(counts))):
        with pytest.raises(ValueError, match="Array"):
            ArrayOperator(columns, {}, calnum)
    else:
        assert ArrayOperator(columns, {}, calnum).rows == expected


@given(st.lists(st.integers(0, 5), max_size=6), st.booleans())
def test_locate_finds_the_row_that_rows_gives(counts, with_guard):
    entries = tuple(
        Entry(lambda *args: args, (i, Array(range(n))), {}, n) for i, n in enumerate(counts)
    )
    table = ExecutionTable(entries, guard=Entry(lambda: "guard", (), {}, 1) if with_guard else None)
    made = [row.function(*row.args, **row.kwargs) for row in table.rows()]
    assert made[: table.row_count] == [table.locate(row) for row in range(table.row_count)]
    assert made[table.row_count :] == ["guard"] * with_guard
    if with_guard:
        assert table.locate(table.row_count) == (len(counts), 0)
    with pytest.raises(IndexError):
        table.locate(table.row_count + with_guard)


def test_blocks_of_an_array_are_views():
    data = np.zeros((10, 3))
    parts = list(Array(data, blocks=4))
    assert all(np.shares_memory(part, data) for part in parts)
    assert Array(data).values is data


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ((n for n in range(3)), [0, 1, 2]),
        ({5}, [5]),
        ({"k": 1}, ["k"]),
        ({"k": 1}.items(), [("k", 1)]),
        ("ab", ["a", "b"]),
        (b"\x01", [1]),
        (collections.deque([1, 2]), [1, 2]),
        (Array((1, 2)), [1, 2]),
    ],
)
def test_anything_iterable_is_taken(values, expected):
    assert list(Array(values)) == expected


@pytest.mark.parametrize("values", [5, None, len, np.array(3)])
def test_what_has_no_elements_is_refused_with_its_cure(values):
    with pytest.raises(TypeError, match="pass it as it is"):
        Array(values)


def test_blocks_need_slices_and_a_count():
    with pytest.raises(TypeError, match="deque cannot: use a list"):
        Array(collections.deque([1]), blocks=2)
    with pytest.raises(ValueError, match="at least 1, not 0"):
        Array([1], blocks=0)
    with pytest.raises(TypeError):
        Array([1], blocks="2")


def test_an_array_behaves_like_its_rows():
    array = Array(range(5), blocks=2)
    assert (len(array), array[-1], array[0]) == (2, range(3, 5), range(3))
    for wrong in (2, -3):
        with pytest.raises(IndexError):
            array[wrong]
    with pytest.raises(IndexError, match="row 0 of <Array over a list of 0>"):
        Array([]).row(0)
    assert repr(array) == "<Array over a range of 5 in 2 blocks>"


def test_an_array_pickles_as_its_values_and_blocks():
    array = pickle.loads(pickle.dumps(Array(range(5), blocks=2)))
    assert (array.values, array.blocks, list(array)) == (range(5), 2, [range(3), range(3, 5)])


def test_an_entry_resolves_columns_and_leaves_markers():
    entry = Entry(print, (Array("ab"), Injected.LOGOBJ), {"k": Array([1, 2])}, rows=2)
    assert entry.call(1) == (("b", Injected.LOGOBJ), {"k": 2})
    assert entry.injects
    assert not Entry(abs, (1,), {}, 1).injects


def test_what_a_row_changes_on_its_logobj_is_its_own():
    def fun(logobj, print):
        logobj.time = not logobj.time
        return logobj.time, print.__self__ is logobj

    log = XME.Logputter.Logputter(time=False)
    table = ExecutionTable((Entry(fun, (), {"logobj": Injected.LOGOBJ, "print": Injected.PRINT}, 3),), log=log)
    assert [row.function(*row.args, **row.kwargs) for row in table.rows()] == [(True, True)] * 3
    assert log.time is False


@pytest.mark.parametrize(
    ("module", "named"),
    [(XME.ArrayOperator, "XME.ArrayOperator.ArrayOperator"), (XME.Logputter, "XME.Logputter.Logputter")],
)
def test_calling_a_module_names_the_class_and_the_module_still_travels(module, named):
    with pytest.raises(TypeError, match=named):
        module()
    assert pickle.loads(cloudpickle.dumps(module)) is module
