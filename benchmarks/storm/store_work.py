"""One process of the store storm: changes and reads shared containers until it is killed, and judges what it reads.

What is acknowledged: a word of the process's own row, stored after the method has returned.
"""

from __future__ import annotations

import ctypes
import random
import signal
import time
import zlib
from collections.abc import Callable
from typing import Any

import XME
from XME.errors import ContainerGone

_PR_SET_PDEATHSIG = 1

# The shared board: a row a slot, in 8-byte words.
R_PROGRESS, R_WORK, R_DONE, R_DICT, R_LIST, R_OBJECT = range(6)
ROW = 8

ACCOUNTS = 16
EACH = 100
_SMALL_KEYS = 40
_LARGE_KEYS = 6
_TEXTS = 40


class Torn(Exception):
    """A promise broke."""


class Pair:
    """Two attributes that every method leaves equal, and a count for each slot."""

    def __init__(self) -> None:
        self.left = 0
        self.right: list[int] = [0]
        self.counts: dict[int, int] = {}

    def add(self, slot: int) -> int:
        """Change everything once."""
        self.left += 1
        self.right.append(self.left)
        del self.right[:-3]
        self.counts[slot] = self.counts.get(slot, 0) + 1
        return self.counts[slot]

    def look(self) -> tuple[int, int, dict[int, int]]:
        """Return what must fit together."""
        return self.left, self.right[-1], dict(self.counts)


class Shop:
    """All containers of a storm."""

    def __init__(self, slots: int) -> None:
        self.bank = XME.xmem_dict(dict.fromkeys(range(ACCOUNTS), EACH))
        self.ring = XME.xmem_list([EACH] * ACCOUNTS)
        self.small = XME.xmem_dict()
        self.large = XME.xmem_dict()
        self.tree = XME.xmem_dict(nested=True)
        self.texts = XME.xmem_list()
        self.acked = XME.xmem_dict(dict.fromkeys(range(slots), 0))
        self.tallies = XME.xmem_list([0] * slots)
        self.pair = XME.xmem_object("storm", Pair)

    def containers(self) -> list[Any]:
        """Return the containers themselves; an object's handle has the names of its class."""
        return [getattr(one, "_xmem_core", one) for one in vars(self).values()]


