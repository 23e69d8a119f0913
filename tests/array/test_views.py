"""Views travel as a name and an offset; what numpy makes anew is ordinary memory."""

import copy
import functools
import multiprocessing
import pickle
import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tests.helpers import xme_names
from XME._containers.shared_array import xmem_array
from XME._core.program import program_domain
from XME.errors import ContainerGone

PROTOCOLS = [2, 3, 4, 5]


def facts_of(array):
    flags = array.flags
    kinds = (flags.c_contiguous, flags.f_contiguous, flags.aligned, flags.writeable, flags.owndata)
    return type(array).__name__, array.dtype, array.shape, array.strides, kinds, array.tobytes()


def serve(connection):
    """Worker: say what arrived and hand it back; overwrite it with what comes next."""
    while isinstance(array := connection.recv(), np.ndarray):
        connection.send((facts_of(array), array))
        value = connection.recv()
        if value is not None:
            array[...] = value
        connection.send("stored")


@pytest.fixture(scope="module", params=["fork", "spawn", "forkserver"])
def worker(request):
    context = multiprocessing.get_context(request.param)
    ours, theirs = context.Pipe()
    process = context.Process(target=serve, args=(theirs,), daemon=True)
    process.start()
    theirs.close()

    def ask(value):
        ours.send(value)
        assert ours.poll(30), "no answer from the worker"
        return ours.recv()

    yield ask
    ours.send("end")
    process.join(30)
    assert process.exitcode == 0


@st.composite
def views(draw):
    """A shared array and a view of it, with any dtype, order, slices, reversals and transposes."""
    dtype = draw(hnp.scalar_dtypes() | hnp.array_dtypes())
    shape = draw(hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4))
    content = draw(hnp.arrays(dtype, shape))
    array = xmem_array(content, order=draw(st.sampled_from([None, "C", "F"])))
    view = array
    if draw(st.booleans()):
        view = view[(*(draw(st.slices(n)) for n in view.shape), ...)]
    if draw(st.booleans()):
        view = view.transpose(draw(st.permutations(range(view.ndim))))
    if view.dtype.names and draw(st.booleans()):
        view = view[draw(st.sampled_from(view.dtype.names))]
    if draw(st.booleans()):
        view.flags.writeable = False
    return content, array, view


EXAMPLES = settings(max_examples=80, deadline=None)


@EXAMPLES
@given(views(), st.sampled_from(PROTOCOLS))
def test_a_view_comes_back_the_same(made, protocol):
    content, array, view = made

    assert content.tobytes() == array.tobytes()
    back = pickle.loads(pickle.dumps(view, protocol))

    assert view.shared
    assert back.shared
    assert facts_of(view) == facts_of(back)
    assert not view.size or view.__array_interface__["data"] == back.__array_interface__["data"]


@pytest.mark.long
@settings(max_examples=40, deadline=None)
@given(made=views())
def test_a_view_is_the_same_in_another_process(worker, made):
    _content, _array, view = made

    arrived, back = worker(view)

    assert facts_of(view) == arrived
    assert facts_of(view) == facts_of(back)
    assert worker(None) == "stored"


@pytest.mark.parametrize("look", [
    lambda a: a, lambda a: a[1:, ::-1], lambda a: a.T, lambda a: a.reshape(-1), lambda a: a[..., 1],
    lambda a: a.view("u1"), lambda a: a[1:1], lambda a: a[2, 3, ...],
], ids=range(8))
def test_stores_go_both_ways(worker, look):
    array = xmem_array(np.arange(12.0).reshape(3, 4))
    view = look(array)

    worker(view)
    worker(7)

    assert (view == 7).all()
    assert np.shares_memory(view, array) or not view.size


def test_a_field_is_shared(worker):
    array = xmem_array(np.zeros(3, [("x", "i2"), ("y", "f8")]))

    worker(array["y"])
    worker(2.5)

    assert array.tolist() == [(0, 2.5)] * 3


