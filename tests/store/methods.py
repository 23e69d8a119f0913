"""Which methods of the shared containers change them: all that are not known to only read."""

import copy
import operator
import pickle

from XME import xmem_dict, xmem_list, xmem_object
from XME._containers.container import Container
from XME._containers.home import Home

# The store's own, of which users know nothing: they stand below the containers.
OF_THE_STORE = {"adopt", "current", "let_go", "map", "new_memory", "set_up", "use_mutex"}
# Of the class, or Python's own.
OF_THE_CLASS = {
    "__class__", "__class_getitem__", "__init_subclass__", "__subclasshook__", "__dir__", "__getstate__", "__format__",
    "__sizeof__", "__reduce_ex__", "__str__", "__hash__", "__ne__", "__getattribute__",
}  # fmt: skip
_READ_BY_BOTH = {
    "__contains__": lambda c: 1 in c,
    "__copy__": copy.copy,
    "__deepcopy__": copy.deepcopy,
    "__eq__": lambda c: c == [1],
    "__getitem__": lambda c: c[0],
    "__iter__": list,
    "__len__": len,
    "__reduce__": pickle.dumps,
    "__repr__": repr,
    "__reversed__": lambda c: list(reversed(c)),
    "copy": lambda c: c.copy(),
}
# What only reads, and how it is called; the containers have the keys or indexes 0 and 1.
READING = {
    xmem_dict: _READ_BY_BOTH
    | {
        "__or__": lambda c: c | {5: 6},
        "__ror__": lambda c: {5: 6} | c,
        "get": lambda c: (c.get(0), c.get("none")),
        "items": lambda c: list(c.items()),
        "keys": lambda c: c.keys() | {5},
        "todict": lambda c: c.todict(),
        "values": lambda c: list(c.values()),
    },
    xmem_list: _READ_BY_BOTH
    | {
        "__add__": lambda c: operator.add(c, [1]),
        "__radd__": lambda c: operator.add([1], c),
        "__mul__": lambda c: c * 2,
        "__rmul__": lambda c: 2 * c,
        "__ge__": lambda c: c >= [1],
        "__gt__": lambda c: c > [1],
        "__le__": lambda c: c <= [1],
        "__lt__": lambda c: c < [1],
        "count": lambda c: c.count(1),
        "index": lambda c: c.index(c[1]),
        "tolist": lambda c: c.tolist(),
    },
    xmem_object: {
        "__copy__": copy.copy,
        "__deepcopy__": copy.deepcopy,
        "__getattr__": lambda c: (c.items, c.n),
        "__init__": lambda c: c.__init__(),
        "__reduce__": pickle.dumps,
        "__repr__": repr,
        "__dir__": dir,
    },
}


def changing(cls):
    """Return the names of the methods that change an object of a class, or make or end it."""
    names = {name for name in dir(cls) if callable(getattr(cls, name, None))}
    public = {name for name in names if not name.startswith("_") or name.startswith("__")}
    known = OF_THE_CLASS | set(READING[cls])
    for name in OF_THE_STORE & public:
        assert name in Home.__dict__ or name in Container.__dict__
        known.add(name)
    inherited = {name for name in public if getattr(cls, name) is getattr(object, name, None)}
    return public - known - inherited
