"""What a checker says, and how what several say is put together: the worst wins."""

from __future__ import annotations

import enum
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

from XME.testing._event import Event, in_order
from XME.testing._history import History
from XME.testing._spec import LockSpec


class Verdict(enum.IntEnum):
    """The better one is the smaller one.

    >>> max(Verdict.PASS, Verdict.UNKNOWN, Verdict.FAIL).name
    'FAIL'
    """

    PASS = 0
    UNKNOWN = 1
    FAIL = 2


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one checker says of a history: ``witness`` are the two to four events that prove it."""

    checker: str
    verdict: Verdict
    sentence: str = ""
    witness: tuple[Event, ...] = ()

    def __str__(self) -> str:
        """Say it in one line."""
        return f"{self.verdict.name} {self.checker}" + (f": {self.sentence}" if self.sentence else "")


class Checker(Protocol):
    """A rule for histories.

    ``exactness`` says what a FAIL is worth: "exact" and "sound" are proofs, "measured" depends on the clock.
    """

    @property
    def name(self) -> str:
        """What it is called in reports."""

    @property
    def exactness(self) -> str:
        """What its FAIL is worth."""

    def applies(self, spec: LockSpec) -> bool:
        """True if the specification promises what it checks."""

    def check(self, history: History, spec: LockSpec) -> Outcome:
        """Judge a history."""


def passed(checker: Checker) -> Outcome:
    """Nothing was found."""
    return Outcome(checker.name, Verdict.PASS)


def failed(checker: Checker, sentence: str, *witness: Event) -> Outcome:
    """The history breaks the rule."""
    return Outcome(checker.name, Verdict.FAIL, sentence, tuple(sorted(witness, key=in_order)))


def judge(checkers: Iterable[Checker], history: History, spec: LockSpec) -> tuple[Outcome, ...]:
    """Ask every checker that has something to say; one that itself fails does not know."""
    found = []
    for checker in checkers:
        if not checker.applies(spec):
            continue
        try:
            found.append(checker.check(history, spec))
        except Exception as error:
            found.append(Outcome(checker.name, Verdict.UNKNOWN, f"the checker failed: {error!r}"))
    return tuple(found)


def compose(outcomes: Iterable[Outcome]) -> Verdict:
    """Return the worst verdict; nothing said at all is a pass.

    >>> compose([Outcome("a", Verdict.PASS), Outcome("b", Verdict.UNKNOWN)]).name
    'UNKNOWN'
    """
    return max((outcome.verdict for outcome in outcomes), default=Verdict.PASS)
