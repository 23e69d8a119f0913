"""The store's writers: one operation on a dict or a list, as the list of its stores.

Nobody else stores while the mutex is held, so a writer's loads are no steps, and its stores are known beforehand.
"""

from tests.model.commit_reads import ALL, HASH, LIVE, VOID, Record, Shape, first_public, last_record, probe, run

SETS, DELETES = "abc", {"A": "a", "B": "b"}


class Writer:
    """One operation, as the list of its stores; begins with what a dead one may have left."""

    def __init__(self, model, memory, number):
        self.kind, self.fault, self.number = model.kind, model.fault, number
        self.memory, self.stores, self.after = dict(memory), [], []
        self.state = list(memory["hist",][-1])
        self.generation, self.place = memory.get(("root",), (0, 0))
        self.serial = memory.get(("word", self.generation & 1), 0) if self.generation else 0
        last = run(last_record(self.serial, self.place), memory)
        self.count, self.end, self.extra = last.count, last.end, last.extra
        self.recover()

    def get(self, *address):
        return self.memory.get(address, 0)

    def put(self, *address_and_value, **more):
        *address, value = address_and_value
        stores = {tuple(address): value, **{(name,): it for name, it in more.items()}}
        self.memory.update(stores)
        self.stores.append(stores)

    @property
    def high(self):
        return ("high", 0 if self.fault == "one high-water word for all generations" else self.serial)

    @property
    def shape(self):
        return self.get("shape", self.serial) or Shape()

    def recover(self):
        place = end = self.place + self.get("head", self.serial, self.place)[0] if self.place else 1
        high = self.get(*self.high) or 1
        while place < high and self.fault != "a dead one's records are not voided":
            units, tag = self.get("head", self.serial, place) or (0, "")
            if not units:
                if self.fault != "a half-written record is not closed":
                    self.put("head", self.serial, place, (high - place, VOID))
                break
            if tag != VOID:
                self.put("head", self.serial, place, (units, VOID))
                self.empty_slot(place)
            place += units
        if self.fault == "the dead range is used again" and end < high:
            self.put(*self.high, end)

    def empty_slot(self, place):
        if self.fault == "a slot is emptied with its last record":
            body = self.get("body", self.serial, place)
            if not body.previous:
                for slot in range(self.shape.slots):
                    if self.get("slot", self.serial, slot) and self.get("slot", self.serial, slot)[1] == place:
                        self.put("slot", self.serial, slot, 0)

    def reserve(self, units):
        place = self.get(*self.high) or 1
        self.put(*self.high, place + units)
        return place

    def record(self, key, value, extra, slot=None, code=0, place=0):
        """Append a record, whose slot leads to it after it is whole."""
        units = 1 if value is None else 2
        place = place or self.reserve(units)
        raw = self.get("slot", self.serial, slot) if slot is not None else 0
        previous = raw[1] if raw and not self.forgets(slot) else 0
        body = Record(previous, key, value, self.count, self.end, extra)
        parts = [("body", self.serial, place, body), ("head", self.serial, place, (units, LIVE))]
        if slot is not None:
            parts.append(("slot", self.serial, slot, (code, place)))
        if self.fault == "the slot before the head":
            parts = parts[:1] + parts[:0:-1]
        if self.fault == "the root before the slot" and slot is not None:
            self.after.append(parts.pop())
        for part in parts:
            self.put(*part)
        self.place = place

    def forgets(self, slot):
        if self.kind == "dict":
            return self.fault == "a record without its previous"
        at = slot[1] - self.end
        return (at == self.count - 1 and self.fault == "an append after a pop forgets the popped") or (
            at == 0 and self.fault == "an insert at the front forgets the popped"
        )

    def new_generation(self, bound=0):
        """Begin the next generation; the caller copies what lives."""
        old, shape = self.serial, self.shape
        if self.fault == "the old name goes before the root":
            self.put("name", old, 0)
        elif old:
            self.after.append(("name", old, 0))
        serial = self.get("serials") + 1
        # Not one more than the last try of this transaction: its serial would take the current generation's word.
        twice = self.fault == "a transaction that grows twice takes two numbers"
        self.generation = (self.generation if twice else self.memory.get(("root",), (0, 0))[0]) + 1
        bound = bound or shape.bound
        steps = [
            ("serials", serial), ("shape", serial, shape._replace(bound=bound, slots=max(shape.slots, bound))),
            ("number", serial, self.generation), ("name", serial, 1), ("word", self.generation & 1, serial),
        ]  # fmt: skip
        if self.fault == "the number after the serial, and zero is a number":
            steps.append(steps.pop(2))
        if self.fault == "one high-water word for all generations":
            steps.append(("high", 0, 1))
        for step in steps:
            self.put(*step)
        self.serial, self.place, self.count, self.end, self.extra = serial, 0, 0, 0, 0

    def commit(self):
        if not self.place:
            self.record(None, None, self.extra)
        hist = (*self.memory["hist",], tuple(self.state))
        self.put("root", (self.generation, self.place), hist=hist)
        for store in self.after:
            self.put(*store)
        return tuple(self.stores)


