"""Killed before any store, whoever appends or runs calls leaves each of them to be run once, in order, or reported."""

import signal

import pytest

from tests.manager import kills
from XME._core import mutex as mutex_module
from XME._core import recovery
from XME._manager.buffer import CallBuffer


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch):
    """Who is dead is looked for at once."""
    monkeypatch.setattr(recovery, "drain_stores", lambda: None)
    monkeypatch.setattr(mutex_module, "SLICE_S", 0.001)


def sweep_runs(choose):
    # What this process learns of the class, its children know: all of them should.
    first = kills.World()
    kills.fill(first)
    kills.check_run(first, died=False)
    points = kills.points_of(kills.fill, kills.run_all)
    for number in choose(len(points)):
        world = kills.World()
        kills.fill(world)
        code, said = world.child(kills.run_all, kills.killer(number))
        assert code == -signal.SIGKILL, said
        try:
            kills.check_run(world, died=True)
        except BaseException as error:
            error.add_note(f"killed before store {number} of {len(points)}: {points[number - 1]}")
            raise


def sweep_appends(choose):
    points = kills.points_of(lambda _world: None, kills.append_three)
    for number in choose(len(points)):
        world = kills.World()
        code, said = world.child(kills.append_three, kills.killer(number))
        assert code == -signal.SIGKILL, said
        try:
            kills.check_appended(world, len(said))
        except BaseException as error:
            error.add_note(f"killed before store {number} of {len(points)}: {points[number - 1]}")
            raise


def test_not_killed():
    world = kills.World()
    kills.fill(world)

    kills.check_run(world, died=False)


def test_who_runs_calls_is_killed_at_some_stores():
    sweep_runs(lambda points: range(3, points + 1, 17))


def test_who_appends_is_killed_at_some_stores():
    sweep_appends(lambda points: range(2, points + 1, 5))


@pytest.mark.parametrize("settle", [lambda buffer, number, done: buffer._run_one(number, done), lambda *_args: None])
def test_the_sweep_finds_a_planted_fault(monkeypatch, settle):
    """What was begun is run once more, or is dropped silently."""
    monkeypatch.setattr(CallBuffer, "_settle", settle)
    with pytest.raises(AssertionError):
        sweep_runs(lambda points: range(2, points + 1, 7))


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_who_runs_calls_is_killed_at_every_store():
    sweep_runs(lambda points: range(1, points + 1))


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_who_appends_is_killed_at_every_store():
    sweep_appends(lambda points: range(1, points + 1))
