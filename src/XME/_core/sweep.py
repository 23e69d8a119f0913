"""Finding the domains of this user, and sweeping those in which nobody is alive."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

from XME._core import names
from XME._core.domain import Domain, inspect
from XME.errors import BadSegment, DomainEnded


def domain_ids() -> list[str]:
    """Return the ids of all domains in shared memory that belong to this user."""
    found = []
    for entry in os.scandir(names.FOLDER):
        parsed = names.parse(entry.name)
        if parsed is None or parsed[1] != names.DOMAIN_SERIAL:
            continue
        with contextlib.suppress(FileNotFoundError):
            if entry.stat(follow_symlinks=False).st_uid == os.geteuid():
                found.append(parsed[0])
    return found


@contextlib.contextmanager
def looking_at(domain_id: str) -> Iterator[Domain | None]:
    """Open a domain to look at it, without joining; None if it is gone, not ours, or no domain of this version."""
    try:
        domain = inspect(domain_id)
    except (DomainEnded, BadSegment, PermissionError):
        yield None
        return
    try:
        yield domain
    finally:
        domain.close_view()


def sweep_dead_domains() -> list[str]:
    """Sweep every domain of this user in which nobody is alive; returns their ids."""
    return [domain_id for domain_id in domain_ids() if sweep_if_deserted(domain_id)]


def sweep_if_deserted(domain_id: str) -> bool:
    """Sweep one domain if nobody in it is alive; True if that was done."""
    with looking_at(domain_id) as domain:
        return domain is not None and domain.sweep_if_dead()
