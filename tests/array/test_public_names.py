"""Public names: unrelated programs, who keeps what alive, and what is left when the last one is gone."""

import gc
import json
import os
import pickle

import numpy as np
import pytest

from tests.array.programs import Program, Refused
from tests.helpers import SHARED_MEMORY, wait_until
from XME._containers.by_name import attach
from XME._containers.shared_array import xmem_array
from XME._core import named, names, registry, sweep
from XME.errors import BadSegment, ContainerGone, NameTaken, NameUnknown

# What is looked at here are entries of the dead, which any program that starts prunes, and the registry's lock.
pytestmark = pytest.mark.alone

@pytest.fixture
def name(request):
    """A public name of the test's own; neither the name nor its domain may be left."""
    public = f"{request.node.name} {os.getpid()}"[-100:]
    yield public
    gc.collect()
    wait_until(lambda: not (named.tidy() or os.path.lexists(entry_of(public)) or domains_called(public)))


def domains_called(name):
    found = []
    for domain_id in sweep.domain_ids():
        with sweep.looking_at(domain_id) as domain:
            if domain is not None and domain.label == name:
                found.append(domain_id)
    return found


def entry_of(name):
    return SHARED_MEMORY / names.public_file(name)


def domain_of(array):
    return array._hold.segment.domain


def test_an_unrelated_program_reads_and_writes(name):
    array = xmem_array([1, 2, 3], name=name)

    with Program() as other:
        other.do(f"a = attach({name!r}); a[0] = 10")

        assert array.tolist() == [10, 2, 3]
        assert other.ask("repr(a)") == repr(array) == f"xmem_array([10,  2,  3], name={name!r})"
        assert other.ask("a.name") == array.name == name


def test_it_lives_on_when_its_maker_ends(name):
    with Program() as other:
        with Program() as maker:
            maker.do(f"a = xmem_array(np.arange(5), name={name!r})")
            other.do(f"import pickle; a = attach({name!r})")
        other.do("a[0] = 7; b = pickle.loads(pickle.dumps(a[::2])); b[1] = 9")

        assert other.ask("a.tolist()") == [7, 1, 9, 3, 4]
        assert attach(name)[0] == 7
    with pytest.raises(NameUnknown):
        attach(name)


@pytest.mark.parametrize("publish", ["xmem_array([1, 2], name={0!r})", "xmem_array([1, 2]).publish({0!r})"])
def test_it_lives_on_when_its_maker_is_killed(name, publish):
    with Program() as maker, Program() as other:
        maker.do("a = " + publish.format(name))
        other.do(f"a = attach({name!r})")
        maker.kill()

        other.do("a[1] = 5")
        assert attach(name).tolist() == [1, 5]


def test_a_name_ends_with_its_only_user_killed(name):
    with Program() as maker:
        maker.do(f"a = xmem_array([1, 2], name={name!r})")
        assert entry_of(name).exists()
        maker.kill()

    with pytest.raises(NameUnknown) as raised:
        attach(name)

    assert raised.value.name == name
    assert isinstance(raised.value, FileNotFoundError)


def test_a_name_of_the_dead_is_given_again(name):
    with Program() as maker:
        maker.do(f"a = xmem_array([1, 2], name={name!r})")
        maker.kill()

    array = xmem_array([5], name=name)

    assert attach(name).tolist() == array.tolist() == [5]


def test_the_next_program_sweeps_the_names_of_the_dead(name):
    with Program() as maker:
        maker.do(f"a = xmem_array([1, 2], name={name!r})")
        maker.kill()
    assert entry_of(name).exists()

    with Program() as other:
        other.do("xmem_array(3)")

        assert not entry_of(name).exists()


def test_dropping_the_last_handle_ends_it(name):
    array = xmem_array([1, 2], name=name)
    view = array[1:]
    plain = np.asarray(array)
    del array
    xmem_array(1)
    assert attach(name).tolist() == [1, 2]

    del view
    xmem_array(1)

    assert plain.tolist() == [1, 2]
    with pytest.raises(NameUnknown):
        attach(name)


