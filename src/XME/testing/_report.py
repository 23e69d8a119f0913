"""What a test of a lock found."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from XME.errors import LockViolation
from XME.testing._history import History
from XME.testing._spec import LockSpec
from XME.testing._verdict import Outcome, Verdict, compose


@dataclass(frozen=True)
class Finding:
    """What a checker said of one run: its name, its history, and if it was one, the plan that led there."""

    run: str
    outcome: Outcome
    history: History
    plan: str = ""


@dataclass
class Report:
    """The result of `check_lock`, `crash_sweep`, `explore_lock` and `replay`.

    Attributes:
        spec: what was promised.
        mode: which of the modes made it.
        runs: how many runs there were.
        seconds: how long they took.
        checked: the checkers that judged, each with the worst that it said.
        findings: what was not a pass, the first of each checker.
        token: what `replay` takes to do the failing run again; None where that is not possible.
        uncontrolled: the failing schedule, run twice, did not go the same way twice; it was not shrunk.
        notes: what else is to be said, such as the chance to miss a bug.
        places: of a crash_sweep: for each of its scenes, the places where somebody was killed, in that order.
    """

    spec: LockSpec
    mode: str
    runs: int = 0
    seconds: float = 0.0
    checked: dict[str, Verdict] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    token: str | None = None
    uncontrolled: bool = False
    notes: list[str] = field(default_factory=list)
    places: dict[str, list[str]] = field(default_factory=dict)
    history: History | None = None

    def add(self, run: str, history: History, outcomes: tuple[Outcome, ...], plan: str = "") -> Verdict:
        """Take in what the checkers said of one run; returns the worst of it."""
        self.runs += 1
        self.history = history
        for outcome in outcomes:
            before = self.checked.get(outcome.checker, Verdict.PASS)
            self.checked[outcome.checker] = max(before, outcome.verdict)
            if outcome.verdict > before:
                self.findings.append(Finding(run, outcome, history, plan))
        return compose(outcomes)

    @property
    def verdict(self) -> Verdict:
        """The worst that any checker said."""
        return max(self.checked.values(), default=Verdict.UNKNOWN)

    @property
    def ok(self) -> bool:
        """True if nothing was found; a pass is not a proof."""
        return self.verdict is Verdict.PASS

    @property
    def violations(self) -> list[Finding]:
        """The findings that are violations, the first of each checker."""
        return [finding for finding in self.findings if finding.outcome.verdict is Verdict.FAIL]

    def broke(self, checker: str) -> bool:
        """True if that checker found a violation."""
        return self.checked.get(checker) is Verdict.FAIL

    def raise_if_failed(self) -> None:
        """Raise unless nothing was found.

        Raises:
            LockViolation: with the sentence, the witness and the token.
        """
        if not self.ok:
            found = self.violations or self.findings
            checker = found[0].outcome.checker if found else "nothing ran"
            raise LockViolation.of(checker, str(self), self, self.token)

    def __str__(self) -> str:
        """Say everything that a reader of a failed test wants to see."""
        head = f"{self.verdict.name}: {self.mode}, {self.runs} runs in {self.seconds:.1f} s"
        lines = [head, "checked: " + ", ".join(f"{n} {v.name.lower()}" for n, v in sorted(self.checked.items()))]
        for finding in self.findings:
            lines += ["", f"{finding.outcome}", f"in: {finding.run}"]
            if finding.outcome.witness:
                lines.append(finding.history.timeline(finding.outcome.witness))
            if finding.plan:
                lines.append(finding.plan)
        if self.uncontrolled:
            lines.append("the same schedule went another way when it was run again: not shrunk, and it may not replay")
        if self.token is not None:
            lines.append(f"replay: python -m XME locktest replay {self.token}")
        return "\n".join([*lines, *self.notes])

    def html(self) -> str:
        """Return the failing history (else the last one) as a page with a timeline, which needs nothing else."""
        from XME.testing._html import page

        first = self.findings[0] if self.findings else None
        sentence = str(first.outcome) if first else "nothing was found; a pass is not a proof"
        history, witness = (first.history, first.outcome.witness) if first else (self.history, ())
        return page(f"{self.verdict.name}: {self.mode}", sentence, str(self), history, witness)

    def save(self, path: str) -> None:
        """Write specification, findings and the failing history into a file, as JSON."""
        history = self.findings[0].history if self.findings else self.history
        content: dict[str, Any] = {
            "format": "xmelock1", "mode": self.mode, "runs": self.runs, "seconds": self.seconds, "token": self.token,
            "verdict": self.verdict.name, "spec": self.spec.to_dict(),
            "checked": {name: verdict.name for name, verdict in self.checked.items()},
            "findings": [
                {"run": f.run, "checker": f.outcome.checker, "verdict": f.outcome.verdict.name,
                 "sentence": f.outcome.sentence, "witness": [str(event) for event in f.outcome.witness]}
                for f in self.findings
            ],
            "notes": self.notes, "places": self.places,
            "history": None if history is None else json.loads(history.to_json()),
        }  # fmt: skip
        with open(path, "w", encoding="utf-8") as file:
            json.dump(content, file, indent=1)
