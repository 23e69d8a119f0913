"""The house rules: which module may import which, how long a function may be, and what no file may say."""

import ast
import re
import statistics
from functools import cache
from graphlib import CycleError, TopologicalSorter

import pytest

from tests.helpers import ROOT

SOURCE = ROOT / "src"
PACKAGE = SOURCE / "XME"
FILES = sorted(PACKAGE.rglob("*.py"))

FLOORS = [
    {"errors"},
    {"_core"},
    {"_store"},
    {"_containers"},
    {"_pool", "_security", "Security", "Logputter", "ArrayOperator"},
    {"Executor", "_monitor", "Monitor"},
    {"Manager", "_manager"},
    {"Engine"},
    {"__main__", "testing"},
]
# What may say `import XME`: commands and the harness, which stand on the public names.
ABOVE_THE_ROOF = {"__main__", "testing"}
PUBLIC_MODULES = {
    "errors", "Security", "Monitor", "Manager", "ArrayOperator", "Executor", "Logputter", "Engine", "testing",
}

MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 40
MEDIAN_FUNCTION_LINES = 8


def module_name(path):
    parts = path.relative_to(SOURCE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in FILES}


@cache
def tree_of(path):
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def inside(module):
    """The part of the package that a module belongs to; "" for the package itself."""
    return module.split(".")[1] if "." in module else ""


def floor_of(module):
    for number, names in enumerate(FLOORS):
        if inside(module) in names:
            return number
    raise AssertionError(f"{module} stands on no floor: add it to the design and to FLOORS first")


def _absolute(node, module, path):
    if not node.level:
        return node.module or ""
    package = module.split(".") if path.name == "__init__.py" else module.split(".")[:-1]
    base = package[: len(package) - node.level + 1]
    return ".".join([*base, *([node.module] if node.module else [])])


def _named_by(node, module, path):
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        source = _absolute(node, module, path)
        for alias in node.names:
            submodule = f"{source}.{alias.name}"
            yield submodule if submodule in MODULES else source
    elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module"):
        yield from (name.value for name in node.args if isinstance(name, ast.Constant))


@cache
def imports_of(module):
    """The modules of XME that a module imports, wherever in the file it does so."""
    path = MODULES[module]
    names = {name for node in ast.walk(tree_of(path)) for name in _named_by(node, module, path)}
    return {name for name in names if name == "XME" or name.startswith("XME.")} - {module}


@cache
def functions_of(path):
    return [node for node in ast.walk(tree_of(path)) if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))]


def body_lines(function):
    """The number of lines of a function's body without its docstring."""
    body = function.body[1:] if ast.get_docstring(function, clean=False) is not None else function.body
    return body[-1].end_lineno - body[0].lineno + 1 if body else 0


def _is_left_out(function):
    decorators = {ast.unparse(decorator) for decorator in function.decorator_list}
    # An overload and a setter are documented where their name first stands.
    return any(name in {"overload", "typing.overload"} or name.endswith((".setter", ".deleter")) for name in decorators)


def without_docstring(body, prefix=""):
    """Names of the public classes, functions and methods below body that have no docstring."""
    for node in body:
        if not isinstance(node, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)) or node.name.startswith("_"):
            continue
        if ast.get_docstring(node) is None and not (not isinstance(node, ast.ClassDef) and _is_left_out(node)):
            yield prefix + node.name
        if isinstance(node, ast.ClassDef):
            yield from without_docstring(node.body, f"{prefix}{node.name}.")


def test_imports_only_go_down():
    wrong = []
    for module in MODULES.keys() - {"XME"}:
        for target in imports_of(module):
            if target == "XME":
                if inside(module) not in ABOVE_THE_ROOF:
                    wrong.append(f"{module} imports the package itself")
            elif floor_of(target) > floor_of(module):
                wrong.append(f"{module} imports {target}, which stands above it")
    assert not wrong


def test_the_package_imports_neither_commands_nor_harness():
    assert not {target for target in imports_of("XME") if inside(target) in ABOVE_THE_ROOF}


def test_no_two_modules_import_each_other():
    graph = {module: imports_of(module) & MODULES.keys() for module in MODULES}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail("a circle of imports: " + " <- ".join(error.args[1]))


def test_the_harness_uses_public_names_only():
    private = [
        f"{module} imports {target}"
        for module in MODULES
        if inside(module) == "testing"
        for target in imports_of(module)
        if inside(target) != "testing" and any(part.startswith("_") for part in target.split("."))
    ]
    assert not private


def test_public_modules_are_those_of_the_design():
    found = {inside(module) for module in MODULES} - {""}
    public = {name for name in found if not name.startswith("_")}
    assert public <= PUBLIC_MODULES
    assert len({name.lower() for name in found}) == len(found)


# One test for all files: a test for each would be a thousand, which take longer to begin and end than to run.


def test_no_file_is_too_long():
    lines = {str(path.relative_to(ROOT)): len(path.read_text(encoding="utf-8").splitlines()) for path in FILES}
    assert not {path: count for path, count in lines.items() if count > MAX_FILE_LINES}


def test_no_function_is_too_long():
    assert not [
        f"{path.relative_to(ROOT)}: {function.name} has {body_lines(function)} lines"
        for path in FILES
        for function in functions_of(path)
        if body_lines(function) > MAX_FUNCTION_LINES
    ]


def test_most_functions_are_short():
    assert statistics.median(body_lines(f) for path in FILES for f in functions_of(path)) <= MEDIAN_FUNCTION_LINES


def test_every_module_has_a_docstring():
    assert not [path for path in FILES if tree_of(path).body and not ast.get_docstring(tree_of(path))]


def test_what_is_public_has_a_docstring():
    bare = [f"{module}.{name}" for module, path in MODULES.items() for name in without_docstring(tree_of(path).body)]
    assert not bare


FORBIDDEN = {
    "a path of somebody's machine": r"(?<![\w.~}])/(?:root|home|Users)/\w",
    "where packages come from": r"--(?:extra-)?index-url|--trusted-host",
    "work that is put off": r"\b(?:TODO|FIXME|XXX|HACK)\b",
    "an issue's number, which says nothing without the tracker": r"(?:[Ii]ssue|PR|GH)[ -]?#?\d|(?<!&)\B#\d+\b",
}
TEXTS = sorted(
    path
    for pattern in ("src/**/*.py", "tests/**/*.py", "examples/**/*.py", "benchmarks/**/*.py", "docs/**/*.md", "*.md")
    for path in ROOT.glob(pattern)
    if path.name != "test_house.py"
)


def test_no_file_says_what_only_its_author_understands():
    found = [
        f"{path.relative_to(ROOT)}: {what}: {match[0]}"
        for path in TEXTS
        for what, pattern in FORBIDDEN.items()
        for match in re.finditer(pattern, path.read_text(encoding="utf-8"))
    ]
    assert not found
