"""Public names of shared dicts and lists: made, found by other programs, taken away; and what cannot be opened."""

import gc
import os
import pickle
import struct

import numpy as np
import pytest

import XME
from tests.helpers import run_python, xme_names
from XME import xmem_dict, xmem_list
from XME._core import names, registry

KINDS = [(xmem_dict, {"a": 1}, lambda d: d.update(b=2), {"a": 1, "b": 2}),
         (xmem_list, [1], lambda x: x.append(2), [1, 2])]  # fmt: skip


@pytest.fixture
def name(request):
    """A public name of the test's own; nothing is shared under it afterwards."""
    yield f"test {os.getpid()} {request.node.name}"
    gc.collect()
    XME._core.named.tidy()


@pytest.mark.parametrize(("cls", "content", "change", "changed"), KINDS, ids=["dict", "list"])
def test_an_unrelated_program_attaches_by_name(name, cls, content, change, changed):
    shared = cls(content, name=name)
    assert shared.name == name
    assert f"name={name!r}" in repr(shared)
    program = f"""
import XME
shared = XME.attach({name!r})
{"shared.update(b=2)" if cls is xmem_dict else "shared.append(2)"}
print(type(shared).__name__, shared.name, len(shared))
"""
    done = run_python(program)
    assert done.stdout.split("\n")[0] == f"{cls.__name__} {name} 2", done.stderr
    assert shared == changed
    assert XME.attach(name) is shared
    assert pickle.loads(pickle.dumps(shared)) is shared
    shared.unlink()
    assert shared.name is None


def test_it_outlives_the_program_that_made_it(name):
    maker = f"""
import XME, sys, subprocess
d = XME.xmem_dict({{"a": {{"b": [1]}}}}, name={name!r}, nested=True)
heir = subprocess.Popen([sys.executable, "-c", '''
import sys, XME
d = XME.attach({name!r})
print("attached", flush=True)
sys.stdin.read()
d["a"]["b"].append(2)
d["big"] = bytes(100_000)
d.update((k, "x" * 100) for k in range(200))
assert len(d) == 202 and d["a"]["b"].tolist() == [1, 2] and d["big"] == bytes(100_000)
print("done", flush=True)
'''], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
assert heir.stdout.readline() == "attached\\n"
d["last word"] = 1
del d["last word"]
if sys.argv[1] == "leave":
    import XME._core.program as program
    program.leave_all()
out, _ = heir.communicate("go")
print(out)
"""
    before = xme_names()
    done = run_python(maker, "leave")
    assert "done" in done.stdout, done.stdout + done.stderr
    with pytest.raises(XME.NameUnknown):
        XME.attach(name)
    assert not {found for found in xme_names() - before if registry.names.public_file(name) in found}


def test_a_killed_user_does_not_keep_it(name):
    done = run_python(f"""
import os, signal, XME
d = XME.xmem_dict(a=1, name={name!r})
d["big"] = bytes(100_000)
os.kill(os.getpid(), signal.SIGKILL)
""")
    assert done.returncode == -9
    with pytest.raises(XME.NameUnknown, match="nothing is shared under the name"):
        XME.attach(name)
    mine = xmem_dict(b=2, name=name)
    assert XME.attach(name) == {"b": 2}
    mine.unlink()


def test_dropping_the_last_handle_ends_it(name):
    before = xme_names()
    d = xmem_dict(a=[1], name=name, nested=True)
    inner = d["a"]
    domain = d.domain.id
    del d
    gc.collect()
    assert XME.attach(name)["a"] is inner
    del inner
    gc.collect()
    XME._core.named.tidy()
    assert not {found for found in xme_names() - before if domain in found}
    with pytest.raises(XME.NameUnknown):
        XME.attach(name)


def test_children_of_a_named_one_travel_alone(name):
    d = xmem_dict(a={"x": 1}, name=name, nested=True)
    done = run_python(
        "import pickle, sys; c = pickle.loads(bytes.fromhex(sys.argv[1])); c['y'] = 2; print(c, c.name)",
        pickle.dumps(d["a"]).hex(),
    )
    assert done.stdout == "xmem_dict({'x': 1, 'y': 2}) None\n", done.stderr
    assert d.todict() == {"a": {"x": 1, "y": 2}}
    with pytest.raises(ValueError, match="belongs to the one that it is nested in"):
        d["a"].unlink()
    d.unlink()


