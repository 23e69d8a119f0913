"""What a list in shared memory does beyond what `list` does: processes, refusals, values with memory of their own."""

import collections.abc
import copy
import math
import multiprocessing
import pickle

import numpy as np
import pytest

import XME
from tests.store import list_programs
from XME import xmem_array, xmem_list
from XME._containers import flight, shared_list
from XME.errors import ContainerGone, SharedMemoryFull, UnshareableValue


def run(start_method, *programs):
    """Run functions of list_programs in processes of their own until all have ended well."""
    context = multiprocessing.get_context(start_method)
    processes = [context.Process(target=function, args=arguments) for function, *arguments in programs]
    for process in processes:
        process.start()
    for process in processes:
        process.join(40)
    assert [process.exitcode for process in processes] == [0] * len(processes)


# -- several processes -------------------------------------------------------------------------------------------------


def test_what_several_processes_append_is_all_there_in_their_order(start_method):
    shared = xmem_list()
    run(start_method, *((list_programs.append_all, shared, who, 300) for who in range(2)))
    assert len(shared) == 600
    for who in range(2):
        assert [k for whose, k in shared if whose == who] == list(range(300))


def test_a_list_is_the_same_in_another_process(start_method):
    context = multiprocessing.get_context(start_method)
    shared = xmem_list(["first"], name=None)
    queue = context.SimpleQueue()
    process = context.Process(target=list_programs.report, args=(shared, queue))
    process.start()
    assert queue.get() == ("first", 2, ["first", "seen"])
    process.join(20)
    assert shared == ["first", "seen"]
    assert shared[-1] == "seen"


def test_no_increment_is_lost():
    shared = xmem_list([0, ""])
    run("fork", *((list_programs.increment_all, shared, 200) for _ in range(2)))
    assert shared == [400, "x" * 400]


def test_readers_see_no_half_of_an_extend():
    """Each extend adds ten equal numbers, and deletions take whole tens: whoever reads finds only whole ones."""
    shared = xmem_list([-1] * 10)
    context = multiprocessing.get_context("fork")
    writer = context.Process(target=list_programs.extend_by_tens, args=(shared, 1500))
    writer.start()
    looks = 0
    while writer.is_alive() or looks < 10:
        looks += 1
        for seen in (shared.tolist(), list(shared), list(reversed(shared))[::-1], shared[::-1][::-1]):
            assert len(seen) % 10 == 0
            assert all(len(set(seen[k : k + 10])) == 1 for k in range(0, len(seen), 10))
            numbers = seen[::10]
            assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
    writer.join(20)
    assert writer.exitcode == 0


def test_a_transaction_of_others_is_seen_whole():
    shared = xmem_list([1, *range(50), 2])
    context = multiprocessing.get_context("fork")
    writer = context.Process(target=list_programs.swap_ends, args=(shared, 800))
    writer.start()
    while writer.is_alive():
        assert {shared.tolist()[0], shared.tolist()[-1]} <= {1, 2}
        ends = shared[:: len(shared) - 1]
        assert sorted(ends) == [1, 2]
    writer.join(20)
    assert writer.exitcode == 0


def test_an_iteration_is_of_the_instant_at_which_it_began():
    shared = xmem_list(range(2000))
    forwards, backwards = iter(shared), reversed(shared)
    first = next(forwards)
    shared[5] = "new"
    shared.insert(1, "new")
    shared.clear()
    shared.extend(range(9000))
    assert [first, *forwards] == list(range(2000))
    assert list(backwards) == list(range(1999, -1, -1))


def test_large_values_of_an_iteration_stay_when_they_are_dropped():
    shared = xmem_list([np.full(20_000, k) for k in range(3)])
    seen = iter(shared)
    shared.clear()
    assert [array[-1] for array in seen] == [0, 1, 2]


def test_it_is_an_argument_and_a_result_of_calls():
    shared = xmem_list([1, 2, 3])
    with XME.XME(list_programs.total) as table:
        assert table.fun(shared, 7) == (6,)
    assert shared == [1, 2, 3, 7]


def test_one_process_has_one_handle():
    shared = xmem_list([1])
    assert pickle.loads(pickle.dumps(shared)) is shared