def test_dropping_and_attaching_again(name):
    with Program() as other:
        other.do(f"a = xmem_array([1], name={name!r})")
        for k in range(5):
            array = attach(name)
            array += 1
            del array
            assert other.ask("a.tolist()") == [k + 2]


def test_a_taken_name_is_refused(name):
    array = xmem_array(3, name=name)

    for make in (lambda: xmem_array(4, name=name), lambda: xmem_array(4).publish(name)):
        with pytest.raises(NameTaken) as raised:
            make()
        assert raised.value.name == name
        assert isinstance(raised.value, FileExistsError)
    with Program() as other, pytest.raises(Refused) as refused:
        other.do(f"xmem_array(1, name={name!r})")

    assert refused.value.args[0] == "NameTaken"
    assert domains_called(name) == [domain_of(array).id]


def test_of_many_programs_one_gets_the_name(name):
    programs = [Program() for _ in range(4)]
    code = f"""
try:
    a = xmem_array([1], name={name!r}); got = True
except FileExistsError:
    got = False
"""
    for one in programs:
        one.process.stdin.write(json.dumps([code, False]) + "\n")
    for one in programs:
        one.process.stdin.flush()
    for one in programs:
        one.process.stdout.readline()

    assert sum(one.ask("got") for one in programs) == 1
    for one in programs:
        one.end()


def test_an_unknown_name():
    with pytest.raises(NameUnknown) as raised:
        attach("nobody made this")

    assert "python -m XME ls" in str(raised.value)


@pytest.mark.parametrize("bad", ["", "x" * 129, "a\0b"])
def test_names_that_cannot_be(bad):
    with pytest.raises(ValueError):
        attach(bad)
    with pytest.raises(TypeError):
        attach(5)


def test_publish_keeps_the_memory_and_the_first_name(name):
    array = xmem_array(np.arange(6).reshape(2, 3))
    before = pickle.dumps(array)

    assert array.publish(name) is array
    assert array.publish(name) is array

    assert np.shares_memory(attach(name), array)
    assert np.shares_memory(pickle.loads(before), array)
    with Program() as other:
        other.do(f"import pickle; a = pickle.loads({before!r}); b = attach({name!r}); a[0, 0] = 5")
        assert other.ask("b.tolist()") == array.tolist() == [[5, 1, 2], [3, 4, 5]]
    with pytest.raises(ValueError):
        array.publish(name + "2")


def test_a_view_publishes_itself(name):
    dtype = np.dtype({"names": ["b", "a"], "formats": ["<f4", ">i2"], "offsets": [8, 2], "itemsize": 16})
    array = xmem_array(np.zeros((4, 3), dtype))
    array["a"] = np.arange(12).reshape(4, 3)
    view = array[::-2, 1:]
    view.flags.writeable = False

    view.publish(name)
    back = attach(name)

    assert (view.dtype, view.shape, view.strides) == (back.dtype, back.shape, back.strides)
    assert view.tolist() == back.tolist()
    assert not back.flags.writeable


def test_a_copy_is_not_published():
    with pytest.raises(ValueError) as raised:
        xmem_array(3).copy().publish("copy")

    assert "XME.xmem_array(array, name=...)" in str(raised.value)


def test_unlink_ends_it_for_everybody(name):
    with Program() as other:
        array = xmem_array([1, 2], name=name)
        data = pickle.dumps(array)
        other.do(f"import pickle; a = attach({name!r})")

        array.unlink()

        with pytest.raises(NameUnknown):
            attach(name)
        with pytest.raises(ContainerGone):
            pickle.loads(data)
        other.do("a[0] = 5")
        assert array.tolist() == [5, 2]
        with pytest.raises(Refused) as refused:
            other.do("pickle.dumps(a)")
        assert refused.value.args[0] == "ContainerGone"
        again = xmem_array([7], name=name)
        assert other.ask(f"attach({name!r}).tolist()") == again.tolist()


def test_unlink_by_one_who_attached(name):
    array = xmem_array([1], name=name)
    with Program() as other:
        other.do(f"attach({name!r}).unlink()")

    with pytest.raises(ContainerGone):
        pickle.dumps(array)
    assert array.tolist() == [1]