@pytest.mark.parametrize("cls", [xmem_dict, xmem_list])
def test_after_unlink_it_can_be_read_and_nothing_else(name, cls):
    for public in (None, name):
        shared = cls([("a", 1)], name=public)
        copy = shared.copy()
        shared.unlink()
        shared.unlink()
        assert shared.copy() == copy
        assert len(shared) == 1
        for action in (
            pickle.dumps,
            lambda shared: shared.clear(),
            lambda shared: shared.__setitem__("a" if cls is xmem_dict else 0, 1),
            lambda shared: shared.pop("a" if cls is xmem_dict else 0),
            lambda shared: shared.atomic().__enter__(),
        ):
            with pytest.raises(XME.ContainerGone, match=r"the shared container .* is gone"):
                action(shared)
        assert shared.copy() == copy


def test_others_lose_it_too_when_it_is_unlinked(name):
    d = xmem_dict(a=1, name=name)
    program = f"""
import XME
d = XME.attach({name!r})
d.unlink()
try:
    d["a"] = 2
except XME.ContainerGone as error:
    print(error.name)
"""
    assert run_python(program).stdout == f"{name}\n"
    assert d["a"] == 1
    with pytest.raises(XME.ContainerGone) as caught:
        d["a"] = 2
    assert caught.value.name == name
    assert d.name is None
    assert xmem_dict(name=name).name == name


def test_unlink_in_its_own_transaction_is_refused():
    d = xmem_dict(a=1)
    with d.atomic():
        with pytest.raises(ValueError, match="leave atomic"):
            d.unlink()
        d["a"] = 2
    assert d == {"a": 2}


class Ending:
    def __init__(self):
        self.turns = 0

    def end(self, itself):
        self.turns += 1
        itself.unlink()


def test_unlink_in_its_own_method_is_refused():
    obj = XME.xmem_object("ending", Ending)
    for _ in range(2):
        with pytest.raises(ValueError, match="or the method, first"):
            obj.end(obj)
    d = xmem_dict(a=1)
    with pytest.raises(ValueError, match="or the method, first"):
        d.apply("a", lambda _: d.unlink())
    assert (obj.turns, d) == (0, {"a": 1})
    obj.unlink()
    d.unlink()


def test_a_name_is_given_once(name):
    d = xmem_dict(name=name)
    for cls in (xmem_dict, xmem_list):
        with pytest.raises(XME.NameTaken, match="is in use by living processes"):
            cls(name=name)
    d["still"] = "here"
    assert XME.attach(name) == {"still": "here"}


@pytest.mark.parametrize("bad", ["", "a\0b", "é" * 65])
def test_what_cannot_be_a_name(bad):
    with pytest.raises(ValueError, match="a public name has 1 to 128 bytes"):
        xmem_dict(name=bad)
    with pytest.raises(TypeError, match="a public name is a str, not int"):
        xmem_dict(name=3)


def test_what_fails_while_it_is_made_has_no_name(name):
    before = xme_names()
    with pytest.raises(XME.errors.UnshareableValue):
        xmem_dict({"ok": bytes(100_000), "bad": (k for k in "a")}, name=name, nested=True)
    with pytest.raises(XME.NameUnknown):
        XME.attach(name)
    assert not {found for found in xme_names() - before if registry.names.public_file(name) in found}
    assert xmem_dict(a=1, name=name) == {"a": 1}


def test_a_short_lived_container_is_refused(name):
    d = xmem_dict(a=1, name=name)
    for value in (xmem_dict(), [xmem_list([1])], {"deep": xmem_dict()}, XME.xmem_array(3)):
        with pytest.raises(XME.errors.ShortLived, match="it may end before that does") as caught:
            d["short"] = value
        assert caught.value.container == name
        assert isinstance(caught.value, ValueError)
    assert d == {"a": 1}
    xmem_dict()["named"] = d


