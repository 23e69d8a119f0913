"""Dicts, lists and objects that get a public name after they were made: they stay where they are, and all see them."""

import contextlib
import gc
import os
import pickle
import subprocess
import sys

import pytest

import XME
from tests.helpers import ROOT, run_python, xme_names
from XME import xmem_dict, xmem_list, xmem_object
from XME._containers import by_name, opening
from XME._core import names, program, registry
from XME.errors import ContainerGone


@pytest.fixture
def name(request):
    """A public name of the test's own; nothing is shared under it afterwards."""
    name = f"test {os.getpid()} {request.node.name}"
    yield name
    gc.collect()
    XME._core.named.tidy()
    assert registry.read(name) is None


class Tally:
    def __init__(self):
        self.seen = {}

    def count(self, key):
        self.seen[key] = self.seen.get(key, 0) + 1
        return self.seen[key]


CHANGES = {
    "dict": (lambda: xmem_dict({"a": 1}), "shared['b'] = 2", lambda d: d.todict(), {"a": 1, "b": 2}),
    "list": (lambda: xmem_list([1]), "shared.append(2)", lambda x: x.tolist(), [1, 2]),
    "object": (lambda: xmem_object("tally", Tally), "shared.count('b')", lambda o: o.seen, {"b": 1}),
}


@pytest.mark.parametrize("kind", CHANGES)
def test_what_is_published_later_is_the_same_for_all(name, kind):
    make, change, read, changed = CHANGES[kind]
    shared = make()
    # Known to others already: they keep theirs.
    handed = pickle.dumps(shared)
    assert shared.publish(name) is shared
    assert shared.publish(name) is shared
    assert XME.attach(name) is shared
    text = f"""
import XME
shared = XME.attach({name!r})
{change}
mine = XME.xmem_list()
print(mine.domain.id != {program_id()!r})
"""
    done = run_python(text, env={"PYTHONPATH": os.pathsep.join([*sys.path, str(ROOT)])})
    assert done.stdout == "True\n", done.stderr
    assert read(shared) == changed
    assert read(pickle.loads(handed)) == changed
    with pytest.raises(ValueError, match=r"is published as .* already"):
        shared.publish(f"{name} 2")
    shared.unlink()
    with pytest.raises(XME.NameUnknown):
        XME.attach(name)
    assert registry.read(name) is None
    again = make().publish(name)
    again.unlink()


def program_id():
    return XME._core.program.program_domain().id


def test_the_public_name_of_what_is_published_later(name):
    d = xmem_dict(a=1)
    assert d.name is None
    d.publish(name)
    assert d.name == name
    assert repr(d) == f"xmem_dict({{'a': 1}}, name={name!r})"
    with pytest.raises(XME.NameTaken):
        xmem_list().publish(name)
    with pytest.raises(XME.NameTaken):
        xmem_list(name=name)
    d.unlink()
    assert d.name is None
    with pytest.raises(ContainerGone):
        d.publish(name)
    with pytest.raises(TypeError, match="a public name is a str"):
        xmem_list().publish(1)


def test_a_made_name_is_kept_and_a_nested_one_gets_none(name):
    d = xmem_dict({"a": {}}, name=name, nested=True)
    assert d.publish(name) is d
    with pytest.raises(ValueError, match="already"):
        d.publish("other")
    with pytest.raises(ValueError, match="nested in: publish that"):
        d["a"].publish("other")
    d.unlink()


def test_whoever_unlinks_it_takes_its_name_away(name):
    d = xmem_dict(a=1).publish(name)
    done = run_python("import pickle, sys\npickle.loads(bytes.fromhex(sys.argv[1])).unlink()", pickle.dumps(d).hex())
    assert not done.stderr
    xmem_dict(name=name).unlink()


