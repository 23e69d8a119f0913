"""One dict in several processes: started in every way, killed, forked in the middle of a transaction."""

import multiprocessing
import os
import signal
import threading

import numpy as np
import pytest

from tests.helpers import run_python
from XME import xmem_dict

PROCESSES = 3
ACCOUNTS = "abcdef"


def work(d, me, turns):
    for k in range(turns):
        d.increment("count")
        d[me, k] = {"by": me, "k": k}
        with d.atomic():
            d["total"] += 1
            d["log"] = (*d["log"][-5:], me)
    d["seen by", me] = d["given"]


def start(context, function, *args):
    process = context.Process(target=function, args=args)
    process.start()
    return process


def join(processes):
    for process in processes:
        process.join(30)
    assert [process.exitcode for process in processes] == [0] * len(processes)


def test_all_start_methods_share_it(start_method):
    context = multiprocessing.get_context(start_method)
    d = xmem_dict(count=0, total=0, log=(), given=np.arange(20_000))
    turns = 40
    join([start(context, work, d, me, turns) for me in range(PROCESSES)])
    assert d["count"] == d["total"] == PROCESSES * turns
    assert all(d[me, k] == {"by": me, "k": k} for me in range(PROCESSES) for k in range(turns))
    assert len(d) == 4 + PROCESSES * (turns + 1)
    for me in range(PROCESSES):
        assert [key[1] for key in d if type(key) is tuple and key[0] == me] == list(range(turns))
        assert (d["seen by", me] == d["given"]).all()


def transfer(d, seed, turns):
    for k in range(turns):
        source, target = ACCOUNTS[(seed + k) % 6], ACCOUNTS[(seed * 7 + 5 * k + 1) % 6]
        with d.atomic():
            d[source] -= 3
            d[target] += 3


def look(d, stop):
    while not stop.is_set():
        assert sum(d.values()) == 600
        assert list(d) == list(ACCOUNTS)


def test_readers_see_transactions_whole():
    context = multiprocessing.get_context("fork")
    d = xmem_dict.fromkeys(ACCOUNTS, 100)
    stop = context.Event()
    readers = [start(context, look, d, stop) for _ in range(2)]
    writers = [start(context, transfer, d, seed, 400) for seed in (1, 2)]
    join(writers)
    stop.set()
    join(readers)
    assert sum(d.values()) == 600


def transfer_for_ever(d, acknowledged):
    k = 0
    while True:
        transfer(d, os.getpid() + k, 1)
        k += 1
        acknowledged.send_bytes(k.to_bytes(4, "little"))


def test_killed_writers_conserve_the_money():
    context = multiprocessing.get_context("fork")
    d = xmem_dict.fromkeys(ACCOUNTS, 100)
    for turn in range(10):
        here, there = context.Pipe(duplex=False)
        writer = start(context, transfer_for_ever, d, there)
        for _ in range(1 + 3 * turn):
            assert here.poll(10)
            here.recv_bytes()
        os.kill(writer.pid, signal.SIGKILL)
        writer.join(10)
        assert sum(d.values()) == 600
        d.update(d.copy())
    assert list(d) == list(ACCOUNTS)


def leave_in_the_middle(d):
    d["half"] = "done"
    with d.atomic():
        d["half"] = bytes(100_000)
        d["other"] = [bytes(100_000)]
        os.kill(os.getpid(), signal.SIGKILL)


def test_a_death_in_a_transaction_publishes_nothing():
    d = xmem_dict(a=1)
    writer = start(multiprocessing.get_context("fork"), leave_in_the_middle, d)
    writer.join(10)
    assert d == {"a": 1, "half": "done"}
    d["half"] = "again"
    assert d["half"] == "again"


def test_a_block_entered_before_a_fork_is_the_parents():
    d = xmem_dict(a=1)
    with d.atomic():
        d["a"] = 2
        with d.atomic():
            d["b"] = 3
            pid = os.fork()
            if not pid:
                # What the parent has not committed is not there; what the child does is its own.
                os._exit(0 if (d["a"], "b" in d) == (1, False) else 1)
        assert os.waitpid(pid, 0)[1] == 0
    assert d == {"a": 2, "b": 3}


def test_leaving_such_a_block_in_the_child_does_nothing():
    d = xmem_dict(a=1)
    reader, writer = os.pipe()
    with d.atomic():
        d["a"] = 2
        pid = os.fork()
        if not pid:
            # The child waits until the parent has committed.
            os.close(writer)
            os.read(reader, 1)
    if not pid:
        code = 1
        try:
            assert d["a"] == 2
            d["child"] = "was here"
            with d.atomic():
                d["again"] = 1
            code = 0
        finally:
            os._exit(code)
    os.close(reader)
    os.write(writer, b"x")
    os.close(writer)
    assert os.waitpid(pid, 0)[1] == 0
    assert d == {"a": 2, "child": "was here", "again": 1}


def test_threads_of_one_process():
    d = xmem_dict(n=0)

    def add():
        for _ in range(200):
            with d.atomic():
                d["n"] = d["n"] + 1
            d.increment("m")

    threads = [threading.Thread(target=add) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert d == {"n": 800, "m": 800}


FUNCTIONS = """
import sys
import XME

SHARED = XME.xmem_dict(by_global=0)

def use(d, key):
    d[key] = key * 2
    SHARED.increment("by_global")
    d["inner"].append(key)
    return d, {"deep": [d["inner"]]}

if __name__ == "__main__":
    d = XME.xmem_dict(inner=XME.xmem_list())
    engine = XME.XME(use, pnum=2, start_method=sys.argv[1], do_with_log=False)
    results = engine.fun(d, XME.Array(range(8)))
    assert all(result is d and other["deep"][0] is d["inner"] for result, other in results)
    assert d.copy() == {"inner": d["inner"], **{k: 2 * k for k in range(8)}}
    assert sorted(d["inner"]) == list(range(8))
    print(SHARED["by_global"])
"""


def test_as_argument_result_and_global_of_functions(start_method):
    done = run_python(FUNCTIONS, start_method)
    assert done.stdout == "8\n", done.stderr


@pytest.mark.parametrize("depth", [4])
def test_containers_in_containers(depth, start_method):
    outer = d = xmem_dict(level=0)
    for level in range(1, depth + 1):
        d["next"] = [xmem_dict(level=level)]
        d = d["next"][0]
    d["last"] = True
    process = start(multiprocessing.get_context(start_method), walk, outer, depth)
    join([process])
    assert d["found"] == depth


def walk(d, depth):
    for _ in range(depth):
        d = d["next"][0]
    if d["last"]:
        d["found"] = d["level"]
    assert d["found"] == depth
