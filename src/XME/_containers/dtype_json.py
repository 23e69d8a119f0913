"""dtypes as JSON, whole: field offsets, titles, alignment and subarrays included.

numpy's own description of a dtype (`dtype.descr`) has no form for fields that overlap or stand out of order.
"""

from __future__ import annotations

from typing import Any

import numpy as np

_Dtype = np.dtype[Any]


def to_json(dtype: _Dtype) -> Any:
    """Return a dtype as JSON has it.

    Raises:
        TypeError: another package defined it, so that its name alone does not say what it is.

    >>> to_json(np.dtype([("x", "<f4"), ("y", "<i2", (3,))]))["offsets"]
    [0, 4]
    """
    if dtype.isbuiltin == 2:
        msg = f"an array of {dtype} cannot have a public name: another package defines that dtype; publish a view of it"
        raise TypeError(msg)
    if dtype.subdtype is not None:
        return [to_json(dtype.subdtype[0]), list(dtype.shape)]
    if dtype.names is None:
        return dtype.str
    fields = [dtype.fields[name] for name in dtype.names] if dtype.fields else []
    return {
        "names": list(dtype.names),
        "formats": [to_json(field[0]) for field in fields],
        "offsets": [int(field[1]) for field in fields],
        "titles": [field[2] if len(field) > 2 else None for field in fields],
        "itemsize": dtype.itemsize,
        "aligned": dtype.isalignedstruct,
    }


def from_json(described: Any) -> _Dtype:
    """Return the dtype that `to_json` described.

    Raises:
        TypeError, ValueError, KeyError: it is damaged.

    >>> from_json(to_json(np.dtype(">M8[25us]")))
    dtype('>M8[25us]')
    """
    if isinstance(described, list):
        base, shape = described
        return np.dtype((from_json(base), tuple(shape)))
    if isinstance(described, str):
        return np.dtype(described)
    names = described["names"]
    if not names:
        return np.dtype({"names": [], "formats": [], "itemsize": described["itemsize"]})
    return np.dtype(
        {
            "names": names,
            "formats": [from_json(field) for field in described["formats"]],
            "offsets": described["offsets"],
            "titles": described["titles"],
            "itemsize": described["itemsize"],
        },
        align=described["aligned"],
    )
