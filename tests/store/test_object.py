"""A shared object does what an object of its class does, and what a method has not finished nobody sees."""

import copy
import dataclasses
import functools
import pickle
import threading

import numpy as np
import pytest

import XME
from XME import xmem_array, xmem_dict, xmem_list, xmem_object
from XME.errors import ContainerGone, MutexError, UnshareableValue


class V:
    """The manual's."""

    value = 0

    def add(self, value):
        self.value += value

    def get(self):
        return self.value


class Shop:
    kinds = ("fruit",)
    lazily = None

    def __init__(self, items=()):
        self.items = list(items)
        self.same = self.items
        self.stock = {"a": {"b": [1]}}
        self.count = len(self.items)

    def put(self, *items):
        self.items.extend(items)
        self.count += len(items)
        return self

    def put_and_fail(self, item):
        self.items.append(item)
        self.count += 1
        self.extra = 1
        raise LookupError(item)

    def go_deep(self, value):
        self.stock["a"]["b"].append(value)

    def are_same(self):
        return self.items is self.same

    def look(self):
        return len(self.items)

    @property
    def double(self):
        return self.count * 2

    @double.setter
    def double(self, value):
        self.count = value // 2

    @functools.cached_property
    def slow(self):
        return [self.count]

    @staticmethod
    def plain(x):
        return x + 1

    @classmethod
    def made(cls, x):
        return cls, x


def root(shared):
    return shared._xmem_core.current()[0]


def test_the_manuals_class():
    v = xmem_object("Class_V", V)
    v.add(3)
    v.add(value=4)
    assert v.get() == v.value == 7
    assert V.value == 0
    assert isinstance(v, V)
    assert isinstance(v, xmem_object)
    assert repr(v).startswith("<xmem_object 'Class_V': V, ")


def test_changes_deep_inside_attributes_are_noticed():
    shop = xmem_object("shop", Shop, items=[1])
    assert shop.put(2, 3) is shop
    shop.go_deep("x")
    assert shop.items == [1, 2, 3]
    assert shop.count == 3
    assert shop.stock == {"a": {"b": [1, "x"]}}


def test_attributes_that_are_one_list_stay_one():
    shop = xmem_object("shop", Shop)
    shop.put(1)
    assert shop.same == shop.items == [1]
    assert shop.are_same()
    shop.same = [5]
    assert not shop.are_same()
    shop.put(2)
    assert shop.same == [5]
    assert shop.items == [1, 2]


def test_attributes_can_become_one_and_two_again():
    class Pair:
        def __init__(self):
            self.a, self.b, self.c = [[1]], {"k": [2]}, 0

        def join(self):
            self.b["k"] = self.a[0]

        def push(self):
            self.a[0].append(9)

        def part(self):
            self.b = copy.deepcopy(self.b)

        def lose_leader(self):
            del self.a

        def set_leader(self):
            self.a = 1

    pair = xmem_object("pair", Pair)
    pair.join()
    pair.push()
    assert (pair.a, pair.b) == ([[1, 9]], {"k": [1, 9]})
    pair.part()
    pair.push()
    assert (pair.a, pair.b) == ([[1, 9, 9]], {"k": [1, 9]})
    pair.join()
    pair.set_leader()
    assert (pair.a, pair.b) == (1, {"k": [1, 9, 9]})
    pair.a = [[0]]
    pair.join()
    pair.lose_leader()
    assert pair.b == {"k": [0]}
    assert not hasattr(pair, "a")


def test_tuples_with_one_list_in_them_keep_it():
    class Pair:
        def __init__(self):
            self.a = ([1],)
            self.b = self.c = None

        def join(self):
            self.b = self.a
            self.c = {"k": (self.a[0], 2)}

        def push(self):
            self.a[0].append(9)

    pair = xmem_object("pair", Pair)
    pair.join()
    pair.push()
    assert (pair.a, pair.b, pair.c) == (([1, 9],), ([1, 9],), {"k": ([1, 9], 2)})


def test_a_method_that_raises_has_changed_nothing():
    shop = xmem_object("shop", Shop, [1])
    before = root(shop)
    for _ in range(2):
        with pytest.raises(LookupError):
            shop.put_and_fail(5)
        assert root(shop) == before
    assert (shop.items, shop.count) == ([1], 1)
    assert not hasattr(shop, "extra")
    shop.put(2)
    assert (shop.items, shop.same, shop.count) == ([1, 2], [1, 2], 2)


