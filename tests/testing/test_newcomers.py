"""What somebody gets who uses the harness wrongly: a sentence that says what to do, and never a pass."""

import importlib.util
import multiprocessing
import re
import subprocess
import sys
import threading

import pytest

from tests.helpers import ROOT
from tests.testing import locks
from XME.errors import LockTestFailed
from XME.testing import (
    Faults,
    LockSpec,
    MutualExclusion,
    Strategy,
    _broken,
    _drills,
    _free,
    check_lock,
    explore_lock,
)
from XME.testing._room import address_of, find

FEW = {"workers": 2, "rounds": 3}
THREADS = LockSpec.mutex(between="threads")


class Typo:
    def acquire(self, timeout_s):
        return self.no_such_attribute

    def release(self):
        pass


@pytest.mark.parametrize(
    ("make_lock", "options", "says"),
    [
        (multiprocessing.Lock, {"start_method": "fork"}, "handed_over=True"),
        (locks.mp_lock, {}, "handed_over=True"),
        (threading.Lock, {"start_method": "fork"}, "between='threads'"),
        (multiprocessing.Lock, {"handed_over": True}, "spawn"),
        (lambda: locks.fails(), {}, "must be importable"),  # noqa: PLW0108 - it cannot travel
        (object, {"start_method": "fork"}, "adapt(lock, acquire="),
        (locks.fails, {"start_method": "fork"}, "no such lock"),
    ],
)
def test_a_lock_that_cannot_be_tested_like_that_is_not_tested(make_lock, options, says, monkeypatch):
    # Whatever the platform's default is.
    monkeypatch.setattr(
        multiprocessing.context._default_context, "_actual_context", multiprocessing.get_context("fork")
    )
    with pytest.raises(LockTestFailed) as caught:
        check_lock(make_lock, LockSpec.mutex(), **FEW, **options)
    assert says in str(caught.value)


def test_a_lock_without_readers_is_no_reader_writer_lock():
    with pytest.raises(LockTestFailed, match="no acquire_read"):
        check_lock(threading.Lock, LockSpec.reader_writer(between="threads"), start_method="fork", **FEW)


def test_what_is_no_maker_or_no_specification_is_refused_before_anything_starts():
    with pytest.raises(TypeError, match="a function or a class, and not a lock"):
        check_lock(threading.Lock(), THREADS)
    with pytest.raises(TypeError, match=r"LockSpec\.mutex\(\), and not 'mutex'"):
        check_lock(threading.Lock, "mutex")
    with pytest.raises(TypeError, match=r"MutualExclusion\(\)"):
        check_lock(threading.Lock, THREADS, checkers=["MutualExclusion"])
    for options in ({"workers": 0}, {"rounds": 0}, {"repeats": 0}):
        with pytest.raises(ValueError, match="nothing is tested"):
            check_lock(threading.Lock, THREADS, **options)
    with pytest.raises(ValueError, match="nothing is tested"):
        explore_lock(threading.Lock, THREADS, runs=0)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: LockSpec.mutex(recover_s=0), "recover_s=0: a time"),
        (lambda: LockSpec.mutex(stuck_s=float("nan")), "stuck_s=nan: a time"),
        (lambda: LockSpec.mutex(max_wait_s=-1), "max_wait_s=-1: a time"),
        (lambda: LockSpec.mutex(stuck_s=float("inf")), "stuck_s=inf: a time"),
        (lambda: LockSpec.mutex(max_bypass=-1), "max_bypass=-1: a number"),
        (lambda: Faults(kill=1.5), "kill=1.5: a share"),
        (lambda: Faults(stop_continue=-0.1), "stop_continue=-0.1: a share"),
        (lambda: Faults(pause_s=(0.2, 0.1)), "the shortest and the longest"),
        (lambda: Faults(pause_s=(-1, 0)), "the shortest and the longest"),
        (lambda: check_lock(threading.Lock, THREADS, deadline_s=-1), "deadline_s=-1: a time"),
        (lambda: explore_lock(threading.Lock, THREADS, budget_s=0), "budget_s=0: a time"),
        (lambda: check_lock(threading.Lock, THREADS, workers=257), "workers=257: 257 workers, and there are 256"),
        (lambda: explore_lock(threading.Lock, THREADS, workers=300), "256 at most"),
        (
            lambda: check_lock(threading.Semaphore, LockSpec.permits_of(256, between="threads")),
            "permits=256 need one more than that: 257 workers",
        ),
    ],
)
def test_a_number_that_can_not_be_meant_is_refused_by_its_name(make, says):
    with pytest.raises(ValueError) as caught:
        make()
    assert says in str(caught.value)


