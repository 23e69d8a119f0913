"""Shared dicts, lists and objects of every rival, each used as its own documentation says.

    base        what a case may ask of a store of keys, and the loops for those that are used like a dict
    mappings    XME, Manager, UltraDict, shared-memory-dict, diskcache
    databases   LMDB and Redis, whose users write calls instead of ``d[key]``
    sequences   lists;  objects   an object with two methods
    keeper      a container that another process has made, and figures taken where it is new
    timing      as many operations a sample as the clock needs

The loop around an operation belongs to the store, with the operation written in it as its users write it: a call of
ours in between would cost more than some of what is measured here.
"""
