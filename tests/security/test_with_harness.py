"""Every lock type, tested as anybody tests his own: real processes, all operators, kills, drawn by Hypothesis.

What settings do that change while others wait is in test_settings_while_waiting.py.
"""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.security import faces
from XME import Security
from XME.testing import Faults, LockSpec, Op, Strategy, _crash_sweep, check_lock, crash_sweep, explore_lock

KINDS = [Security.MUTEX, Security.AUTHORISATION, Security.READWRITE, Security.SPIN]
# A busy machine's time; the storm measures how soon it is in fact.
SOON = {"recover_s": 5.0, "stuck_s": 5.0}
OPERATORS = st.lists(st.one_of(st.just(Security.ADMIN), st.text(max_size=3), st.integers()), min_size=1, max_size=4)
WAITS = st.sampled_from([0, 0.001, 30])
KEEPS = {"depth": 3, "reentrant": True, "owner_only": True}


def spec_of(kind, **promises):
    make = LockSpec.reader_writer if kind == Security.READWRITE else LockSpec.mutex
    return make(**{**KEEPS, **SOON, **promises})


def runs(default):
    return settings(max_examples=default, deadline=None, suppress_health_check=list(HealthCheck))


def free(kind, operators, wait_s, workers, rounds, seed, kill):
    faces.set_up(kind, operators, wait_s, stranger="a stranger")
    faults = Faults(kill=kill, stop_continue=0.01, pause_s=(0, 0.001))
    spec = spec_of(kind, on_crash="recovers")
    check_lock(
        faces.make_face, spec, workers=workers, rounds=rounds, seed=seed, faults=faults, start_method="fork"
    ).raise_if_failed()


@pytest.mark.long
@runs(1)
@given(st.sampled_from(KINDS), OPERATORS, WAITS, st.integers(2, 4), st.integers(0, 1000))
def test_it_keeps_its_promises_at_full_speed_with_kills_and_stops(kind, operators, wait_s, workers, seed):
    free(kind, operators, wait_s, workers, 10, seed, 0.05)


# Each type, whatever is drawn.
@pytest.mark.long
@pytest.mark.timeout(240)
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
@runs(2)
@given(OPERATORS, WAITS, st.integers(2, 6), st.integers(0, 1000))
def test_each_type_keeps_them(kind, operators, wait_s, workers, seed):
    free(kind, operators, wait_s, workers, 10, seed, 0.05)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@runs(60)
@given(st.sampled_from(KINDS), OPERATORS, WAITS, st.integers(2, 6), st.integers(5, 40), st.integers(0, 1000))
def test_it_keeps_them_also_in_long_runs_of_many(kind, operators, wait_s, workers, rounds, seed):
    free(kind, operators, wait_s, workers, rounds, seed, 0.05)


@pytest.mark.long
@pytest.mark.parametrize("kind", [KINDS[0], *(pytest.param(kind, marks=pytest.mark.slow) for kind in KINDS[1:])])
def test_the_next_owner_and_nobody_else_is_told_who_died(kind):
    faces.set_up(kind, ["a", "b", "c"])
    spec = LockSpec.mutex(depth=3, reentrant=True, on_crash="notifies", **SOON)
    check_lock(faces.make_told, spec, workers=3, rounds=5, start_method="fork").raise_if_failed()


GATES = ("XME.Security", "XME._security.gate", "XME._core.guarded", "XME._core.guarded_mutex", "XME._core.waiting",
         "XME._core.mutex", "XME._core.rwlock", "XME._core.recovery")  # fmt: skip
# What is only done by one who finds that the holder died: free it, and say so.
RECOVERY = {"_recover", "_find_dead", "_await_movers", "_take_stock", "_clear", "enter", "_inherit", "sign"}


def functions(places):
    return {place.rpartition(", ")[2] for place in places}


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_it_survives_a_kill_at_every_line(kind):
    faces.set_up(kind, ["a", "b", "c"])
    spec = spec_of(kind, on_crash="recovers")
    report = crash_sweep(faces.make_face, spec, start_method="fork", gates=GATES)
    report.raise_if_failed()
    assert functions(report.places["acquire, after another died"]) >= RECOVERY


@pytest.mark.long
@pytest.mark.timeout(300)
def test_a_mutex_survives_a_kill_at_every_line_of_a_recovery(monkeypatch):
    dead = _crash_sweep.Scene("acquire", Op.ACQUIRE, _crash_sweep.DEAD)
    monkeypatch.setattr(_crash_sweep, "scenes_for", lambda spec, phases: [dead])
    faces.set_up(Security.MUTEX, ["a", "b", "c"])
    report = crash_sweep(
        faces.make_face, spec_of(Security.MUTEX, on_crash="recovers"), start_method="fork", gates=GATES
    )
    report.raise_if_failed()
    assert functions(report.places[str(dead)]) >= RECOVERY
    # To the end of its way, and nothing was left out.
    assert "after acquire" in report.places[str(dead)]
    assert report.notes == []


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_no_chosen_schedule_breaks_it(kind):
    faces.set_up(kind, ["a", "b", "c"])
    # A recovery passes all participants: hundreds of gates, at each of which everybody stops.
    spec = spec_of(kind, on_crash="recovers", recover_s=30.0, stuck_s=30.0)
    explore_lock(
        faces.make_face, spec, strategy=Strategy.hypothesis(), runs=100, start_method="fork", gates=GATES[:-1],
        cleanup=faces.settle,
    ).raise_if_failed()


@pytest.mark.long
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_it_is_one_between_threads_too(kind):
    faces.set_up(kind, ["a", "b", "c"])
    spec = spec_of(kind, between="threads")
    check_lock(faces.make_face, spec, workers=3, rounds=20, start_method="fork").raise_if_failed()
