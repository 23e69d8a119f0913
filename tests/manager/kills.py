"""Who appends calls, or runs them, is killed before one of its stores into shared memory; then others go on."""

import os
import pickle
import signal
import traceback

from tests.store import stores
from XME import XMEManager, xmem_list, xmem_object
from XME._core import program
from XME.errors import GuardDied


class Account:
    """What is shared: its methods are exactly once."""

    def __init__(self):
        self.value = 0
        self.log = []

    def add(self, value):
        self.value += value
        return self.value

    def note(self, text):
        self.log.append(text)

    def fail(self):
        self.value = -1000
        raise KeyError("as it should")

    def look(self):
        return self.value


class World:
    """A manager, a shared object, and a list for calls that are not methods of an object."""

    def __init__(self, slots=16):
        self.account = xmem_object("account", Account)
        self.seen = xmem_list()
        self.manager = XMEManager({"account": self.account}, slots=slots)
        self.buffer = self.manager._buffer
        self.ring = self.manager._ring

    def child(self, work, tell=None):
        """Run work(world, say) in a forked child; returns (exit code, what it said)."""
        reader, writer = os.pipe()
        pid = os.fork()
        if pid == 0:
            self._be_child(work, tell, writer)
        os.close(writer)
        with open(reader, "rb") as pipe:
            said = pipe.read()
        _, status = os.waitpid(pid, 0)
        return os.waitstatus_to_exitcode(status), [pickle.loads(part) for part in said.split(b"\0END\0")[:-1]]

    def _be_child(self, work, tell, writer):
        def say(what):
            os.write(writer, pickle.dumps(what) + b"\0END\0")

        code = 1
        try:
            domain = program.program_domain()
            domain.require()
            self.warm()
            if tell is not None:
                stores.watch(domain, tell)
                self.watch(tell)
            work(self, say)
            code = 0
        except BaseException:
            say(traceback.format_exc())
        finally:
            os._exit(code)

    def warm(self):
        """Have everything joined and mapped before stores are counted."""
        for mutex in (self.ring.appending, self.ring.running):
            with mutex:
                pass
        self.account.look()
        for shared in (self.buffer.results, self.buffer.failures, self.seen, self.buffer._parcels):
            with shared.atomic():
                pass

    def watch(self, tell):
        ring = self.ring
        ring.words, ring._data = stores.watched(ring.words), stores.watched(ring._data)
        for mutex in (ring.appending, ring.running):
            mutex._words = stores.watched(mutex._words)
            mutex._grab = stores._told(mutex._grab, "semaphore taken")
            mutex._post = stores._told(mutex._post, "semaphore given")


def killer(number):
    """Return what kills this process before its n-th store."""
    left = number

    def tell(_what):
        nonlocal left
        left -= 1
        if not left:
            os.kill(os.getpid(), signal.SIGKILL)

    return tell


# -- who runs calls ----------------------------------------------------------------------------------------------------

BIG = "x" * 1000


def fill(world):
    """Append calls of every kind."""
    manager, account, seen = world.manager, world.account, world.seen
    manager.append(account.add, "adder", value=1)
    manager.append(see, "lister", seen=seen, text="a")
    manager.append(account.fail, "failer")
    manager.append(see, "lister", seen=seen, text=BIG)
    manager.append(account.note, "noter", text="n")
    # Its failure takes the place of the result before it.
    manager.append(refuse, "lister")
    manager.append(account.look, "looker")
    manager.append(account.add, "adder", value=2)


def see(seen, text):
    seen.append(text)
    return text


def refuse():
    raise ValueError("never")


def run_all(world, _say):
    world.buffer.run(100)


def check_run(world, died):
    """Whatever was killed where: the others finish, and every call is executed, failed or reported, in order."""
    world.buffer.run(100)
    assert not world.ring.pending()
    failures = {number: error for number, _, error in world.buffer.take_failures()}
    reported = {number for number, error in failures.items() if isinstance(error, GuardDied)}
    # Of methods of an object none is ever reported, of others the one at most that it was on.
    assert len(reported) <= int(died)
    assert reported <= {2, 4, 6}
    assert isinstance(failures.pop(3), KeyError)
    assert isinstance(failures.pop(6), (ValueError, GuardDied))
    assert set(failures) == reported - {6}
    assert (world.account.value, world.account.log) == (3, ["n"])
    counts = {2: list(world.seen).count("a"), 4: list(world.seen).count(BIG)}
    assert all(counts[number] == 1 or (number in reported and counts[number] == 0) for number in counts)
    assert list(world.seen) == [text for text in ("a", BIG) if text in world.seen]
    assert world.manager.get("adder") == 3
    assert world.manager.get("looker") == 1
    assert world.manager.get("noter") is None
    assert not world.manager.get("lister")
    go_on(world, 3)
    world.buffer.begin_guard()
    assert not world.buffer._parcels


def go_on(world, value):
    world.manager.append(world.account.add, "adder", value=10)
    world.manager.append(see, "lister", seen=world.seen, text=BIG)
    world.buffer.run(100)
    assert world.manager.get("adder") == value + 10
    assert world.manager.get("lister") == BIG
    assert world.manager.len() == 0


# -- who appends -------------------------------------------------------------------------------------------------------


def append_three(world, say):
    world.manager.append(world.account.add, "adder", value=1)
    say(1)
    world.manager.append(world.account.note, "noter", text=BIG)
    say(2)
    world.manager.append(world.account.add, "adder", value=2)
    say(3)


def check_appended(world, acknowledged):
    """What was acknowledged is run, and at most one more; nothing is torn, and others append."""
    appended = world.manager.len()
    assert acknowledged <= appended <= acknowledged + 1
    for function, operator, kwargs in world.manager.get_buffers()["GUARD"]:
        assert (operator, function.__name__) in {("adder", "add"), ("noter", "note")}
        assert kwargs in ({"value": 1}, {"value": 2}, {"text": BIG})
    world.manager.append(world.account.add, "other", value=100)
    world.buffer.run(100)
    assert world.account.value == [0, 1, 1, 3][appended] + 100
    assert world.account.log == [BIG] * (appended > 1)
    assert not world.buffer.take_failures()
    go_on(world, world.account.value)
    world.buffer.begin_guard()
    assert not world.buffer._parcels


def points_of(prepare, work):
    told = []
    world = World()
    prepare(world)
    code, said = world.child(lambda world, say: (work(world, say), say(list(told))), told.append)
    assert code == 0, said
    return said[-1]

