"""What a lock promises (LockSpec), what befalls its users (Faults), and how schedules are chosen (Strategy)."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, Self

Policy = Literal["recovers", "notifies", "stays_locked", "unspecified"]
Between = Literal["processes", "threads"]


def require_time(name: str, seconds: float) -> None:
    """Refuse a time that does not pass, or never ends (ValueError)."""
    if not (seconds > 0 and math.isfinite(seconds)):
        msg = f"{name}={seconds:g}: a time in seconds, more than 0"
        raise ValueError(msg)


def _require_share(name: str, share: float) -> None:
    if not 0 <= share <= 1:
        msg = f"{name}={share:g}: a share of all rounds, from 0 to 1"
        raise ValueError(msg)


@dataclass(frozen=True, kw_only=True)
class LockSpec:
    """The promises that a lock is held to; what is None is not promised and not checked.

    Args:
        permits: how many may hold it at once (1: a mutex).
        read_write: it has ``acquire_read`` and ``release_read`` too; readers share, a writer is alone.
        depth: how often its owner may take it again; 1 is not at all.
        reentrant: False: to take it again is refused or raises, and never hangs; True: ``depth`` times; None: open.
        owner_only: True: a release by somebody else raises and changes nothing.
        on_crash: after the death of a holder it ``"recovers"``; ``"notifies"``: it also tells the next owner (his
            acquire finds ``owner_died`` of the lock true); it ``"stays_locked"``; or nothing is said.
        max_wait_s: nobody waits longer, with workers that hold it for milliseconds.
        max_bypass: so many sections of all others together at most begin and end while somebody waits, of writers and
            of readers each; readers who are let in together pass as one.
        recover_s: within so many seconds after a death it is to be had.
        stuck_s: a lock that is free for so long, while somebody waits for it, has lost a wake-up.
        between: who uses it: processes, or threads of one process.

    >>> LockSpec.mutex(owner_only=True, on_crash="recovers").excludes
    True
    >>> LockSpec.permits_of(3).permits
    3
    """

    permits: int = 1
    read_write: bool = False
    depth: int = 1
    reentrant: bool | None = None
    owner_only: bool | None = None
    on_crash: Policy = "unspecified"
    max_wait_s: float | None = None
    max_bypass: int | None = None
    recover_s: float = 1.0
    stuck_s: float = 1.0
    between: Between = "processes"

    def __post_init__(self) -> None:
        if self.permits < 1 or self.depth < 1:
            msg = f"permits ({self.permits}) and depth ({self.depth}) are at least 1"
            raise ValueError(msg)
        if self.permits > 1 and (self.read_write or self.depth > 1):
            raise ValueError("a lock of several permits has neither readers nor depth")
        self._require_bounds()
        if self.on_crash not in {"recovers", "notifies", "stays_locked", "unspecified"}:
            msg = f"on_crash={self.on_crash!r}: recovers, notifies, stays_locked or unspecified"
            raise ValueError(msg)
        if self.between not in {"processes", "threads"}:
            msg = f"between={self.between!r}: processes or threads"
            raise ValueError(msg)
        if self.between == "threads" and self.on_crash != "unspecified":
            raise ValueError("a thread cannot be killed alone: between='threads' leaves on_crash unspecified")

    def _require_bounds(self) -> None:
        # A bound that nothing can keep would be blamed on the lock.
        require_time("recover_s", self.recover_s)
        require_time("stuck_s", self.stuck_s)
        if self.max_wait_s is not None:
            require_time("max_wait_s", self.max_wait_s)
        if self.max_bypass is not None and self.max_bypass < 0:
            msg = f"max_bypass={self.max_bypass}: a number of sections, 0 or more"
            raise ValueError(msg)

    @classmethod
    def mutex(cls, **promises: Any) -> Self:
        """One holder at a time."""
        return cls(**promises)

    @classmethod
    def reentrant_mutex(cls, depth: int = 8, **promises: Any) -> Self:
        """One holder at a time, who may take it again."""
        return cls(depth=depth, reentrant=True, **promises)

    @classmethod
    def reader_writer(cls, *, prefer: str | None = None, **promises: Any) -> Self:
        """Readers share, a writer is alone; ``prefer="phase_fair"`` promises that nobody is passed twice."""
        if prefer not in {None, "phase_fair"}:
            msg = f"prefer={prefer!r}: phase_fair, or nothing; every other bound is a max_bypass"
            raise ValueError(msg)
        if prefer == "phase_fair":
            promises.setdefault("max_bypass", 1)
        return cls(read_write=True, **promises)

    @classmethod
    def permits_of(cls, count: int, **promises: Any) -> Self:
        """Up to ``count`` holders at a time: a semaphore."""
        return cls(permits=count, **promises)

    @classmethod
    def named(cls, text: str, **promises: Any) -> Self:
        """Read ``mutex``, ``reentrant:8``, ``read_write`` or ``permits:3``, as the command line has it.

        >>> LockSpec.named("permits:3").permits
        3
        """
        kind, _, number = text.partition(":")
        if kind == "mutex" and not number:
            return cls.mutex(**promises)
        if kind == "read_write" and not number:
            return cls.reader_writer(**promises)
        if kind == "reentrant" and (not number or number.isdecimal()):
            return cls.reentrant_mutex(int(number or 8), **promises)
        if kind == "permits" and number.isdecimal():
            return cls.permits_of(int(number), **promises)
        msg = f"{text!r} is no specification: mutex, reentrant:DEPTH, read_write or permits:N"
        raise ValueError(msg)

    @property
    def excludes(self) -> bool:
        """True if a (writing) holder is alone."""
        return self.permits == 1

    @property
    def survives(self) -> bool:
        """True if it is to be had again after the death of a holder."""
        return self.on_crash in {"recovers", "notifies"}

    def to_dict(self) -> dict[str, Any]:
        """Return the promises as keyword arguments."""
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class Faults:
    """What befalls the workers of `check_lock`.

    Each kind is switched on or off for a whole run by the seed (off in one of four runs), except kills; so that some
    runs are fast, and some are slow in one place only.

    Args:
        kill: kills, as a share of all rounds; None: 0.02 if the lock says what happens after one, else none.
        pause_s: pauses before acquire and in the section are drawn between these two.
        stop_continue: SIGSTOP and a moment later SIGCONT, as a share of all rounds.

    >>> Faults(pause_s=(0, 0.001)).kill is None
    True
    """

    kill: float | None = None
    pause_s: tuple[float, float] = (0.0, 0.002)
    stop_continue: float = 0.0

    def __post_init__(self) -> None:
        if self.kill is not None:
            _require_share("kill", self.kill)
        _require_share("stop_continue", self.stop_continue)
        low, high = self.pause_s
        if not (0 <= low <= high and math.isfinite(high)):
            msg = f"pause_s=({low:g}, {high:g}): the shortest and the longest pause in seconds, 0 or more"
            raise ValueError(msg)

    def kills(self, spec: LockSpec, rounds: int) -> int:
        """Return how many kills a run of so many rounds gets."""
        if self.kill and not spec.survives:
            msg = f"kill={self.kill:g}: a lock whose on_crash is {spec.on_crash!r} would end the run; see crash_sweep()"
            raise ValueError(msg)
        share = (0.02 if spec.survives else 0.0) if self.kill is None else self.kill
        return round(share * rounds) if not share else max(1, round(share * rounds))


@dataclass(frozen=True, kw_only=True)
class Strategy:
    """How `explore_lock` chooses who goes on at a gate.

    >>> Strategy.pct(depth=3).name
    'pct'
    """

    name: Literal["pct", "random", "exhaustive", "hypothesis"]
    depth: int = 3
    max_preemptions: int = 2
    seed: int = field(default=0)

    @classmethod
    def pct(cls, depth: int = 3, seed: int = 0) -> Self:
        """Random priorities with ``depth - 1`` changes (Burckhardt et al. 2010): finds bugs of that depth soonest."""
        return cls(name="pct", depth=depth, seed=seed)

    @classmethod
    def random(cls, seed: int = 0) -> Self:
        """Anybody who can, at every gate."""
        return cls(name="random", seed=seed)

    @classmethod
    def exhaustive(cls, max_preemptions: int = 2) -> Self:
        """Every schedule with so many preemptions at most, those with fewer first; for short operations only."""
        return cls(name="exhaustive", max_preemptions=max_preemptions)

    @classmethod
    def hypothesis(cls, seed: int = 0) -> Self:
        """Plans that Hypothesis draws and shrinks; it must be installed."""
        return cls(name="hypothesis", seed=seed)
