"""A list's records by themselves: what any root has led to it leads to for ever, whoever dies at whatever store."""

from array import array

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from XME._store import log, moving, sequence, sequence_bulk, values
from XME._store.log import PLACE_MASK
from XME._store.sequence_bulk import Batch


class Killed(BaseException):
    pass


class Stores:
    """A view of memory that counts the stores, and dies at one of them."""

    def __init__(self, view, owner):
        self._view = view
        self._owner = owner

    def __getitem__(self, index):
        return self._view[index]

    def __setitem__(self, index, value):
        self._owner.stores += 1
        if self._owner.stores == self._owner.dies_at:
            raise Killed
        self._view[index] = value


class Book:
    """A list as bytes, without locks and shared memory: a root, and the generations that it may name."""

    def __init__(self, *, remembers=True):
        self.remembers = remembers
        memory = memoryview(bytearray(1024))
        self.generation = log.lay_out(memory, 0, 0, 0)
        first = self.generation.first
        self.generation.append(first, log.COMMIT, b"", b"", (0, 0, 0, 0, 0))
        self.root = first
        # Every root that there has been: generation, place, content.
        self.past = []
        self.stores = self.dies_at = 0
        self.serial = 0

    def new_memory(self, nbytes):
        self.serial += 1
        return memoryview(bytearray(nbytes)), None, self.serial

    def begin(self):
        return sequence.SequenceChange(self.generation, self.root & PLACE_MASK, self)

    def commit(self, change):
        if not change.is_empty:
            self.root, self.generation = change.root, change.generation
        if self.remembers:
            self.past.append((self.generation, self.root & PLACE_MASK, self.read()))

    def read(self):
        return content(self.generation, self.root & PLACE_MASK)

    def do(self, *action):
        change = self.begin()
        run(change, action)
        self.commit(change)

    def check(self):
        for generation, place, expected in self.past:
            assert content(generation, place) == expected
        generation, place = self.generation, self.root & PLACE_MASK
        count, start, live, at = sequence.NUMBERS(generation.data, place * log.UNIT + sequence.NUMBERS_AT)
        found = sequence.places(generation, place)
        assert len(found) == len(set(found)) == count
        assert live == sum(map(generation.units, found)) + (generation.units(at) if at else 0)
        assert start + count <= sequence.capacity(generation, at)
        for position, where in enumerate(found):
            assert sequence.place_at(generation, place, at, start + position) == where
        # The walk meets whole records only, up to the high-water word.
        high = generation.words[log.G_HIGH]
        *_, last = generation.walk(high - 1)
        assert last + generation.units(last) == high


def content(generation, place):
    return sequence_bulk.decode_all(generation, sequence.places(generation, place), None)


def encoded(value):
    return values.encode(value)[:2]


def batch(items):
    def encode_one(value, _where):
        return *encoded(value), {}

    return sequence_bulk.encode_all(items, encode_one, {})


def run(change, action):
    """Do what an action says; positions are taken modulo what the list has."""
    name, *arguments = action
    count = change.count
    if name in ("append", "prepend"):
        getattr(change, name)(*encoded(arguments[0]))
    elif name == "splice":
        begin, end = sorted(position % (count + 1) for position in arguments[:2])
        if end > begin or arguments[2]:
            change.splice(begin, end, batch(arguments[2]))
    elif name == "extend":
        change.splice(count, count, batch(arguments[0]))
    elif name == "clear":
        change.clear()
    elif count:
        if name == "set":
            change.set(arguments[0] % count, *encoded(arguments[1]))
        elif name == "delete":
            change.delete(slice(arguments[0] % count, None, arguments[1]))
        elif name == "reorder":
            change.reorder(sorted(range(count), key=lambda k: k * arguments[0] % 101))
        else:
            getattr(change, name)()


def model(before, action):
    name, *arguments = action
    after = list(before)
    count = len(after)
    if name == "append":
        after.append(arguments[0])
    elif name == "prepend":
        after.insert(0, arguments[0])
    elif name == "splice":
        begin, end = sorted(position % (count + 1) for position in arguments[:2])
        after[begin:end] = arguments[2]
    elif name == "extend":
        after += arguments[0]
    elif name == "clear":
        after.clear()
    elif count:
        if name == "set":
            after[arguments[0] % count] = arguments[1]
        elif name == "delete":
            del after[arguments[0] % count :: arguments[1]]
        elif name == "reorder":
            after = [after[k] for k in sorted(range(count), key=lambda k: k * arguments[0] % 101)]
        elif name == "reverse":
            after.reverse()
        else:
            after.pop(-1 if name == "pop_last" else 0)
    return after


