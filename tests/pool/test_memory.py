"""Eight workers read one array: it is in memory once."""

from pathlib import Path

import numpy as np
import psutil
import pytest

import XME
from tests.helpers import wait_until
from tests.pool import rows

WORKERS = 8
NBYTES = 200 << 20
# What each worker needs of its own to read it comes to it.
MOST = 1.05


def pss_of(pid):
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Pss:")) << 10


def family_pss():
    me = psutil.Process()
    return sum(pss_of(process.pid) for process in (me, *me.children(recursive=True)))


def read_and_wait(array, flags, place):
    flags[place] = array.sum(dtype=np.int64)
    rows.wait_for(flags, WORKERS)
    # Until here it was mapped.
    return array.nbytes


def family_pss_when_all_have_read(executor, array):
    flags = rows.shared_counts(WORKERS + 1)
    futures = [executor.submit(read_and_wait, array, flags, place) for place in range(WORKERS)]
    wait_until(lambda: all(flags[:WORKERS]), rows.LIMIT_S)
    found = family_pss()
    flags[WORKERS] = 1
    assert [future.result(rows.LIMIT_S) for future in futures] == [array.nbytes] * WORKERS
    assert flags[:WORKERS].tolist() == [array.nbytes] * WORKERS
    return found


@pytest.mark.long
@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="this system has no smaps_rollup")
@pytest.mark.parametrize("method", ["fork", pytest.param("spawn", marks=pytest.mark.slow)])
def test_eight_workers_have_one_array_in_memory_once(method):
    with XME.Executor.Executor(WORKERS, start_method=method) as executor:
        one = XME.xmem_array(np.ones(1, np.uint8))
        before = family_pss_when_all_have_read(executor, one)
        array = XME.xmem_array((NBYTES,), dtype=np.uint8)
        array[:] = 1
        taken = family_pss_when_all_have_read(executor, array) - before

    assert NBYTES <= taken <= MOST * NBYTES
