"""The memory behind an array: damaged, foreign, opened by others; and nothing grows."""

import gc
import os
import pickle
import struct
import sys
from multiprocessing import resource_tracker, shared_memory

import numpy as np
import pytest

from tests.array.programs import Program, Refused
from tests.helpers import SHARED_MEMORY, xme_names
from XME._containers.shared_array import xmem_array
from XME._core import program
from XME.errors import BadSegment

DAMAGE = {
    "magic number": (0, b"PSM"),
    "version": (8, struct.pack("Q", 99)),
    "header promises": (16, struct.pack("Q", 1 << 40)),
    "the name says": (24, struct.pack("Q", 5)),
}


@pytest.mark.parametrize("reason", DAMAGE)
def test_damage_is_found_when_attaching(reason):
    array = xmem_array([1, 2, 3])
    data = pickle.dumps(array)
    offset, wrong = DAMAGE[reason]
    path = SHARED_MEMORY / array._hold.segment.name
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(wrong)

    with Program() as other:
        with pytest.raises(Refused) as refused:
            other.do(f"import pickle; pickle.loads({data!r})")
        assert other.ask("1 + 1") == 2

    assert refused.value.args[0] == "BadSegment"
    assert reason in refused.value.args[1]


def test_a_segment_cut_short():
    array = xmem_array(10_000)
    os.truncate(SHARED_MEMORY / array._hold.segment.name, 30)

    with Program() as other, pytest.raises(Refused) as refused:
        other.do(f"import pickle; pickle.loads({pickle.dumps(array)!r})")

    assert "shorter than a header" in refused.value.args[1]


def test_a_place_beyond_the_segment():
    array = xmem_array([1, 2, 3])
    function, arguments = array.__reduce_ex__(5)
    domain_id, serial, name, offset, *rest = arguments

    for wrong in (offset + 8, -8, 1 << 70):
        with pytest.raises((BadSegment, OverflowError)):
            function(domain_id, serial, name, wrong, *rest)


def test_a_foreign_segment_under_our_name():
    array = xmem_array([1, 2, 3])
    data, name = pickle.dumps(array), array._hold.segment.name
    os.unlink(SHARED_MEMORY / name)
    foreign = shared_memory.SharedMemory(name, create=True, size=4096)
    try:
        with Program() as other, pytest.raises(Refused) as refused:
            other.do(f"import pickle; pickle.loads({data!r})")
    finally:
        foreign.close()
        foreign.unlink()

    assert refused.value.args[0] == "BadSegment"
    assert "magic" in refused.value.args[1]


def test_the_standard_class_opens_a_segment():
    array = xmem_array(np.arange(5, dtype="u1"))
    name = array._hold.segment.name
    tracked = sys.version_info < (3, 13)
    foreign = shared_memory.SharedMemory(name, **({} if tracked else {"track": False}))
    try:
        if tracked:
            resource_tracker.unregister(f"/{name}", "shared_memory")
        assert bytes(foreign.buf[64:69]) == bytes(range(5))
        foreign.buf[64] = 50
    finally:
        foreign.close()

    assert array.tolist() == [50, 1, 2, 3, 4]


def test_attaching_registers_nothing_with_the_resource_tracker():
    array = xmem_array([1])
    with Program() as other:
        other.do(f"import pickle; a = pickle.loads({pickle.dumps(array)!r})")
        other.do("import sys; tracker = sys.modules.get('multiprocessing.resource_tracker')")
        assert other.ask("tracker is None or tracker._resource_tracker._fd is None")

    assert array._hold.segment.name in xme_names()


def counts():
    gc.collect()
    program.program_domain().names.tidy()
    with open("/proc/self/maps", encoding="ascii") as file:
        maps = sum("/xm" in line for line in file)
    domain = program.program_domain()
    here = sum(domain.id in name for name in xme_names())
    return len(os.listdir("/proc/self/fd")), maps, here, len(domain.names), len(program._domains)


@pytest.mark.parametrize("count", [2_000, pytest.param(10_000, marks=pytest.mark.long)])
def test_thousands_of_arrays_leave_nothing(count):
    xmem_array(10)
    before = counts()

    for k in range(count):
        array = xmem_array(k % 7)
        assert array.size == k % 7
        del array

    assert before == counts()


def test_200_named_arrays_leave_nothing():
    def name():
        return f"one of 200, {os.getpid()}"

    xmem_array(1, name=name())
    xmem_array(1)
    before = counts()

    for k in range(100):
        assert xmem_array([k], name=name()).tolist() == [k]
        array = xmem_array([k])
        assert array.publish(name()) is array
        del array
    xmem_array(1)

    assert before == counts()


def test_500_views_need_one_mapping():
    array = xmem_array(1000)
    before = counts()

    views = [pickle.loads(pickle.dumps(array[k:])) for k in range(500)]

    assert before == counts()
    assert len(views) == 500


def test_an_array_that_was_handed_out_lives_until_the_end():
    with Program() as maker:
        maker.do("import pickle; a = xmem_array([1, 2]); data = pickle.dumps(a, 0).decode(); del a; xmem_array(1)")
        data = maker.ask("data").encode()

        assert pickle.loads(data).tolist() == [1, 2]


def test_an_array_alive_at_a_fork_keeps_its_name():
    array = xmem_array([1, 2])
    name = array._hold.segment.name
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)

    del array
    xmem_array(1)

    assert name in xme_names()


@pytest.mark.parametrize("method", ["__init__", "bad"])
def test_a_failed_making_leaves_nothing(method, monkeypatch):
    xmem_array(1)
    before = counts()

    def fail(*_args, **_options):
        raise KeyboardInterrupt

    monkeypatch.setattr(np, "copyto", fail)
    with pytest.raises(KeyboardInterrupt):
        xmem_array(np.arange(10)[::2], name=f"failed {method}")

    monkeypatch.undo()
    xmem_array(1)
    assert before == counts()


def test_bad_segment_is_a_value_error():
    assert issubclass(BadSegment, ValueError)
