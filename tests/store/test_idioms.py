"""What docs/shared.md says of idioms that are not what they are with a plain list, dict or object."""

import copy
import os
import random

import pytest

import XME
from XME import xmem_dict, xmem_list, xmem_object


def nested_list():
    return xmem_list([[k] for k in range(6)], nested=True)


def swap(target, one, other):
    target[one], target[other] = target[other], target[one]


# -- children that change places -----------------------------------------------------------------------------------


def test_a_swap_of_children_loses_one_and_says_so():
    children = nested_list()
    with pytest.raises(XME.ContainerGone):
        swap(children, 0, 1)
    assert children[0] == [1]
    children._check()


def test_a_swap_of_children_works_in_a_transaction():
    children, d = nested_list(), xmem_dict(a={"x": 1}, b={"y": 2}, nested=True)
    with children.atomic():
        swap(children, 0, 1)
    with d.atomic():
        swap(d, "a", "b")
    children[0].append("still shared")
    d["a"]["z"] = 3
    assert children.tolist()[:2] == [[1, "still shared"], [0]]
    assert d.todict() == {"a": {"y": 2, "z": 3}, "b": {"x": 1}}
    for container in (children, d):
        container._check(settled=True)


@pytest.mark.parametrize("seed", range(5))
def test_children_are_shuffled_in_a_transaction(seed):
    children, model = nested_list(), [[k] for k in range(6)]
    random.Random(seed).shuffle(model)
    with children.atomic():
        random.Random(seed).shuffle(children)
    assert children.tolist() == model
    for child in children:
        child.append("in")
    # Put in and out several times, and in the ledger of what goes not once.
    children._check(settled=True)


def test_sorting_and_reversing_keep_the_children():
    children = nested_list()
    children.reverse()
    children.sort(key=lambda child: child[0] % 3)
    assert children.tolist() == [[3], [0], [4], [1], [5], [2]]
    children[0].append("in")
    children._check(settled=True)


# -- a plain dict of one instant -----------------------------------------------------------------------------------

OF_ONE_INSTANT = {
    "copy": lambda d: d.copy(),
    "copy.copy": copy.copy,
    "dict of items": lambda d: dict(d.items()),
    "or": lambda d: d | {},
    "reflected or": lambda d: {} | d,
    "todict": lambda d: d.todict(),
}
KEY_BY_KEY = {
    "dict": dict,
    "update": {}.update,
    # f(**d) as well, but Python makes a TypeError of it.
    "stars": lambda d: {**d},
}


class Deleting(xmem_dict):
    """While one key is looked up, somebody deletes the other."""

    def __getitem__(self, key):
        for other in self.keys() - {key}:
            del self[other]
        return super().__getitem__(key)


@pytest.mark.parametrize("way", OF_ONE_INSTANT)
def test_ways_to_a_plain_dict_of_one_instant(way):
    d = Deleting(a=1, b=2)
    assert OF_ONE_INSTANT[way](d) == {"a": 1, "b": 2}
    assert len(d) == 2


@pytest.mark.parametrize("way", KEY_BY_KEY)
def test_ways_that_ask_for_key_after_key(way):
    with pytest.raises(KeyError):
        KEY_BY_KEY[way](Deleting(a=1, b=2))


# -- objects and lists ---------------------------------------------------------------------------------------------


class Board:
    items = []

    def __init__(self):
        self.own = []

    def put(self, value):
        self.items.append(value)
        self.own.append(value)


def test_a_class_attribute_belongs_to_each_process():
    board = xmem_object("board", Board)
    pid = os.fork()
    if not pid:
        board.put("child")
        os._exit(0 if board.items == ["child"] else 1)
    assert os.waitpid(pid, 0)[1] == 0
    assert (board.own, board.items, Board.items) == (["child"], [], [])


class Clashing:
    def __init__(self):
        self.atomic, self.unlink = 5, "text"

    def both(self):
        return self.atomic, self.unlink


def test_attributes_called_atomic_and_unlink_are_seen_by_methods_only():
    shared = xmem_object("clashing", Clashing)
    assert shared.both() == (5, "text")
    assert callable(shared.unlink)
    with shared.atomic():
        pass


def test_a_loop_over_a_list_does_not_see_what_it_appends():
    numbers = xmem_list([1, 2])
    for number in numbers:
        numbers.append(number)
    assert numbers == [1, 2, 1, 2]
