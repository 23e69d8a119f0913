"""What a class of the user's becomes in this process, so that its objects can be shared.

Its methods run on an object of a subclass made here (`Local`): that one loads what a method touches, travels as the
shared object's handle, and is in all other respects what the user's class makes it. It is used by one thread at a time,
the one that holds the object's mutex.
"""

from __future__ import annotations

import copy
import enum
import functools
import types
import weakref
from collections.abc import Callable, Iterator
from typing import Any

MISSING: Any = object()
# The one slot that a Local adds: a weak reference to its Core.
CORE = "_xmem_core"


class Shape:
    """A class as this process shares it.

    Attributes:
        cls: the user's.
        local: the subclass whose objects the methods run on.
        slots: the descriptors of its slots, by the name of the attribute.
        dict_of: returns an object's attributes as they are stored; None for a class without a ``__dict__``.
    """

    __slots__ = ("__weakref__", "_is_bypassed", "_shadowed", "cls", "dict_of", "handle", "local", "slots")

    def __init__(self, cls: type) -> None:
        """Make the subclass.

        Raises:
            TypeError: objects of this class cannot be shared; says why.
        """
        _require_plain(cls)
        self.cls = cls
        self.slots = _slots_of(cls)
        self._shadowed: set[str] = set()
        # Only for those, because each name takes a place in the class, and attributes may have any number of names.
        self._is_bypassed = bypasses_getattr(cls)
        # The class of the handles; made by who knows how (shared_object.py).
        self.handle: Any = None
        self.dict_of = _dict_getter(cls)
        self.local = _local_class(cls, self)
        try:
            object.__new__(self.local)
        except TypeError as error:
            msg = f"{cls.__qualname__} cannot be shared: what a builtin class keeps is not in attributes ({error})"
            raise TypeError(msg) from None
        for name, slot in self.slots.items() if self._is_bypassed else ():
            setattr(self.local, name, _SlotShadow(name, slot))

    def make(self, core: Any) -> Any:
        """Return an object without attributes that belongs to a Core."""
        made = object.__new__(self.local)
        _slot_of(self.local).__set__(made, weakref.ref(core))
        return made

    def make_with(self, core: Any, args: Any, kwargs: Any) -> None:
        """Give a Core an object as the class makes it from arguments."""
        cls: Any = self.cls
        new = cls.__new__
        made = self.make(core) if new is object.__new__ else new(self.local, *args, **kwargs)
        if type(made) is not self.local:
            msg = f"{self.cls.__qualname__} cannot be shared: its __new__ returns an object that it has not made"
            raise TypeError(msg)
        _slot_of(self.local).__set__(made, weakref.ref(core))
        core._have(made)
        if new is object.__new__ and cls.__init__ is object.__init__ and (args or kwargs):
            msg = f"{self.cls.__qualname__}() takes no arguments"
            raise TypeError(msg)
        cls.__init__(made, *args, **kwargs)

    def shadow(self, name: str) -> None:
        """Let an attribute that is loaded when it is touched come before the class's own of that name.

        Where methods ask `object` for attributes, past ``__getattr__``, all such attributes are found in this way.
        """
        if name in self._shadowed or name in self.slots:
            return
        found = find(self.cls, name)
        if (found is not MISSING or self._is_bypassed) and not hasattr(type(found), "__set__"):
            self._shadowed.add(name)
            setattr(self.local, name, _Shadow(name, self.local))


def find(cls: type, name: str) -> Any:
    """Return what a class has under a name, as it is stored; MISSING if nothing but `object` has it."""
    for base in cls.__mro__[:-1]:
        if name in base.__dict__:
            return base.__dict__[name]
    return MISSING


def core_of(local: Any) -> Any:
    """Return the Core of an object that methods run on, or None."""
    try:
        reference = _slot_of(type(local)).__get__(local)
    except AttributeError:
        return None
    return reference()


def _slot_of(local: type) -> Any:
    return local.__dict__[CORE]


