"""Reading images and their prompts out of a folder, WebDataset shards, or a Hugging Face dataset, one by one.

- Folder: `metadata.jsonl` or `metadata.csv` at its top (`file_name` and a prompt column, as Hugging Face's image
  folders have it), or else a text file beside each image (`cat.png`, `cat.txt`).
- Shards: tar files whose members share a key: `0001.png` or `.jpg` with `0001.txt` or `0001.json`.
- `hf:owner/name`: streamed; the bytes are taken as they are, not decoded and written anew.

Nothing is judged here: an image without a prompt comes out with `prompt=None`. InputError is for whole sources.
"""

import csv
import glob
import re
import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import orjson

from sdg_data.errors import InputError, MissingDependency
from sdg_data.ingest.prompt_files import CANDIDATE_COLUMNS, HUB_PREFIX, find_column

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp"})
METADATA_NAMES = ("metadata.jsonl", "metadata.csv")


@dataclass(frozen=True)
class SourceImage:
    """An image as the source has it. `name` says where, for people; `data` None: there is no such file.

    `prompt_problem` says why there is no prompt, when there is one that cannot be read. `facts` is the rest of its row.
    """

    name: str
    data: bytes | None
    prompt: str | None
    prompt_problem: str | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)


def open_images(source: str, *, column: str | None = None, hub_split: str = "train") -> Iterator[SourceImage]:
    """The images of `source`: a folder, a tar file, a pattern of tar files (`*`, `{000..012}`), or `hf:owner/name`.

    Args:
        source: The path, the pattern, or the name on the hub.
        column: The prompt's column or key; by default the first that looks like one.
        hub_split: Which split of a data set on the hub.

    Returns:
        The images, read one by one.

    Raises:
        InputError: There is nothing to read.
    """
    if source.startswith(HUB_PREFIX):
        return _hub_images(source.removeprefix(HUB_PREFIX), column, hub_split)
    path = Path(source)
    if path.is_dir():
        return _folder_images(path, column)
    shards = expand_shards(source)
    if not shards:
        raise InputError("no such folder or file", item=source)
    unknown = [str(shard) for shard in shards if not shard.name.endswith((".tar", ".tar.gz", ".tgz"))]
    if unknown:
        raise InputError(
            "neither a folder nor a tar file", item=unknown[0], hint="Prompts go in by `sdg prompts import`."
        )
    return _shard_images(shards, column)


def expand_shards(pattern: str) -> list[Path]:
    """The files that a pattern names, in order: `{000..012}` counts (with the zeros it has), `*` and `?` match."""
    braces = re.search(r"\{(\d+)\.\.(\d+)\}", pattern)
    if braces is not None:
        first, last = braces.groups()
        names = (f"{number:0{len(first)}d}" for number in range(int(first), int(last) + 1))
        return [
            path for name in names for path in expand_shards(pattern[: braces.start()] + name + pattern[braces.end() :])
        ]
    if any(character in pattern for character in "*?["):
        return [Path(name) for name in sorted(glob.glob(pattern))]  # noqa: PTH207  (an absolute pattern)
    return [Path(pattern)] if Path(pattern).exists() else []


# --- a folder


def _folder_images(folder: Path, column: str | None) -> Iterator[SourceImage]:
    images = sorted(path for path in folder.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file())
    if not images:
        raise InputError(
            "no images in the folder", item=str(folder), hint=f"Looked for {', '.join(sorted(IMAGE_SUFFIXES))}."
        )
    for name in METADATA_NAMES:
        if (folder / name).is_file():
            yield from _described_images(folder, folder / name, images, column)
            return
    for path in images:
        prompt, problem = _text_of(_bytes_of(path.with_suffix(".txt")))
        yield SourceImage(str(path), _bytes_of(path), prompt, problem)


def _described_images(folder: Path, metadata: Path, images: list[Path], column: str | None) -> Iterator[SourceImage]:
    rows: dict[str, Mapping[str, Any]] = {}
    for number, row in enumerate(_metadata_rows(metadata), start=1):
        name = row.get("file_name")
        if not isinstance(name, str) or not name:
            raise InputError(f"row {number} has no file_name", item=str(metadata))
        rows[str(PurePosixPath(name))] = row
    for path in images:
        row = rows.pop(path.relative_to(folder).as_posix(), {})
        yield _described(str(path), _bytes_of(path), row, column, str(metadata))
    for name, row in rows.items():
        yield _described(str(folder / name), _bytes_of(folder / name), row, column, str(metadata))


def _metadata_rows(path: Path) -> Iterator[Mapping[str, Any]]:
    try:
        if path.suffix == ".csv":
            with path.open(encoding="utf-8-sig", newline="") as file:
                yield from csv.DictReader(file, strict=True)
            return
        with path.open("rb") as lines:
            for line in lines:
                if line.strip():
                    row = orjson.loads(line)
                    if not isinstance(row, dict):
                        raise InputError("a line is no JSON object", item=str(path))
                    yield row
    except (OSError, UnicodeDecodeError, csv.Error, orjson.JSONDecodeError) as error:
        raise InputError(f"cannot read the metadata: {error}", item=str(path)) from error


