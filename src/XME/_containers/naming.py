"""Public names of shared containers, and taking names away.

A container that is made with a public name lies in a domain of its own, which ends with `unlink` or with its last user;
one without lies in its program's domain. It stays there when it is published: whoever has it, in whatever process, has
the same one as who attaches to it by name, but it ends with its program.
"""

from __future__ import annotations

import contextlib
from typing import Any, Self

from XME._containers import flight
from XME._containers import home as homes
from XME._containers.home import W_GONE, W_PUBLISHED, Home
from XME._core import layout, named, program, registry
from XME._core.domain import Domain
from XME.errors import ContainerGone, DomainEnded


class Member:
    """Stands for a handle among those that keep this process in a named domain: handles are unhashable."""

    __slots__ = ("__weakref__",)


class Named(Home):
    """The base of the shared containers that knows their public names."""

    __slots__ = ("_member", "_parent", "_public_name")

    _public_name: str | None
    _member: Member | None
    # The handle of the container that it belongs to, which so lives as long as this one; its serial number; or None.
    _parent: Any
    _change: Any
    _is_nested: bool

    @property
    def name(self) -> str | None:
        """The public name under which `XME.attach` finds it, or None.

        >>> from XME._containers.shared_dict import xmem_dict
        >>> xmem_dict(name="name-doctest").name
        'name-doctest'
        """
        domain = self.domain
        if domain.ended or self._is_child:
            return None
        if self._public_name is None:
            return next(iter(self._names()), None)
        return self._public_name

    def _names(self) -> list[str]:
        """Return the public names that it was given where it lies."""
        words = self.words
        try:
            is_published = (self.map() if words is None else words)[W_PUBLISHED]
        except (ContainerGone, DomainEnded):
            return []
        # Only then: they are looked for among all names of this user.
        return registry.names_of(self.domain.id, self.serial) if is_published else []

    @property
    def _is_child(self) -> bool:
        return self._parent is not None

    @property
    def _called(self) -> str:
        return self._public_name or self.segment_name

    def _bear(self, public_name: str) -> None:
        """Keep this process in the named domain of this container for as long as the handle lives."""
        with named.lock:
            self._public_name = public_name
            self._member = Member()
            named.hold(self.domain, self._member)

    def _become(self, name: str | None, nested: bool, content: Any) -> None:
        """Become a new container, with a public name if there is one, and with content."""
        if not isinstance(nested, int) or nested not in (0, 1):
            kind = type(self).__name__
            msg = f"nested of {kind} is True (lists and dicts that are put in are shared too) or False, not {nested!r}"
            raise TypeError(msg)
        named.tidy()
        made: Any = self
        if name is None:
            made._found(program.program_domain(), nested=nested)
            made._fill(content)
            return
        with named.founding(name) as domain:
            made._found(domain, nested=nested)
            self._bear(name)
            made._fill(content)
            self._register(domain, name)

    def _register(self, domain: Domain, name: str) -> None:
        # It belongs to all who attach: its maker's leaving must not unlink it.
        domain.names.mark_handed(self.serial)
        registry.add(registry.Entry(name, domain.id, self.serial, homes.NAMES[self.kind]))

    def publish(self, name: str) -> Self:
        """Give it a public name, under which `XME.attach` finds it from any program of this user.

        Nothing is copied: all handles that there are stay, and what one changes all see. It ends with the program that
        made it, as before; what is to live as long as anybody uses it is made with ``name=``.

        Raises:
            NameTaken: the name is in use.
            ValueError: it has another one already, or nested=True made it.
            ContainerGone: it was unlinked.
            DomainEnded: the program that owns it has ended.

        Costs some 200 us.

        >>> import os
        >>> from XME._containers.shared_dict import xmem_dict
        >>> name = f"publish-doctest-{os.getpid()}"
        >>> d = xmem_dict(a=1).publish(name)
        >>> d.name == name
        True
        >>> d.unlink()
        """
        registry.check_name(name)
        if self._is_child:
            msg = f"this container belongs to the one that it is nested in: publish that as {name!r}"
            raise ValueError(msg)
        with named.lock:
            words = self.map()
            known = self.name
            if known is not None and known != name:
                msg = f"this container is published as {known!r} already: keep that name"
                raise ValueError(msg)
            if known is None:
                self._publish_here(words, name)
            elif self._public_name is not None:
                # Its entry may have been damaged, and cleaned away.
                self._register(self.domain, name)
        return self

    def _publish_here(self, words: Any, name: str) -> None:
        domain = self.domain
        domain.names.mark_handed(self.serial)
        # Before the name: whoever unlinks it looks for names if this says so.
        words[W_PUBLISHED] = 1
        if not words[W_GONE]:
            named.publish(domain, registry.Entry(name, domain.id, self.serial, homes.NAMES[self.kind]))
        if words[W_GONE]:
            registry.remove(name, domain.id, self.serial)
            raise ContainerGone.of(self._called)

    def _forget_names(self) -> None:
        for name in self._names():
            registry.remove(name, self.domain.id, self.serial)

    def unlink(self) -> None:
        """Take the container away, for everybody: nobody can open or change it any more.

        Who has it mapped can read on; what needs a name or a lock raises ContainerGone. Its memory goes back when the
        last process lets go of it. Its public name goes as well. Nothing happens the second time.

        Raises:
            ValueError: nested=True made it: delete it where it stands. Or this thread is in its atomic(), or in a
                method of it.

        Costs some 200 us, and as much for each of its large values and nested containers.

        >>> from XME._containers.shared_dict import xmem_dict
        >>> d = xmem_dict(a=1)
        >>> d.unlink()
        >>> d["a"]
        1
        >>> d["a"] = 2  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        XME.errors.ContainerGone: the shared container ... is gone: ...
        """
        if self.mutex.held:
            msg = (
                f"unlink() inside the container's own transaction or method ({self._called!r}): "
                "leave atomic(), or the method, first"
            )
            raise ValueError(msg)
        is_gone = self.domain.ended or (self.words is not None and bool(self.words[W_GONE]))
        if not self._is_child:
            # Also if it is gone: who began to take it away may have been killed.
            with contextlib.suppress(DomainEnded, ContainerGone):
                self._take_away(is_gone)
        elif not is_gone:
            msg = "this container belongs to the one that it is nested in: delete it there"
            raise ValueError(msg)

    def _take_away(self, is_gone: bool) -> None:
        domain = self.domain
        if domain.kind == layout.NAMED:
            if not is_gone:
                program.join(domain.id)
                self.map()[W_GONE] = 1
            named.end(domain)
            return
        self._forget_names()
        flight.dispose(domain, self.serial, None)
        # Once more: somebody may have published it meanwhile.
        self._forget_names()
