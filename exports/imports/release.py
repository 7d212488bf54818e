"""Import the rows of the public SDG-30K.

What becomes of them is in `exports.imports.records`. The split is the row's own (its path says `train` or `test`), for
published splits must stay as they are.
"""

from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from exports.dataset.assemble import envelope_of, from_annotation
from exports.formats.contract import RejectedRow
from exports.formats.release_jsonl import extras_of, image_path
from exports.imports.records import ExternalOptions, base_of, labelled
from exports.imports.release_row import parse_row
from exports.imports.rows import ImportRow, PreparedRecord
from exports.imports.source_files import check_source, read_below
from schemas.sample import LabelSource
from sdg_data.errors import InputError
from sdg_data.ids import canonical_json

MAX_LINE_BYTES = 64 << 20


def release_rows(file: Path, options: ExternalOptions) -> Iterator[ImportRow]:
    """Read the rows of a JSONL file in the form of the paper's release.

    Args:
        file: The file.
        options: The import's options.

    Yields:
        A row for each line, or a rejected one that says what is wrong with the line.

    Raises:
        InputError: The file cannot be read.
    """
    check_source(file)
    try:
        with file.open("rb") as lines:
            number = 0
            while line := lines.readline(MAX_LINE_BYTES):
                number += 1
                name = f"{file.name}:{number}"
                if len(line) == MAX_LINE_BYTES and not line.endswith(b"\n"):
                    yield RejectedRow(name, "too-long", f"the line has more than {MAX_LINE_BYTES} bytes")
                    while (rest := lines.readline(MAX_LINE_BYTES)) and not rest.endswith(b"\n"):
                        pass
                elif line.removeprefix(b"\xef\xbb\xbf").strip():
                    try:
                        yield _release_row(name, line, file, options)
                    except RejectedRow as error:
                        yield error
    except OSError as error:
        raise InputError(f"cannot read the file ({error.strerror})", item=str(file)) from error


def _release_row(name: str, line: bytes, file: Path, options: ExternalOptions) -> PreparedRecord:
    row = parse_row(name, line)
    split = options.splits.split_of(name, row.split)
    base = base_of(
        name,
        _image(name, row.filepath, file.parent if options.folder is None else options.folder),
        row.caption,
        options,
        model=row.model or options.model,
        split=split,
    )
    answer = row.fields.get("ann_response")
    stored = labelled(base, [(defect, True) for defect in row.defects], row.trace, answer, options)
    assert stored.annotation is not None
    sample = from_annotation(
        stored.image,
        stored.prompt,
        stored.annotation,
        label_source=LabelSource.ACCEPTED,
        review=stored.review,
        enrichment=stored.enrichment,
    )
    envelope = envelope_of(canonical_json(extras_of(row.fields, sample)))
    return PreparedRecord(
        name,
        stored.data,
        stored.image,
        stored.prompt,
        stored.annotation.model_copy(update={"envelope": envelope}),
        stored.review,
        stored.enrichment,
    )


def _image(name: str, filepath: str, folder: Path) -> bytes:
    """The image's bytes, under the path that the row names or its end from "SDG/" on, below the folder."""
    if ".." in PurePosixPath(filepath.replace("\\", "/")).parts:
        raise RejectedRow(name, "outside-folder", f"its path {filepath!r:.200} leads out of the images' folder")
    if not PurePosixPath(filepath).is_absolute():
        try:
            return read_below(folder, filepath, name)
        except RejectedRow as error:
            if error.code != "missing-file":
                raise
    return read_below(folder, image_path(filepath), name)
