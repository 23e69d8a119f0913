"""`xmem_object`: an object of the user's class in shared memory."""

from __future__ import annotations

import copy
import functools
import types
from collections.abc import Callable
from typing import Any, Self

from XME._containers import by_name, opening
from XME._containers import home as homes
from XME._containers.atomic import Atomic
from XME._containers.object_class import CORE, MISSING, Shape, find
from XME._containers.object_core import Core, caller

# What is the handle's own, or Python's way to make and describe objects.
_OWN = frozenset(
    {
        "__new__", "__init__", "__del__", "__getattribute__", "__getattr__", "__setattr__", "__delattr__", "__reduce__",
        "__reduce_ex__", "__getstate__", "__setstate__", "__class__", "__dict__", "__weakref__", "__slots__",
        "__init_subclass__", "__class_getitem__", "__subclasshook__", "__module__", "__doc__", "__copy__",
        "__deepcopy__", "__getnewargs__", "__getnewargs_ex__", "__sizeof__", "__dir__", "__set_name__", "__post_init__",
        "__qualname__", "__replace__",
    }
)  # fmt: skip


# What others look up in an object's type, and never in the object (dataclasses).
_ASKED_OF_THE_TYPE = frozenset({"__dataclass_fields__", "__dataclass_params__"})


class xmem_object:
    """An object of any class, in shared memory: all processes that get it see the same one.

    Its methods run in the caller's process, one at a time over all processes; what a method has changed becomes public
    at its end, all at once. A method that raises, or whose process is killed, has changed nothing. Attributes,
    properties and operators work from outside as well: reading a plain attribute takes no lock, everything else is
    done as a method is. It pickles as a name, and so does a bound method (``obj.add``).

    Attributes are values, as in `xmem_dict`, but a method has its own copies to change: ``self.items.append(x)`` is
    noticed, at any depth, and two attributes that are one list stay one. What a method returns is a copy too. An
    `xmem_array`, list, dict or object in an attribute is shared: what is stored into it is public at once, also if the
    method raises then.

    Within a method `self` is the object of this process, valid until the method ends; returned, stored or pickled it
    becomes the handle. A generator, or what is async, would run while others change the object, and is refused; what
    ``__iter__`` yields is collected first.

    Args:
        label: a name for messages; it need not be unique.
        cls: the class. What a builtin class keeps outside of attributes cannot be shared (a subclass of list).
        *args, **kwargs: for the class.

    Raises:
        TypeError: the class cannot be shared, or one of its attributes, which it names.
        SharedMemoryFull: there is no room.

    Costs some 200 us; a method 2 us more than by itself, and what it takes to pickle the changeable attributes that it
    touches. Forgotten handles end it as they end a dict.

    >>> class V:
    ...     value = 0
    ...     def add(self, x):
    ...         self.value += x
    >>> v = xmem_object("counter", V)
    >>> v.add(5)
    >>> v.value
    5
    """

    __slots__ = ("__weakref__", "_xmem_core")

    _xmem_core: Core

    def __new__(cls, label: str, kind: Any = MISSING, /, *args: Any, **kwargs: Any) -> Any:
        """Make a new shared object."""
        if not isinstance(label, str) or kind is MISSING:
            said = getattr(label if kind is MISSING else kind, "__name__", "V")
            how = f"xmem_object({said!r}, {said}, ...)"
            msg = f"xmem_object wants a label (a str, for messages) and then a class: {how}"
            raise TypeError(msg)
        # A class whose objects are shared by themselves.
        own_way = getattr(kind, "__xmem_object__", None) if isinstance(kind, type) else None
        if own_way is not None:
            return own_way(label, *args, **kwargs)
        return Core.made(label, kind, args, kwargs).handle()

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Do nothing more."""

    @classmethod
    def _of_core(cls, core: Core) -> Self:
        made = object.__new__(cls)
        object.__setattr__(made, CORE, core)
        return made

    # -- attributes ------------------------------------------------------------------------------------------------

    def __getattr__(self, name: str) -> Any:
        core = self._xmem_core
        if core.is_mine or hasattr(core._shape.cls, "__getattr__"):
            return core.call(getattr, name)
        value = core.read(name)
        if value is not MISSING:
            return value
        cls = core._shape.cls
        found = find(cls, name)
        # The class has a __dict__, its objects need not.
        if isinstance(found, property) or name == "__dict__":
            # Its getter has raised an AttributeError, which Python turns into this call: once more, to raise that.
            return core.call(getattr, name)
        value = getattr(cls, name, MISSING)
        # A slot that is empty has its descriptor in the class.
        if value is MISSING or isinstance(found, types.MemberDescriptorType):
            msg = f"{cls.__name__!r} object has no attribute {name!r}"
            raise AttributeError(msg, name=name, obj=self)
        return value

    __setattr__ = caller(setattr)
    __delattr__ = caller(delattr)

    @property
    def __dict__(self) -> dict[str, Any]:  # type: ignore[override] # a copy, so that `vars` does what `copy.copy` does
        attributes: dict[str, Any] = self._xmem_core.call(_attributes)
        return attributes

    def __dir__(self) -> list[str]:
        names: list[str] = self._xmem_core.call(dir)
        return names

    # -- the shared thing ------------------------------------------------------------------------------------------

    def atomic(self) -> Atomic[Any]:
        """Return a context manager: all calls in its block are one transaction (see `xmem_dict.atomic`).

        >>> class V:
        ...     value = 0
        >>> v = xmem_object("counter", V)
        >>> with v.atomic():
        ...     v.value += 1
        ...     v.value += 1
        >>> v.value
        2
        """
        return ObjectAtomic(self._xmem_core)

    def publish(self, name: str) -> Self:
        """Give the object a public name, for `XME.attach`; it ends with this program (see `xmem_dict.publish`).

        A class that has a ``publish`` of its own keeps that: ``xmem_object.publish(obj, name)`` is this one.

        >>> class V:
        ...     value = 0
        >>> v = xmem_object("counter", V).publish("publish-object-doctest")
        >>> by_name.attach("publish-object-doctest") is v
        True
        """
        self._xmem_core.publish(name)
        return self

    def unlink(self) -> None:
        """Take the object away, for everybody (see `xmem_dict.unlink`).

        Raises:
            ValueError: this thread is in a method of it, or in its atomic().
        """
        self._xmem_core.unlink()

    def __repr__(self) -> str:
        core = self._xmem_core
        return f"<xmem_object {core._label!r}: {core._shape.cls.__qualname__}, {core._called}>"

    # -- travelling ------------------------------------------------------------------------------------------------

    def __reduce__(self) -> Any:
        """Pickle as a name."""
        return _restored, self._xmem_core.__reduce__()[1]

    def __reduce_ex__(self, _protocol: Any) -> Any:
        return self.__reduce__()

    def __copy__(self) -> Any:
        return self._xmem_core.call(copy.copy)

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        return self._xmem_core.call(copy.deepcopy, memo)


class ObjectAtomic(Atomic[Any]):
    """A transaction over a shared object: gives its handle."""

    __slots__ = ()

    def __enter__(self) -> Any:
        """Begin."""
        return super().__enter__().handle()


def _attributes(inst: Any) -> dict[str, Any]:
    return dict(inst.__dict__)


def _restored(*where: Any) -> Any:
    return opening.restored(*where).handle()


# -- the class of the handles ------------------------------------------------------------------------------------------


def handle_class(shape: Shape) -> Any:
    """Return the class of the handles of a class's objects: its methods run under the mutex."""
    cls = shape.cls
    body: dict[str, Any] = {
        "__slots__": (),
        "__module__": cls.__module__,
        "__qualname__": cls.__qualname__,
        "__doc__": cls.__doc__,
        "__class__": property(lambda _self: cls),
    }
    for base in reversed(cls.__mro__[:-1]):
        for name, found in base.__dict__.items():
            if name not in _OWN:
                body.pop(name, None)
                made = _outside(name, found, cls)
                if made is not MISSING or name in _ASKED_OF_THE_TYPE:
                    body[name] = found if made is MISSING else made
    return type(cls.__name__, (xmem_object,), body)


def _outside(name: str, found: Any, cls: Any) -> Any:
    """Return what a handle has for what a class has; MISSING for what is looked up when it is asked for."""
    if isinstance(found, types.FunctionType):
        return _method(name, found)
    if found is None and name.startswith("__"):
        return None
    if isinstance(found, (staticmethod, classmethod)):
        return staticmethod(getattr(cls, name))
    if isinstance(found, types.MemberDescriptorType) or not hasattr(type(found), "__get__"):
        return MISSING
    return property(lambda self: self._xmem_core.call(getattr, name))


def _method(name: str, function: Callable[..., Any]) -> Any:
    method = functools.wraps(function)(caller(function))
    method.__name__ = name
    return method


def _open_entry(domain: Any, entry: Any) -> Any:
    return opening.open_entry(domain, entry).handle()


Core._HANDLE_CLASS = staticmethod(handle_class)
opening.CLASSES[homes.OBJECT] = Core
by_name.add_opener(homes.NAMES[homes.OBJECT], _open_entry)
