"""What only the pictures show: one colour all over, damaged files, nearly the same picture twice.

Looking takes some milliseconds a picture, so it is done when somebody asks, and what was seen is kept beside the
snapshots, one line a blob: a blob never changes, so nothing is looked at twice and a stopped look goes on.
"""

import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from sdg_data.blobs import Blobs
from sdg_data.dashboard.queries_health import blobs_after
from sdg_data.errors import BlobError
from sdg_data.ingest.near_duplicates import near_pairs, open_image, perceptual_hash
from sdg_data.store.connection import Tx

PAGE = 200
SHOWN = 200


@dataclass(frozen=True)
class Seen:
    """`trouble`: why the blob is no picture; `flat`: every pixel has one colour; `hash`: `perceptual_hash`."""

    trouble: str | None
    flat: bool
    hash: int


class Pixels:
    """What was seen of the blobs so far, kept in a file of JSON lines."""

    def __init__(self, home: Path, blobs: Blobs) -> None:
        self._path = home / "snapshots" / "pixels.jsonl"
        self._blobs = blobs
        self._writing = threading.Lock()

    def seen(self) -> dict[str, Seen]:
        """Every blob that was looked at. A line that was cut off by a crash counts as not looked at."""
        found = {}
        if self._path.exists():
            for line in self._path.read_bytes().splitlines():
                try:
                    row = orjson.loads(line)
                    found[row["blob"]] = Seen(row["trouble"], row["flat"], row["hash"])
                except (orjson.JSONDecodeError, KeyError, TypeError):
                    continue
        return found

    def look(self, tx: Tx) -> Iterator[tuple[int, int]]:
        """Look at every blob of an edition that was not looked at yet; yields (done, of how many) now and then."""
        with self._writing:
            known = self.seen().keys()
            new = [blob for blob in blobs_after(tx) if blob not in known]
            self._path.parent.mkdir(parents=True, exist_ok=True)
            yield 0, len(new)
            if not new:
                return
            with self._path.open("ab") as file:
                file.write(b"\n")  # ends a line that a crash has cut off
                for place, blob in enumerate(new, start=1):
                    one = self._look(blob)
                    row = {"blob": blob, "trouble": one.trouble, "flat": one.flat, "hash": one.hash}
                    file.write(orjson.dumps(row) + b"\n")
                    if place % PAGE == 0 or place == len(new):
                        file.flush()
                        yield place, len(new)

    def _look(self, blob: str) -> Seen:
        try:
            data = self._blobs.get(blob)
            low_high: Any = open_image(data).convert("RGB").getextrema()
            return Seen(None, all(low == high for low, high in low_high), perceptual_hash(data))
        except (BlobError, ValueError) as error:
            return Seen(str(error).splitlines()[0], False, 0)


@dataclass(frozen=True)
class Verdict:
    """Of the blobs of an edition: how many were looked at, and what was found."""

    total: int
    seen: int
    damaged: list[dict[str, Any]]
    flat: list[dict[str, Any]]
    near: list[dict[str, Any]]


def judge(tx: Tx, pixels: Pixels) -> Verdict:
    """What the looks so far say about an edition. Flat pictures are left out of the near ones: they are all alike."""
    there = blobs_after(tx)
    seen = pixels.seen()
    known = {blob: seen[blob] for blob in there if blob in seen}
    pairs = near_pairs(
        {blob: one.hash for blob, one in known.items() if one.trouble is None and not one.flat}, limit=SHOWN
    )
    return Verdict(
        total=len(there),
        seen=len(known),
        damaged=[{"blob": blob, "trouble": one.trouble} for blob, one in known.items() if one.trouble is not None],
        flat=[{"blob": blob} for blob, one in known.items() if one.flat],
        near=[{"first": first, "second": second} for first, second in pairs],
    )
