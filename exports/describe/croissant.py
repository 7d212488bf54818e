"""Croissant metadata (JSON-LD, version 1.0): what files there are, and for tables what their columns mean."""

from collections.abc import Sequence
from typing import Any

import orjson
import pyarrow as pa

from exports.files.manifest import FileEntry, Manifest
from exports.formats.contract import RecordSet

CROISSANT = "croissant.json"

_TERMS = (
    "citeAs",
    "column",
    "equivalentProperty",
    "extract",
    "field",
    "fileProperty",
    "fileObject",
    "fileSet",
    "format",
    "includes",
    "isLiveDataset",
    "jsonPath",
    "key",
    "md5",
    "parentField",
    "path",
    "recordSet",
    "references",
    "regex",
    "repeated",
    "replace",
    "samplingRate",
    "separator",
    "source",
    "subField",
    "transform",
)
_CONTEXT: dict[str, Any] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "cr": "http://mlcommons.org/croissant/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "dct": "http://purl.org/dc/terms/",
    "sc": "https://schema.org/",
    **{name: f"cr:{name}" for name in _TERMS},
    "conformsTo": "dct:conformsTo",
    "data": {"@id": "cr:data", "@type": "@json"},
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
}
_ENCODINGS = {
    "tar": "application/x-tar",
    "parquet": "application/x-parquet",
    "jsonl": "application/jsonlines",
    "json": "application/json",
    "md": "text/markdown",
    "png": "image/png",
    "jpg": "image/jpeg",
    "webp": "image/webp",
}
_PICTURES = ("images/", "heatmaps/", "SDG/")
_TYPES = {pa.string(): "sc:Text", pa.float64(): "sc:Float", pa.bool_(): "sc:Boolean"}


def croissant(
    manifest: Manifest, files: Sequence[FileEntry], licences: Sequence[str], rows: RecordSet | None = None
) -> bytes:
    """The metadata of an export. Single images that rows name by path are one file set.

    Args:
        manifest: What the export is.
        files: All its files but the manifest and this one.
        licences: Of its images.
        rows: The format's rows, where it has columns.
    """
    distribution: list[dict[str, Any]] = [_file(entry) for entry in files if not entry.path.startswith(_PICTURES)]
    for folder in _PICTURES:
        kinds = sorted({_kind(entry.path) for entry in files if entry.path.startswith(folder)})
        if kinds:
            distribution.append(_file_set(folder.rstrip("/"), kinds[0], f"{folder}**/*"))
    if rows is not None and rows.includes is not None:
        distribution.append(_file_set(rows.source, _kind(rows.includes), rows.includes))
    document = {
        "@context": _CONTEXT,
        "@type": "sc:Dataset",
        "name": manifest.name,
        "description": f"{manifest.samples} images of text-to-image models with their defects, as {manifest.format}.",
        "conformsTo": "http://mlcommons.org/croissant/1.0",
        "license": list(licences),
        "url": ".",
        "version": "1.0.0",
        "distribution": distribution,
        "recordSet": [] if rows is None else [_records("samples", rows)],
    }
    return orjson.dumps(document, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)


def stated_files(document: bytes) -> dict[str, tuple[str, str]]:
    """Read back what `croissant` says of single files: (size, sha256) by path.

    Raises:
        ValueError: The document is no JSON.
        KeyError: It lacks a field.
        TypeError: It is of another form.
    """
    return {
        item["contentUrl"]: (item["contentSize"], item["sha256"])
        for item in orjson.loads(document)["distribution"]
        if item["@type"] == "cr:FileObject"
    }


def _kind(path: str) -> str:
    return path.rpartition(".")[2]


def _file(entry: FileEntry) -> dict[str, Any]:
    return {
        "@type": "cr:FileObject",
        "@id": entry.path,
        "name": entry.path,
        "contentUrl": entry.path,
        "contentSize": f"{entry.bytes} B",
        # A format of another package may write files that we do not know.
        "encodingFormat": _ENCODINGS.get(_kind(entry.path), "application/octet-stream"),
        "sha256": entry.sha256,
    }


def _file_set(name: str, kind: str, includes: str) -> dict[str, Any]:
    encoding = _ENCODINGS[kind]
    return {"@type": "cr:FileSet", "@id": name, "name": name, "encodingFormat": encoding, "includes": includes}


def _records(name: str, rows: RecordSet) -> dict[str, Any]:
    source = {"fileObject" if rows.includes is None else "fileSet": {"@id": rows.source}}
    return {
        "@type": "cr:RecordSet",
        "@id": name,
        "name": name,
        "key": {"@id": f"{name}/key"},
        "field": [
            {
                "@type": "cr:Field",
                "@id": f"{name}/{column}",
                "name": column,
                "dataType": _TYPES.get(kind, "sc:Integer"),
                "source": {**source, "extract": {"column": column}},
            }
            for column, kind in rows.columns
        ],
    }