def test_a_method_that_only_reads_commits_nothing():
    shop = xmem_object("shop", Shop, [1, {2, "x"}, (3, [4]), np.arange(3)])
    before = root(shop)
    assert shop.look() == 4
    assert shop.double == 8
    assert shop.are_same()
    assert shop.get_nothing() if hasattr(shop, "get_nothing") else True
    copy.copy(shop)
    assert root(shop) == before


def test_what_a_method_returns_is_the_callers():
    class Leaky:
        def __init__(self):
            self.items = [1]

        def all(self):
            return self.items

        def look(self):
            return self.items[0]

    leaky = xmem_object("leaky", Leaky)
    before = root(leaky)
    leaky.all().append(2)
    leaky.items.append(3)
    assert leaky.all() == leaky.items == [1]
    assert leaky.look() == 1
    assert root(leaky) == before


def test_attributes_properties_and_class_attributes_from_outside():
    shop = xmem_object("shop", Shop)
    assert shop.kinds == ("fruit",)
    assert shop.double == 0
    shop.double = 8
    assert shop.count == 4
    shop.count = 5
    assert shop.double == 10
    assert shop.slow == shop.slow == [5]
    assert shop.plain(1) == 2
    assert shop.made(1) == (Shop, 1)
    assert shop.lazily is None
    shop.lazily = [1]
    assert shop.lazily == [1]
    shop.call = "text"
    del shop.lazily, shop.call
    assert shop.lazily is None
    with pytest.raises(AttributeError, match="'Shop' object has no attribute 'call'"):
        _ = shop.call
    with pytest.raises(AttributeError):
        del shop.call
    assert {"items", "put", "count", "stock"} <= set(dir(shop))


def test_a_changeable_attribute_comes_before_that_of_the_class():
    class Late:
        items = None

        def put(self):
            if self.items is None:
                self.items = []
            self.items.append(1)
            return len(self.items)

        def drop(self):
            del self.items
            return self.items

    late = xmem_object("late", Late)
    assert [late.put(), late.put(), late.put()] == [1, 2, 3]
    assert late.drop() is None
    assert late.put() == 1


class Number:
    def __init__(self, x):
        self.x = x
        self.children = {}

    def __add__(self, other):
        return type(self)(self.x + getattr(other, "x", other))

    def __iadd__(self, other):
        self.x += other
        return self

    def __eq__(self, other):
        return isinstance(other, Number) and self.x == other.x

    __hash__ = None

    def __lt__(self, other):
        return self.x < other.x

    def __len__(self):
        return self.x

    def __getitem__(self, key):
        return self.children[key]

    def __setitem__(self, key, value):
        self.children[key] = value

    def __contains__(self, key):
        return key in self.children

    def __iter__(self):
        yield from self.children

    def __call__(self, x):
        return self.x * x

    def __enter__(self):
        self.x += 1
        return self

    def __exit__(self, *_):
        self.x -= 1

    def __str__(self):
        return f"<{self.x}>"

    def __bool__(self):
        return self.x > 0


def test_operators_from_outside():
    one, two = xmem_object("one", Number, 1), xmem_object("two", Number, 2)
    total = one + two
    assert type(total) is Number
    assert total.x == 3
    assert one != two
    assert one < two
    assert sorted([two, one]) == [one, two]
    same = one
    one += 4
    assert one is same
    assert (len(one), one(3), str(one), bool(one)) == (5, 15, "<5>", True)
    one["a"] = [1]
    assert one["a"] == [1]
    assert "a" in one
    assert list(one) == ["a"]
    with one as inside:
        assert inside is one
        assert one.x == 6
    assert one.x == 5
    with pytest.raises(TypeError, match="unhashable"):
        hash(one)
    assert xmem_object("v", V) in {xmem_object("v", V), 1} or True


@dataclasses.dataclass
class Point:
    x: int
    y: int = 0
    tags: list = dataclasses.field(default_factory=list)

    def move(self, x):
        self.x += x
        self.tags.append(x)


@dataclasses.dataclass(frozen=True, slots=True)
class Fixed:
    x: int
    many: dict

    def force(self):
        object.__setattr__(self, "x", self.x + 1)
        self.many["k"] = self.x


class Slotted:
    __slots__ = ("_Slotted__secret", "a", "b")

    def __init__(self):
        self.a = 1
        self.__secret = [1]  # noqa: PLE0237 - it is, by the name that Python makes of it

    def step(self):
        self.a += 1
        self.b = self.a
        self.__secret.append(self.a)
        return self.__secret

    def lose(self):
        del self.b
        del self.__secret

    def fail(self):
        self.step()
        self.lose()
        raise LookupError


class Derived(Slotted, V):
    def step(self):
        self.add(1)
        self.more = [self.value]
        return super().step()


