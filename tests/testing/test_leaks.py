"""What a lock leaves behind is found, also when nobody can see it open; and never what other programs leave."""

import contextlib
import glob
import os
import threading

import pytest

from tests.testing import leaky
from XME.testing import LockSpec, _watch, _worker, check_lock, crash_sweep
from XME.testing._crew import Crew
from XME.testing._watch import Watch, chance_of
from XME.testing._worker import names_now

FEW = {"start_method": "fork", "workers": 2, "rounds": 15}


@pytest.fixture(autouse=True)
def _clean():
    yield
    for path in glob.glob(f"/dev/shm/*{leaky.MINE}*"):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)


@pytest.mark.parametrize(
    ("lock", "says"),
    [
        (leaky.SegmentsByRelease, leaky.LEFT),
        (leaky.SegmentByClose, leaky.LEFT),
        (leaky.DescriptorsByClose, "descriptors more in a worker, made and closed again and again"),
        (leaky.DescriptorByThirdRelease, "descriptors more in a worker, made and closed again and again"),
        (leaky.OwnFileStaysOpen, "/guard is open in worker 0 after the lock was closed"),
        (leaky.MappingsByRelease, "mappings more in a worker, made and closed again and again"),
    ],
    # The names have the process's number in them, and every process of a run must find the same tests.
    ids=lambda value: value.__name__ if isinstance(value, type) else "",
)
@pytest.mark.long
def test_what_is_left_is_found(lock, says):
    report = check_lock(lock, LockSpec.mutex(), **FEW)
    assert report.broke("NoLeak"), str(report)
    assert {one.outcome.checker for one in report.violations} == {"NoLeak"}
    assert says in str(report)


@pytest.mark.long
def test_names_that_nobody_saw_open_are_the_locks_if_they_come_only_when_it_is_used(monkeypatch):
    # As on a machine where nobody else makes names: on a busy one, it takes luck.
    mine = "/dev/shm/sem." + leaky.SEMAPHORES
    monkeypatch.setattr(_watch, "names_now", lambda: {name for name in names_now() if name.startswith(mine)})
    report = check_lock(leaky.SemaphoresByRelease, LockSpec.mutex(), **FEW)
    assert "72 names that came whenever a worker used the lock, such as " + mine in str(report)


@pytest.mark.long
@pytest.mark.parametrize(
    ("leave", "says"),
    [
        (lambda: os.open(os.devnull, os.O_RDONLY), "54 descriptors more in a worker, taken again and again"),
        (leaky.leave_a_segment, leaky.LEFT),
    ],
    ids=["descriptors", "segments"],
)
def test_what_is_left_of_one_that_is_handed_over_is_found(leave, says, tmp_path):
    lock = leaky.HandedOver(str(tmp_path / "lock"), leave)
    report = check_lock(lambda: lock, LockSpec.mutex(), handed_over=True, **FEW)
    assert report.broke("NoLeak"), str(report)
    assert says in str(report)


@pytest.mark.long
@pytest.mark.parametrize("lock", [leaky.OpensOnce, leaky.GivesBackWhenClosed, leaky.CannotBeClosed])
def test_what_is_opened_once_or_given_back_is_no_leak(lock):
    check_lock(lock, LockSpec.mutex(), **FEW).raise_if_failed()


@pytest.mark.long
def test_what_a_killed_worker_had_mapped_is_left_too():
    spec = LockSpec.mutex(on_crash="recovers")
    report = crash_sweep(leaky.KilledInItsSegment, spec, phases=("hold",), start_method="fork")
    assert report.broke("NoLeak"), str(report)
    assert leaky.LEFT in str(report)


@pytest.mark.long
def test_names_of_other_programs_are_nobodys_fault():
    ends = threading.Event()

    def make_names():
        while not ends.is_set():
            leaky.leave_a_segment()
            ends.wait(0.002)

    other = threading.Thread(target=make_names)
    other.start()
    try:
        check_lock(leaky.OpensOnce, LockSpec.mutex(), **FEW).raise_if_failed()
        watch = Watch()
        for _ in range(24):
            with watch.stretch():
                names_now()
    finally:
        ends.set()
        other.join()
    assert watch.names_left(set()) == []


def test_a_file_in_a_folder_that_was_there_is_no_name_that_is_left(tmp_path, monkeypatch):
    monkeypatch.setattr(_worker, "SHARED_MEMORY", str(tmp_path) + "/")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "log").touch()
    (tmp_path / "new").touch()
    crew = Crew(None, 1, "fork", threads=False)
    crew.seen = {str(tmp_path / "folder" / "log"), str(tmp_path / "new")}
    assert crew.names_left({str(tmp_path / "folder")}) == [str(tmp_path / "new")]


def test_how_likely_it_is_that_others_made_the_names():
    assert chance_of(16, 0, 24) < 1e-6 < chance_of(15, 2, 24)
    # One more thing is left in each of the later stretches, or nothing after the first.
    assert Watch([(k, 9) for k in range(24)]).grown() == {"descriptors": 18}
    assert Watch([(min(k, 5), 9) for k in range(24)]).grown() == {}