@pytest.mark.parametrize("ends", ["raise KeyError('HOME\\nless')", "raise SystemExit(0)", "f = "])
def test_a_module_that_cannot_be_imported_is_a_wrong_call_whatever_it_raises(ends, tmp_path, monkeypatch):
    (tmp_path / "breaks_when_imported.py").write_text(ends, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ValueError, match="'breaks_when_imported:f' cannot be imported") as caught:
        find("breaks_when_imported:f")
    assert "\n" not in str(caught.value)


def test_only_what_its_name_leads_to_has_an_address():
    assert [find(address_of(one)) for one in (threading.Lock, locks.fails, LockSpec.mutex)] == [
        threading.Lock, locks.fails, LockSpec.mutex,
    ]  # fmt: skip
    assert address_of(multiprocessing.Lock) is None
    assert address_of(lambda: None) is None


def test_what_a_run_did_not_come_to_is_said(monkeypatch):
    monkeypatch.setattr(_free, "drills_for", lambda _: [_drills.Drill("hand over", 3, _drills.hand_over)])
    few = {"start_method": "fork", "checkers": (MutualExclusion(),)}
    spec = LockSpec.mutex(on_crash="recovers")
    report = check_lock(_broken.Kernel, spec, workers=2, rounds=2000, deadline_s=0.05, **few)
    assert report.ok
    assert re.fullmatch(r"free run, seed 0, number 0: left out \d+ of 4000 rounds, \d+ of 80 kills", *report.notes)
    assert not check_lock(_broken.Kernel, spec, workers=2, rounds=5, faults=Faults(kill=0.0), **few).notes


@pytest.mark.long
def test_a_lock_may_be_taken_as_often_as_it_says(monkeypatch):
    monkeypatch.setattr(_free, "drills_for", lambda _: [_drills.Drill("take again", 2, _drills.take_again)])
    spec = LockSpec.reentrant_mutex(600, between="threads")
    check_lock(threading.RLock, spec, workers=1, rounds=1, start_method="fork").raise_if_failed()


def test_a_lock_that_only_raises_does_not_pass():
    report = check_lock(Typo, LockSpec.mutex(), start_method="fork", **FEW)
    assert not report.ok
    assert "AttributeError" in str(report)


def test_without_hypothesis_its_strategy_says_what_to_do(monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "hypothesis" else find(name))
    with pytest.raises(ModuleNotFoundError, match=r"Strategy\.pct"):
        explore_lock(threading.Lock, THREADS, strategy=Strategy.hypothesis())


@pytest.mark.long
@pytest.mark.parametrize(
    "command",
    [
        ["tests.testing.locks:fails", "--handed-over"],
        ["threading:Lock", "--between", "threads", "--cleanup", "tests.testing.locks:fails"],
    ],
)
def test_what_the_locks_own_functions_raise_is_no_violation(command):
    command = [sys.executable, "-m", "XME", "locktest", *command, "--rounds", "3"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=40)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.endswith("OSError: no such lock\n")


@pytest.mark.parametrize(
    ("command", "says"),
    [
        (["no.such.module:Lock"], "cannot be imported"),
        (["threading:no_such_lock"], "cannot be imported"),
        (["threading"], "MODULE:FUNCTION"),
        (["threading:Lock", "--spec", "mutexx"], "no specification"),
        (["replay", "xmelock1:nonsense"], "no token"),
        (["threading:Lock", "--rounds", "0"], "nothing is tested"),
        (["threading:Lock", "--rounds", "3"], "between='threads'"),
        (["threading:Lock", "--max-wait-s", "-1"], "max_wait_s=-1: a time in seconds, more than 0"),
        (["threading:Lock", "--kill", "-0.5"], "kill=-0.5: a share of all rounds, from 0 to 1"),
        (["threading:Lock", "--between", "threads", "--workers", "300"], "256 at most"),
        (["threading:Lock", "--between", "threads", "--html", "/nodir/x.html"], "'/nodir/x.html' cannot be written"),
        (["threading:Lock", "--between", "threads", "--save", "/"], "'/' cannot be written"),
    ],
)
@pytest.mark.long
def test_a_wrong_command_says_why_in_one_line(command, says):
    done = subprocess.run(
        [sys.executable, "-m", "XME", "locktest", *command], capture_output=True, text=True, timeout=40
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("locktest: ")
    assert says in done.stderr
    assert done.stderr.count("\n") == 1