def test_dataclasses():
    point = xmem_object("point", Point, 1)
    point.move(4)
    assert point == Point(5, 0, [4])
    assert repr(point) == "Point(x=5, y=0, tags=[4])"
    assert dataclasses.asdict(copy.copy(point)) == {"x": 5, "y": 0, "tags": [4]}
    fixed = xmem_object("fixed", Fixed, 1, {})
    fixed.force()
    assert (fixed.x, fixed.many) == (2, {"k": 2})
    with pytest.raises(dataclasses.FrozenInstanceError):
        fixed.x = 1


@pytest.mark.parametrize("kind", [Slotted, Derived])
def test_slots_and_inheritance(kind):
    plain, shared = kind(), xmem_object("slotted", kind)
    for _ in range(3):
        assert shared.step() == plain.step()
        with pytest.raises(LookupError):
            shared.fail()
        assert (shared.a, shared.b) == (plain.a, plain.b)
    shared.lose()
    with pytest.raises(AttributeError):
        _ = shared.b
    if kind is Derived:
        assert (shared.value, shared.more) == (3, [3])


def test_what_is_asked_of_itself():
    class Selfish:
        def __init__(self):
            self.x = 1
            self.me = [self]
            self.items = [3]

        def itself(self):
            return self

        def pickled(self):
            return pickle.loads(pickle.dumps(self)), self.me[0], self.later

        @property
        def later(self):
            return self.itself

        def attributes(self):
            return dict(vars(self)), self.__class__, sorted(self.__dict__)

        def put_dict(self):
            self.__dict__["items"].append(4)
            self.__dict__ = {**self.__dict__, "y": 2}
            vars(self).pop("x")

        def copies(self):
            return copy.copy(self), copy.deepcopy(self.items)

    shared = xmem_object("selfish", Selfish)
    assert shared.itself() is shared
    by_pickle, stored, bound = shared.pickled()
    assert by_pickle is stored is shared
    attributes, kind, names = shared.attributes()
    assert kind is Selfish
    assert (attributes["x"], attributes["items"], names) == (1, [3], ["items", "me", "x"])
    one, two = shared.copies()
    assert type(one) is Selfish
    assert (one.x, two) == (1, [3])
    shared.put_dict()
    assert (shared.items, shared.y) == ([3, 4], 2)
    assert not hasattr(shared, "x")
    assert bound


def test_nested_calls_do_not_block_and_join():
    class Nest:
        def __init__(self, depth=0):
            self.n = 0
            self.log = []

        def down(self, handle, depth):
            self.n += 1
            self.log.append(depth)
            if depth:
                handle.down(handle, depth - 1)
            assert handle.n == self.n
            assert handle.log is self.log

    nest = xmem_object("nest", Nest)
    before = root(nest)
    nest.down(nest, 3)
    assert (nest.n, nest.log) == (4, [3, 2, 1, 0])
    assert root(nest) != before


def test_transactions():
    shop = xmem_object("shop", Shop, [1])
    seen = []

    def look():
        seen.append((shop.count, shop.items))

    with shop.atomic() as same:
        assert same is shop
        shop.put(2)
        shop.put(3)
        with pytest.raises(LookupError):
            shop.put_and_fail(4)
        assert (shop.count, shop.items, shop.are_same()) == (3, [1, 2, 3], True)
        thread = threading.Thread(target=look)
        thread.start()
        thread.join()
        with pytest.raises(KeyError), shop.atomic():
            shop.put(7)
            shop.new = 1
            raise KeyError
        assert (shop.count, shop.items) == (3, [1, 2, 3])
        assert not hasattr(shop, "new")
    assert seen == [(1, [1])]
    assert (shop.count, shop.items) == (3, [1, 2, 3])
    with pytest.raises(KeyError), shop.atomic():
        shop.put(7)
        raise KeyError
    assert (shop.count, shop.items) == (3, [1, 2, 3])
    with shop.atomic(), pytest.raises(ValueError, match="transaction"):
        shop.unlink()


def test_a_transaction_that_outgrows_several_generations():
    shop = xmem_object("shop", Shop, [1])
    with shop.atomic():
        for k in range(6):
            setattr(shop, f"wide{k}", "x" * 4000 * 2**k)
            shop.put(k)
            shop.go_deep(k)
        assert shop.items == [1, 0, 1, 2, 3, 4, 5]
    shop.count = 0
    shop.put(6)
    assert (shop.count, shop.items, shop.are_same()) == (1, [1, 0, 1, 2, 3, 4, 5, 6], True)
    assert shop.stock == {"a": {"b": [1, 0, 1, 2, 3, 4, 5]}}
    assert [len(getattr(shop, f"wide{k}")) for k in range(6)] == [4000 * 2**k for k in range(6)]
    shop._xmem_core._check(settled=True)