def test_a_program_that_ended_leaves_domain_ended():
    program = """
import pickle, sys, XME
d = XME.xmem_dict(a=1)
print(pickle.dumps(d).hex())
"""
    pickled = bytes.fromhex(run_python(program).stdout.strip())
    with pytest.raises(XME.DomainEnded, match="the program that opened domain"):
        pickle.loads(pickled)


# -- damage ------------------------------------------------------------------------------------------------------------


def path_of_home(container):
    return names.path_of(names.name_of(container.domain.id, container.serial))


def overwrite(path, offset, data):
    with open(path, "r+b") as file:
        file.seek(offset)
        file.write(data)


def open_elsewhere(container):
    """What another program says when it opens a container."""
    done = run_python(
        "import pickle, sys\ntry:\n    print(pickle.loads(bytes.fromhex(sys.argv[1]))['a'])\n"
        "except Exception as error:\n    print(type(error).__name__, error)",
        pickle.dumps(container).hex(),
    )
    return done.stdout + done.stderr


@pytest.mark.parametrize(
    ("offset", "data", "said"),
    [
        (0, b"XMESEG\0\2", "does not begin with a segment's magic number"),
        (8, struct.pack("<Q", 9), "its layout is version 9, and this is 1"),
        (64, struct.pack("<Q", 0), "it is no shared dict of this version of XME"),
        (64, struct.pack("<Q", 0x454D58 << 32 | 7 << 8 | 2), "it is no shared dict of this version of XME"),
        (64, struct.pack("<Q", 0x454D58 << 32 | 1 << 8 | 1), "it is no shared dict of this version of XME"),
        (72, struct.pack("<Q", 1 << 31), "generation 0 of its records is damaged"),
    ],
)
def test_damage_is_told(offset, data, said):
    d = xmem_dict(a=1)
    overwrite(path_of_home(d), offset, data)
    told = open_elsewhere(d)
    assert said in told, told
    assert "BadSegment" in told


def test_a_missing_generation_is_told():
    d = xmem_dict({"a": 1}, **{f"k{k}": "x" * 30 for k in range(100)})
    number = d._generation.number
    os.unlink(names.path_of(names.name_of(d.domain.id, d.words[2 + (number & 1)])))
    told = open_elsewhere(d)
    assert f"the segment of generation {number} of its records is missing" in told
    assert "BadSegment" in told
    # Who has it mapped does not need its name.
    assert d["a"] == 1


def test_a_file_of_three_bytes_is_no_container():
    d = xmem_dict(a=1)
    pickled = pickle.dumps(d)
    path = path_of_home(d)
    os.rename(path, path + "~")
    with open(path, "wb") as file:
        file.write(b"abc")
    try:
        told = run_python(
            "import pickle, sys\ntry:\n    pickle.loads(bytes.fromhex(sys.argv[1]))\n"
            "except Exception as error:\n    print(type(error).__name__, error)",
            pickled.hex(),
        ).stdout
    finally:
        os.rename(path + "~", path)
    assert "BadSegment" in told
    assert "it is shorter than a header" in told


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make another user's files")
def test_another_users_container_is_not_opened(name):
    d = xmem_dict(a=1)
    os.chown(path_of_home(d), 12345, -1)
    try:
        assert "PermissionError" in open_elsewhere(d)
    finally:
        os.chown(path_of_home(d), 0, -1)
    named = xmem_dict(a=1, name=name)
    entry = names.path_of(names.public_file(name))
    os.chown(entry, 12345, -1)
    try:
        with pytest.raises(PermissionError):
            XME.attach(name)
    finally:
        os.chown(entry, 0, -1)
    assert named["a"] == 1


def test_large_values_of_a_named_one_are_read_elsewhere(name):
    d = xmem_dict(array=np.arange(50_000), name=name)
    done = run_python(f"import XME; a = XME.attach({name!r})['array']; print(a[-1], a.flags.writeable)")
    assert done.stdout == "49999 False\n", done.stderr
    d.unlink()
