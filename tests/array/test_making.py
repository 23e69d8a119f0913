"""Making an array: from a shape, from an array, from anything that numpy makes an array of."""

import numpy as np
import pytest

from XME._containers.shared_array import xmem_array
from XME._core import program, registry
from XME._core.program import program_domain
from XME.errors import SharedMemoryFull


@pytest.mark.parametrize("shape", [3, (3,), (2, 3), (), (0,), (2, 0, 3), np.int64(3), (np.int32(2), 2)])
def test_an_int_or_a_tuple_of_ints_is_a_shape(shape):
    array = xmem_array(shape)

    assert np.zeros(shape).tolist() == array.tolist()
    assert array.dtype == np.float64
    assert array.shared


@pytest.mark.parametrize("content", [[3], [2, 3], 3.5, True, (1.0, 2), ((1, 2), (3, 4)), "text", [], b"\0x"])
def test_everything_else_is_content(content):
    array = xmem_array(content)

    wanted = np.asarray(content)
    assert (wanted.dtype, wanted.shape, wanted.tolist()) == (array.dtype, array.shape, array.tolist())


CONTENTS = {
    "numbers": np.arange(24.0).reshape(2, 3, 4),
    "fortran": np.asfortranarray(np.arange(6).reshape(2, 3)),
    "transposed": np.arange(24).reshape(2, 3, 4).transpose(1, 0, 2),
    "negative strides": np.arange(10)[::-2],
    "broadcast": np.broadcast_to(np.arange(3), (4, 3)),
    "big endian": np.arange(5, dtype=">i4"),
    "times": np.array(["2024-02-29", "NaT"], "M8[s]"),
    "spans": np.array([1, 2], "m8[25us]"),
    "text": np.array(["a", "longer"]),
    "bytes": np.array([b"a", b"bc"]),
    "void": np.array([b"ab"], "V2"),
    "bool": np.array([True, False]),
    "complex": np.array([1 + 2j]),
    "long double": np.array([1.5], np.longdouble),
    "half": np.array([1.5], np.float16),
    "fields": np.array([(1, 2.5, "x")], [("n", "<i2"), ("f", ">f8"), ("s", "U3")]),
    "aligned fields": np.zeros(3, np.dtype([("a", "i1"), ("b", "f8")], align=True)),
    "nested fields": np.zeros(2, [("p", [("x", "f4"), ("y", "f4", (2,))])]),
    "one field of many": np.zeros(4, [("a", "i4"), ("b", "f8")])["b"],
    "no elements": np.zeros((3, 0, 2), "i4"),
    "empty text": np.array([b"", b""], "S0"),
    "a scalar": np.array(7),
    "read-only": np.frombuffer(b"abcd", "u1"),
}


@pytest.mark.parametrize("content", CONTENTS.values(), ids=CONTENTS)
def test_an_array_keeps_its_dtype_and_content(content):
    array = xmem_array(content)

    assert content.dtype == array.dtype
    assert content.shape == array.shape
    assert content.tobytes() == array.tobytes()
    assert array.flags.writeable
    assert not np.may_share_memory(array, content)


@pytest.mark.parametrize(("order", "source_order", "wanted"), [
    (None, "C", "C"), (None, "F", "F"), ("C", "F", "C"), ("F", "C", "F"), ("F", "F", "F"),
])
def test_order(order, source_order, wanted):
    content = np.array([[1, 2, 3], [4, 5, 6]], order=source_order)

    array = xmem_array(content, order=order)

    assert array.flags[f"{wanted}_CONTIGUOUS"]
    assert content.tolist() == array.tolist()


def test_a_shape_takes_an_order_too():
    assert xmem_array((2, 3), order="F").flags.f_contiguous


def test_data_begin_at_a_cache_line():
    assert xmem_array(5).ctypes.data % 64 == 0


@pytest.mark.parametrize(("content", "dtype"), [
    (np.arange(5.0), "i2"), (np.arange(5), "f4"), ([1, 2], "U4"), (np.arange(3), "U8"), (["1", "2"], float),
    (np.arange(4)[::2], ">i8"), ([1.5], "c8"), (["2024-01-01"], "M8[D]"), ([(1, 2)], "i4,f8"), (np.arange(3), "S"),
])
def test_dtype_converts_as_numpy_does(content, dtype):
    array = xmem_array(content, dtype)

    wanted = np.asarray(content, dtype)
    assert (wanted.dtype, wanted.tolist()) == (array.dtype, array.tolist())


@pytest.mark.parametrize("dtype", ["U", "S", "i4,f8", ("i4", (2,)), "M8[s]", [("a", "f4", (2, 2))]])
def test_a_shape_takes_any_dtype(dtype):
    wanted = np.zeros((2,), dtype)

    array = xmem_array((2,), dtype)

    assert (wanted.dtype, wanted.shape, wanted.tobytes()) == (array.dtype, array.shape, array.tobytes())


OBJECTS = {
    "objects": (np.array([None, {}], object), None),
    "a list of objects": ([{}, object()], None),
    "asked for": (3, object),
    "in a field": (np.zeros(2, [("a", "i4"), ("b", "O")]), None),
    "a conversion": (np.arange(3), object),
    "out of objects": (np.array([1, 2], object), object),
}
if hasattr(np.dtypes, "StringDType"):
    OBJECTS["text of any length"] = (np.array(["a", "b"], np.dtypes.StringDType()), None)


@pytest.mark.parametrize(("source", "dtype"), OBJECTS.values(), ids=OBJECTS)
def test_python_objects_are_refused_with_what_to_do(source, dtype):
    with pytest.raises(TypeError) as raised:
        xmem_array(source, dtype)

    assert "holds Python objects" in str(raised.value)
    assert "text of fixed length ('U10')" in str(raised.value)


@pytest.mark.parametrize(("arguments", "options"), [
    ((-1,), {}), (((2, -3),), {}), (((1,) * 70,), {}), ((3,), {"order": "Q"}), (([[1], [2, 3]],), {}),
    ((3,), {"name": ""}), ((3,), {"name": "a\0b"}), ((3,), {"name": "x" * 129}),
])
def test_bad_values_are_refused_before_anything_is_made(arguments, options):
    program_domain().names.tidy()
    before = len(program_domain().names), our_domains()

    with pytest.raises(ValueError):
        xmem_array(*arguments, **options)

    program_domain().names.tidy()
    assert before == (len(program_domain().names), our_domains())
    assert options.get("name") not in {entry.name for entry in registry.entries()}


def our_domains():
    """The domains that this process has joined; a public name would be in one of its own."""
    return set(program._domains)


@pytest.mark.parametrize(("arguments", "options"), [((3, "nonsense"), {}), ((3,), {"name": 5}), ((), {})])
def test_bad_types_are_refused(arguments, options):
    with pytest.raises(TypeError):
        xmem_array(*arguments, **options)


@pytest.mark.parametrize("count", [1 << 50, 1 << 61])
def test_too_much_is_an_error_with_the_numbers(count):
    with pytest.raises(MemoryError) as raised:
        xmem_array(count, "u1" if count < 1 << 60 else "f8")

    assert isinstance(raised.value, SharedMemoryFull)
    assert raised.value.wanted >= count
    assert raised.value.wanted > raised.value.total >= raised.value.free > 0
    assert "--shm-size" in str(raised.value)
    assert xmem_array(3).tolist() == [0, 0, 0]


def test_a_big_copy_is_whole():
    content = np.random.default_rng(1).integers(0, 256, (37 << 20) + 5, np.uint8)

    assert np.array_equal(content, xmem_array(content))
