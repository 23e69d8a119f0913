"""What a dead process had in flight its heir settles, whatever becomes of the containers meanwhile."""

import threading

import numpy as np
import pytest

from XME import xmem_dict
from XME._containers import flight
from XME._containers.home import Home
from XME._core import memory, names

ROWS = 500


@pytest.fixture
def owner():
    """A dict whose records no longer fit its first segment, with one value in a segment of its own."""
    made = xmem_dict({f"key {row}": "x" * 50 for row in range(ROWS)})
    made["large"] = np.zeros(20_000)
    return made


@pytest.fixture
def inherited(owner):
    """The number of the value's segment, which stands as inherited: its dead writer was about to drop it."""
    (serial,) = flight.in_use_now(owner) - {owner.words[2], owner.words[3]}
    book = owner.domain.names
    place = book.note_dropping(serial, owner.serial)
    book.inherited += [entry for entry in owner.domain.entries(owner.domain.number) if entry.place == place]
    assert len(book.inherited) == 1
    return serial


def is_there(container, serial):
    return memory.is_there(names.path_of(names.name_of(container.domain.id, serial)))


def free_places(container):
    return sorted(container.domain.names._free_entries)


def test_what_its_container_still_uses_stays(owner, inherited):
    xmem_dict()["other"] = 1

    assert not owner.domain.names.inherited
    assert is_there(owner, inherited)
    assert owner["large"].shape == (20_000,)


@pytest.mark.parametrize("step", ["opened", "held"])
def test_its_container_may_be_unlinked_at_any_step(owner, inherited, monkeypatch, step):
    domain, serial = owner.domain, owner.serial
    attached, current = flight._attached, Home.current

    def unlinked_when_opened(domain, serial):
        home = attached(domain, serial)
        monkeypatch.undo()
        # So that its semaphore is opened again.
        assert owner.let_go()
        flight.dispose(domain, serial, None)
        assert owner.let_go()
        return home

    def unlinked_when_held(home):
        if home.serial == serial and home is not owner:
            monkeypatch.undo()
            home.words[4] = 1
            for part in flight.in_use_now(owner):
                flight.dispose(domain, part, None)
        return current(home)

    if step == "opened":
        monkeypatch.setattr(flight, "_attached", unlinked_when_opened)
    else:
        monkeypatch.setattr(Home, "current", unlinked_when_held)
    other = xmem_dict()
    other["key"] = 1

    assert other == {"key": 1}
    assert not domain.names.inherited
    assert not is_there(owner, inherited)
    flight.dispose(domain, serial, None)


def test_two_threads_clear_it_once(owner, inherited, monkeypatch):
    asked = threading.Barrier(2)
    is_in_use = flight._is_in_use

    def together(domain, entry):
        found = is_in_use(domain, entry)
        asked.wait(20)
        return found

    monkeypatch.setattr(flight, "_is_in_use", together)
    before = free_places(owner)
    settling = [threading.Thread(target=flight.settle_inherited, args=(owner.domain,)) for _ in range(2)]
    for thread in settling:
        thread.start()
    for thread in settling:
        thread.join()

    assert not owner.domain.names.inherited
    assert len(free_places(owner)) == len(before) + 1
    assert is_there(owner, inherited)