class DictWriter(Writer):
    """Operations on a dict."""

    def find(self, key, raw=False):
        fault = "slot" if raw and self.fault == "a deleted key's slot is another's" else ""
        shape = self.shape
        if raw and self.fault == "the writer goes on behind the probe bound":
            shape = shape._replace(bound=shape.slots)
        slot, place = run(probe(self.serial, key, shape, fault), self.memory)
        newest = self.get("body", self.serial, place)
        body = run(first_public(self.serial, place, ALL), self.memory)[1]
        if body and body.key != key:
            body = newest = None
        return slot, body, newest

    def set(self, key, value=0, place=0):
        slot, body, newest = self.find(key, raw=True)
        exists = body and body.value is not None
        if slot is None or (not exists and self.end == self.shape.positions):
            self.copy(self.shape.bound + (slot is None))
            self.set(key, value)
            return
        value = value or f"{key}{self.number}"
        extra = body.extra if exists else self.end
        if newest and exists and self.fault == "the position of the newest record, public or not":
            extra = newest.extra
        again = body and not exists and self.fault == "set again after a delete keeps its position"
        if again:
            extra = body.extra
        if not exists:
            self.count += 1
            if not again:
                self.end += 1
                self.place_in_order(extra, slot)
        self.record(key, value, extra, slot, HASH[key][0], place)
        self.state = list((dict(self.state) | {key: value}).items())

    def place_in_order(self, position, slot):
        if self.fault == "the order after the root":
            self.after.append(("order", self.serial, position, slot))
        else:
            self.put("order", self.serial, position, slot)

    def delete(self, key):
        slot, body, _ = self.find(key)
        self.count -= 1
        if self.fault == "popitem gives its position back" and body.extra == self.end - 1:
            self.end -= 1
        self.record(key, None, body.extra, slot, HASH[key][0])
        if self.fault == "a slot is emptied with its last record":
            self.after.append(("slot", self.serial, slot, 0))
        self.state = [item for item in self.state if item[0] != key]

    def copy(self, bound=0):
        items, self.state = self.state, []
        self.new_generation(bound)
        for key, value in items:
            self.set(key, value)

    def batch(self):
        """Two records behind one store of the high-water word."""
        if any(self.find(key)[0] is None for key in "ab") or self.end + 2 > self.shape.positions:
            self.copy(3)
        place = self.reserve(4)
        begun = len(self.stores)
        self.set("a", place=place)
        between = len(self.stores)
        self.set("b", place=place + 2)
        if self.fault == "heads of a batch in descending order":
            self.stores[begun:] = self.stores[between:] + self.stores[begun:between]

    def operate(self, letter):
        keys = dict(self.state)
        if letter in SETS:
            self.set(letter)
        elif letter in DELETES:
            if DELETES[letter] not in keys:
                return False
            self.delete(DELETES[letter])
        elif letter == "P":
            if not keys:
                return False
            self.delete(self.state[-1][0])
        elif letter == "X":
            self.set("a")
            self.delete("a")
            self.set("a")
        elif letter == "Y":
            self.batch()
        elif letter == "Z":
            for key in keys:
                self.delete(key)
        else:
            self.copy()
            if letter == "D":
                self.copy()
        return True


class ListWriter(Writer):
    """Operations on a list."""

    @property
    def room(self):
        return self.get("body", self.serial, self.extra).value if self.extra else 0

    def word(self, k):
        return self.get("slot", self.serial, (self.extra, self.end + k))

    def store(self, k, value):
        self.record(None, value, self.extra, (self.extra, self.end + k))

    def new_index(self, words, begin=0):
        """A new position index; room for two more at the end."""
        in_place = self.fault == "an insert in the middle moves the slots" and len(words) <= self.room
        place = self.extra if in_place else self.reserve(2)
        for k, word in enumerate(words):
            if word:
                self.put("slot", self.serial, (place, begin + k), word)
        if in_place:
            self.record(None, None, place)
        else:
            body = Record(0, None, len(words) + 2, self.count, begin, place)
            self.put("body", self.serial, place, body)
            self.put("head", self.serial, place, (2, LIVE))
            self.place = place
        self.extra, self.end = place, begin

    def words(self):
        return [self.word(k) for k in range(self.count)]

    def insert(self, k, value=0):
        value = value or f"v{self.number}"
        if k == self.count and self.end + self.count < self.room:
            self.count += 1
        elif k == 0 and self.end:
            self.end -= 1
            self.count += 1
        else:
            words = self.words()
            self.count += 1
            self.new_index([*words[:k], 0, *words[k:]])
        self.store(k, value)
        self.state.insert(k, value)

    def pop(self, k):
        self.count -= 1
        self.end += k == 0
        self.record(None, None, self.extra)
        del self.state[k]

    def set(self, k):
        self.store(k, f"s{self.number}")
        self.state[k] = f"s{self.number}"

    def record(self, key, value, extra, slot=None, code=0, place=0):
        if self.fault == "the start is a word of its own" and self.get("start", self.serial) != self.end:
            self.put("start", self.serial, self.end)
        super().record(key, value, extra, slot, code, place)

    def copy(self):
        values, self.state = self.state, []
        self.new_generation()
        for value in values:
            self.insert(self.count, value)

    def operate(self, letter):
        if letter in "pqsrXi" and not self.count:
            return False
        if letter == "a":
            self.insert(self.count)
        elif letter in "fi":
            self.insert(int(letter == "i"))
        elif letter in "pq":
            self.pop(-1 if letter == "p" else 0)
        elif letter == "s":
            self.set(0)
        elif letter == "r":
            self.new_index(self.words()[::-1])
            self.state.reverse()
        elif letter == "X":
            self.insert(self.count)
            self.pop(0)
            self.set(0)
        else:
            self.copy()
        return True
