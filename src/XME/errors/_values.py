"""What cannot travel, or cannot be a key."""

from __future__ import annotations

from XME.errors._root import XMEError


class UnshareableArgument(XMEError, TypeError):
    """An argument cannot travel to another process. Fields: ``argument`` (its path), ``reason``."""

    argument: str
    reason: str

    @classmethod
    def of(cls, argument: str, what: str, advice: str) -> UnshareableArgument:
        """Make the error from the path of the argument, what it is, and what to do instead."""
        return cls(f"{argument} cannot be sent to a worker: it is {what}; {advice}", argument=argument, reason=what)


class UnshareableValue(XMEError, TypeError):
    """A value cannot be stored in a shared container. Fields: ``where`` (the path to it), ``reason``."""

    where: str
    reason: str

    @classmethod
    def of(cls, where: str, what: str, advice: str) -> UnshareableValue:
        """Make the error from the path of the value, what it is, and what to do instead."""
        message = f"{where} cannot be stored in a shared container, which is as it was: it is {what}; {advice}"
        return cls(message, where=where, reason=what)


class UnusableKey(XMEError, TypeError):
    """A key has no form that is the same in every process. Fields: ``key_type`` (its name), ``reason``."""

    key_type: str
    reason: str

    @classmethod
    def of(cls, kind: type, reason: str, advice: str) -> UnusableKey:
        """Make the error from the type of the key, why it cannot be one, and what to do instead."""
        name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
        message = f"a key of type {name} cannot be stored in a shared container: {reason}; {advice}"
        return cls(message, key_type=name, reason=reason)


class UnshareableResult(XMEError, TypeError):
    """A function's result cannot travel back. Fields: ``row``, ``function``, ``reason``."""

    row: int
    function: str
    reason: str

    @classmethod
    def of(cls, function: str, row: int, reason: str) -> UnshareableResult:
        """Make the error from the function's name, its row and why its result does not pickle."""
        return cls(f"the result of {function}, row {row}, cannot be sent back ({reason}): return plain data, arrays or "
                   "something that pickles", function=function, row=row, reason=reason)
