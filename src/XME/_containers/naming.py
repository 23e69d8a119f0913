"""Public names of shared containers, and taking names away.

A container with a public name lies in a domain of its own, which ends with `unlink` or with its last user; one without
lies in its program's domain.
"""

from __future__ import annotations

from typing import Any

from XME._containers import flight
from XME._containers import home as homes
from XME._containers.home import W_GONE, Home
from XME._core import layout, named, program, registry
from XME._core.domain import Domain
from XME.errors import DomainEnded


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
        return None if self._public_name is None or domain.ended or self._is_child else self._public_name

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

    def unlink(self) -> None:
        """Take the container away, for everybody: nobody can open or change it any more.

        Who has it mapped can read on; what needs a name or a lock raises ContainerGone. Its memory goes back when the
        last process lets go of it. A container with a public name ends its domain. Nothing happens the second time.

        Raises:
            ValueError: nested=True made it: delete it where it stands. Or this thread is in its atomic().

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
        if self._change is not None and self.mutex.held:
            msg = f"unlink() inside the container's own transaction ({self._called!r}): leave atomic() first"
            raise ValueError(msg)
        domain = self.domain
        if domain.ended or (self.words is not None and self.words[W_GONE]):
            return
        if self._is_child:
            msg = "this container belongs to the one that it is nested in: delete it there"
            raise ValueError(msg)
        try:
            if domain.kind == layout.NAMED:
                program.join(domain.id)
                self.map()[W_GONE] = 1
                named.end(domain)
                return
            flight.dispose(domain, self.serial, None)
        except DomainEnded:
            pass