# The other one speaks by its standard error, which is the program's: that may be dead when it does.
PUBLISHER = """
import os, signal, subprocess, sys
import XME

d = XME.xmem_dict({"a": {"b": [1]}}, nested=True).publish(sys.argv[1])
user = '''
import sys, XME
d = XME.attach(sys.argv[1])
own = XME.xmem_dict(mine=1)
inner = d["a"]["b"]
inner.append(2)
print("attached", flush=True)
sys.stdin.read()
how = "lives"
try:
    d["c"] = 1
except XME.DomainEnded as error:
    how = "ended"
own["mine"] += 1
try:
    XME.attach(sys.argv[1])
except XME.NameUnknown:
    how += " unknown"
print(how, inner.tolist(), own, file=sys.stderr)
'''
other = subprocess.Popen([sys.executable, "-c", user, sys.argv[1]], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
other.stdout.readline()
print(d.domain.id, d, sep='\\n', flush=True)
if sys.argv[2] == "ends":
    XME._core.program.leave_all()
    other.communicate()
else:
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize(("way", "then"), [("ends", "ended unknown"), ("is killed", "lives")])
def test_it_ends_with_its_program_or_with_the_last_one_if_that_is_killed(name, way, then):
    done = run_python(PUBLISHER, name, way)
    domain, content = done.stdout.splitlines()
    assert content == f"xmem_dict({{'a': xmem_dict({{'b': xmem_list([1, 2])}})}}, name={name!r})", done.stderr
    assert done.stderr == f"{then} [1, 2] xmem_dict({{'mine': 2}})\n"
    with pytest.raises(XME.NameUnknown):
        XME.attach(name)
    assert not [left for left in xme_names() if domain in left]


WORKERS = """
import sys
import XME

def publish(d, name):
    d.publish(name)
    return XME.attach(name) is d

if __name__ == "__main__":
    d = XME.xmem_dict()
    with XME.XME(publish, do_with_log=False) as xme:
        print(xme.fun(d, sys.argv[1]))
        print(XME.attach(sys.argv[1]) is d, d.name == sys.argv[1])
"""


def test_a_worker_publishes_what_its_parent_made(name):
    done = run_python(WORKERS, name)
    assert done.stdout == "(True,)\nTrue True\n", done.stdout + done.stderr
    assert done.stderr == ""
    assert not os.path.exists(names.path_of(names.public_file(name)))


def test_the_name_of_what_was_unlinked_by_one_who_was_killed_is_unknown(name, monkeypatch):
    d = xmem_dict(a=1).publish(name)
    monkeypatch.setattr(type(d), "_forget_names", lambda _self: None)
    d.unlink()
    done = run_python(f"import XME\ntry:\n    XME.attach({name!r})\nexcept XME.NameUnknown as e:\n    print(e)")
    assert "nothing is shared under the name" in done.stdout, done.stderr
    assert registry.read(name) is None


def test_a_fork_attaches_too(name):
    d = xmem_dict(a=1).publish(name)
    pid = os.fork()
    if not pid:
        try:
            XME.attach(name)["b"] = 2
        finally:
            os._exit(0)
    os.waitpid(pid, 0)
    assert d == {"a": 1, "b": 2}
    d.unlink()


# -- names that change hands -------------------------------------------------------------------------------------------


def test_publishing_what_was_unlinked_takes_no_name_from_another(name):
    gone, living = xmem_dict(), xmem_dict(a=1).publish(name)
    gone.unlink()
    with pytest.raises(ContainerGone):
        gone.publish(name)
    assert XME.attach(name) is living
    living.unlink()


def test_who_unlinks_leaves_the_name_to_whom_it_was_given_meanwhile(name, monkeypatch):
    old, new = xmem_dict().publish(name), xmem_dict(a=1)
    names_of = registry.names_of

    def swapped(*where):
        """Another process has unlinked it as well, and has given its name away."""
        found = names_of(*where)
        registry.remove(name, old.domain.id)
        new.publish(name)
        return found

    with monkeypatch.context() as patched:
        patched.setattr(registry, "names_of", swapped)
        old._forget_names()
    assert XME.attach(name) is new
    old.unlink()
    new.unlink()


KEEPING = {
    "published": lambda name, **content: xmem_dict(content).publish(name),
    "named": lambda name, **content: xmem_dict(content, name=name),
    "array": lambda name, **content: XME.xmem_array(list(content.values()), name=name),
}


@pytest.mark.parametrize("keeping", KEEPING)
def test_a_name_is_given_to_another_while_somebody_attaches(name, monkeypatch, keeping):
    old = KEEPING[keeping](name, a=1)
    kind = registry.read(name).kind
    opener, swapped = by_name._OPENERS[kind], []

    def swap_and_open(domain, entry):
        if not swapped:
            old.unlink()
            swapped.append(KEEPING[keeping](name, a=2))
            opening._handles.pop((domain.id, entry.serial), None)
        return opener(domain, entry)

    monkeypatch.setitem(by_name._OPENERS, kind, swap_and_open)
    found = XME.attach(name)
    assert list(found.values() if isinstance(found, xmem_dict) else found) == [2]
    swapped.pop().unlink()


STORING = """
import sys
import XME

class V:
    value = 0

shared = XME.attach(sys.argv[1])
for own in (XME.xmem_list([1]), XME.xmem_array(3), ("deep", XME.xmem_dict()), XME.xmem_object("v", V)):
    try:
        shared["own"] = own
    except XME.errors.ShortLived as error:
        print(error)
