"""Configurations of trainings: fields in groups, changed by `--set GROUP.KEY=VALUE`, described for help and docs.

A configuration is a pydantic model whose groups are models too (`rollout.samples`). Each field's meaning is the string
below it in the source; `--help-config` prints these strings and the tables in docs are made of them
(`trainers.common.config_docs`).

Configurations used to be flat (`samples`). A flat key means the field of that name in its group, so the two names of a
field differ by the group alone. `changed` still takes flat keys, with a DeprecationWarning; `read_config` takes them
silently, because a `run.json` that was written then cannot be told to change.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator, Mapping, Sequence
from types import UnionType
from typing import Annotated, Any, ClassVar, Literal, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.fields import FieldInfo

from sdg_data.errors import ConfigError

Positive = Annotated[int, Field(ge=1)]
Natural = Annotated[int, Field(ge=0)]
AboveZero = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]

_BOUNDS = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<"}


class TrainingSettings(BaseModel):
    """Base of every table of a training's configuration: frozen, no unknown keys, descriptions below the fields."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)
    page: ClassVar[str] = ""
    """Of a whole configuration: the page of the docs that lists its keys."""
    earlier: ClassVar[Mapping[str, Any]] = {}
    """Field -> value, of the fields that came when runs had been recorded without them, and whose default is not what
    those runs did: the value by which they go on as they began."""

    @classmethod
    def as_begun(cls, values: Mapping[str, Any]) -> dict[str, Any]:
        """The table's JSON in a run's record, with what settings that are newer than the record mean for that run.

        Args:
            values: the table as it was recorded.

        Returns:
            The table with `earlier`; a table whose recorded values have another meaning now says so here as well.
        """
        return {**cls.earlier, **values}


class ConfigGroup(TrainingSettings):
    """Base of the groups that a configuration's fields are in. Only their keys have a flat form."""


class LoraSettings(TrainingSettings):
    """Rank and scale of a low-rank adapter (LoRA)."""

    rank: Positive = 64
    """Rank of the two matrices: 64, the paper's."""
    alpha: Positive = 128
    """Scale of the update, which is alpha / rank times their product: twice the rank, the paper's."""


Config = TypeVar("Config", bound=TrainingSettings)


def flat_keys(kind: type[BaseModel]) -> dict[str, str]:
    """Flat key -> dotted key of the fields in the groups of a configuration, such as `samples` -> `rollout.samples`."""
    return {
        name: f"{group}.{name}"
        for group, info in kind.model_fields.items()
        if isinstance(info.annotation, type) and issubclass(info.annotation, ConfigGroup)
        for name in info.annotation.model_fields
    }


def grouped(kind: type[BaseModel], values: Mapping[str, Any]) -> dict[str, Any]:
    """The JSON of a configuration with every flat key moved into its group; grouped JSON comes back as it is."""
    keys = flat_keys(kind)
    result: dict[str, Any] = {}
    for name, value in values.items():
        if name not in keys:
            result[name] = {**result.get(name, {}), **value} if isinstance(value, Mapping) else value
        else:
            group, _, field = keys[name].partition(".")
            result[group] = {**result.get(group, {}), field: value}
    return result


def read_config(kind: type[Config], values: Mapping[str, Any]) -> Config:
    """Read a configuration from the JSON values of a `run.json`.

    `pydantic.ValidationError` is raised for unknown settings and for values that are not allowed.

    Args:
        kind: the class of the configuration.
        values: the settings, in groups or flat.

    Returns:
        The configuration.
    """
    return kind.model_validate(grouped(kind, values))


def recorded(kind: type[BaseModel], values: Mapping[str, Any]) -> dict[str, Any]:
    """The JSON of a run's configuration, in whose tables settings that are newer mean what the run did (`as_begun`).

    Other settings that are missing get their default from the class, which is then what the run did.

    Args:
        kind: the class of the configuration, or of a table in it.
        values: the settings as they were recorded, in groups.

    Returns:
        The settings in groups.
    """
    result = kind.as_begun(values) if issubclass(kind, TrainingSettings) else dict(values)
    for name, info in kind.model_fields.items():
        several, value = get_origin(info.annotation) is tuple, result.get(name)
        table = _table_of(get_args(info.annotation)[0] if several else info.annotation)
        if table is not None and isinstance(value, Mapping):
            result[name] = recorded(table, value)
        elif table is not None and isinstance(value, list | tuple):
            result[name] = [recorded(table, each) for each in value]
    return result


def flat_json(config: TrainingSettings) -> dict[str, Any]:
    """A configuration as flat JSON: what names that were made before there were groups are hashes of."""
    groups = {path.partition(".")[0] for path in flat_keys(type(config)).values()}
    result: dict[str, Any] = {}
    for name, value in config.model_dump(mode="json").items():
        result |= value if name in groups else {name: value}
    return result


