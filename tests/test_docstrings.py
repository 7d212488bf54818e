"""A public function that raises says so: its docstring has a section `Raises:`.

ruff's DOC rules (pyproject.toml) hold the sections to the code; they pass over docstrings of one line. This closes that
gap, in the rooms that other code builds on.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ROOMS = ("schemas", "sdg_data/store", "sdg_data/metrics", "exports/read", "trainers")
Function = ast.FunctionDef | ast.AsyncFunctionDef


def public_functions(body: list[ast.stmt]) -> Iterator[Function]:
    """Functions of a module and methods of its public classes; the docstring of a command is its help, so not those."""
    for node in body:
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            yield from public_functions(node.body)
        elif isinstance(node, Function) and not node.name.startswith("_"):
            names = {ast.unparse(decorator).partition("(")[0].rpartition(".")[2] for decorator in node.decorator_list}
            if node.name.endswith("_command"):
                continue
            if not names & {"command", "callback", "overload", "override", "field_validator", "model_validator"}:
                yield node


def raised(function: Function) -> Iterator[str]:
    """The classes that the function itself raises: not those of a function in it, and not what a call makes."""
    waiting: list[ast.AST] = list(function.body)
    while waiting:
        node = waiting.pop()
        if isinstance(node, (*Function.__args__, ast.Lambda, ast.ClassDef)):
            continue
        if isinstance(node, ast.Raise) and node.exc is not None:
            name = ast.unparse(node.exc).partition("(")[0]
            if name.rpartition(".")[2][:1].isupper():
                yield name
        waiting.extend(ast.iter_child_nodes(node))


@pytest.mark.parametrize("room", ROOMS)
def test_a_function_that_raises_says_what(room: str) -> None:
    silent = []
    for path in sorted((ROOT / room).rglob("*.py")):
        for function in public_functions(ast.parse(path.read_text(encoding="utf-8")).body):
            errors = sorted(set(raised(function)) - {"AssertionError", "NotImplementedError"})
            if errors and "Raises:\n" not in f"{ast.get_docstring(function)}":
                silent.append(f"{path.relative_to(ROOT)}:{function.lineno} {function.name}: {', '.join(errors)}")
    assert not silent


def test_raised_is_found_where_it_is_raised() -> None:
    source = """
def f():
    def g():
        raise OSError("not f's")
    for _ in ():
        if _:
            raise errors.InputError("x") from None
    try:
        g()
    except OSError:
        raise
"""
    (function,) = public_functions(ast.parse(source).body)
    assert list(raised(function)) == ["errors.InputError"]
