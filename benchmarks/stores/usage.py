"""What memory is taken, from what the kernel counts: blocks of files in memory, private pages of a server."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

SHM = Path("/dev/shm")


def allocated_bytes(paths: Iterable[Path]) -> int:
    """Return the bytes that the pages of these files take: a file in memory has pages only where it was written."""
    total = 0
    for path in paths:
        try:
            total += path.stat().st_blocks * 512
        except FileNotFoundError:
            continue
    return total


def segment_bytes(prefix: str) -> int:
    """Return the bytes of all shared memory whose names begin like this."""
    return allocated_bytes(SHM.glob(f"{prefix.lstrip('/')}*"))


def own_domains() -> set[str]:
    """Return how the names of XME's shared memory begin in the domains that this process has mapped something of."""
    words = (line.rpartition("/dev/shm/xm")[2] for line in Path("/proc/self/maps").read_text().splitlines())
    found = {f"xm{word[:22]}" for word in words if len(word) >= 28 and "/" not in word}
    if not found:
        raise RuntimeError("this process has no shared memory of XME mapped, so what it takes cannot be told")
    return found


def private_bytes(pid: int) -> int:
    """Return the bytes of a process that it shares with nobody."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return 1024 * sum(int(line.split()[1]) for line in lines if line.startswith("Private_"))
