"""What Python's own tools see of a shared object from outside: what they see of an object of its class."""

import contextlib
import copy
import dataclasses
import functools

import numpy as np
import pytest

from tests.store.test_threads import in_thread
from XME import xmem_list, xmem_object
from XME.errors import ContainerGone


class Plain:
    kind = "plain"

    def __init__(self):
        self.n = 1
        self.items = [1]
        self.same = self.items
        self.table = np.zeros(10_000)
        self.shared = xmem_list()

    def attributes(self):
        self.n = 2
        self.items.append(2)
        return vars(self)


class Dynamic(Plain):
    def __getattr__(self, name):
        if name.startswith("any"):
            return name
        raise AttributeError(name)


class Slotted:
    __slots__ = ("a", "b")

    def __init__(self):
        self.a = 1
        self.b = [2]


class Half(Slotted):
    def __init__(self):
        super().__init__()
        self.c = [3]


@pytest.mark.parametrize("cls", [Plain, Dynamic])
def test_vars_gives_the_attributes_as_a_copy_has_them(cls):
    o = xmem_object("o", cls)
    for attributes in (vars(o), o.__dict__, copy.copy(o).__dict__):
        assert type(attributes) is dict
        assert attributes.keys() == {"n", "items", "same", "table", "shared"}
        assert (attributes["n"], attributes["items"]) == (1, [1])
        assert attributes["items"] is attributes["same"]
        assert attributes["shared"] is o.shared
        assert (attributes["table"] == 0).all()
    vars(o)["items"].append("mine")
    vars(o)["new"] = 1
    assert (o.items, hasattr(o, "new")) == ([1], False)
    o.attributes()
    assert vars(o)["items"] == [1, 2]


def test_vars_in_a_transaction_and_beside_one():
    o = xmem_object("o", Plain)
    with o.atomic():
        o.n = 5
        assert vars(o)["n"] == 5
    seen = []
    in_thread(lambda: seen.append(vars(o)["n"]))
    assert seen == [5]
    o.unlink()
    with pytest.raises(ContainerGone):
        vars(o)


def test_vars_of_slots():
    with pytest.raises(TypeError, match="must have __dict__"):
        vars(xmem_object("o", Slotted))
    with pytest.raises(AttributeError, match="'Slotted' object has no attribute '__dict__'"):
        xmem_object("o", Slotted).__dict__  # noqa: B018
    assert vars(xmem_object("o", Half)) == vars(Half()) == {"c": [3]}
    assert not hasattr(xmem_object("o", Slotted), "__dict__")


@dataclasses.dataclass
class Point:
    x: int
    tags: list = dataclasses.field(default_factory=list)

    def far(self):
        return dataclasses.replace(self, x=self.x + 100), dataclasses.asdict(self)


@dataclasses.dataclass(frozen=True, slots=True)
class Fixed:
    x: int
    point: object = None


class Named(Point):
    pass


def test_dataclasses_know_a_shared_one():
    point = xmem_object("point", Point, 1, [2])
    assert dataclasses.is_dataclass(point)
    assert [field.name for field in dataclasses.fields(point)] == ["x", "tags"]
    assert dataclasses.asdict(point) == {"x": 1, "tags": [2]}
    assert dataclasses.astuple(point) == (1, [2])
    other = dataclasses.replace(point, x=5)
    assert type(other) is Point
    assert (other, point) == (Point(5, [2]), Point(1, [2]))
    assert point.far() == (Point(101, [2]), {"x": 1, "tags": [2]})
    dataclasses.asdict(point)["tags"].append(3)
    assert point.tags == [2]
    with pytest.raises(TypeError, match="unexpected keyword"):
        dataclasses.replace(point, z=1)


def test_dataclasses_know_a_shared_one_with_slots_a_derived_one_and_one_inside_another():
    fixed = xmem_object("fixed", Fixed, 1, xmem_object("point", Point, 2))
    assert dataclasses.asdict(fixed) == {"x": 1, "point": {"x": 2, "tags": []}}
    other = dataclasses.replace(fixed, x=3)
    assert (type(other), other.x, other.point is fixed.point) == (Fixed, 3, True)
    assert dataclasses.is_dataclass(xmem_object("named", Named, 1))
    assert not dataclasses.is_dataclass(xmem_object("plain", Plain))


# -- attributes that are asked of `object` -----------------------------------------------------------------------------


def twice(method):
    @functools.wraps(method)
    def called(self, *args):
        method(self, *args)
        return method(self, *args)

    return called


class Record:
    """The usual way to have a __setattr__ of one's own."""

    def __init__(self):
        object.__setattr__(self, "store", {})
        object.__setattr__(self, "count", 0)

    def __setattr__(self, name, value):
        object.__getattribute__(self, "store")[name] = value
        object.__setattr__(self, "count", self.count + 1)

    def __getattr__(self, name):
        try:
            return object.__getattribute__(self, "store")[name]
        except KeyError:
            raise AttributeError(name) from None

    def ask(self, name):
        return object.__getattribute__(self, name)


class Asked(Plain):
    def __getattribute__(self, name):
        return super().__getattribute__(name)

    def grow(self, value, handle):
        self.items.append(value)
        with contextlib.suppress(LookupError), handle.atomic():
            object.__getattribute__(self, "items").append("lost")
            raise LookupError
        object.__getattribute__(self, "items").append(value)
        return len(super().__getattribute__("same"))

    def lose(self):
        del self.items
        return hasattr(self, "items"), "items" in vars(self)


class Decorated:
    __slots__ = ("a", "b")

    def __init__(self):
        self.a = 1
        self.b = [2]

    @twice
    def add(self, value):
        object.__getattribute__(self, "b").append(value)
        return self.b

    @property
    def last(self):
        return max(object.__getattribute__(self, "b")[k] for k in (-1,))

    def lose(self):
        del self.b
        with pytest.raises(AttributeError):
            object.__getattribute__(self, "b")
        return hasattr(self, "b")


def test_a_setattr_of_ones_own_keeps_its_attributes_where_it_likes():
    plain, shared = Record(), xmem_object("record", Record)
    for record in (plain, shared):
        record.x = 1
        record.y = [2]
        record.x = 3
        assert (record.x, record.y, record.count) == (3, [2], 3)
        assert record.ask("store") == {"x": 3, "y": [2]}
        assert not hasattr(record, "z")
        with pytest.raises(AttributeError, match="'Record' object has no attribute 'none'"):
            record.ask("none")
    assert vars(shared) == vars(plain)


def test_attributes_asked_of_object_are_loaded():
    o = xmem_object("asked", Asked)
    assert o.grow(5, o) == 3
    assert o.items == o.same == [1, 5, 5]
    assert o.lose() == (False, False)
    assert o.same == [1, 5, 5]
    assert not hasattr(o, "items")


def test_slots_asked_of_object_are_loaded():
    plain, shared = Decorated(), xmem_object("decorated", Decorated)
    for o in (plain, shared):
        assert o.add(3) == [2, 3, 3]
        assert o.last == 3
        assert o.b == [2, 3, 3]
        assert o.lose() is False
        o.b = [4]
        assert o.last == 4
    shared.a += 1
    assert shared.a == 2
