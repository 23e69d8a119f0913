"""What Python says of wrong arguments: it names the class that a method was written in, and users know another."""

from __future__ import annotations

import types
from typing import Any, TypeVar

_T = TypeVar("_T", bound=type)


def under_its_own_name(cls: _T) -> _T:
    """Decorate a class: the public methods that it inherits from this package are methods of its own, by their names.

    >>> from XME._containers.shared_list import xmem_list
    >>> xmem_list().append()
    Traceback (most recent call last):
    TypeError: xmem_list.append() missing 1 required positional argument: 'value'
    """
    for base in cls.__mro__[1:]:
        if base.__module__.startswith(__package__):
            for name, function in list(vars(base).items()):
                is_method = isinstance(function, types.FunctionType) and not name.startswith("_")
                if is_method and getattr(cls, name) is function:
                    setattr(cls, name, _copied(function, cls))
    return cls


def _copied(function: Any, cls: type) -> Any:
    # A decorated one (struck.whole) calls the one inside, and so it is that which Python names.
    inside = getattr(function, "__wrapped__", None)
    closure = function.__closure__
    if inside is not None:
        copy = _copied(inside, cls)
        closure = tuple(types.CellType(copy) if cell.cell_contents is inside else cell for cell in closure)
    name, defaults = function.__name__, function.__defaults__
    made = types.FunctionType(function.__code__, function.__globals__, name, defaults, closure)
    made.__kwdefaults__ = function.__kwdefaults__
    made.__doc__ = function.__doc__
    made.__annotations__ = function.__annotations__
    made.__dict__.update(function.__dict__)
    if inside is not None:
        made.__dict__["__wrapped__"] = copy
    # By these two it is pickled.
    made.__module__ = cls.__module__
    made.__qualname__ = f"{cls.__qualname__}.{name}"
    return made
