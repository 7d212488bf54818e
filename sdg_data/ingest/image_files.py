"""Reading images and their prompts out of a folder, WebDataset shards, or a Hugging Face dataset, one by one.

- Folder: a table of metadata or a text beside each image (`image_folders`).
- Shards: tar files whose members share a key (`image_shards`).
- `hf:owner/name`: streamed; the bytes are taken as they are, not decoded and written anew.

Nothing is judged here but whether an image with a prompt can be read; what cannot comes out with the reason, and so
does every other file or member. InputError is for whole sources.
"""

import glob
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from sdg_data.errors import InputError, MissingDependency
from sdg_data.ingest.captions import find_columns
from sdg_data.ingest.image_folders import folder_images
from sdg_data.ingest.image_shards import SHARD_SUFFIXES, is_shard, shard_images
from sdg_data.ingest.prompt_files import HUB_PREFIX
from sdg_data.ingest.source_image import MAX_IMAGE_BYTES, SourceImage, described, too_large

_NAMED_MISSING: Final = 5


def open_images(source: str, *, column: str | None = None, hub_split: str = "train") -> Iterator[SourceImage]:
    """The images of `source`, and whatever else is there, each with the reason why it is left out.

    Args:
        source: A folder, a tar file, a pattern of tar files (`*`, `{000..012}`), or `hf:owner/name`.
        column: The prompt's column or key.
        hub_split: The split of a Hugging Face dataset.

    Raises:
        InputError: There is nothing to read, or a shard that the pattern names is missing.
    """
    if source.startswith(HUB_PREFIX):
        return _hub_images(source.removeprefix(HUB_PREFIX), column, hub_split)
    path = Path(source)
    if "\0" in source:
        raise InputError("no such folder or file", item=repr(source))
    if path.is_dir():
        return folder_images(path, column)
    shards = expand_shards(source)
    if not shards:
        raise InputError("no such folder or file", item=source)
    unknown = [str(shard) for shard in shards if not is_shard(shard) or not shard.is_file()]
    if unknown:
        raise InputError(
            "neither a folder nor a tar file that is read",
            item=unknown[0],
            hint=f"Taken are a folder and {', '.join(SHARD_SUFFIXES)}; unpack another archive into a folder, "
            "or make it a .tar. Prompts go in by `sdg prompts import`.",
        )
    return shard_images(shards, column)


def expand_shards(pattern: str) -> list[Path]:
    """The files that a pattern names, in order: `{000..012}` counts (with the zeros it has), `*` and `?` match.

    Raises:
        InputError: A file whose number the pattern counts is not there.
    """
    braces = re.search(r"\{(\d+)\.\.(\d+)\}", pattern)
    if braces is None:
        if Path(pattern).exists():
            return [Path(pattern)]  # a name may hold brackets
        if any(character in pattern for character in "*?["):
            return [Path(name) for name in sorted(glob.glob(pattern))]  # noqa: PTH207  (an absolute pattern)
        return []
    first, last = braces.groups()
    before, behind = pattern[: braces.start()], pattern[braces.end() :]
    names = (f"{before}{number:0{len(first)}d}{behind}" for number in range(int(first), int(last) + 1))
    shards: list[Path] = []
    missing: list[str] = []
    for name in names:
        paths = expand_shards(name)
        shards += paths
        if not paths:
            missing.append(name)
        if len(missing) > _NAMED_MISSING:
            break
    if missing:
        more = ["…"] if len(missing) > _NAMED_MISSING else []
        raise InputError(
            "there is no such shard, but the pattern counts it",
            item=missing[0],
            hint=f"Missing: {', '.join(missing[:_NAMED_MISSING] + more)}. A pattern with * takes those that are there.",
        )
    return shards


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
    if column is None:
        find_columns([key for key in features if key != picture], where)
    for number, row in enumerate(dataset, start=1):
        cell = row[picture] or {}
        facts = {key: value for key, value in row.items() if key != picture}
        image = SourceImage(f"{where}#{number}", _cell_bytes(cell))
        if image.data is None:
            yield replace(image, facts=facts, refusal=("missing-file", "its row holds no image"))
        elif len(image.data) > MAX_IMAGE_BYTES:
            yield replace(image, data=None, refusal=too_large(len(image.data), MAX_IMAGE_BYTES))
        else:
            yield described(image, facts, column)


def _cell_bytes(cell: Mapping[str, Any]) -> bytes | None:
    """The bytes of an image's cell, or of the file in the hub's cache that it names."""
    if cell.get("bytes"):
        return bytes(cell["bytes"])
    try:
        return Path(cell["path"]).read_bytes() if cell.get("path") else None
    except OSError:
        return None
