"""Arrow and Parquet files before polars reads them: their types, and whether offsets and indices are sound."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final
from zoneinfo import available_timezones

from sdg_data.errors import InputError

_FEATHER_1: Final = b"FEA1"
_TEXTS: Final = ("string", "large_string", "string_view")
_TEXT_TYPES: Final = (
    *("string", "large_string", "categorical", "enum", "null"),
    *(f"dictionary<values={kind}" for kind in _TEXTS),
)
_RUN_ENDS: Final = ("int16", "int32", "int64")
_TEXT_RUNS: Final = {f"run_end_encoded<run_ends: {ends}, values: {kind}>" for ends in _RUN_ENDS for kind in _TEXTS}


def is_text(kind: str | None) -> bool:
    """Whether a column's type holds text.

    Args:
        kind: Its name in lower case, as Arrow or polars writes it. None (a file without types) holds text, as do nulls.
    """
    return kind is None or kind.startswith(_TEXT_TYPES) or kind in _TEXT_RUNS


def fits_polars(schema: Any) -> bool:
    """Whether polars reads files of an Arrow schema. Of others it may write a panic into the terminal."""
    return len(set(schema.names)) == len(schema.names) and all(map(_is_known, schema.types))


def _is_known(kind: Any) -> bool:
    import pyarrow as pa

    types = pa.types
    if types.is_dictionary(kind):
        return _is_known(kind.value_type)
    if types.is_map(kind):
        return _is_known(kind.key_type) and _is_known(kind.item_type)
    if types.is_struct(kind):
        return all(_is_known(kind.field(number).type) for number in range(kind.num_fields))
    if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        return _is_known(kind.value_type)
    if types.is_timestamp(kind) and kind.tz is not None:
        return kind.tz == "UTC" or kind.tz in available_timezones()
    nested = types.is_nested(kind) or isinstance(kind, pa.BaseExtensionType)
    return not (nested or types.is_run_end_encoded(kind) or types.is_interval(kind))


def opened(source: Any) -> tuple[Any, Iterator[Any]]:
    """An Arrow file or stream, and its batches."""
    import pyarrow as pa

    try:
        reader = pa.ipc.open_file(source)
    except pa.ArrowInvalid:
        reader = pa.ipc.open_stream(source)
        return reader, iter(reader)
    return reader, (reader.get_batch(number) for number in range(reader.num_record_batches))


def schema_of(path: Path, *, parquet: bool) -> Any:
    """The Arrow schema of a file.

    Raises:
        InputError: It is of Feather's first version, which was no Arrow yet.
        pyarrow.ArrowException: It cannot be read.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    if parquet:
        return pq.read_schema(path)
    with pa.memory_map(str(path)) as source:
        if source.read(4) == _FEATHER_1:
            raise InputError("this is Feather of version 1", item=str(path), hint="Write it again as version 2.")
        source.seek(0)
        return opened(source)[0].schema


def checked(batch: Any) -> Any:
    """The batch itself.

    Raises:
        pyarrow.ArrowException: Offsets or indices lead out of it. Texts that are no UTF-8 are not looked for.
    """
    import pyarrow as pa

    as_bytes = {pa.string(): pa.binary(), pa.large_string(): pa.large_binary(), pa.string_view(): pa.binary_view()}

    def untyped(column: Any) -> Any:
        return column.view(as_bytes[column.type]) if column.type in as_bytes else column

    for column in batch.columns:
        column.validate()
        if pa.types.is_dictionary(column.type):
            column = pa.DictionaryArray.from_arrays(column.indices, untyped(column.dictionary), safe=False)
        if pa.types.is_run_end_encoded(column.type):
            column = column.values
        untyped(column).validate(full=True)
    return batch
