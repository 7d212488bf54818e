"""Command line options that several commands share, defined once, as a dataclass.

    @dataclass(frozen=True)
    class HowToRun:
        limit: Annotated[int | None, typer.Option(help="Read this many rows")] = None
        dry_run: Annotated[bool, typer.Option("--dry-run")] = False

    @app.command("coco")
    @grouped
    def import_coco(file: Path, how: HowToRun) -> None:
        ...  # how.limit, how.dry_run

Typer knows no such parameters; `grouped` shows it the fields in their place.
"""

import inspect
from collections.abc import Callable
from dataclasses import MISSING, Field, fields, is_dataclass
from functools import wraps
from inspect import Parameter
from typing import Any, get_type_hints


def grouped(function: Callable[..., None]) -> Callable[..., None]:
    """The command with the fields of its dataclass parameters as options of their own, in the same place.

    Args:
        function: A command. Each parameter whose annotation is a dataclass is given an instance of it.

    Raises:
        TypeError: Two of its options have one name.
    """
    groups: dict[str, tuple[Callable[..., Any], list[str]]] = {}
    shown: list[Parameter] = []
    for parameter in inspect.signature(function, eval_str=True).parameters.values():
        kind = parameter.annotation
        if isinstance(kind, type) and is_dataclass(kind):
            types = get_type_hints(kind, include_extras=True)  # a field's own may be a string
            options = [_parameter(option, types[option.name]) for option in fields(kind)]
            groups[parameter.name] = kind, [option.name for option in options]
            shown += options
        else:
            shown.append(parameter.replace(kind=Parameter.KEYWORD_ONLY))
    names = [parameter.name for parameter in shown]
    if twice := {name for name in names if names.count(name) > 1}:
        raise TypeError(f"{function.__name__} has two options of the name {', '.join(sorted(twice))}")

    @wraps(function)
    def command(**given: Any) -> None:
        values = {
            name: kind(**{option: given.pop(option) for option in options}) for name, (kind, options) in groups.items()
        }
        function(**given, **values)

    command.__signature__ = inspect.Signature(shown)  # type: ignore[attr-defined]  # what inspect.signature looks for
    command.__annotations__ = {parameter.name: parameter.annotation for parameter in shown}
    return command


def _parameter(option: "Field[Any]", annotation: Any) -> Parameter:
    default = Parameter.empty if option.default is MISSING else option.default
    return Parameter(option.name, Parameter.KEYWORD_ONLY, default=default, annotation=annotation)