def _require_plain(cls: Any) -> None:
    if not isinstance(cls, type):
        msg = f"xmem_object(label, cls, ...) wants a class, and not {cls!r}"
        raise TypeError(msg)
    if issubclass(cls, enum.Enum):
        msg = f"{cls.__qualname__} cannot be shared: its members are constants, pass them as values"
        raise TypeError(msg)
    missing = ", ".join(sorted(getattr(cls, "__abstractmethods__", ())))
    if missing:
        msg = f"{cls.__qualname__} cannot be shared: it is abstract; share a class derived from it that has {missing}"
        raise TypeError(msg)


def _slots_of(cls: type) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for base in cls.__mro__:
        if "__slots__" in base.__dict__:
            for name, value in base.__dict__.items():
                if isinstance(value, types.MemberDescriptorType) and not name.startswith("__"):
                    found.setdefault(name, value)
    return found


def _dict_getter(cls: type) -> Callable[[Any], dict[str, Any]] | None:
    for base in cls.__mro__:
        getter = base.__dict__.get("__dict__")
        if isinstance(getter, types.GetSetDescriptorType):
            return getter.__get__
    return None


class _Shadow:
    """Stands before an attribute of the class for an object's own of the same name that is not loaded yet."""

    def __init__(self, name: str, local: type) -> None:
        self._name = name
        self._local = local

    def __get__(self, obj: Any, kind: Any = None) -> Any:
        core = None if obj is None else core_of(obj)
        value = MISSING if core is None else core.load(obj, self._name)
        if value is not MISSING:
            return value
        if find(self._local.__mro__[1], self._name) is MISSING:
            raise _no_attribute(self._local, self._name, obj)
        return getattr(super(self._local, kind if obj is None else obj), self._name)


class _SlotShadow:
    """Stands before a slot, for what asks `object` for it before it is loaded."""

    def __init__(self, name: str, slot: Any) -> None:
        self._name = name
        self._slot = slot

    def __get__(self, obj: Any, kind: Any = None) -> Any:
        if obj is None:
            return self._slot
        try:
            return self._slot.__get__(obj)
        except AttributeError:
            core = core_of(obj)
            value = MISSING if core is None else core.load(obj, self._name)
            if value is MISSING:
                raise
            return value

    def __set__(self, obj: Any, value: Any) -> None:
        self._slot.__set__(obj, value)

    def __delete__(self, obj: Any) -> None:
        self._slot.__delete__(obj)


def _no_attribute(cls: type, name: str, obj: Any) -> AttributeError:
    return AttributeError(f"{cls.__name__!r} object has no attribute {name!r}", name=name, obj=obj)


# -- what goes past __getattr__ ----------------------------------------------------------------------------------------


def bypasses_getattr(cls: type) -> bool:
    """True if a function of a class names ``__getattribute__``: that of `object` asks no ``__getattr__``."""
    found = [value for base in cls.__mro__[:-1] for value in base.__dict__.values()]
    return any("__getattribute__" in code.co_names for code in _codes(found))


def _codes(found: list[Any]) -> Iterator[types.CodeType]:
    """Yield the code of functions, also of those in properties, decorators and other functions."""
    met: set[int] = set()
    while found:
        value = found.pop()
        if id(value) in met:
            continue
        met.add(id(value))
        if isinstance(value, types.CodeType):
            yield value
            found.extend(const for const in value.co_consts if isinstance(const, types.CodeType))
        elif isinstance(value, types.FunctionType):
            found.append(value.__code__)
            found.append(getattr(value, "__wrapped__", None))
        elif isinstance(value, property):
            found.extend((value.fget, value.fset, value.fdel))
        elif isinstance(value, (staticmethod, classmethod, functools.partialmethod, functools.cached_property)):
            found.append(getattr(value, "__func__", None) or getattr(value, "func", None))


# -- the subclass ------------------------------------------------------------------------------------------------------


