"""The settings of a training as text (`--help-config`) and as tables in docs, both made of the configuration itself.

`python -m trainers.common.config_docs` writes the tables anew, between the markers `<!-- settings: NAME -->` and
`<!-- end of settings -->` of docs/boxflow.md and docs/train-detector.md. A test checks that they are in step.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

from pydantic import BaseModel

from trainers.common.config import field_rows, value_text

Recipes = Mapping[str, Callable[[], BaseModel]]

TRAININGS: Final = {
    "boxflow": "trainers.boxflow.recipes",
    "sft": "trainers.detector.sft_config",
    "grpo": "trainers.detector.grpo_config",
}
"""Name in a marker -> the module with that training's `RECIPES`."""
PAGES: Final = ("docs/boxflow.md", "docs/train-detector.md")
_MARKED: Final = re.compile(r"(<!-- settings: (\w+) -->\n).*?(<!-- end of settings -->)", re.DOTALL)


class SettingRow(NamedTuple):
    """A setting in words. `recipes`: recipe -> its value, of those that differ from the default."""

    key: str
    type: str
    default: str
    description: str
    recipes: dict[str, str]


def setting_rows(recipes: Recipes) -> Iterator[SettingRow]:
    """Every setting of a training but the names of recipe and kind, in the order of the source."""
    configs = {name: make() for name, make in recipes.items()}
    for key, kind, default, description in field_rows(type(next(iter(configs.values())))):
        if key in ("recipe", "kind"):
            continue
        values = {name: _value(config, key) for name, config in configs.items()}
        differing = {name: value for name, value in values.items() if value not in (None, default)}
        yield SettingRow(key, kind, default, description, {} if default in ("see below", "its defaults") else differing)


def settings_text(recipes: Recipes) -> str:
    """All settings for a terminal: key, type and default on a line, the description below."""
    lines = []
    for row in setting_rows(recipes):
        lines += [f"{row.key}  ({row.type}; default: {_defaults(row)})", f"    {row.description}"]
    return "\n".join(lines)


def settings_table(recipes: Recipes) -> str:
    """All settings of a training as a Markdown table: key, type, default of each recipe, meaning."""
    lines = ["| setting | type | default | meaning |", "|---|---|---|---|"]
    lines += [f"| `{row.key}` | {row.type} | {_defaults(row)} | {row.description} |" for row in setting_rows(recipes)]
    return "\n".join(lines) + "\n"


def with_tables(page: str) -> str:
    """A page with the tables between its markers made anew."""

    def table(match: re.Match[str]) -> str:
        recipes = importlib.import_module(TRAININGS[match[2]]).RECIPES
        return f"{match[1]}{settings_table(recipes)}{match[3]}"

    return _MARKED.sub(table, page)


def _defaults(row: SettingRow) -> str:
    """The default, then each other value behind the recipes that have it."""
    names: dict[str, list[str]] = {}
    for name, value in row.recipes.items():
        names.setdefault(value, []).append(name)
    return ", ".join([row.default, *(f"{' and '.join(group)}: {value}" for value, group in names.items())])


def _value(config: BaseModel, key: str) -> str | None:
    """A recipe's value of a dotted key as text; None for a table, and for a key in a table that is not set."""
    value: Any = config
    for name in key.split("."):
        if value is None:
            return None
        value = getattr(value, name)
    if isinstance(value, BaseModel):
        return None
    if isinstance(value, tuple) and any(isinstance(item, BaseModel) for item in value):
        return " + ".join(str(getattr(item, "kind", "table")) for item in value)
    return value_text(value)


if __name__ == "__main__":
    for name in PAGES:
        path = Path(name)
        path.write_text(with_tables(path.read_text(encoding="utf-8")), encoding="utf-8")