def made(dice: random.Random, nbytes: int) -> tuple[int, int, bytes]:
    """Return a value that says whether it is whole."""
    seed = dice.getrandbits(32)
    body = seed.to_bytes(4, "little") * (1 + nbytes // 4)
    return seed, zlib.crc32(body), body


def judge(value: Any, where: str) -> None:
    """Raise Torn if a value is not whole."""
    seed, checksum, body = value
    if zlib.crc32(body) != checksum or body[:4] != seed.to_bytes(4, "little"):
        raise Torn(f"{where}: a value's checksum is wrong")


class Worker:
    """What one process does."""

    def __init__(self, shop: Shop, board: memoryview, slot: int, seed: int) -> None:
        self.shop = shop
        self.board = board
        self.slot = slot
        self.row = slot * ROW
        self.dice = random.Random(seed)

    def ack(self, word: int, count: int) -> None:
        """Note that a change has returned, which has made a count of mine so large."""
        if count < self.board[self.row + word]:
            raise Torn(f"slot {self.slot}: count {count} after {self.board[self.row + word]} was acknowledged")
        self.board[self.row + word] = count

    def number(self, most: int) -> int:
        """Roll the dice."""
        return self.dice.randrange(most)


# -- changes ---------------------------------------------------------------------------------------------------------


def transfer(my: Worker) -> None:
    bank = my.shop.bank
    amount = my.number(20)
    with bank.atomic():
        bank[my.number(ACCOUNTS)] -= amount
        if my.dice.random() < 0.1:
            # So that some transactions outgrow their generation.
            bank["memo"] = "m" * my.number(4000)
            bank.pop("memo")
        bank[my.number(ACCOUNTS)] += amount


def shift(my: Worker) -> None:
    ring = my.shop.ring
    amount = my.number(20)
    with ring.atomic():
        ring[my.number(ACCOUNTS)] -= amount
        if my.dice.random() < 0.3:
            ring.insert(my.number(ACCOUNTS), ring.pop(my.number(ACCOUNTS)))
        ring[my.number(ACCOUNTS)] += amount


def order(my: Worker) -> None:
    my.dice.choice([my.shop.ring.sort, my.shop.ring.reverse])()


def set_small(my: Worker) -> None:
    my.shop.small[my.number(_SMALL_KEYS)] = made(my.dice, my.number(300))


def drop_small(my: Worker) -> None:
    way = my.number(20)
    if not way:
        my.shop.small.clear()
    else:
        my.shop.small.pop(my.number(_SMALL_KEYS), None)


def update_small(my: Worker) -> None:
    value = made(my.dice, 40)
    my.shop.small.update({f"together {k}": value for k in range(4)})


def set_large(my: Worker) -> None:
    my.shop.large[my.number(_LARGE_KEYS)] = made(my.dice, 66_000 + my.number(60_000))


def drop_large(my: Worker) -> None:
    my.shop.large.pop(my.number(_LARGE_KEYS), None)


def plant_tree(my: Worker) -> None:
    seed, checksum, body = made(my.dice, 40)
    deep = [seed, {"large": made(my.dice, 66_000)}] if my.dice.random() < 0.2 else []
    my.shop.tree[my.number(3)] = {"value": (seed, checksum, body), "again": seed, "deep": deep}


def fell_tree(my: Worker) -> None:
    my.shop.tree.pop(my.number(3), None)


def graft(my: Worker) -> None:
    child = my.shop.tree.get(my.number(3))
    if child is not None:
        value = made(my.dice, 40)
        with child.atomic():
            child["value"] = value
            child["again"] = value[0]


def write_text(my: Worker) -> None:
    texts = my.shop.texts
    value = made(my.dice, 66_000 if my.dice.random() < 0.1 else my.number(400))
    way = my.number(6)
    if way == 0:
        texts.insert(0, value)
    elif way == 1:
        texts.insert(5, value)
    elif way == 2:
        texts[3:6] = [value, value]
    else:
        texts.append(value)
    if len(texts) > _TEXTS:
        del texts[: _TEXTS // 2]


def drop_text(my: Worker) -> None:
    texts = my.shop.texts
    try:
        texts.pop(my.dice.choice([0, -1, 2]))
    except IndexError:
        texts.reverse()


def count_dict(my: Worker) -> None:
    my.ack(R_DICT, my.shop.acked.increment(my.slot))


def count_list(my: Worker) -> None:
    my.ack(R_LIST, my.shop.tallies.increment(my.slot))


def count_object(my: Worker) -> None:
    my.ack(R_OBJECT, my.shop.pair.add(my.slot))


# -- looks -----------------------------------------------------------------------------------------------------------


def look_at_money(my: Worker) -> None:
    for name, found in (("bank", my.shop.bank.values()), ("ring", my.shop.ring)):
        amounts = list(found)
        if len(amounts) != ACCOUNTS or sum(amounts) != ACCOUNTS * EACH:
            raise Torn(f"{name}: {len(amounts)} accounts, {sum(amounts)} in all")


def look_at_small(my: Worker) -> None:
    content = my.shop.small.todict()
    for key, value in content.items():
        judge(value, f"small[{key}]")
    together = {content.get(f"together {k}") for k in range(4)}
    if len(together) != 1:
        raise Torn("small: what one update() has set is not of one instant")


def look_at_large(my: Worker) -> None:
    value = my.shop.large.get(my.number(_LARGE_KEYS))
    if value is not None:
        judge(value, "large")


def look_at_tree(my: Worker) -> None:
    child = my.shop.tree.get(my.number(3))
    if child is not None:
        content = child.todict()
        judge(content["value"], "tree")
        if content["again"] != content["value"][0]:
            raise Torn("tree: what one transaction has set is not of one instant")


def look_at_texts(my: Worker) -> None:
    for value in my.shop.texts.tolist():
        judge(value, "texts")


def look_at_counts(my: Worker) -> None:
    slots = len(my.board) // ROW
    for slot in range(slots):
        said = my.board[slot * ROW + R_DICT], my.board[slot * ROW + R_LIST]
        found = my.shop.acked[slot], my.shop.tallies[slot]
        if found[0] < said[0] or found[1] < said[1]:
            raise Torn(f"slot {slot}: {said} was acknowledged, and there is {found}")


def look_at_pair(my: Worker) -> None:
    slots = len(my.board) // ROW
    said = [my.board[slot * ROW + R_OBJECT] for slot in range(slots)]
    left, right, counts = my.shop.pair.look()
    if left != right or sum(counts.values()) != left:
        raise Torn(f"object: {left}, {right} and {counts} do not fit")
    if any(counts.get(slot, 0) < said[slot] for slot in range(slots)):
        raise Torn(f"object: {said} was acknowledged, and there is {counts}")


WORK: list[Callable[[Worker], None]] = [
    transfer,
    shift,
    order,
    set_small,
    drop_small,
    update_small,
    set_large,
    drop_large,
    plant_tree,
    fell_tree,
    graft,
    write_text,
    drop_text,
    count_dict,
    count_list,
    count_object,
    look_at_money,
    look_at_small,
    look_at_large,
    look_at_tree,
    look_at_texts,
    look_at_counts,
    look_at_pair,
]
# A child may go while it is read: it belongs to where it stands.
_MAY_GO = (graft, look_at_tree)


def live(shop: Shop, board: memoryview, slot: int, seed: int) -> None:
    """Work until killed; returns only to tell what broke."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    my = Worker(shop, board, slot, seed)
    look_at_counts(my)
    while True:
        k = my.number(len(WORK))
        board[my.row + R_WORK] = k
        try:
            WORK[k](my)
        except ContainerGone:
            if WORK[k] not in _MAY_GO:
                raise
        board[my.row + R_DONE] += 1
        board[my.row + R_PROGRESS] = time.monotonic_ns()


def once(shop: Shop, board: memoryview, slot: int, seed: int) -> None:
    """Change each container once, and look at all."""
    my = Worker(shop, board, slot, seed)
    for change in (transfer, shift, set_small, set_large, plant_tree, write_text, count_dict, count_list, count_object):
        change(my)
    for look in (look_at_money, look_at_small, look_at_large, look_at_texts, look_at_counts, look_at_pair):
        look(my)