# --- shards


def _shard_images(shards: list[Path], column: str | None) -> Iterator[SourceImage]:
    for shard in shards:
        try:
            with tarfile.open(shard, "r|*") as archive:
                yield from _grouped(shard, archive, column)
            # tarfile takes a file that ends inside a header for one that ends.
            if shard.suffix == ".tar" and shard.stat().st_size % tarfile.BLOCKSIZE:
                raise tarfile.ReadError("it is cut off")
        except (OSError, EOFError, tarfile.TarError) as error:
            raise InputError(
                f"cannot read the shard: {error}", item=str(shard), hint="Images before are imported."
            ) from error


def _grouped(shard: Path, archive: tarfile.TarFile, column: str | None) -> Iterator[SourceImage]:
    """Members with one key stand together; a key is the path up to the first dot of its last part."""
    current: str | None = None
    members: dict[str, bytes] = {}
    for member in archive:
        if not member.isfile():
            continue
        folder, _, name = member.name.rpartition("/")
        stem, _, suffix = name.partition(".")
        key = f"{folder}/{stem}" if folder else stem
        if key != current:
            yield from _sample(shard, current, members, column)
            current, members = key, {}
        content = archive.extractfile(member)
        members["." + suffix.lower()] = content.read() if content else b""
    yield from _sample(shard, current, members, column)


def _sample(shard: Path, key: str | None, members: Mapping[str, bytes], column: str | None) -> Iterator[SourceImage]:
    suffix = next((name for name in members if name in IMAGE_SUFFIXES), None)
    if key is None or suffix is None:
        return
    name = f"{shard}#{key}{suffix}"
    row: Mapping[str, Any] = {}
    if ".json" in members:
        try:
            value = orjson.loads(members[".json"])
        except orjson.JSONDecodeError as error:
            yield SourceImage(name, members[suffix], None, f"its .json is no JSON: {error}")
            return
        row = value if isinstance(value, dict) else {}
    if ".txt" in members and column is None:
        prompt, problem = _text_of(members[".txt"])
        yield SourceImage(name, members[suffix], prompt, problem, row)
    else:
        yield _described(name, members[suffix], row, column, name)


# --- a Hugging Face dataset


def _hub_images(name: str, column: str | None, split: str) -> Iterator[SourceImage]:
    try:
        import datasets
    except ImportError as error:
        raise MissingDependency("datasets is not installed", hint="pip install 'sdg-data[train]'") from error
    where = f"{HUB_PREFIX}{name}"
    repository, _, config = name.partition(":")
    try:
        dataset = datasets.load_dataset(repository, config or None, split=split, streaming=True)
    except (OSError, ValueError) as error:
        raise InputError(f"cannot open the dataset: {str(error).splitlines()[0]}", item=where) from error
    features = dataset.features or {}
    picture = next((key for key, kind in features.items() if isinstance(kind, datasets.Image)), None)
    if picture is None:
        raise InputError("the dataset has no image column", item=where, hint=f"Columns: {', '.join(features)}.")
    dataset = dataset.cast_column(picture, datasets.Image(decode=False))
    text = column or find_column([key for key in features if key != picture], where)
    for number, row in enumerate(dataset, start=1):
        cell = row[picture] or {}
        data = cell.get("bytes") or (_bytes_of(Path(cell["path"])) if cell.get("path") else None)
        facts = {key: value for key, value in row.items() if key != picture}
        yield _described(f"{where}#{number}", data, facts, text, where)


# --- shared


def _described(name: str, data: bytes | None, row: Mapping[str, Any], column: str | None, source: str) -> SourceImage:
    """A found image whose prompt is in its row of metadata."""
    if not row:
        return SourceImage(name, data, None)
    key = column or next((known for known in row if known.lower() in CANDIDATE_COLUMNS), None)
    if key is None:
        key = find_column(row, source)
    value = row.get(key)
    if value is not None and not isinstance(value, str):
        return SourceImage(name, data, None, f"{key!r} is {type(value).__name__}, not text", row)
    return SourceImage(name, data, value, None, row)


def _text_of(data: bytes | None) -> tuple[str | None, str | None]:
    if data is None:
        return None, None
    try:
        return data.decode("utf-8-sig"), None
    except UnicodeDecodeError:
        return None, "its text is not UTF-8"


def _bytes_of(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise InputError(f"cannot read the file ({error.strerror})", item=str(path)) from error


def decode_size(data: bytes) -> tuple[str, int, int]:
    """Find out a picture's kind and size as a person sees it, having decoded every pixel of it.

    Returns:
        (media type, width, height) in pixels.

    Raises:
        PictureError: The bytes are no picture, or a damaged one; the text says why.
    """
    from sdg_data.picture import measure

    header = measure(data)
    return header.media_type, header.width, header.height