def test_a_transaction_inside_a_method():
    class Inner:
        def __init__(self):
            self.n = 0
            self.items = []

        def work(self, handle, fails):
            self.n += 1
            mine = self.items
            mine.append("before")
            try:
                with handle.atomic():
                    self.n += 10
                    self.items.append("inside")
                    if fails:
                        raise LookupError
            except LookupError:
                pass
            self.items.append("after")
            self.n += 100
            with handle.atomic():
                self.n += 1000

    inner = xmem_object("inner", Inner)
    inner.work(inner, fails=True)
    assert (inner.n, inner.items) == (1101, ["before", "after"])
    with inner.atomic():
        inner.work(inner, fails=False)
    assert (inner.n, inner.items) == (2212, ["before", "after", "before", "inside", "after"])


def test_arrays():
    class Grid:
        def __init__(self):
            self.small, self.large = np.zeros(4), np.zeros(20_000)
            self.deep = {"w": np.zeros(3)}
            self.shared = xmem_array(np.zeros(4))

        def work(self, fails=False):
            self.small += 1
            self.large[7] += 1
            self.deep["w"] += 1
            self.shared += 1
            if fails:
                raise LookupError

        def sums(self):
            return [float(a.sum()) for a in (self.small, self.large, self.deep["w"], self.shared)]

    grid = xmem_object("grid", Grid)
    grid.work()
    assert grid.sums() == [4, 1, 3, 4]
    before = root(grid)
    with pytest.raises(LookupError):
        grid.work(fails=True)
    assert grid.sums() == [4, 1, 3, 8]
    assert root(grid) == before
    for array in (grid.small, grid.large):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 1
    grid.shared[0] = 50
    assert grid.sums()[3] == 56


def test_shared_containers_in_attributes():
    class Owner:
        def __init__(self, other):
            self.log = xmem_list()
            self.table = xmem_dict()
            self.other = other

        def work(self):
            self.log.append(1)
            self.table["a"] = self.log
            self.other.add(2)
            return self.other

    v = xmem_object("v", V)
    owner = xmem_object("owner", Owner, v)
    before = root(owner)
    assert owner.work() is v
    assert root(owner) == before
    assert owner.log == [1]
    assert owner.table["a"] is owner.log
    assert v.value == 2
    holder = xmem_dict(v=v)
    assert holder["v"] is v


def test_state_that_cannot_be_pickled():
    class Locked:
        def __init__(self, lock=None):
            self.lock = lock
            self.items = [1]

        def take(self):
            self.items.append(2)
            self.lock = threading.Lock()

        def hide(self):
            self.items.append([threading.Lock()])

    with pytest.raises(TypeError, match=r"Locked\.lock "):
        xmem_object("locked", Locked, threading.Lock())
    locked = xmem_object("locked", Locked)
    before = root(locked)
    with pytest.raises(UnshareableValue, match=r"Locked\.lock "):
        locked.take()
    with pytest.raises(UnshareableValue, match=r"Locked\.items"):
        locked.hide()
    with pytest.raises(UnshareableValue, match=r"Locked\.lock "):
        locked.lock = threading.Lock()
    assert (root(locked), locked.lock, locked.items) == (before, None, [1])


def test_classes_that_cannot_be_shared():
    import collections
    import enum

    class Colour(enum.Enum):
        RED = 1

    class More(list):
        pass

    class Failing:
        def __init__(self):
            raise LookupError

    for kind in (Colour, More, collections.namedtuple("Pair", "a b"), int, type, ValueError, 5):  # noqa: PYI024 - one without types
        with pytest.raises(TypeError, match=r"cannot be shared|wants a class"):
            xmem_object("no", kind)
    with pytest.raises(LookupError):
        xmem_object("no", Failing)
    with pytest.raises(TypeError, match="takes no arguments"):
        xmem_object("no", V, 1)


@pytest.mark.parametrize("args", [(V,), (V, "label"), (V, 3), (5, V)])
def test_a_label_that_was_left_out_is_asked_for(args):
    with pytest.raises(TypeError, match=r"wants a label \(a str, for messages\) and then a class: xmem_object\('V', V"):
        xmem_object(*args)


def test_what_would_run_later_is_refused():
    class Late:
        x = 1

        def stream(self):
            yield self.x

        def comprehension(self):
            return (self.x for _ in range(3))

        async def soon(self):
            return self.x

    late = xmem_object("late", Late)
    for method in (late.stream, late.comprehension):
        with pytest.raises(TypeError, match="returns a generator"):
            method()
    with pytest.raises(TypeError, match="is async"):
        late.soon()


