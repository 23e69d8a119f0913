"""What grows in a process that does the same again and again, seen from outside; and which names come of it.

Names in shared memory do not say who made them, and other programs make some at the same time. So each stretch of the
process's is followed by one of the same length in which it does nothing: names that come and stay in nearly all of the
first kind, and not in the second, are its own.
"""

from __future__ import annotations

import contextlib
import math
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise

from XME.testing._worker import mappings, names_now, open_files, shared_names

# After so many stretches that are all alike, nothing is done for the first time.
_SETTLED = 5
# So much more, in so many of the later ones, is growth.
GROWS = 5
# By chance: less often than once in a million runs, on a machine where names come and go all the time.
_CHANCE = 1e-6


@dataclass
class Watch:
    """What was seen of one worker in many stretches that are all alike."""

    counts: list[tuple[int, int]] = field(default_factory=list)
    came: list[set[str]] = field(default_factory=list)
    meanwhile: list[set[str]] = field(default_factory=list)

    @contextlib.contextmanager
    def stretch(self) -> Iterator[None]:
        """See which names come in this block, and which in as much time after it."""
        before, began = names_now(), time.monotonic()
        yield
        after = names_now()
        self.came.append(after - before)
        # Asleep: others must have as much of the machine as in the block.
        time.sleep(time.monotonic() - began)
        self.meanwhile.append(names_now() - after)

    def count(self, pid: int) -> None:
        """Count what a process has open and mapped now."""
        self.counts.append((len(open_files(pid)), mappings(pid)))

    def grown(self) -> dict[str, int]:
        """Name what grew in many of the later stretches, and by how much."""
        found = {}
        for what, series in zip(("descriptors", "mappings"), zip(*self.counts, strict=True), strict=False):
            settled = series[_SETTLED:]
            steps = sum(first < second for first, second in pairwise(settled))
            if steps >= GROWS and settled[-1] - settled[0] >= GROWS:
                found[what] = settled[-1] - settled[0]
        return found

    def names_left(self, others: set[str]) -> list[str]:
        """Name what is still there of what came in the worker's stretches, if that cannot be chance.

        >>> Watch(came=[{"/"}] * 24, meanwhile=[set()] * 24).names_left(set())
        ['/']
        >>> Watch(came=[{"/"}] * 24, meanwhile=[{"/"}] * 24).names_left(set())
        []
        """
        hits, misses = ([_still_there(names - others) for names in kind] for kind in (self.came, self.meanwhile))
        if chance_of(sum(map(bool, hits)), 0, len(hits)) > _CHANCE:
            return []
        # What a living program uses is left by nobody; without it, less hides what is.
        used = set().union(*(shared_names(int(pid)) for pid in os.listdir("/proc") if pid.isdecimal()))
        hits, misses = ([names - used for names in kind] for kind in (hits, misses))
        if chance_of(sum(map(bool, hits)), sum(map(bool, misses)), len(hits)) > _CHANCE:
            return []
        # Where the fewest came, the fewest are somebody else's.
        return sorted(set().union(*hits), key=lambda name: (min(len(names) for names in hits if name in names), name))


def _still_there(names: set[str]) -> set[str]:
    return {name for name in names if os.path.exists(name)}


def chance_of(hits: int, misses: int, each: int) -> float:
    """Return how likely it is that so many or more of all hits fall to one of two halves that are alike.

    >>> chance_of(24, 0, 24) < 1e-12, chance_of(24, 24, 24), chance_of(0, 0, 24)
    (True, 1.0, 1.0)
    """
    total = hits + misses
    ways = sum(math.comb(each, k) * math.comb(each, total - k) for k in range(hits, min(total, each) + 1))
    return ways / math.comb(2 * each, total)