# -- what a list says --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "action",
    [
        lambda a: a[5], lambda a: a[-4], lambda a: a["x"], lambda a: a[1.0], lambda a: a[None],
        lambda a: a[10**30], lambda a: a["a":], lambda a: a[:: 0],
        lambda a: a.__setitem__(3, 1), lambda a: a.__setitem__(1.0, 1), lambda a: a.__setitem__(slice(0, 1), 5),
        lambda a: a.__setitem__(slice(None, None, 2), [1]), lambda a: a.__setitem__(slice(None, None, 2), 5),
        lambda a: a.__delitem__(3), lambda a: a.__delitem__("x"), lambda a: a.pop(7), lambda a: a.pop("x"),
        lambda a: a[:0].pop(), lambda a: a.remove(9), lambda a: a.index(9), lambda a: a.index(1, 1),
        lambda a: a.insert("x", 1), lambda a: a.extend(5), lambda a: a * "x", lambda a: a * 1.5,
        lambda a: a.__imul__("x"), lambda a: a.sort(key=lambda x: 1 / 0), hash,
        copy.copy, copy.deepcopy, bool,
        lambda a: (a[True], a[np.int64(1)], a[np.uint8(2)]), lambda a: a.count(1),
        lambda a: [a] == [[1, 2, 3]], lambda a: a != [1, 2, 3], lambda a: a == (1, 2, 3), lambda a: a == 5,
    ],
)  # fmt: skip
def test_it_answers_and_refuses_in_the_words_of_a_list(action):
    results = []
    for target in ([1, 2, 3], xmem_list([1, 2, 3])):
        try:
            result = action(target)
        except Exception as error:
            result = type(error), str(error).replace("xmem_list", "list")
        results.append((result, list(target)))
    assert results[0] == results[1]


def test_order_with_other_types_is_refused():
    with pytest.raises(TypeError, match="'<' not supported between instances of 'xmem_list' and 'int'"):
        _ = xmem_list() < 5


def test_every_kind_of_start():
    assert [xmem_list(), xmem_list({}), xmem_list("ab"), xmem_list(x for x in "c")] == [[], [], ["a", "b"], ["c"]]
    with pytest.raises(TypeError, match="'int' object is not iterable"):
        xmem_list(5)


def test_it_is_a_mutable_sequence():
    assert isinstance(xmem_list(), collections.abc.MutableSequence)
    assert set(dir(list)) - {"__class_getitem__"} <= set(dir(xmem_list))


def test_text():
    shared = xmem_list([1])
    shared.append(shared)
    assert repr(shared) == "xmem_list([1, xmem_list([...])])"
    assert repr(xmem_list([2], name="list-text")) == "xmem_list([2], name='list-text')"


def test_a_float_is_no_index_although_it_equals_one_that_was_read():
    shared = xmem_list([1, 2])
    assert shared[1] == 2
    with pytest.raises(TypeError, match="list indices must be integers or slices, not float"):
        _ = shared[1.0]


# -- values ------------------------------------------------------------------------------------------------------------


def test_what_cannot_be_shared_leaves_it_as_it_was():
    shared = xmem_list([1])
    bad = (k for k in ())
    for action in (
        lambda: shared.append(bad), lambda: shared.insert(0, bad), lambda: shared.__setitem__(0, bad),
        lambda: shared.extend([b"x" * 100_000, bad]), lambda: shared.__setitem__(slice(0, 0), [2, bad]),
    ):  # fmt: skip
        with pytest.raises(UnshareableValue, match="generator"):
            action()
    assert shared == [1]
    with pytest.raises(UnshareableValue, match=r"\[0\]"):
        shared[0] = bad


def test_full_shared_memory_leaves_it_as_it_was(monkeypatch):
    shared = xmem_list([1, b"x" * 70_000])

    def refuse(*_args):
        raise SharedMemoryFull.of(1, 0, 0, "here")

    before = shared.tolist()
    with monkeypatch.context() as patch:
        patch.setattr(flight, "_make", refuse)
        for action in (
            lambda: shared.append(b"x" * 80_000), lambda: shared.extend(range(5000)),
            lambda: shared.__setitem__(0, b"y" * 80_000), lambda: shared.__imul__(2),
        ):  # fmt: skip
            with pytest.raises(SharedMemoryFull):
                action()
            assert shared == before
        # Taking away needs no room.
        shared.pop()
    shared.extend(range(5000))
    assert shared == [1, *range(5000)]


