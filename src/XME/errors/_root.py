"""The root of XME's exceptions."""

from __future__ import annotations

from typing import Any


def _rebuild(cls: type[XMEError], args: tuple[Any, ...], fields: dict[str, Any]) -> XMEError:
    error = cls(*args)
    error.__dict__.update(fields)
    return error


class XMEError(Exception):
    """The root of XME's exceptions; ``except XMEError`` catches all of them.

    >>> import pickle
    >>> error = pickle.loads(pickle.dumps(XMEError("a sentence", row=3)))
    >>> error.row, str(error)
    (3, 'a sentence')
    """

    def __init__(self, message: str, **fields: Any) -> None:
        super().__init__(message)
        self.__dict__.update(fields)

    def __reduce__(self) -> Any:
        return _rebuild, (type(self), self.args, self.__dict__)
