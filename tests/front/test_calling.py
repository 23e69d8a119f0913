"""How a row is called: Python's own rules, and the manual's on top of them."""

import functools
import inspect
import math
import warnings

import pytest
from hypothesis import given
from hypothesis import strategies as st

from XME._pool.calling import Binder, bind
from XME.ArrayOperator import Array, Injected, inject
from XME.errors import CallingWarning

NAMES = ["a", "b", "c", "d"]
MISSING = object()


def run(entry, row=0):
    args, kwargs = entry.call(row)
    return entry.function(*args, **kwargs)


@st.composite
def signatures(draw, *, star=None, by_name=None):
    """The text of a parameter list over a, b, c, d, *rest and **kw."""
    names = draw(st.permutations(NAMES))[: draw(st.integers(1 if by_name else 0, 4))]
    first, second = sorted([draw(st.integers(0, len(names))), draw(st.integers(0, len(names) - bool(by_name)))])
    second = min(second, len(names) - bool(by_name))
    first = min(first, second)
    defaults_from = draw(st.integers(0, second))
    parts = []
    for i, name in enumerate(names[:second]):
        parts.append(name + (f"='{name}0'" if i >= defaults_from else ""))
        if i == first - 1:
            parts.append("/")
    with_star = draw(st.booleans()) if star is None else star
    if with_star:
        parts.append("*rest")
    elif second < len(names):
        parts.append("*")
    parts += [name + draw(st.sampled_from(["", f"='{name}0'"])) for name in names[second:]]
    if draw(st.booleans()):
        parts.append("**kw")
    return ", ".join(parts)


def make(signature):
    namespace = {}
    exec(f"def fun({signature}): return locals()", namespace)
    return namespace["fun"]


calls = st.tuples(
    st.lists(st.integers(), max_size=5).map(tuple),
    st.dictionaries(st.sampled_from([*NAMES, "x", "rest", "kw"]), st.integers(), max_size=4),
)


def outcome(call):
    try:
        return "returned", call()
    except TypeError as error:
        return "raised", str(error)


@given(signatures(), calls)
def test_binding_is_python_own_binding_word_for_word(signature, call):
    function, (args, kwargs) = make(signature), call
    with_xme = outcome(lambda: run(bind(function, args, kwargs, "python")))
    assert with_xme == outcome(lambda: function(*args, **kwargs))


@given(signatures(star=True, by_name=True), calls)
def test_what_came_by_name_is_also_appended_to_args_and_nothing_else_changes(signature, call):
    function, (args, kwargs) = make(signature), call
    plain = outcome(lambda: function(*args, **kwargs))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CallingWarning)
        ours = outcome(lambda: run(bind(function, args, kwargs)))
    if plain[0] == "returned":
        by_name = [name for name, p in inspect.signature(function).parameters.items() if p.kind is p.KEYWORD_ONLY]
        plain[1]["rest"] += tuple(kwargs[name] for name in by_name if name in kwargs)
    assert ours == plain


@given(
    signatures(), calls, st.booleans(), st.sampled_from([("print",), ("logobj",), ("logobj", "print")]), st.data()
)
def test_print_and_logobj_come_by_name_unless_the_caller_gave_his_own(signature, call, with_default, names, data):
    args, kwargs = call
    default = "='own default'" if with_default else ""
    if "**kw" in signature:
        signature = signature.replace("**kw", ", ".join(n + default for n in names) + ", **kw")
    else:
        signature += (", " if signature else "") + ", ".join(n + default for n in names)
    if "*" not in signature.replace("**kw", ""):
        signature = ", ".join(
            ["*", *(f"{n}{default}" for n in names)] + (["**kw"] if "**kw" in signature else [])
        )
        args, kwargs = (), {k: v for k, v in kwargs.items() if "**kw" in signature}
    function = make(signature)
    own = {name: 5 for name in names if data.draw(st.booleans())}
    given_by_xme = {n: Injected(n) for n in names if n not in own}
    ours = outcome(lambda: run(bind(function, args, kwargs | own, "python")))
    assert ours == outcome(lambda: function(*args, **kwargs, **own, **given_by_xme))