def test_arrays_are_views_that_nobody_can_write_and_that_stay():
    shared = xmem_list([np.arange(5), np.arange(100_000)])
    small, large = shared[0], shared[1]
    assert not small.flags.writeable
    assert not large.flags.writeable
    assert shared[1] is not large
    assert np.shares_memory(shared[1], large)
    shared[1] = np.zeros(100_000)
    del shared[0]
    assert large[-1] == 99_999
    assert small[-1] == 4
    assert shared[0][-1] == 0


def test_few_large_values_are_kept_mapped():
    shared = xmem_list([np.full(9000, k) for k in range(50)])
    assert [int(shared[k][0]) for k in range(50)] == list(range(50))
    assert len(shared._cache) <= 8


def test_a_shared_array_stays_shared():
    array = xmem_array(3)
    shared = xmem_list([array])
    shared[0][1] = 5
    assert array[1] == 5


def test_what_changes_is_not_kept():
    shared = xmem_list([[1], {"a": 1}])
    shared[0].append(2)
    assert shared[0] == [1]
    assert math.isnan(xmem_list([math.nan])[0])


def test_popped_values_live_on():
    shared = xmem_list([np.arange(50_000), b"y" * 100_000])
    assert shared.pop() == b"y" * 100_000
    assert shared.pop(0)[-1] == 49_999


def test_nested_lists_are_shared():
    shared = xmem_list([[1], {"a": [2]}], nested=True)
    shared[0].append(5)
    shared[1]["a"].append(3)
    assert shared == [[1, 5], {"a": [2, 3]}]
    assert isinstance(shared[0], xmem_list)
    plain = copy.deepcopy(shared)
    assert type(plain[0]) is list
    assert shared.pop(0) == [1, 5]
    assert len(shared) == 1


def test_a_public_name():
    shared = xmem_list([1, 2], name="list-by-name")
    assert XME.attach("list-by-name") is shared
    assert shared.name == "list-by-name"
    shared.unlink()
    with pytest.raises(ContainerGone):
        shared.append(3)


# -- user code inside --------------------------------------------------------------------------------------------------


def test_sort_sees_the_list_and_must_not_change_it():
    shared = xmem_list([3, 1, 2])
    shared.sort(key=lambda value: (shared[0], -value))
    assert shared == [3, 2, 1]
    with pytest.raises(ValueError, match="list modified during sort"):
        shared.sort(key=lambda value: shared.append(1) or value)
    assert shared == [3, 2, 1]


def test_apply_that_fails_changes_nothing():
    shared = xmem_list([1, 2])
    shared.append(shared[0])

    def fail(value):
        shared[0] = value + 100
        assert shared[0] == 101
        raise KeyError(value)

    with pytest.raises(KeyError):
        shared.apply(0, fail)
    assert shared == [1, 2, 1]
    with pytest.raises(IndexError, match="list index out of range"):
        shared.increment(9)


def test_a_transaction_reads_what_it_wrote_also_where_it_was_read_before():
    shared = xmem_list([1, 2])
    assert shared[0] == 1
    with shared.atomic():
        shared[0] = 7
        assert (shared[0], shared.tolist(), list(shared)) == (7, [7, 2], [7, 2])
    assert shared[0] == 7


def test_the_short_ways_refuse_a_list_that_was_unlinked():
    shared = xmem_list([1, 2])
    shared.append(3)
    shared.unlink()
    for action in (lambda: shared.append(4), lambda: shared.__setitem__(0, 4), shared.pop, shared.clear):
        with pytest.raises(ContainerGone):
            action()
    assert shared_list.xmem_list is xmem_list


def test_a_number_that_is_too_large_for_the_short_way_is_appended_all_the_same():
    shared = xmem_list([0])
    for k in (1, 2**63 - 1, 2**63, -(2**70), 5):
        shared.append(k)
        shared[0] = k
        assert shared[0] == shared[-1] == k
    assert shared[1:] == [1, 2**63 - 1, 2**63, -(2**70), 5]
