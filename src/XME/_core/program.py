"""The domains of this process: which one is the program's, joining, leaving, forks, the end.

Nothing is passed in the environment: a process joins when it opens or unpickles its first handle, lazily also after a
fork, so exactly those join that need to.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable

from XME._core import layout, sweep, waitboard
from XME._core.domain import Domain, create, inspect
from XME._core.exits import at_exit
from XME._core.handles import is_party_used, leave_party
from XME.errors import DomainEnded

_domains: dict[str, Domain] = {}
_program: Domain | None = None
_lock = threading.RLock()
_has_swept = False
# When this process leaves its domains, among what is done at its end (see exits.at_exit): late.
LEAVING = -100


def program_domain() -> Domain:
    """Return the domain of this program: the first that this process opened or joined, else a new one.

    Raises:
        DomainEnded: this process outlived the program that it belongs to.
    """
    global _program
    domain = _program
    if domain is not None and domain.joined and not domain.ended:
        return domain
    with _lock:
        if _program is None:
            sweep_once()
            _program = create(label=" ".join(sys.argv[:2]))
            remember(_program)
        _program.require()
        at_exit(leave_all, LEAVING)
        return _program


def sweep_once() -> None:
    """Sweep what dead programs left, at the first use of shared memory in a program."""
    global _has_swept
    if not _has_swept:
        _has_swept = True
        sweep.sweep_dead_domains()
        from XME._core import registry  # a worker, who only joins, never needs it

        # Who asks for a damaged name is to hear that, and not that there is none.
        registry.prune(damaged=False)


def known(domain_id: str) -> Domain | None:
    """Return a domain that this process has opened or joined, or None."""
    return _domains.get(domain_id)


def remember(domain: Domain) -> None:
    """Keep a domain that this process has just opened, and leave it at the process's end."""
    _domains[domain.id] = domain
    at_exit(leave_all, LEAVING)


def join(domain_id: str, *, living: bool = False) -> Domain:
    """Return a domain by its id, and join it if this process has not yet.

    Args:
        domain_id: which.
        living: sweep it instead if nobody in it is alive.

    Raises:
        DomainEnded: its opener has ended, or there is none, or it was swept.
        DomainFull: it holds no more processes.
    """
    global _program
    domain = _domains.get(domain_id)
    if domain is not None and domain.joined:
        return domain
    with _lock:
        domain = _domains.get(domain_id)
        if domain is None:
            domain = _inspected(domain_id) if living else inspect(domain_id)
            domain.adopt()
            _domains[domain_id] = domain
        elif living:
            # A fork's child, which has left what its parent had joined.
            _inspected(domain_id).close_view()
        domain.require()
        at_exit(leave_all, LEAVING)
        if _program is None and domain.kind == layout.PROGRAM:
            _program = domain
        return domain


def origin_beside(domain: Domain) -> str | None:
    """Return the id of this process's program if a domain is another program's: whoever is told of that wants it."""
    is_others = domain.kind == layout.PROGRAM and domain is not _program
    return _program.id if is_others and _program is not None else None


def belong_to(origin: str | None) -> None:
    """Belong to the program of the process that told this one of something, unless it belongs to one already.

    Were what it is told of the first that it joins, it would belong to whosever that is, and end with that.
    """
    if origin is not None and _program is None:
        try:
            join(origin)
        except DomainEnded:
            # To nobody's, then.
            program_domain()


def _inspected(domain_id: str) -> Domain:
    """Return a view of a domain in which somebody is alive."""
    view = inspect(domain_id)
    is_kept = False
    try:
        if view.sweep_if_dead():
            raise DomainEnded.of(domain_id)
        if view.kind == layout.PROGRAM and _program is None:
            # Another program's, found by a public name: what this one makes must not end with that. Whose program has
            # ended can make nothing any more, and may use what others share.
            program_domain()
        is_kept = True
    finally:
        if not is_kept:
            view.close_view()
    return view


def leave(domain: Domain) -> None:
    """Leave one domain now."""
    with _lock:
        in_use = domain.joined and leave_party(domain)
        domain.leave(in_use=in_use)
        if domain.words[layout.W_PUBLISHED] and domain.ended:
            _forget_published(domain)
        if in_use:
            return
        _domains.pop(domain.id, None)
        if domain.kind == layout.NAMED:
            _forget_name(domain)


def leave_ended(is_wanted: Callable[[str], bool]) -> None:
    """Leave the domains of other programs that have ended, so that who looks at many does not keep them all.

    Args:
        is_wanted: whether a container of the domain with this id is still in use here.
    """
    with _lock:
        for domain in list(_domains.values()):
            is_others = domain.kind == layout.PROGRAM and domain is not _program
            if is_others and domain.ended and not is_party_used(domain) and not is_wanted(domain.id):
                leave(domain)


def _forget_name(domain: Domain) -> None:
    try:
        inspect(domain.id).close_view()
    except DomainEnded:
        # The last one out: the domain is swept, and its public name points nowhere.
        from XME._core import registry  # few programs name anything

        registry.remove(domain.label, domain.id)


def _forget_published(domain: Domain) -> None:
    from XME._core import registry  # few programs name anything

    for name in registry.names_of(domain.id):
        registry.remove(name, domain.id)


def leave_all() -> None:
    """Leave every domain that this process itself joined; runs at its end."""
    global _program
    with _lock:
        for domain in list(_domains.values()):
            leave(domain)
        _program = None


def _before_fork() -> None:
    for domain in list(_domains.values()):
        domain.names.hand_all()


def _after_fork_in_child() -> None:
    global _lock
    _lock = threading.RLock()
    for domain in list(_domains.values()):
        domain.forget_after_fork()


os.register_at_fork(before=_before_fork, after_in_child=_after_fork_in_child)
waitboard.find_joined = known
