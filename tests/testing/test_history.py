"""The history: what a killed worker has written is there, and a torn record says that it is torn."""

import os
import signal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from XME.testing import Event, History, Kind, Op
from XME.testing._recorder import RECORD, Recorder, make_file, read_file

A, R = Op.ACQUIRE, Op.RELEASE


def event(time_ns, worker, op, kind, call=1, life=0, **more):
    return Event(time_ns, worker, life, 100 + worker, op, call, kind, **more)


@pytest.fixture
def path(tmp_path):
    make_file(str(tmp_path / "w0"), 16)
    return str(tmp_path / "w0")


def test_what_was_written_before_a_kill_is_there(path):
    pid = os.fork()
    if not pid:
        recorder = Recorder(path, 3, 1)
        recorder.write(A, Kind.INVOKE, 1, 0.25)
        recorder.write(A, Kind.RAISED, 1, 0.25, "Busy: é" + "x" * 40)
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(pid, 0)

    invoke, answer = read_file(path)

    assert (invoke.worker, invoke.life, invoke.op, invoke.kind, invoke.timeout_s) == (3, 1, A, Kind.INVOKE, 0.25)
    assert answer.kind is Kind.RAISED
    assert answer.detail.startswith("Busy: éxxx")
    assert invoke.time_ns <= answer.time_ns


def test_a_new_life_goes_on_behind_the_old_one(path):
    Recorder(path, 0, 0).write(A, Kind.INVOKE, 1, None)
    Recorder(path, 0, 1).write(R, Kind.INVOKE, 1, None)

    assert [(one.life, one.op) for one in read_file(path)] == [(0, A), (1, R)]


def test_a_full_history_is_an_error_and_not_a_silent_end(path):
    recorder = Recorder(path, 0, 0)
    for call in range(16):
        recorder.write(A, Kind.INVOKE, call, None)

    with pytest.raises(BufferError, match="is full"):
        recorder.write(A, Kind.INVOKE, 17, None)


@pytest.mark.parametrize("kept", range(1, RECORD))
def test_a_record_that_was_torn_anywhere_never_reads_as_an_answer(path, kept):
    """The kind is the last byte to be stored, so of a record that was cut off only the beginning is there."""
    recorder = Recorder(path, 0, 0)
    recorder.write(A, Kind.INVOKE, 1, None)
    recorder.write(A, Kind.OK, 1, None, "detail")
    with open(path, "r+b") as file:
        file.seek(RECORD + kept)
        file.write(bytes(RECORD - kept))

    (call,) = History.of(read_file(path)).calls()

    assert call.kind is Kind.UNKNOWN


def test_a_hold_lasts_from_the_answer_of_acquire_to_the_call_of_release():
    history = History.of([
        event(10, 0, A, Kind.INVOKE, 1), event(20, 0, A, Kind.OK, 1),
        event(30, 0, R, Kind.INVOKE, 2), event(40, 0, R, Kind.OK, 2),
    ])  # fmt: skip

    (hold,) = history.holds()

    assert (hold.wanted_ns, hold.sure_ns, hold.free_ns, hold.killed) == (10, (20, 30), 40, False)


def test_a_killed_holder_holds_for_certain_only_until_the_kill_was_sent():
    history = History.of([
        event(10, 0, A, Kind.INVOKE), event(20, 0, A, Kind.OK),
        event(50, 0, Op.KILL_SENT, Kind.OK, 0), event(70, 0, Op.REAPED, Kind.OK, 0),
    ], 100)  # fmt: skip

    (hold,) = history.holds()

    assert hold.sure_ns == (20, 50)
    assert hold.killed
    assert history.deaths == {(0, 0): (50, 70)}


def test_taking_again_is_one_hold_until_the_last_release():
    steps = [(A, 1), (A, 2), (R, 3), (R, 4)]
    events = [event(10 * n + k, 0, op, kind, n) for op, n in steps for k, kind in enumerate((Kind.INVOKE, Kind.OK))]

    (hold,) = History.of(events).holds()
    two = History.of(events, permits=True).holds()

    assert (hold.sure_ns, hold.depth) == ((11, 40), 2)
    assert [one.sure_ns for one in two] == [(11, 40), (21, 30)]


events = st.lists(
    st.builds(
        Event, st.integers(0, 50), st.integers(0, 3), st.integers(0, 2), st.integers(0, 9), st.sampled_from(Op),
        st.integers(0, 5), st.sampled_from(Kind), st.text(max_size=5), st.none() | st.floats(0, 5),
    ),
    max_size=30,
)  # fmt: skip


@given(events)
def test_any_history_is_read_as_it_was_saved_and_can_be_drawn(found):
    history = History.of(found, 60)

    assert History.from_json(history.to_json()) == history
    assert history.timeline(history.events[:2])
    for hold in history.holds():
        assert hold.sure_ns is None or hold.sure_ns[0] <= hold.sure_ns[1] or history.events


def test_the_timeline_shows_calls_holds_and_the_witness():
    events = [event(10, 0, A, Kind.INVOKE), event(20, 0, A, Kind.OK), event(25, 1, A, Kind.INVOKE, timeout_s=0.5)]
    lines = History.of(events, 40).timeline(events[1:2]).splitlines()

    assert lines[0] == "  w0   |acquire--ok==================="[: len(lines[0])]
    assert lines[1].strip().startswith("w1")
    assert "|acquire(0.5)" in lines[1]
    assert lines[2].strip() == "^^"