assert "own" not in shared
shared["inner"] = shared["inner"]
with_name = shared["named"] = XME.xmem_list([1], name=sys.argv[1] + " 2")
print(shared["named"] is with_name)
"""


def test_what_another_program_has_made_is_no_value_here(name):
    """It would end with that program, and whoever reads the value would hear of it."""
    d = xmem_dict(inner={}, nested=True).publish(name)
    done = run_python(STORING, name)
    *refused, stored = done.stdout.splitlines()
    assert len(refused) == 4, done.stderr
    assert all(f"into the shared container {name!r}: it may end before" in text for text in refused)
    assert "one that its own program has made" in refused[-1]
    assert stored == "True"
    d.unlink()


OWNER = """
import os, signal, sys
import XME

d = XME.xmem_dict(a=1).publish(sys.argv[1])
print("sharing", flush=True)
if sys.stdin.read(1) == "k":
    os.kill(os.getpid(), signal.SIGKILL)
"""


@contextlib.contextmanager
def owner(name, word):
    """A program that shares a dict under a name, and at the end of the block ends as it is told."""
    command = [sys.executable, "-c", OWNER, name]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"sharing\n"
        yield XME.attach(name)
        process.communicate(word)


TAKE_AGAIN = [lambda name: xmem_dict(b=2).publish(name), lambda name: xmem_dict(b=2, name=name)]


@pytest.mark.parametrize("take", TAKE_AGAIN, ids=["published", "made with it"])
def test_the_name_of_a_program_that_was_killed_is_free_though_a_reader_lives(name, take):
    with owner(name, b"k") as old, pytest.raises(XME.NameTaken):
        take(name)
    assert XME.attach(name) is old
    new = take(name)
    assert XME.attach(name) is new
    assert (old.name, old["a"]) == (None, 1)
    with pytest.raises(XME.NameTaken):
        old.publish(name)
    new.unlink()


def look(name):
    with owner(name, b"e") as shared:
        gc.collect()
        return shared.domain.id, len(os.listdir("/proc/self/fd"))


def test_who_looks_at_one_program_after_the_other_keeps_nothing_of_them(name):
    xmem_dict()
    ended, before = look(name)
    _, after = look(name)
    assert before == after
    assert not [left for left in xme_names() if ended in left]
    with owner(name, b"e") as last:
        pass
    # What is still in use here can be read as before.
    mine = xmem_dict().publish(name)
    assert XME.attach(name) is mine
    assert last["a"] == 1
    assert program.known(last.domain.id) is last.domain
    mine.unlink()


BETWEEN = """
import pickle, subprocess, sys
import XME

child = '''
import pickle, sys
thing = pickle.loads(bytes.fromhex(sys.argv[1]))
import XME
print(XME.xmem_list().domain.id)
'''
shared = XME.attach(sys.argv[1])
own = XME.xmem_list().domain.id
told = [pickle.dumps(thing) for thing in (shared, shared["array"])]
# And by one who has ended meanwhile.
told.append(told[0].replace(own.encode(), b"A" * len(own)))
command = [sys.executable, "-c", child]
children = [subprocess.Popen([*command, data.hex()], stdout=subprocess.PIPE, text=True) for data in told]
print(own, *[child.communicate()[0] for child in children])
"""


def test_who_is_told_first_of_another_programs_container_belongs_to_the_one_that_told(name):
    d = xmem_dict(array=XME.xmem_array(3)).publish(name)
    done = run_python(BETWEEN, name)
    middle, *told, orphan = done.stdout.split()
    assert told == [middle] * 2, done.stderr
    assert orphan not in (middle, program_id())
    d.unlink()


ORPHAN = """
import os, sys
import XME

own = XME.xmem_dict()
reader, writer = os.pipe()
if os.fork():
    sys.exit()
os.close(writer)
# Its program has ended when that has closed its end.
os.read(reader, 1)
own.domain.ended or sys.exit("its program lives")
other = XME.attach(sys.argv[1])
other["b"] = bytes(1 << 17)
other.update((k, "x" * 100) for k in range(200))
try:
    XME.xmem_dict()
except XME.DomainEnded as error:
    print(other["a"], len(other), error.domain == own.domain.id)
"""


def test_who_outlives_his_program_can_use_what_another_one_has_published(name):
    mine = xmem_dict(a=1).publish(name)
    done = run_python(ORPHAN, name)
    assert done.stdout == "1 202 True\n", done.stderr
    assert XME.attach(name) is mine
    assert mine["b"] == bytes(1 << 17)
    mine.unlink()
