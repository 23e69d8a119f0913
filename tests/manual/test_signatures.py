"""The functions of 2.3 have the parameters that the manual's tables give them, in their order, with their defaults."""

import inspect

import pytest

from XME import HeartJump, XMEGuard, XMEManager

# As the manual has them; its `*kets` is a slip of the pen.
MANAGER = """
append(fun,Operator=None,**kwargs)
exec()
clean(Operator=None)
get(Operator=None,MaxWaitTime=0,LoopTime=0.1)
status(Operator=None,status=None)
get_buffers()
len()
get_table(*keys)
set(key,value)
items()
update(newtable,Operator=None)
delete(*keys,Operator=None)
get_msg(*keys)
update_msg(newmessage,Operator=None)
delete_msg(*keys,Operator=None)
copy_msg(Operator=None)
AllocOperator()
get_str()
"""
CLASSES = {
    XMEGuard: "(ExitTime=10,LoopTime=1e-6,EmpLoopTime=1e-1,VerboseTime=5,script='')",
    HeartJump: "(Operator,XMEManager,LoopTime=1)",
}
# What stands for None where leaving out is not the same as giving None by position.
_LEFT_OUT = inspect.signature(XMEManager.append).parameters["Operator"].default
# More than the manual has: another spelling of one that it has.
MORE = {"status": ["Status"]}


def promised(written):
    """What a line of the manual says: (name, kind, default) of each parameter."""
    scope = {}
    exec(f"def _{written[written.index('('):]}: pass", scope)
    return shape(scope["_"])


def shape(function, leave_out=()):
    star = {inspect.Parameter.VAR_POSITIONAL: "*", inspect.Parameter.VAR_KEYWORD: "**"}
    return [
        (name, star.get(parameter.kind, ""), None if parameter.default is _LEFT_OUT else parameter.default)
        for name, parameter in inspect.signature(function).parameters.items()
        if name not in {"self", *leave_out}
    ]


@pytest.mark.parametrize("line", MANAGER.split())
def test_a_function_of_the_manager(line):
    name = line.partition("(")[0]
    found = shape(getattr(XMEManager, name), MORE.get(name, ()))
    if name == "append":
        # Either may be given by keyword, and then neither is a keyword of the function.
        found[0] = ("fun", "", inspect.Parameter.empty)
    assert found == promised(line)


def test_there_is_no_other_that_the_manual_does_not_know():
    """Beyond them there are the parts by name, and what rows and guards need."""
    public = {name for name in vars(XMEManager) if not name.startswith("_")}
    known = {line.partition("(")[0] for line in MANAGER.split()}
    for_rows = {"of_row", "end_row", "begin_guarded", "functions_done", "take_unfetched"}
    assert public - known == {"security", "monitor", *for_rows}


@pytest.mark.parametrize("kind", CLASSES)
def test_a_class(kind):
    assert shape(kind) == promised(CLASSES[kind])
    assert list(inspect.signature(XMEGuard.Guard).parameters) == ["self", "XMEManager", "print"]
    assert {"start", "stop"} <= set(vars(HeartJump))