@given(st.dictionaries(st.sampled_from("pqrs"), st.integers()), st.dictionaries(st.sampled_from("pqrs"), st.integers()))
def test_a_dict_for_the_double_star_is_merged_into_it(direct, inside):
    def fun(**options):
        return options

    ours = outcome(lambda: run(bind(fun, (), {**direct, "options": inside})))
    if clash := [key for key in inside if key in direct]:
        message = f"{fun.__qualname__}() got multiple values for keyword argument '{clash[0]}'"
        assert ours == ("raised", message)
    else:
        assert ours == ("returned", direct | inside)


def test_note_1_of_the_manual():
    def example_fun(a0, a1=None, a2=None, **kwargs):
        return a0, a1, a2, kwargs

    expected = (7, "a1", "a2", {"kw1": "kw1", "kw2": "kw2"})
    by_keyword = bind(example_fun, (Array(range(10)),), {"a1": "a1", "a2": "a2", "kw1": "kw1", "kw2": "kw2"})
    as_the_manual = bind(
        example_fun, (Array(range(10)),), {"a1": "a1", "a2": "a2", "kwargs": {"kw1": "kw1", "kw2": "kw2"}}
    )
    assert run(by_keyword, 7) == run(as_the_manual, 7) == expected


def test_note_2_of_the_manual():
    def example_fun(*args, a1=None, a2=None):
        return list(args), a1, a2

    with pytest.warns(CallingWarning):
        entry = bind(example_fun, (0, 1, Array(range(10))), {"a2": "a2", "a1": "a1"})
    assert run(entry, 4) == ([0, 1, 4, "a1", "a2"], "a1", "a2")
    assert entry.rows == 10


def test_the_solution_of_note_2_with_injected_values():
    def fun(*args, logobj=None, print=print):
        return args, logobj, print

    args, kwargs = inject(*bind(fun, (1,), {}).call(0), None)
    assert fun(*args, **kwargs) == ((1, None, print), None, print)


def test_the_warning_comes_once_a_function_names_the_cure_and_points_at_the_caller():
    def fun(*args, a1=None):
        return args

    with pytest.warns(CallingWarning) as caught:
        assert [bind(fun, (), {"a1": n}).args for n in (1, 2)] == [(1,), (2,)]
    assert len(caught) == 1
    assert 'calling="python"' in str(caught[0].message)
    assert caught[0].filename == __file__


def test_values_that_xme_gives_are_appended_without_a_warning():
    def fun(*args, print=print, a1=None):
        return args

    assert bind(fun, (), {}).args == (Injected.PRINT,)
    assert bind(lambda *args, a1=None: args, (), {"a1": 1}, "python").args == ()


def test_what_stands_before_the_star_keeps_its_place():
    def fun(a, b="b0", *rest, c=None):
        return a, b, rest, c

    with pytest.warns(CallingWarning):
        assert run(bind(fun, (), {"a": 1, "c": 3})) == (1, "b0", (3,), 3)


def test_a_builtin_function_gets_nothing_appended():
    assert bind(print, ("x",), {"sep": "-"}).args == ("x",)


def test_own_print_by_position_and_by_name():
    def fun(a, print=print):
        return print

    assert run(bind(fun, (1, "mine"), {})) == "mine"
    assert run(bind(fun, (1,), {"print": None})) is None
    assert run(bind(fun, (1,), {})) is Injected.PRINT


def test_a_positional_only_print():
    def fun(a, b=2, print=None, /, c=3):
        return a, b, print, c

    assert run(bind(fun, (1,), {"c": 4})) == (1, 2, Injected.PRINT, 4)
    with pytest.raises(TypeError, match="missing 1 required positional argument: 'a'"):
        bind(fun, (), {})


class Tool:
    def __init__(self, edge=1):
        self.edge = edge

    def cut(self, what, *, print=print):
        return self.edge, what, print

    def __call__(self, what):
        return what * self.edge


def wrapped(function):
    @functools.wraps(function)
    def wrapper(*args, **kwargs):
        return function(*args, **kwargs)

    return wrapper


