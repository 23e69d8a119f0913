"""Who may be refused: never a false alarm, against brute force and against right locks that are only described."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.testing.script import AR, RR, A, R, Script, fails, hold
from XME.testing import Event, History, Kind, LockSpec, NoFalseRefusal, Verdict


def refused(script, worker, op, start, end):
    return script.call(worker, op, start, end, Kind.REFUSED, timeout_s=0)


def test_a_reader_stands_back_for_a_writer_who_is_kept_out_himself():
    spec = LockSpec.reader_writer()
    reading = hold(Script(), 0, 10, 500, AR)
    behind = refused(refused(reading, 1, A, 20, 300), 2, AR, 100, 110)
    assert not fails(NoFalseRefusal(), spec, behind)
    # Once the writer has given up, nobody is in the reader's way.
    assert fails(NoFalseRefusal(), spec, refused(behind, 2, AR, 301, 310))


def test_a_writer_whom_nobody_keeps_out_is_no_excuse():
    alone = refused(refused(Script(), 1, A, 20, 300), 2, AR, 100, 110)
    assert fails(NoFalseRefusal(), LockSpec.reader_writer(), alone)


# -- brute force -------------------------------------------------------------------------------------------------------


@st.composite
def with_refusals(draw, ops):
    """Two or three workers, who take it and give it back, or are refused."""
    script = Script()
    for worker in range(draw(st.integers(2, 3))):
        moments = iter(sorted(draw(st.lists(st.integers(0, 14), max_size=8, unique=True))))
        for first, second in zip(moments, moments, strict=False):
            op = draw(st.sampled_from(ops))
            third, last = next(moments, None), next(moments, None)
            if last is None or draw(st.booleans()):
                refused(script, worker, op, first, second)
                break
            script.call(worker, op, first, second).call(worker, {A: R, AR: RR}[op], third, last)
    return script


def some_moment_excuses(history, call, permits, *, read_write):
    """Try every moment of the call, every time for which each of the others may have held it, and who stands back."""
    others = [one for one in history.holds() if one.owner != call.owner]
    for moment in range(call.start_ns, call.end_ns + 1):
        at = [one for one in others if may_hold(one, moment)]
        stops = [one for one in at if one.write or call.op is A] if read_write else at
        if len(stops) >= permits:
            return True
        writers = [one for one in history.calls() if one.op is A and one.owner != call.owner]
        waiting = [one for one in writers if one.start_ns <= moment <= one.end_ns]
        if call.op is AR and any(is_kept_out(history, writer) for writer in waiting):
            return True
    return False


def is_kept_out(history, writer):
    moments = range(writer.start_ns, writer.end_ns + 1)
    return any(may_hold(one, moment) for one in history.holds() for moment in moments)


def may_hold(one, moment):
    begins = range(one.wanted_ns, one.sure_ns[0] + 1)
    ends = range(one.sure_ns[1], one.free_ns + 1)
    return any(begin <= moment <= end for begin in begins for end in ends)


def all_are_excused(history, permits=1, *, read_write=False):
    calls = [call for call in history.calls() if call.kind is Kind.REFUSED]
    return all(some_moment_excuses(history, call, permits, read_write=read_write) for call in calls)


@settings(max_examples=150, deadline=None)
@given(with_refusals([A]), st.integers(1, 2))
def test_refusals_are_judged_as_brute_force_does(script, permits):
    history, spec = script.history(permits=permits > 1), LockSpec.permits_of(permits)
    assert (NoFalseRefusal().check(history, spec).verdict is Verdict.PASS) is all_are_excused(history, permits)


@pytest.mark.long
@settings(max_examples=200, deadline=None)
@given(with_refusals([A, AR]))
def test_readers_refusals_are_judged_as_brute_force_does(script):
    history = script.history()
    verdict = NoFalseRefusal().check(history, LockSpec.reader_writer()).verdict
    assert (verdict is Verdict.PASS) is all_are_excused(history, read_write=True)


# -- right locks -------------------------------------------------------------------------------------------------------


class Right:
    """What a right lock has in its memory; each method is one step that nothing comes between."""

    def __init__(self, permits, *, writers_first):
        self.permits, self.writers_first = permits, writers_first
        self.inside, self.waiting, self.events = [], set(), []

    def call(self, worker, op):
        """Write that a call begins; returns how to write its answer."""
        number = len(self.events)

        def write(kind):
            self.events.append(Event(len(self.events), worker, 0, worker, op, number, kind, "", 1e-9))

        write(Kind.INVOKE)
        return write

    def take(self, worker, op):
        if op is AR:
            stops = A in [one for _, one in self.inside] or (self.writers_first and self.waiting - {worker})
        else:
            stops = len(self.inside) >= self.permits
        if not stops:
            self.inside.append((worker, op))
        return not stops

    def user(self, worker, dice, ops):
        """Take it and give it back, for ever; everybody else may take steps at each yield."""
        while True:
            op, got = dice.choice(ops), False
            answer = self.call(worker, op)
            yield
            if op is A:
                self.waiting.add(worker)
            for _ in range(dice.randint(1, 6)):
                got = got or self.take(worker, op)
                yield
            # Who gives up takes his mark away a moment later: others may have gone meanwhile.
            self.waiting.discard(worker)
            yield
            answer(Kind.OK if got else Kind.REFUSED)
            yield
            if got:
                answer = self.call(worker, {A: R, AR: RR}[op])
                yield
                self.inside.remove((worker, op))
                yield
                answer(Kind.OK)
                yield


@pytest.mark.long
@settings(max_examples=200, deadline=None)
@given(st.randoms(use_true_random=False), st.sampled_from([(1, [A]), (2, [A]), (1, [A, AR])]), st.booleans())
def test_a_right_lock_is_never_accused(dice, kind, writers_first):
    permits, ops = kind
    lock = Right(permits, writers_first=writers_first)
    users = [lock.user(worker, dice, ops) for worker in range(4)]
    for _ in range(150):
        next(dice.choice(users))
    spec = LockSpec.reader_writer() if AR in ops else LockSpec.permits_of(permits)
    outcome = NoFalseRefusal().check(History.of(lock.events, permits=permits > 1), spec)
    assert outcome.verdict is Verdict.PASS, outcome.sentence