def test_a_pickle_is_small_whatever_the_size():
    array = xmem_array(5_000_000)

    assert len(pickle.dumps(array)) < 250
    assert len(pickle.dumps(array[::-3])) < 250


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_threads_unpickle_one_mapping(protocol):
    array = xmem_array(100)
    data = pickle.dumps(array, protocol)
    found = []
    threads = [threading.Thread(target=lambda: found.append(pickle.loads(data))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert {a.__array_interface__["data"] for a in found} == {array.__array_interface__["data"]}


ANEW = {
    "copy": lambda a: a.copy(),
    "astype": lambda a: a.astype("f4"),
    "fancy": lambda a: a[[2, 0]],
    "mask": lambda a: a[a > 2],
    "sum": lambda a: a + 1,
    "reversed sum": lambda a: np.ones(a.shape) + a,
    "negative": lambda a: -a,
    "compare": lambda a: a > 3,
    "function": np.sqrt,
    "axis": lambda a: a.sum(axis=0),
    "mean": lambda a: a.mean(axis=1),
    "product": lambda a: a @ a.T,
    "dot": lambda a: a.dot(a.T),
    "joined": lambda a: np.concatenate([a, a]),
    "stacked": lambda a: np.stack([a, a]),
    "where": lambda a: np.where(a > 1, a, 0),
    "take": lambda a: a.take([1, 2]),
    "flatten": lambda a: a.flatten(),
    "reshaped copy": lambda a: a.T.reshape(-1),
    "empty like": np.zeros_like,
    "sorted": np.sort,
    "cumsum": lambda a: a.cumsum(),
    "view of a copy": lambda a: a.copy()[1:],
    "view of fancy": lambda a: a[[0, 1]].T,
    "numpy copy": np.copy,
    "copy.copy": copy.copy,
    "copy.deepcopy": copy.deepcopy,
    "repeat": lambda a: a.repeat(2),
    "round": lambda a: a.round(),
}


@pytest.mark.parametrize("make", ANEW.values(), ids=ANEW)
def test_what_is_made_anew_is_ordinary_memory(make):
    plain = np.arange(12.0).reshape(3, 4)
    array = xmem_array(plain)

    result = make(array)

    assert not getattr(result, "shared", False)
    assert repr(make(plain)) == repr(result)
    back = pickle.loads(pickle.dumps(result))
    assert type(back) is np.ndarray
    assert np.array_equal(back, make(plain))
    result[...] = 0
    assert np.array_equal(array, plain)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_copy_pickles_as_content(protocol):
    array = xmem_array(np.arange(5))

    back = pickle.loads(pickle.dumps(array[[4, 1]], protocol))

    assert (type(back), back.tolist()) == (np.ndarray, [4, 1])


@pytest.mark.parametrize("name", ["sum", "add", "sqrt"])
def test_results_of_arithmetic_are_exactly_arrays(name):
    array = xmem_array([[1.0, 4.0]])

    result = {"sum": array.sum(axis=1), "add": array + array, "sqrt": np.sqrt(array)}[name]

    assert type(result) is np.ndarray


@pytest.mark.parametrize("reduce", [np.min, np.max, np.sum, np.mean, np.std, np.median, np.vdot, np.linalg.norm])
def test_results_without_dimensions_are_numbers(reduce):
    array = xmem_array([1.0, 2.0, 4.0])

    result = functools.partial(reduce, array)(array) if reduce is np.vdot else reduce(array)

    assert isinstance(result, float)
    assert float(f"{result:.1f}") == round(result, 1)


def test_scalars_of_an_array_without_dimensions():
    array = xmem_array(np.array(2.5))

    assert f"{array + 1:.2f}" == "3.50"
    assert f"{array[()]:.1f}" == "2.5"


def test_operations_in_place_stay_shared():
    array = xmem_array([1.0, 2.0])
    same = array

    same += 1
    np.multiply(same, 2, out=same)
    same.sort()

    assert same is array
    assert same.shared
    assert pickle.loads(pickle.dumps(array)).tolist() == [4, 6]


def test_out_gives_the_array_itself():
    array = xmem_array(3)

    assert np.add([1, 2, 3], 1, out=array) is array
    assert np.sum(np.ones((2, 3)), axis=0, out=array) is array
    copied = array.copy()
    assert np.add(array, 1, out=copied) is copied
    with pytest.raises(TypeError):
        np.add(array, 1, out=[0, 0, 0])
    assert array.shared


def test_memory_beyond_the_segment_pickles_as_content():
    array = xmem_array(np.arange(4, dtype="i1"))
    wild = np.lib.stride_tricks.as_strided(array, (2,), (-8,), subok=True)

    assert not isinstance(pickle.loads(pickle.dumps(wild)), xmem_array)


def test_a_window_of_strides_stays_shared():
    array = xmem_array(np.arange(6))

    windows = np.lib.stride_tricks.as_strided(array, (4, 3), (8, 8), subok=True)
    back = pickle.loads(pickle.dumps(windows))
    back[0, 0] = 60

    assert windows.tolist() == back.tolist()
    assert array[0] == 60


def test_plain_views_write_through_and_outlive_all():
    array = xmem_array([1, 2, 3])
    plain = np.asarray(array)
    part = plain[1:]
    plain[0] = 10
    assert array[0] == 10

    name = array._hold.segment.name
    del array, plain
    program_domain().names.tidy()

    assert part.tolist() == [2, 3]
    assert name not in xme_names()


def test_a_view_keeps_the_name():
    view = xmem_array([1, 2, 3])[1:]
    program_domain().names.tidy()

    assert pickle.loads(pickle.dumps(view)).tolist() == [2, 3]


def test_unlink_takes_the_name_and_leaves_the_memory():
    array = xmem_array([1, 2, 3])
    data = pickle.dumps(array)

    array.unlink()
    array.unlink()
    array[0] = 9

    assert array.tolist() == [9, 2, 3]
    assert array.name is None
    with pytest.raises(ContainerGone):
        pickle.loads(data)
    with pytest.raises(ContainerGone):
        pickle.dumps(array[1:])
    with pytest.raises(ContainerGone):
        array.publish("after-unlink")


def test_unlink_by_another_process(worker):
    array = xmem_array([1, 2])
    data = pickle.dumps(array)
    _facts, back = worker(array)
    worker(None)

    back.unlink()
    del array, back

    with pytest.raises(ContainerGone):
        pickle.loads(data)


def test_repr_shows_what_is_shared():
    array = xmem_array([1, 2])

    assert repr(array) == "xmem_array([1, 2])"
    assert repr(array.copy()) == "array([1, 2])"
    assert str(array) == "[1 2]"
    assert repr(xmem_array((2, 0), "i2")).startswith("xmem_array([], ")
