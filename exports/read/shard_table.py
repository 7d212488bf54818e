"""Samples of shards by number, for trainers that plan their own order (batches of like length).

`ShardReader` streams and needs no more than two shards on this machine at a time. `ShardTable` needs all of them:
shards on another machine are fetched to a temporary folder at the first access and kept until the table is dropped.
"""

import hashlib
import os
import tempfile
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from exports.read.reader import CorruptSample
from exports.read.shard_files import ShardFile, find_shards, open_shard
from schemas.records import Split
from schemas.sample import Sample

_HINT = "`sdg export verify` names all damage."


class ShardTable:
    """The samples of an export in stored order. It may be handed to worker processes: each opens the shards anew.

    Args:
        source: As for `ShardReader`.
        split: Only this split.

    Raises:
        InputError: There are no shards.
    """

    def __init__(self, source: str | Path | Sequence[str | Path], *, split: str | None = None) -> None:
        self._shards = find_shards(source, None if split is None else Split(split))
        self._ends = list(accumulate(shard.samples for shard in self._shards))
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._files: dict[int, ShardFile] = {}

    def __len__(self) -> int:
        return self._ends[-1]

    def __iter__(self) -> Iterator[Sample]:
        """Iterate over all samples, without their images."""
        return map(self.sample, range(len(self)))

    def sample(self, number: int) -> Sample:
        """Read a sample's record, without its image.

        Args:
            number: From 0, in stored order.

        Returns:
            The validated sample.

        Raises:
            CorruptSample: It cannot be read. (IndexError where there is no such number.)
        """
        file, inside = self._find(number)
        place = file.places[inside]
        text = os.pread(file.fd, place.text[1], place.text[0])
        try:
            return Sample.model_validate_json(text)
        except ValidationError as error:
            message = f"{file.path}#{inside} ({place.key}): its JSON is no sample: {error.errors()[0]['msg']}"
            raise CorruptSample(message, hint=_HINT) from error

    def image(self, number: int) -> bytes:
        """Read an image's bytes as they were stored; the same errors as `sample`."""
        file, inside = self._find(number)
        place = file.places[inside]
        return os.pread(file.fd, place.image[1], place.image[0])

    def fingerprint(self) -> str:
        """Hash the shards' names, sizes and numbers of samples: 16 hex digits that change with them."""
        parts = []
        for index, shard in enumerate(self._shards):
            parts.append((Path(shard.path).name, shard.samples, os.fstat(self._file(index).fd).st_size))
        return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]

    def _find(self, number: int) -> tuple[ShardFile, int]:
        if not 0 <= number < len(self):
            raise IndexError(number)
        index = bisect_right(self._ends, number)
        file = self._file(index)
        inside = number - self._ends[index] + self._shards[index].samples
        problem = file.damage or (file.places[inside].problem if inside < len(file.places) else "it is missing")
        if problem is not None:
            raise CorruptSample(f"{file.path}#{inside}: {problem}", hint=_HINT)
        return file, inside

    def _file(self, index: int) -> ShardFile:
        if index not in self._files:
            if self._folder is None:
                self._folder = tempfile.TemporaryDirectory(prefix="sdg-shards-")
            self._files[index] = open_shard(self._shards[index], Path(self._folder.name))
        return self._files[index]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_files": {}, "_folder": None}
