"""Plans: what the workers do and who goes on where; and tokens, which hold all that a run needs to be done again."""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Self

from XME.testing._event import Op
from XME.testing._room import address_of, find
from XME.testing._spec import LockSpec

PREFIX = "xmelock1:"
# Over when the lock looks at the clock for the first time: how often it looks within a longer limit differs from run to
# run, and such a schedule could neither be made smaller nor done again.
_LIMIT_S = 1e-6
# What a worker does in a round: wait for the lock, only try, wait with a limit, and the same as a reader. What a plan
# does not need is replaced by what comes before it.
ROUNDS = {
    "take": (Op.ACQUIRE, None), "try": (Op.ACQUIRE, 0.0), "wait": (Op.ACQUIRE, _LIMIT_S),
    "read": (Op.ACQUIRE_READ, None), "try read": (Op.ACQUIRE_READ, 0.0), "wait read": (Op.ACQUIRE_READ, _LIMIT_S),
}  # fmt: skip

_PLAINNESS = {kind: place for place, kind in enumerate(ROUNDS)}


def kinds_for(spec: LockSpec, tries: bool, waits: bool) -> list[str]:
    """Return the names of what can be done with a lock in a round.

    >>> kinds_for(LockSpec.mutex(), tries=True, waits=False)
    ['take', 'try']
    """
    can = {None: True, 0.0: tries, _LIMIT_S: waits}
    return [name for name, (op, limit) in ROUNDS.items() if can[limit] and (op is Op.ACQUIRE or spec.read_write)]


@dataclass(frozen=True)
class Plan:
    """A schedule: without preemptions each worker does all its rounds before the next one begins.

    Args:
        rounds: for each worker, what it does, as names of ROUNDS.
        preemptions: (gate, worker): at that gate of the run this worker goes on instead of the one who stands there.
        kills: (gate, worker): before that gate this worker is killed.

    >>> Plan((("take",), ("take",))).size
    (0, 0, 2, 2, 0)
    """

    rounds: tuple[tuple[str, ...], ...]
    preemptions: tuple[tuple[int, int], ...] = ()
    kills: tuple[tuple[int, int], ...] = ()

    @property
    def size(self) -> tuple[int, int, int, int, int]:
        """What smaller means: fewer kills, then fewer preemptions, workers and rounds, and plainer rounds."""
        used = [rounds for rounds in self.rounds if rounds]
        plainness = sum(_PLAINNESS[kind] for rounds in used for kind in rounds)
        return len(self.kills), len(self.preemptions), len(used), sum(map(len, used)), plainness

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain lists."""
        return {"rounds": self.rounds, "preemptions": self.preemptions, "kills": self.kills}

    @classmethod
    def from_dict(cls, read: dict[str, Any]) -> Self:
        """Read what to_dict() made."""
        rounds, preemptions, kills = (
            tuple(tuple(one) for one in read[name]) for name in ("rounds", "preemptions", "kills")
        )
        return cls(rounds, preemptions, kills)

    def __str__(self) -> str:
        """Say it in one line."""
        kills, preemptions, workers, *_ = self.size
        does = "; ".join(f"w{k}: {', '.join(rounds)}" for k, rounds in enumerate(self.rounds) if rounds)
        return f"{workers} workers ({does}), {_count(preemptions, 'preemption')}, {_count(kills, 'kill')}"


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


@dataclass(frozen=True)
class Token:
    """What is needed to do a run again."""

    make_lock: Callable[..., Any]
    spec: LockSpec
    mode: str
    options: dict[str, Any] = field(default_factory=dict)
    run: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, lab: Any, mode: str, **run: Any) -> str | None:
        """Return the text of a token, None if the lock's maker can not be imported."""
        options = lab.options
        functions = {"make_lock": lab.make_lock, "verify": options.verify, "cleanup": options.cleanup}
        addresses = {name: address_of(one) for name, one in functions.items() if one is not None}
        if None in addresses.values():
            return None
        plain = {"start_method": options.start_method, "handed_over": options.handed_over, "gates": options.gates}
        spec = {k: v for k, v in lab.spec.to_dict().items() if v != getattr(LockSpec(), k)}
        text = json.dumps([addresses, spec, mode, plain, run], separators=(",", ":"))
        return PREFIX + base64.urlsafe_b64encode(zlib.compress(text.encode(), 9)).decode().rstrip("=")

    @classmethod
    def read(cls, text: str) -> Self:
        """Read a token.

        Raises:
            ValueError: it is none, or what it names cannot be imported here.
        """
        try:
            body = text.strip().removeprefix(PREFIX)
            packed = base64.urlsafe_b64decode(body + "=" * (-len(body) % 4))
            addresses, spec, mode, plain, run = json.loads(zlib.decompress(packed))
        except (ValueError, zlib.error) as error:
            msg = f"this is no token of a lock's test: {text[:40]!r} (it begins with {PREFIX!r}, and is one word)"
            raise ValueError(msg) from error
        found = {name: find(address) for name, address in addresses.items()}
        make_lock = found.pop("make_lock")
        return cls(make_lock, LockSpec(**spec), mode, {**plain, "gates": tuple(plain["gates"]), **found}, run)
