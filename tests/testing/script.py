"""Histories that are written by hand, call by call, and what a checker says of them."""

import itertools

from XME.testing import Event, History, Kind, Op, Verdict

A, R, AR, RR, S = Op.ACQUIRE, Op.RELEASE, Op.ACQUIRE_READ, Op.RELEASE_READ, Op.SECTION
MS = 1_000_000
SECOND = 1000 * MS


class Script:
    """Writes a history call by call: each is (worker, op, start, end, kind)."""

    def __init__(self):
        self.events = []
        self._calls = itertools.count(1)

    def call(self, worker, op, start, end=None, kind=Kind.OK, timeout_s=None, detail="", life=0):
        number = next(self._calls)
        self.events.append(Event(start, worker, life, worker, op, number, Kind.INVOKE, "", timeout_s))
        if end is not None:
            self.events.append(Event(end, worker, life, worker, op, number, kind, detail, timeout_s))
        return self

    def sent(self, worker, op, moment, life=0, detail=""):
        self.events.append(Event(moment, worker, life, worker, op, 0, Kind.OK, detail))
        return self

    def history(self, end_ns=None, **how):
        return History.of(self.events, end_ns, **how)


def says(checker, spec, script, end_ns=None, **how):
    outcome = checker.check(script.history(end_ns, **how), spec)
    assert (outcome.verdict is Verdict.FAIL) == bool(outcome.sentence)
    return outcome


def fails(*args, **how):
    return says(*args, **how).verdict is Verdict.FAIL


def hold(script, worker, start, end, op=A):
    give = {A: R, AR: RR}[op]
    return script.call(worker, op, start - 5, start).call(worker, give, end, end + 5)
