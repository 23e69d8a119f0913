"""What `get` gives when it has no result."""

from __future__ import annotations

from typing import Final


class FailMark(str):
    """A text that is false.

    >>> import pickle
    >>> mark = pickle.loads(pickle.dumps(XMEM_GET_FAIL))
    >>> bool(mark), mark == "<-XMEM GET Failure->"
    (False, True)
    """

    __slots__ = ()

    def __bool__(self) -> bool:
        return False


XMEM_GET_FAIL: Final = FailMark("<-XMEM GET Failure->")
