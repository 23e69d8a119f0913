"""nested=True: plain lists and dicts become shared ones that belong to where they are put; what is dropped goes."""

import gc
import multiprocessing
import os
import pickle
import signal
import threading

import numpy as np
import pytest

import XME
from tests.helpers import run_python, xme_names
from XME import xmem_dict, xmem_list
from XME._core import program


def names_of_program():
    """The names that this program has in shared memory, segments and semaphores."""
    gc.collect()
    domain = program.program_domain()
    domain.names.tidy()
    return {name for name in xme_names() if domain.id in name}


def names_of(_container):
    """The same, for as long as a test makes no other container."""
    return names_of_program()


def bytes_of(_container):
    """How many bytes these take."""
    return sum(os.stat(f"/dev/shm/{name}").st_blocks * 512 for name in names_of_program())


def test_a_change_two_levels_down_is_seen_by_all():
    d = xmem_dict({"a": {"b": {"c": 1}}, "l": [[1], {"x": 2}]}, nested=True)
    assert type(d["a"]["b"]) is xmem_dict
    assert type(d["l"][0]) is xmem_list
    program_text = """
import pickle, sys
d = pickle.loads(bytes.fromhex(sys.argv[1]))
d["a"]["b"]["c"] = {"new": [1]}
d["a"]["b"]["c"]["new"].append(2)
d["l"][0].append({"deep": []})
d["l"][0][1]["deep"].append(5)
d["made"] = [{}]
d["made"][0]["k"] = bytes(100_000)
"""
    done = run_python(program_text, pickle.dumps(d).hex())
    assert done.returncode == 0, done.stderr
    assert d["a"].todict() == {"b": {"c": {"new": [1, 2]}}}
    assert d["l"].tolist() == [[1, {"deep": [5]}], {"x": 2}] or d.todict()["l"] == [[1, {"deep": [5]}], {"x": 2}]
    assert d["made"][0]["k"] == bytes(100_000)
    assert d == d.copy()


def test_only_plain_lists_and_dicts_are_shared():
    class Own(dict):
        pass

    d = xmem_dict({"own": Own(a=1), "tuple": ([1],), "array": np.arange(3), "shared": xmem_list([1])}, nested=True)
    assert type(d["own"]) is Own
    assert d["tuple"] == ([1],)
    assert type(d["tuple"][0]) is list
    d["shared"].append([2])
    assert type(d["shared"][1]) is list
    assert type(xmem_dict({"a": {}})["a"]) is dict


def test_what_contains_itself_cannot_be_nested():
    d = xmem_dict(a=1, nested=True)
    before = names_of(d)
    endless = {"list": []}
    endless["list"].append(endless)
    with pytest.raises(ValueError, match="a dict that contains itself cannot be nested"):
        d["b"] = endless
    assert d == {"a": 1}
    assert names_of(d) == before


def test_a_value_that_fails_leaves_no_child_behind():
    d = xmem_dict(a={"b": 1}, nested=True)
    before = names_of(d)
    for bad in ({"x": [{}], "y": threading.Lock()}, {"x": {}, "y": (g for g in ())}):
        with pytest.raises(TypeError):
            d["a"] = {"deep": [bad, {"gen": (g for g in ())}]}
    with pytest.raises(TypeError):
        d.update(ok={"fine": []}, bad=[(g for g in ())])
    assert d.todict() == {"a": {"b": 1}}
    assert names_of(d) == before


def test_a_transaction_that_fails_leaves_no_child_behind():
    d = xmem_dict(a={"b": 1}, nested=True)
    before = names_of(d)
    with pytest.raises(ZeroDivisionError), d.atomic():
        d["a"] = {"c": [1]}
        d["x"] = [{}]
        assert d.todict() == {"a": {"c": [1]}, "x": [{}]}
        1 / 0  # noqa: B018 - it is to raise
    assert d.todict() == {"a": {"b": 1}}
    assert names_of(d) == before
    with d.atomic():
        with pytest.raises(ZeroDivisionError), d.atomic():
            d["x"] = [{}, bytes(100_000)]
            1 / 0  # noqa: B018 - it is to raise
        d["a"] = [1]
        d["a"] = [2]
        d["a"] = {"d": 3}
    assert d.todict() == {"a": {"d": 3}}
    assert len(names_of(d)) == len(before)


def test_a_child_goes_with_its_last_place():
    d = xmem_dict(a={"x": [1]}, nested=True)
    one = names_of(d)
    child = d["a"]
    d["again"] = child
    assert d["again"] is child
    del d["a"]
    assert child["x"].copy() == [1]
    child["y"] = 2
    assert names_of(d) == one
    d["again"] = None
    assert len(names_of(d)) < len(one)
    assert child["y"] == 2
    with pytest.raises(XME.ContainerGone):
        child["y"] = 3
    with pytest.raises(XME.ContainerGone):
        d["back"] = child
    assert "back" not in d
    assert d == {"again": None}


def test_popping_a_child_gives_its_content():
    d = xmem_dict(a={"x": [1, {"y": 2}]}, b=[1, [2]], c=3, nested=True)
    before = names_of_program()
    assert d.popitem() == ("c", 3)
    assert d.popitem() == ("b", [1, [2]])
    value = d.pop("a")
    assert value == {"x": [1, {"y": 2}]}
    assert type(value["x"]) is list
    assert d == {}
    assert len(names_of_program()) == len(before) - 10


def test_clear_and_shrinking_take_the_children_along():
    before = len(names_of_program())
    d = xmem_dict({k: {"k": [k]} for k in range(30)}, nested=True)
    assert len(names_of_program()) == before + 3 + 4 * 30
    d.clear()
    # Its home has two names, its records one.
    assert len(names_of_program()) == before + 3
    d.update({k: [k] for k in range(30)})
    for k in range(30):
        del d[k]
    assert d == {}
    assert len(names_of_program()) == before + 3