def _local_class(cls: Any, shape: Shape) -> Any:
    body = {
        "__slots__": (CORE,),
        "__module__": cls.__module__,
        "__qualname__": cls.__qualname__,
        "__doc__": cls.__doc__,
        "__class__": property(lambda _self: cls),
        "__new__": lambda _kind, *args, **kwargs: cls(*args, **kwargs),
        "__getattr__": _getattr_for(cls),
        "__delattr__": _delattr_for(cls),
        "__reduce_ex__": lambda self, _protocol: core_of(self).handle().__reduce__(),
        "__copy__": _way(cls, "__copy__", lambda self: plain_copy(shape, self)),
        "__deepcopy__": _way(cls, "__deepcopy__", lambda self, memo: deep_copy(shape, self, memo)),
    }
    if shape.dict_of is not None:
        body["__dict__"] = _dict_property(shape.dict_of)
    if hasattr(cls, "__del__"):
        # What one process has of the object ends often; the object does not.
        body["__del__"] = lambda _self: None
    try:
        return type(cls)(cls.__name__, (cls,), body)
    except TypeError as error:
        msg = f"{cls.__qualname__} cannot be shared: no class can be derived from it ({error})"
        raise TypeError(msg) from error


def _way(cls: type, name: str, ours: Any) -> Any:
    theirs = find(cls, name)
    return ours if theirs is MISSING else theirs


def _getattr_for(cls: Any) -> Any:
    theirs = getattr(cls, "__getattr__", None)

    def get(self: Any, name: str) -> Any:
        core = core_of(self)
        if core is not None:
            value = core.load(self, name)
            if value is not MISSING:
                return value
        if theirs is not None:
            return theirs(self, name)
        found = find(cls, name)
        if isinstance(found, property):
            # Its getter has raised an AttributeError, which Python turns into this call: once more, to raise that.
            return found.__get__(self, cls)
        raise _no_attribute(cls, name, self)

    return get


def _delattr_for(cls: Any) -> Any:
    def delete(self: Any, name: str) -> None:
        core = core_of(self)
        if core is not None:
            core.load(self, name)
        cls.__delattr__(self, name)

    return delete


def _dict_property(dict_of: Callable[[Any], dict[str, Any]]) -> property:
    def get(self: Any) -> dict[str, Any]:
        core = core_of(self)
        if core is not None:
            core.load_all(self)
        return dict_of(self)

    def replace(self: Any, attributes: dict[str, Any]) -> None:
        stored = get(self)
        attributes = dict(attributes)
        stored.clear()
        stored.update(attributes)

    return property(get, replace)


# -- plain copies ------------------------------------------------------------------------------------------------------


def state_of(shape: Shape, local: Any) -> dict[str, Any]:
    """Return all attributes of an object that methods run on."""
    state = dict(local.__dict__) if shape.dict_of is not None else {}
    for name in shape.slots:
        value = getattr(local, name, MISSING)
        if value is not MISSING:
            state[name] = value
    return state


def plain_copy(shape: Shape, local: Any) -> Any:
    """Return an object of the user's class itself with the same attributes."""
    return _plain(shape, state_of(shape, local))


def deep_copy(shape: Shape, local: Any, memo: dict[int, Any]) -> Any:
    """Return an object of the user's class itself with copies of the attributes."""
    made: Any = object.__new__(shape.cls)
    memo[id(local)] = made
    _fill(shape, made, copy.deepcopy(state_of(shape, local), memo))
    return made


def _plain(shape: Shape, state: dict[str, Any]) -> Any:
    made: Any = object.__new__(shape.cls)
    _fill(shape, made, state)
    return made


def _fill(shape: Shape, made: Any, state: dict[str, Any]) -> None:
    for name, value in state.items():
        slot = shape.slots.get(name)
        if slot is not None:
            slot.__set__(made, value)
        elif shape.dict_of is not None:
            shape.dict_of(made)[name] = value


_shapes: weakref.WeakKeyDictionary[type, Shape] = weakref.WeakKeyDictionary()


def shape_of(cls: type) -> Shape:
    """Return the shape of a class, one a process.

    Raises:
        TypeError: its objects cannot be shared.
    """
    shape = _shapes.get(cls) if isinstance(cls, type) else None
    if shape is None:
        shape = _shapes[cls] = Shape(cls)
    return shape