ITEMS = st.integers(-9, 9) | st.text(max_size=30) | st.none()
LISTS = st.lists(ITEMS, min_size=1, max_size=5) | st.integers(1, 60).map(lambda n: ["x"] * n)
NUMBERS = st.integers(0, 1000)
ACTIONS = st.one_of(
    st.tuples(st.sampled_from(["append", "prepend"]), ITEMS),
    st.tuples(st.just("set"), NUMBERS, ITEMS),
    st.tuples(st.sampled_from(["pop_last", "pop_first", "pop_last", "pop_first", "clear", "reverse"])),
    st.tuples(st.just("splice"), NUMBERS, NUMBERS, st.just([]) | LISTS),
    st.tuples(st.just("extend"), LISTS),
    st.tuples(st.just("delete"), NUMBERS, st.integers(1, 4)),
    st.tuples(st.just("reorder"), st.integers(1, 100)),
)


@given(st.lists(st.lists(ACTIONS, min_size=1, max_size=4), max_size=25), st.data())
@settings(max_examples=80, deadline=None)
def test_every_root_leads_for_ever_to_what_it_led_to(changes, data):
    """Changes are committed, given up as by a dead writer, or undone in part; past roots are read after each."""
    book = Book()
    expected = []
    for actions in changes:
        change = book.begin()
        after = list(expected)
        for action in actions:
            mark = change.mark()
            run(change, action)
            if data.draw(st.booleans(), "undone"):
                change.back(mark)
            else:
                after = model(after, action)
        if data.draw(st.sampled_from([True, True, False]), "committed"):
            book.commit(change)
            expected = after
        assert book.read() == expected
        book.begin()
        book.check()


@given(st.lists(ACTIONS, max_size=8), ACTIONS, st.lists(ACTIONS, min_size=1, max_size=3))
@settings(max_examples=20, deadline=None)
def test_killed_at_any_store_nothing_has_changed(actions, last, afterwards):
    with pytest.MonkeyPatch.context() as patch:
        # numpy would store past the counting views.
        patch.setattr(moving, "FEW", 1 << 30)
        dies_at = 0
        is_whole = False
        while not is_whole:
            dies_at += 1
            book = Book()
            for action in actions:
                book.do(*action)
            before = book.read()
            is_whole = _dies(book, last, dies_at)
            book.begin()
            assert book.read() == before
            book.check()
            expected = before
            for action in afterwards:
                book.do(*action)
                expected = model(expected, action)
                assert book.read() == expected
            book.check()
        # What goes into a new generation is stored where nobody looks yet.
        assert dies_at > 1 or book.serial or model(before, last) == before


def _dies(book, action, dies_at):
    """Do an action but for its commit, and die at a store; True if there were not as many."""
    generation = book.generation
    views = generation.words, generation.ints, generation.data
    change = book.begin()
    book.stores, book.dies_at = 0, dies_at
    generation.words, generation.ints, generation.data = (Stores(view, book) for view in views)
    try:
        run(change, action)
    except Killed:
        return False
    finally:
        generation.words, generation.ints, generation.data = views
    return True


@pytest.mark.parametrize("items", [list(range(1000)), [0.5] * 700, [str(k) * (k % 40) for k in range(900)],
                                   [k if k % 3 else None if k % 2 else "ab" for k in range(800)]])  # fmt: skip
def test_many_at_once_are_as_one_by_one(items):
    at_once, one_by_one = Book(remembers=False), Book(remembers=False)
    at_once.do("extend", items)
    for item in items:
        one_by_one.do("append", item)
    assert at_once.read() == one_by_one.read() == items
    assert list(map(type, at_once.read())) == list(map(type, items))
    for book in (at_once, one_by_one):
        book.do("splice", 3, 400, items[:300])
        book.do("delete", 1, 3)
        book.do("reverse")
        book.do("extend", items)
        book.check()
    assert at_once.read() == one_by_one.read()


def test_at_both_ends_no_place_is_moved():
    """A queue of 1,000 elements: what 2,000 pairs of append and pop write does not grow with the length."""
    written = {}
    for length in (10, 1000):
        book = Book(remembers=False)
        book.do("extend", list(range(length)))
        indexes = 0
        for k in range(2000):
            at = book.begin().extra
            book.do("prepend" if k % 3 else "append", k)
            book.do("pop_first" if k % 2 else "pop_last")
            indexes += book.begin().extra != at
        written[length] = indexes
        book.check()
    assert written[1000] < written[10]


def test_memory_goes_back():
    book = Book(remembers=False)
    book.do("extend", list(range(100_000)))
    full = book.generation.size
    while (change := book.begin()).count > 100:
        for _ in range(min(change.count - 99, 1000)):
            change.pop_last()
        book.commit(change)
    assert book.generation.size < full / 50
    book.check()


def test_an_index_that_is_too_small_is_not_written_beyond():
    book = Book()
    for k in range(100):
        book.do("append", k)
        assert book.begin()._room_behind() >= 0
    assert book.read() == list(range(100))
    assert sequence.places(book.generation, book.root & PLACE_MASK).typecode == array("I").typecode
    assert not Batch()
