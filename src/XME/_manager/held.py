"""A Security as a block that does not raise where the operator may not have it."""

from __future__ import annotations

from typing import Any, Self

from XME.Security import Security


class Held:
    """Holds a Security as a block; false, with the mark as `answer`, if it was not had."""

    def __init__(self, security: Security, operator: Any) -> None:
        self._security = security
        self._operator = operator
        self.answer: Any = False

    def __enter__(self) -> Self:
        self.answer = self._security.acquire(self._operator)
        return self

    def __exit__(self, *_error: object) -> None:
        if self.answer is True:
            self._security.release(self._operator)

    def __bool__(self) -> bool:
        return self.answer is True