def test_pickling_and_copies():
    shop = xmem_object("shop", Shop, [1])
    assert pickle.loads(pickle.dumps(shop)) is shop
    method = pickle.loads(pickle.dumps(shop.put))
    method(2)
    assert method == shop.put
    assert method.__self__ is shop
    shallow, deep = copy.copy(shop), copy.deepcopy(shop)
    for plain in (shallow, deep):
        assert type(plain) is Shop
        plain.put(3)
        assert plain.same == plain.items == [1, 2, 3]
    assert shop.items == [1, 2]


def test_a_class_with_ways_of_its_own():
    class Own:
        def __init__(self):
            self.set = 0
            self.x = 1

        def __setattr__(self, name, value):
            super().__setattr__(name, value)
            super().__setattr__("set", getattr(self, "set", 0) + 1)

        def __getattr__(self, name):
            if name.startswith("__"):
                raise AttributeError(name)
            return f"no {name}"

        def __del__(self):
            raise AssertionError

        @property
        def broken(self):
            return self.x.nothing

    own = xmem_object("own", Own)
    own.y = [1]
    assert (own.set, own.x, own.y, own.z) == (3, 1, [1], "no z")


def test_an_error_in_a_property_is_its_own():
    class Broken:
        @property
        def broken(self):
            return self.inner

    with pytest.raises(AttributeError, match="no attribute 'inner'"):
        _ = xmem_object("broken", Broken).broken


def test_unlinking():
    v = xmem_object("v", V)
    v.add(1)
    v.unlink()
    assert v.value == 1
    for use in (v.get, lambda: v.add(1), lambda: pickle.dumps(v)):
        with pytest.raises(ContainerGone):
            use()


def test_many_attributes_and_changes():
    class Many:
        def fill(self, count):
            for k in range(count):
                setattr(self, f"a{k}", k)

        def step(self, count):
            for k in range(count):
                setattr(self, f"a{k}", getattr(self, f"a{k}") + 1)

        def empty(self):
            for name in list(vars(self)):
                delattr(self, name)

    many = xmem_object("many", Many)
    many.fill(300)
    for _ in range(20):
        many.step(200)
    assert (many.a0, many.a199, many.a200) == (20, 219, 200)
    many.empty()
    assert not hasattr(many, "a0")
    many.fill(3)
    many.step(3)
    assert vars(copy.copy(many)) == {"a0": 1, "a1": 2, "a2": 3}
    for _ in range(3000):
        many.step(2)
    assert (many.a0, many.a1, many.a2) == (3001, 3002, 3)


def test_values_of_every_size():
    class Holder:
        def __init__(self):
            self.value = None
            self.kept = ["k" * 100_000]

        def put(self, value):
            self.value = value

        def size(self):
            return len(self.value), len(self.kept[0])

    holder = xmem_object("holder", Holder)
    for value in ("x" * 5000, "x" * 70_000, b"y" * 70_000, [1] * 70_000, (1, 2), "ab", range(5)):
        holder.put(value)
        before = root(holder)
        assert holder.size() == (len(value), 100_000)
        assert holder.value == value
        assert root(holder) == before
    holder.put(5)
    holder.put(10**30)
    assert holder.value == 10**30


def test_a_signal_handler_in_the_middle_of_a_change_is_refused(monkeypatch):
    v = xmem_object("v", V)
    core = v._xmem_core
    v.add(1)
    core.mutex.acquire()
    try:
        core._phase = 2
        with pytest.raises(MutexError, match="signal handler"):
            v.add(1)
    finally:
        core._phase = 0
        core.mutex.release()
    v.add(1)
    assert v.value == 2


class Pair:
    def __init__(self):
        self.items = [1]
        self.same = self.items
        self.count = 0

    def part(self, handle):
        del self.same
        with handle.atomic():
            self.count += 1
        self.count += 1


def test_what_a_method_deletes_before_its_transaction_is_deleted_once():
    pair = xmem_object("pair", Pair)
    pair.part(pair)
    assert (pair.count, pair.items, hasattr(pair, "same")) == (2, [1], False)


def test_threads():
    v = xmem_object("v", V)
    shop = xmem_object("shop", Shop)

    def work():
        for k in range(100):
            v.add(1)
            shop.put(k)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (v.value, len(shop.items), shop.count) == (400, 400, 400)


def test_it_is_exported():
    assert XME.xmem_object is xmem_object
    assert "xmem_object" in XME.__all__