def test_a_child_in_hand_keeps_its_parent():
    child = xmem_dict(a={"x": 1}, nested=True)["a"]
    gc.collect()
    program.program_domain().names.tidy()
    child["big"] = bytes(100_000)
    assert pickle.loads(pickle.dumps(child))["x"] == 1


def test_dropping_the_only_handle_takes_all_names_away():
    before = names_of_program()
    d = xmem_dict(a={"x": [bytes(100_000)]}, big=np.zeros(100_000), nested=True)
    d.update((k, "x" * 50) for k in range(1000))
    d["a"]["more"] = [[]]
    assert len(names_of_program() - before) >= 10
    del d
    assert names_of_program() == before


def test_what_was_handed_out_stays_until_the_program_ends():
    before = names_of_program()
    d = xmem_dict(a=1)
    pickled = pickle.dumps(d)
    del d
    assert len(names_of_program()) == len(before) + 2
    assert pickle.loads(pickled) == {"a": 1}
    pickle.loads(pickled).unlink()
    assert names_of_program() == before


def test_overwriting_leaves_shared_memory_flat():
    d = xmem_dict(nested=True, array=0, nest=[0])
    d["array"] = np.zeros(1 << 17)
    names, nbytes = names_of(d), bytes_of(d)
    for k in range(150):
        d["nest"] = [k, {"k": k}]
    for k in range(100):
        d["array"] = np.full(1 << 17, k)
    assert len(names_of(d)) <= len(names) + 4
    # Of 100 arrays of 1 MiB and 150 children nothing stays, but pages of the home that were not touched before.
    assert bytes_of(d) <= nbytes + (1 << 17)
    assert d["nest"][1]["k"] == 149
    assert d["array"][5] == 99.0


@pytest.mark.slow
def test_overwriting_often_leaves_shared_memory_flat():
    d = xmem_dict(nested=True, array=0, nest=[0])
    d["array"] = np.zeros(1 << 17)
    names, nbytes = len(names_of(d)), bytes_of(d)
    for k in range(20_000):
        d["nest"] = [k]
        if not k % 1000:
            assert len(names_of(d)) <= names + 4
            assert bytes_of(d) <= nbytes + (1 << 18)
    for k in range(2000):
        d["array"] = np.full(1 << 17, k)
    assert len(names_of(d)) <= names + 4
    assert bytes_of(d) <= nbytes + (1 << 18)


def _overwrite_for_ever(d, ready):
    k = 0
    while True:
        d["nest"] = [k, {"k": [k]}]
        d["array"] = np.full(20_000, k)
        k += 1
        ready.set()


def _touch(d):
    for k in range(3):
        d.update(touch=k)


def test_a_killed_writer_leaves_nothing_behind():
    d = xmem_dict(nested=True, array=np.zeros(20_000), nest=[0, {"k": [0]}])
    context = multiprocessing.get_context("fork")
    names, nbytes = len(names_of(d)), bytes_of(d)
    for _ in range(8):
        ready = context.Event()
        writer = context.Process(target=_overwrite_for_ever, args=(d, ready))
        writer.start()
        assert ready.wait(10)
        os.kill(writer.pid, signal.SIGKILL)
        writer.join(10)
        first, second = d["nest"]
        assert second["k"].copy() == [first]
        array = d["array"]
        assert (array == array[0]).all()
    # Who was killed outside of the mutex is settled by the next one with his number, at his changes.
    for _ in range(2):
        heir = context.Process(target=_touch, args=(d,))
        heir.start()
        heir.join(10)
    d["nest"] = [0, {"k": [0]}]
    del d["touch"]
    assert len(names_of_program()) <= names + 1
    assert bytes_of(d) <= nbytes + (1 << 17)


# -- opened again --------------------------------------------------------------------------------------------------


def mapped():
    """How many mappings this process has of its program's memory."""
    with open("/proc/self/maps", encoding="ascii") as file:
        return sum(program.program_domain().id in line for line in file)


@pytest.mark.parametrize("elsewhere", [False, True])
def test_a_child_that_was_replaced_is_not_found_again(elsewhere):
    d = xmem_dict(a={"n": 1}, nested=True)
    told = pickle.dumps(d["a"])
    # Opened, dropped, and so still mapped here.
    d["a"]["n"] = 2
    if elsewhere:
        process = multiprocessing.get_context("fork").Process(target=d.__setitem__, args=("a", {"n": 3}))
        process.start()
        process.join(20)
    else:
        d["a"] = {"n": 3}

    with pytest.raises(XME.ContainerGone):
        pickle.loads(told)
    assert d["a"]["n"] == 3


def test_few_children_stay_mapped_when_nobody_has_them():
    d = xmem_dict({k: {"n": k, "large": "x" * 5000} for k in range(40)}, nested=True)
    before = mapped()
    for k in range(40):
        assert d[k]["n"] == k
    gc.collect()
    assert mapped() - before <= 16


def test_what_a_child_has_become_is_seen_when_it_is_opened_again():
    d = xmem_dict(a={"n": 0}, nested=True)
    for n in range(300):
        d["a"]["n"] = n
        if n % 100 == 7:
            more = dict.fromkeys(range(500), n)
            process = multiprocessing.get_context("fork").Process(target=d["a"].update, args=(more,))
            process.start()
            process.join(20)
            assert d["a"][499] == n
        assert d["a"]["n"] == n


def test_a_child_in_use_by_two_threads_has_one_mutex():
    d = xmem_dict(a={"n": 0}, nested=True)

    def count():
        for _ in range(500):
            d["a"].increment("n")

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert d["a"]["n"] == 2000
