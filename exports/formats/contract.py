"""What a format offers: its module fills in one `Format`, and everything else in this package asks that.

    description   one line for `sdg export formats` and for the dataset card
    write         the files of an export
    columns       optional, for formats that tools read as a table: how the card and Croissant describe the files
    read_back     optional: rows and samples of a file, for `sdg export verify`
    options       optional: the format's own settings, a subclass of `ExportOptions`

Without `read_back`, `verify` still reads the file types it knows (`exports.formats.file_types`): it decodes images and
parses Parquet and JSONL rows, but it cannot tell that they are the right samples.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from exports.files.arrow_schema import yaml_features
from exports.files.export_job import ExportJob
from exports.files.manifest import FileEntry, Manifest
from exports.files.options import ExportOptions
from exports.files.target import Target
from schemas.sample import Sample


@dataclass(frozen=True)
class RecordSet:
    """The tables in which Croissant finds one row a sample, with a column `key`.

    Args:
        columns: Names and types, in order; flat ones only, because Croissant's columns are scalars here.
        source: A file's path; with `includes`, the name of a set of files.
        includes: The pattern of that set's paths.
    """

    columns: Sequence[tuple[str, pa.DataType]]
    source: str
    includes: str | None = None


@dataclass(frozen=True)
class Columns:
    """How tools that read tables see the files of an export.

    Args:
        files: The paths of a split's files as the card's YAML has them, with `{name}` and `{split}` to be filled in.
        features: The `features` of the card's `dataset_info`.
        records: The rows as Croissant describes them; None leaves them out.
    """

    files: str
    features: Sequence[Mapping[str, Any]]
    records: RecordSet | None = None


@dataclass(frozen=True)
class StoredRow:
    """A row of an exported file, as `verify` reads it back.

    Args:
        where: Names the row in messages: its file, and its number or key.
        sample: The whole sample, where the format's rows hold one.
        images: How many images of the row were decoded.
        paths: The files that the row names, relative to the export's folder.
        problem: Why the row cannot be read, or what is wrong with it: a whole message.
        facts: What an index must say of this sample.
        indexed: For a row of an index: what it says of the sample `indexed["key"]`.
        digest: sha256 of the sample's JSON as it is stored; None: it follows from `sample`.
        sizes: (width, height) of pictures that are files of their own, by their paths.
    """

    where: str
    sample: Sample | None = None
    images: int = 0
    paths: Sequence[str] = ()
    problem: str | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)
    indexed: Mapping[str, Any] | None = None
    digest: bytes | None = None
    sizes: Mapping[str, tuple[int, int]] = field(default_factory=dict)


class RejectedRow(Exception):
    """A row of a file to import that cannot be used.

    Args:
        name: The row: its file and number, or its key.
        code: Why, as programs count it: `bad-box`.
        message: Why, as people read it.
        raw: What the row said, where that is worth keeping.
    """

    def __init__(self, name: str, code: str, message: str, raw: str | None = None) -> None:
        super().__init__(message)
        self.name, self.code, self.message, self.raw = name, code, message, raw


ReadBack = Callable[[Target, Manifest, FileEntry], Iterator[StoredRow] | None]
"""Reads one file of an export; None where the file is not the format's own (a card's picture, a schema)."""


@dataclass(frozen=True)
class Format:
    """A format; see the module. `write` gets the job and an instance of `options`."""

    description: str
    write: Callable[[ExportJob, Any], list[FileEntry]]
    columns: Callable[[ExportJob], Columns] | None = None
    read_back: ReadBack | None = None
    options: type[ExportOptions] = ExportOptions


def parquet_columns(
    columns: Sequence[tuple[str, pa.DataType]], images: tuple[str, ...] = (), *, records: bool = True
) -> Columns:
    """The `Columns` of what `exports.files.parquet.write_parquet` wrote.

    Args:
        columns: Names and types, as the files have them.
        images: The columns of Hugging Face's Image feature.
        records: Describe the flat columns in Croissant too.
    """
    flat = [(name, kind) for name, kind in columns if not pa.types.is_nested(kind)]
    record_set = RecordSet(flat, "parquet", "data/*.parquet") if records else None
    return Columns("data/{split}-*.parquet", yaml_features(list(columns), images), record_set)
