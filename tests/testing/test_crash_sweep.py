"""crash_sweep kills at every place of a lock's way: behind loops, and in them; what it leaves out, it says."""

import re

import pytest

from tests.testing import locks
from XME.testing import LockSpec, _broken, _crash_sweep, crash_sweep, replay

RECOVERS = LockSpec.mutex(on_crash="recovers", stuck_s=0.4, recover_s=0.4)
HELD = "acquire, while another holds it"


@pytest.fixture
def alone(monkeypatch):
    """Only the scene in which the victim acquires it alone."""
    every = _crash_sweep.scenes_for
    monkeypatch.setattr(_crash_sweep, "scenes_for", lambda spec, phases: list(every(spec, phases))[:1])


@pytest.mark.long
def test_an_ordinary_loop_does_not_hide_what_is_behind_it(alone):
    report = crash_sweep(locks.LoopsFirst, RECOVERS, phases=("acquire",), start_method="fork")

    assert report.broke("CrashRecovery"), str(report)
    assert "_set_flag" in report.violations[0].run


@pytest.mark.long
def test_in_a_loop_it_kills_at_later_visits_too_and_the_token_does_that_again(alone):
    report = crash_sweep(locks.LoopsInside, RECOVERS, phases=("acquire",), start_method="fork")

    assert report.broke("CrashRecovery"), str(report)
    assert re.search(r"visit 2: locks\.py:\d+, _set_flag$", report.violations[0].run)
    assert replay(report.token).broke("CrashRecovery")


@pytest.mark.long
def test_places_that_are_left_out_are_counted_and_so_are_those_behind_a_wait():
    report = crash_sweep(_broken.Kernel, RECOVERS, phases=("acquire",), max_gates=4, start_method="fork")

    assert report.ok
    assert {len(places) for places in report.places.values()} == {4}
    counted = [re.search(r"^(.*): left after max_gates=4 .* at (\d+) more places", note) for note in report.notes]
    assert [(found[1], int(found[2]) > 5) for found in counted if found] == [(scene, True) for scene in report.places]
    waits = [note for note in report.notes if "its way ends where it waits (" in note]
    assert [note.startswith(HELD) for note in waits] == [True]


@pytest.mark.long
def test_the_number_that_it_names_leaves_nothing_out(alone):
    few = crash_sweep(_broken.Kernel, RECOVERS, phases=("release",), max_gates=3, start_method="fork")
    enough = int(re.search(r"max_gates=(\d+) does that too", few.notes[0])[1])
    report = crash_sweep(_broken.Kernel, RECOVERS, phases=("release",), max_gates=enough, start_method="fork")

    assert len(report.places["release, alone"]) == enough
    assert report.notes == []


@pytest.mark.long
def test_a_way_that_ends_in_a_wait_is_killed_at_until_there_and_says_so():
    report = crash_sweep(_broken.Kernel, RECOVERS, phases=("acquire",), start_method="fork")

    assert report.ok
    (note,) = report.notes
    assert note.startswith(f"{HELD}: its way ends where it waits")
    # Each turn of the loop in which it looks again is one of three.
    visits = [report.places[HELD].count(place) for place in set(report.places[HELD]) if "poll" in place]
    assert max(visits) == 3


def test_no_place_at_all_is_refused():
    with pytest.raises(ValueError, match="nothing is tested"):
        crash_sweep(_broken.Kernel, RECOVERS, max_gates=0)
