"""The columns of a sample, for Arrow, for parquet's Hugging Face metadata, and for a dataset card's YAML.

All three are derived from `Sample` itself, so they cannot drift from it.
"""

import types
import typing
from enum import Enum
from typing import Any

import orjson
import pyarrow as pa
from pydantic import AwareDatetime

from schemas.base import Record
from schemas.sample import Sample

IMAGE_TYPE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
"""How `datasets` keeps an image in a table."""

_SCALARS: dict[Any, pa.DataType] = {
    str: pa.string(),
    int: pa.int64(),
    float: pa.float64(),
    bool: pa.bool_(),
    AwareDatetime: pa.string(),  # as JSON has it
}


def record_type(record: type[Record]) -> pa.DataType:
    """The struct of a record, its fields in their order."""
    return pa.struct([(name, _arrow(field.annotation)) for name, field in record.model_fields.items()])


def _arrow(annotation: Any) -> pa.DataType:
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        return _arrow(arguments[0])
    if origin in (typing.Union, types.UnionType):
        (inner,) = (argument for argument in arguments if argument is not type(None))
        return _arrow(inner)
    if origin is tuple:
        return pa.list_(_arrow(arguments[0]))
    if origin is typing.Literal:
        return _arrow(type(arguments[0]))
    if issubclass(annotation, Record):
        return record_type(annotation)
    if issubclass(annotation, Enum):
        return pa.string()
    return _SCALARS[annotation]


SAMPLE_TYPE = record_type(Sample)


def parquet_schema(columns: list[tuple[str, pa.DataType]], images: tuple[str, ...] = ()) -> pa.Schema:
    """A schema that `datasets` recognises: the columns of `images` are of its Image feature."""
    features = {name: _image_of(kind) if name in images else _feature(kind) for name, kind in columns}
    metadata = {"huggingface": orjson.dumps({"info": {"features": features}})}
    return pa.schema(columns, metadata=metadata)


def yaml_features(columns: list[tuple[str, pa.DataType]], images: tuple[str, ...] = ()) -> list[dict[str, Any]]:
    """The columns as a dataset card lists them under `dataset_info`; `images` names those that hold pictures."""
    return [_yaml(name, kind, image=name in images) for name, kind in columns]


def _feature(kind: pa.DataType) -> dict[str, Any]:
    if pa.types.is_struct(kind):
        return {field.name: _feature(field.type) for field in kind}
    if pa.types.is_list(kind):
        return {"feature": _feature(kind.value_type), "_type": "List"}
    return {"dtype": _name(kind), "_type": "Value"}


def _image_of(kind: pa.DataType) -> dict[str, Any]:
    if pa.types.is_list(kind):
        return {"feature": {"_type": "Image"}, "_type": "List"}
    return {"_type": "Image"}


def _yaml(name: str, kind: pa.DataType, *, image: bool = False) -> dict[str, Any]:
    if image:
        return {"name": name, "list": "image"} if pa.types.is_list(kind) else {"name": name, "dtype": "image"}
    if pa.types.is_struct(kind):
        return {"name": name, "struct": [_yaml(field.name, field.type) for field in kind]}
    if pa.types.is_list(kind):
        inner = kind.value_type
        if pa.types.is_struct(inner):
            return {"name": name, "list": [_yaml(field.name, field.type) for field in inner]}
        return {"name": name, "list": _name(inner)}
    return {"name": name, "dtype": _name(kind)}


def _name(kind: pa.DataType) -> str:
    """As `datasets` spells a scalar's type."""
    return {"double": "float64"}.get(str(kind), str(kind))
