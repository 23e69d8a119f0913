"""Public modules bear their class's name, so people call the module; this makes Python say what to call instead."""

from __future__ import annotations

import importlib
import sys
import types
from typing import Any, NoReturn


class NamedModule(types.ModuleType):
    """A module whose call is a TypeError that names the class inside."""

    # pickle and cloudpickle know the exact type ModuleType only, so a function that refers to such a module could not
    # travel to a worker without this.
    def __reduce__(self) -> Any:
        return importlib.import_module, (self.__name__,)

    def __call__(self, *_args: Any, **_kwargs: Any) -> NoReturn:
        message = f"{self.__name__} is a module, call the class inside it: {self.__dict__['_CALL_INSTEAD']}"
        raise TypeError(message)


def name_the_class(module: str, *classes: str) -> None:
    """Make the call of the module named ``module`` a TypeError that names ``classes``, the first being the one meant.

    >>> import types, sys
    >>> sys.modules["box"] = types.ModuleType("box")
    >>> name_the_class("box", "Box")
    >>> sys.modules.pop("box")()
    Traceback (most recent call last):
    TypeError: box is a module, call the class inside it: box.Box(...)
    """
    target = sys.modules[module]
    target.__dict__["_CALL_INSTEAD"] = " or ".join(f"{module}.{name}(...)" for name in classes)
    target.__class__ = NamedModule