def test_a_pickle_of_a_named_array_opens_it_in_any_program(name):
    array = xmem_array([1, 2, 3], name=name)
    with Program() as other:
        other.do(f"import pickle; a = pickle.loads({pickle.dumps(array[1:])!r}); a[0] = 20")
        del array
        xmem_array(1)

        assert other.ask("a.tolist()") == [20, 3]
        assert other.ask("a.name") == name
        assert attach(name).tolist() == [1, 20, 3]


def test_a_pickle_outlives_its_program_as_an_error():
    with Program() as maker:
        maker.do("import pickle; a = xmem_array([1, 2])")
        data = maker.ask("pickle.dumps(a, 0).decode()").encode()
        assert pickle.loads(data).tolist() == [1, 2]
        mapped = pickle.loads(data)

    with pytest.raises(RuntimeError) as raised:
        pickle.loads(pickle.dumps(mapped))
    assert type(raised.value).__name__ == "DomainEnded"
    assert mapped.tolist() == [1, 2]
    del mapped
    with pytest.raises(RuntimeError) as raised:
        pickle.loads(data)
    assert type(raised.value).__name__ == "DomainEnded"


def test_a_forks_child_is_a_user_of_its_own(name):
    array = xmem_array([1, 2], name=name)
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            array[0] = 5
            assert pickle.loads(pickle.dumps(array)).tolist() == [5, 2]
            assert attach(name)[1] == 2
            code = 0
        finally:
            os._exit(code)

    assert os.waitpid(pid, 0)[1] == 0
    assert attach(name).tolist() == [5, 2]
    assert len(domain_of(array).living()) == 1


def test_the_entry_of_another_user(name):
    if os.geteuid() != 0:
        pytest.skip("only root can make a file another user's")
    array = xmem_array([1], name=name)
    os.chown(entry_of(name), 12345, 12345)

    with pytest.raises(PermissionError) as raised:
        attach(name)
    with pytest.raises(PermissionError):
        xmem_array([1], name=name)

    assert repr(name) in str(raised.value)
    os.chown(entry_of(name), 0, 0)
    assert array.tolist() == [1]


def change_entry(name, change):
    path = entry_of(name)
    path.write_bytes(change(path.read_bytes()))


@pytest.mark.parametrize("change", [
    lambda _: b"", lambda data: data[:-5], lambda _: b"\xff" * 50, lambda _: b"[]", lambda _: b'{"version": 1}',
    lambda data: data.replace(b'"version": 1', b'"version": 7'), lambda data: data.replace(b'"array"', b'"queue"'),
    lambda data: data.replace(b'"offset": 64', b'"offset": 999999'), lambda data: data.replace(b"<f8", b"??"),
    lambda data: data.replace(b'"offset"', b'"place"'), lambda data: data.replace(b'"name": "', b'"name": "x'),
], ids=range(11))
def test_a_damaged_entry(name, change):
    array = xmem_array(3, name=name)
    whole = entry_of(name).read_bytes()
    change_entry(name, change)

    with pytest.raises(BadSegment) as raised:
        attach(name)

    assert repr(name) in str(raised.value) or array._hold.segment.name in str(raised.value)
    change_entry(name, lambda _: whole)
    assert attach(name).tolist() == [0, 0, 0]


def test_what_lost_its_segment_names_the_likely_cause(name):
    with Program() as maker:
        maker.do(f"a = xmem_array([1], name={name!r})")
        os.unlink(SHARED_MEMORY / maker.ask("a._hold.segment.name"))

        with pytest.raises(BadSegment) as raised:
            attach(name)

    assert "multiprocessing.shared_memory unlinks at exit" in str(raised.value)


def test_the_lock_of_the_killed_is_free(name):
    with Program() as holder:
        holder.do("from XME._core import registry; lock = registry.locked(); lock.__enter__()")
        assert registry._lock_path() in {str(path) for path in SHARED_MEMORY.iterdir()}
        holder.kill()

    assert xmem_array([1], name=name).tolist() == [1]
    assert not os.path.lexists(registry._lock_path())


def test_a_signal_handler_in_the_middle_is_told(name):
    with registry.locked(), pytest.raises(RuntimeError) as raised:
        xmem_array([1], name=name)

    assert "signal handler" in str(raised.value)