@pytest.mark.parametrize(
    ("function", "args", "kwargs", "expected"),
    [
        (Tool(3).cut, ("x",), {}, (3, "x", Injected.PRINT)),
        (Tool(3), (2,), {}, 6),
        (functools.partial(Tool(3).cut, "y"), (), {}, (3, "y", Injected.PRINT)),
        (functools.partial(divmod, 7), (2,), {}, (3, 1)),
        (wrapped(Tool(3).cut), (), {"what": 1}, (3, 1, Injected.PRINT)),
        (lambda v: v + 1, (1,), {}, 2),
        (min, (3, 2), {}, 2),
        (max, ([1, -2],), {"key": abs}, -2),
        (int, ("ff", 16), {}, 255),
        (dict, (), {"a": 1}, {"a": 1}),
        (math.sqrt, (4.0,), {}, 2.0),
        ("{:>{n}}".format, ("x",), {"n": 3}, "  x"),
    ],
)
def test_anything_callable(function, args, kwargs, expected):
    assert run(bind(function, args, kwargs)) == expected


def test_a_class_is_called_and_checked_like_a_function():
    assert run(bind(Tool, (), {"edge": 5})).edge == 5
    with pytest.raises(TypeError, match=r"Tool\(\) got an unexpected keyword argument 'egde'"):
        bind(Tool, (), {"egde": 5})


def simple(a, b):
    return a, b


@pytest.mark.parametrize(
    ("args", "kwargs", "message"),
    [
        ((), {}, "simple() missing 2 required positional arguments: 'a' and 'b'"),
        ((1,), {}, "simple() missing 1 required positional argument: 'b'"),
        ((1, 2, 3), {}, "simple() takes 2 positional arguments but 3 were given"),
        ((1,), {"b": 2, "z": 3}, "simple() got an unexpected keyword argument 'z'"),
        ((1,), {"a": 2, "b": 2}, "simple() got multiple values for argument 'a'"),
    ],
)
def test_a_wrong_call_is_python_own_type_error(args, kwargs, message):
    with pytest.raises(TypeError) as caught:
        bind(simple, args, kwargs)
    assert message == str(caught.value)


@pytest.mark.parametrize("name", ["XMEManager", "XMEManger"])
def test_a_manager_is_given_where_none_was_passed(name):
    needs = make(f"{name}")
    assert bind(needs, (), {}).kwargs == bind(make(f"{name}=None"), (), {}).kwargs == {name: Injected.MANAGER}
    assert run(bind(needs, (), {name: 1})) == run(bind(needs, (1,), {})) == {name: 1}


def test_calnum_makes_rows_without_an_array():
    entry = bind(lambda: 5, (), {"calnum": 3})
    assert (entry.rows, entry.call(2)) == (3, ((), {}))
    assert bind(lambda: 5, (), {"calnum": 0}).rows == 0


def test_a_function_that_has_a_calnum_keeps_it():
    entry = bind(lambda calnum: calnum, (), {"calnum": 3})
    assert (entry.rows, run(entry)) == (1, 3)


@pytest.mark.parametrize(("calnum", "error"), [(-1, ValueError), (True, TypeError), ("3", TypeError), (2.0, TypeError)])
def test_a_wrong_calnum(calnum, error):
    with pytest.raises(error, match="calnum is a number of rows"):
        bind(lambda: 5, (), {"calnum": calnum})


def test_calnum_must_not_contradict_the_arrays():
    with pytest.raises(ValueError, match="calnum=3 is for calls without an Array"):
        bind(abs, (Array([1, 2]),), {"calnum": 3})


def test_arrays_split_as_keywords_and_inside_a_merged_dict():
    entry = bind(lambda a, **kw: (a, kw), (), {"a": Array("xy"), "kw": {"b": Array([1])}})
    assert [run(entry, row) for row in range(entry.rows)] == [("x", {"b": 1}), ("y", {"b": 1})]


def test_an_array_inside_a_list_is_not_looked_for():
    inside = [Array("xy")]
    assert run(bind(lambda a: a, (inside,), {})) is inside


def test_a_double_star_cannot_be_split_as_a_whole():
    with pytest.raises(TypeError, match="give each keyword an Array of its own"):
        bind(lambda **kw: kw, (), {"kw": Array([{"a": 1}])})


def test_a_binder_is_used_again():
    binder = Binder(lambda a, b=2: (a, b))
    assert [run(binder.bind((n,), {})) for n in range(3)] == [(0, 2), (1, 2), (2, 2)]


def test_the_caller_dict_is_not_touched():
    given_by_caller = {"calnum": 2, "kw": {"a": 1}}
    bind(make("print, **kw"), (), given_by_caller)
    assert given_by_caller == {"calnum": 2, "kw": {"a": 1}}