def changed(config: Config, changes: Mapping[str, Any]) -> Config:
    """A configuration with other values.

    Args:
        config: the configuration to start from, which stays as it is.
        changes: dotted key -> value. A dot reaches into a group or a table; where a table was None, its other fields
            get their defaults. A flat key is taken with a DeprecationWarning.

    Returns:
        The changed configuration, checked as a whole.

    Raises:
        ConfigError: an unknown key or an impossible value, by name.
    """
    keys = flat_keys(type(config))
    values = config.model_dump()
    for name, value in changes.items():
        head, dot, rest = name.partition(".")
        if head in keys:
            warnings.warn(
                f"the key {head!r} is now {keys[head]!r}; the old one goes in 0.3", DeprecationWarning, stacklevel=2
            )
            name = keys[head] + dot + rest
        *tables, last = name.split(".")
        table = values
        for key in tables:
            inner = table.get(key)
            table[key] = dict(inner) if isinstance(inner, dict) else {}
            table = table[key]
        table[last] = value
    try:
        return type(config).model_validate(values)
    except ValidationError as error:
        lines = [f"{'.'.join(map(str, part['loc'])) or 'settings'}: {part['msg']}" for part in error.errors()]
        recipe = values.get("recipe")
        raise ConfigError("; ".join(lines), item=f"recipe {recipe}", hint=f"{config.page} has the keys.") from error


def parse_changes(options: Sequence[str]) -> dict[str, Any]:
    """The values of `--set KEY=VALUE`: JSON where it is JSON, else the text itself.

    Args:
        options: `KEY=VALUE` each; of equal keys the last one counts.

    Returns:
        Key -> value.

    Raises:
        ConfigError: an option without `=`.
    """
    changes: dict[str, Any] = {}
    for option in options:
        name, mark, value = option.partition("=")
        if not mark:
            raise ConfigError(f"--set wants KEY=VALUE, not {option!r}")
        try:
            changes[name] = json.loads(value)
        except ValueError:
            changes[name] = value
    return changes


def field_rows(kind: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, str, str, str]]:
    """(dotted key, type, default, description) of every field, tables of ours opened, in the order of the source."""
    for name, info in kind.model_fields.items():
        key, table = f"{prefix}{name}", _table_of(info.annotation)
        is_group = table is not None and issubclass(table, ConfigGroup)
        if not is_group:
            description = " ".join((info.description or "").split())
            yield key, type_name(info.annotation, info.metadata), _default(info), description
        if table is not None:
            yield from field_rows(table, f"{key}.")


def type_name(annotation: Any, metadata: Sequence[Any] = ()) -> str:
    """A field's type in words, with its bounds: `int ≥ 1`, `box, scalar or none`, `list of int`."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return type_name(arguments[0], [*arguments[1:], *metadata])
    if origin is Literal:
        return _listed([str(part) for part in arguments])
    if origin in (Union, UnionType):
        return _listed([type_name(part, metadata if part is not type(None) else ()) for part in arguments])
    if origin is tuple:
        inner = [part for part in arguments if part is not Ellipsis]
        return f"list of {type_name(inner[0])}" if Ellipsis in arguments else f"[{', '.join(map(type_name, inner))}]"
    if annotation is type(None):
        return "none"
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return "table"
    flat = [part for item in metadata for part in (item.metadata if isinstance(item, FieldInfo) else [item])]
    pairs = [(sign, getattr(part, name)) for part in flat for name, sign in _BOUNDS.items() if hasattr(part, name)]
    word = {"str": "text", "bool": "true or false"}.get(annotation.__name__, annotation.__name__)
    return " ".join([word, *(f"{sign} {bound:g}" for sign, bound in pairs)])


def _table_of(annotation: Any) -> type[BaseModel] | None:
    """The table of ours that a field holds, also where it may be None; no other package's."""
    candidates = get_args(annotation) if get_origin(annotation) in (Union, UnionType) else (annotation,)
    for part in candidates:
        if isinstance(part, type) and issubclass(part, TrainingSettings):
            return part
    return None


def _default(info: FieldInfo) -> str:
    if info.is_required():
        return "the recipe's"
    value = info.default
    if isinstance(value, BaseModel):
        return "see below" if isinstance(value, TrainingSettings) else "its defaults"
    return value_text(value)


def value_text(value: Any) -> str:
    """A value of a configuration in words: JSON, but `none`, and `empty` for an empty text."""
    return "none" if value is None else json.dumps(value).strip('"') or "empty"


def _listed(names: Sequence[str]) -> str:
    return " or ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
