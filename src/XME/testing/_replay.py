"""replay: a run again, from its token."""

from __future__ import annotations

from XME.testing._crash_sweep import replay_kill
from XME.testing._explore import replay_plan
from XME.testing._lab import Lab, Options
from XME.testing._plan import Token
from XME.testing._report import Report


def replay(token: str) -> Report:
    """Do the run of a token again, once, in new workers.

    Raises:
        ValueError: this is no token, or the lock's maker can not be imported here.
        LockTestFailed: the workers themselves do not work.

    >>> replay("xmelock1:x")
    Traceback (most recent call last):
    ...
    ValueError: this is no token of a lock's test: 'xmelock1:x' (it begins with 'xmelock1:', and is one word)
    """
    read = Token.read(token)
    plan = read.run.get("plan")
    workers = 3 if plan is None else len(plan["rounds"])
    with Lab(read.make_lock, read.spec, workers, f"replay, {read.mode}", Options(**read.options)) as lab:
        if plan is None:
            replay_kill(lab, **read.run)
        else:
            replay_plan(lab, plan)
        lab.report.token = token.strip()
    return lab.report
