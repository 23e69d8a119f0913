"""What is refused says what, where, and what to do, in words that users know."""

import abc
import os
import pickle
from pathlib import Path

import pytest

import XME
from XME import xmem_array, xmem_dict, xmem_list, xmem_object
from XME._core import names, program, registry
from XME.errors import BadSegment, ShortLived


class V:
    def add(self, value):
        self.value = value


class Abstract(abc.ABC):
    @abc.abstractmethod
    def run(self): ...

    @abc.abstractmethod
    def end(self): ...


@pytest.fixture
def name(request):
    return f"test {os.getpid()} {request.node.name}"


def test_an_object_that_may_end_too_early_is_called_by_its_label(name):
    d = xmem_dict(name=name)
    o = xmem_object("the counter", V)
    for value in (o, o.add, [o]):
        with pytest.raises(ShortLived, match=r"'the counter': V, .*copy\.copy.*without a public name") as found:
            d["a"] = value
        assert "object_core" not in str(found.value)
        assert "nested=True" not in str(found.value)
    with pytest.raises(ShortLived, match=r"xmem_array.*store a plain copy \(\.copy\(\)\)"):
        d["a"] = xmem_array(3)
    with pytest.raises(ShortLived, match=r"^xmem_list.*nested=True"):
        d["a"] = xmem_list()
    assert not d
    d.unlink()


@pytest.mark.parametrize("cls", [xmem_list, xmem_dict])
def test_nested_is_true_or_false(cls, name):
    for nested in ("yes", None, 2, [1]):
        with pytest.raises(TypeError, match=f"nested of {cls.__name__} is True .* or False, not "):
            cls(nested=nested, name=name)
    assert registry.read(name) is None
    assert cls(nested=1)._is_nested == 1


def test_an_abstract_class_is_called_abstract():
    with pytest.raises(TypeError, match=r"Abstract cannot be shared: it is abstract; .* that has end, run"):
        xmem_object("a", Abstract)


WRONG = {
    "xmem_list.append": lambda: xmem_list().append(),
    "xmem_list.extend": lambda: xmem_list().extend(),
    "xmem_list.index": lambda: xmem_list().index(),
    "xmem_list.atomic": lambda: xmem_list().atomic(1),
    "xmem_dict.get": lambda: xmem_dict().get(),
    "xmem_dict.setdefault": lambda: xmem_dict().setdefault(),
    "xmem_dict.update": lambda: xmem_dict().update(1, 2),
    "xmem_dict.atomic": lambda: xmem_dict().atomic(1),
    "xmem_dict.unlink": lambda: xmem_dict().unlink(1),
}


@pytest.mark.parametrize("method", WRONG)
def test_wrong_arguments_name_the_class_that_users_know(method):
    with pytest.raises(TypeError, match=rf"^{method}\(\) "):
        WRONG[method]()


def test_methods_pickle_as_they_are_called():
    for method in (xmem_list.append, xmem_list.atomic, xmem_list.extend, xmem_dict.get, xmem_dict.atomic):
        assert pickle.loads(pickle.dumps(method)) is method
        assert method.__doc__
    x = xmem_list()
    pickle.loads(pickle.dumps(x.append))(1)
    assert x == [1]


DAMAGES = {
    "three bytes": lambda _: b"abc",
    "empty": lambda _: b"",
    "half": lambda good: good[: len(good) // 2],
    "zeros": lambda good: bytes(len(good)),
}


# Others' `clean` may take it away.
@pytest.mark.alone
@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("is_made", [True, False], ids=["made", "published"])
def test_a_damaged_entry_of_what_lives_is_said_to_be_damaged(name, damage, is_made, monkeypatch):
    d = xmem_dict(a=1, name=name) if is_made else xmem_dict(a=1).publish(name)
    path = Path(names.path_of(names.public_file(name)))
    damaged = DAMAGES[damage](path.read_bytes())
    # As in a program that begins, which looks for what others have left.
    monkeypatch.setattr(program, "_has_swept", False)
    path.write_bytes(damaged)
    with pytest.raises(BadSegment, match=r"its registry entry is damaged .python -m XME clean removes it"):
        XME.attach(name)
    # What `clean` does, but for this one only.
    path.unlink(missing_ok=True)
    d.publish(name)
    assert XME.attach(name) is d
    d.unlink()
    assert not path.exists()
