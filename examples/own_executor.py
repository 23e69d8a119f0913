"""An Executor of one's own: the rows run here, one after the other, where a debugger can stop in them.

    python examples/own_executor.py

``Executor.execute(table)`` is the seam: XME hands it the execution table and takes back the results in row order. Where
and how the rows run in between is the subclass's business.
"""

from __future__ import annotations

from typing import Any

import XME
from XME.Executor import Executor


class Here(Executor):
    """Runs every row in this process, and says so."""

    def execute(self, table: Any) -> tuple[Any, ...]:
        """Run the rows of ``table`` one by one; an exception ends the call where it happens."""
        print(f"running {table.row_count} rows here")
        return tuple(row.function(*row.args, **row.kwargs) for row in table.rows())


def multiply(factor: int, value: int) -> int:
    """Stand for a function that one wants to step through."""
    return factor * value


def main() -> None:
    """Use the Executor, as any other, by ``executor=``."""
    with Here() as here:
        xme = XME.XME(multiply, executor=here)
        print(xme.fun(7, xme.Array(range(5))))


if __name__ == "__main__":
    main()
