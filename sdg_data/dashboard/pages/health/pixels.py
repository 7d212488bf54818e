"""What only the pictures show: one colour all over, damaged files, nearly the same picture twice.

Looking takes some milliseconds a picture, so it is done when somebody asks. What was seen is kept beside the snapshots,
one line a blob: a blob never changes, so nothing is looked at twice, and a look that was stopped goes on.
"""

import base64
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from sdg_data.blobs import Blobs
from sdg_data.dashboard.page import Rows
from sdg_data.dashboard.pages.health.queries import all_blobs
from sdg_data.errors import BlobError
from sdg_data.ingest.near_duplicates import alike, near_pairs, perceptual_hash, thumbnail
from sdg_data.picture import decode_image
from sdg_data.store.connection import Tx

_FLUSH = 200
"""Pictures between two flushes of the file, and two reports of progress."""
_MOST_PAIRS = 200
_MOST_CANDIDATES = 50 * _MOST_PAIRS
"""Pairs of near hashes that are looked at again; on plain grounds most of them are not alike."""
_LOOKING = threading.Lock()
"""Held while pictures are looked at: one look at a time in a process."""


@dataclass(frozen=True)
class PictureFacts:
    """What was seen of a blob.

    Attributes:
        trouble: Why it is no picture; None where it is one.
        flat: Every pixel has one colour.
        hash: `perceptual_hash`, 64 bits; 0 where it is no picture.
        cells: `thumbnail`; empty where it is no picture.
    """

    trouble: str | None
    flat: bool
    hash: int
    cells: bytes


class Pixels:
    """What was seen of the blobs so far, kept in a file of JSON lines."""

    def __init__(self, home: Path, blobs: Blobs) -> None:
        self.path = home / "snapshots" / "pixels.jsonl"
        self._blobs = blobs

    def seen(self) -> dict[str, PictureFacts]:
        """What was measured of each blob, by its name. A line that is not whole counts as not measured."""
        facts = {}
        if self.path.exists():
            for line in self.path.read_bytes().splitlines():
                try:
                    row = orjson.loads(line)
                    facts[row["blob"]] = PictureFacts(
                        row["trouble"], row["flat"], row["hash"], base64.b64decode(row["cells"])
                    )
                except (ValueError, KeyError, TypeError):
                    continue
        return facts

    def look(self, tx: Tx) -> Iterator[tuple[int, int]]:
        """Look at every blob of a snapshot that was not looked at yet; yields (done, total) now and then."""
        with _LOOKING:
            known = self.seen().keys()
            new = [blob for blob in all_blobs(tx) if blob not in known]
            self.path.parent.mkdir(parents=True, exist_ok=True)
            yield 0, len(new)
            if not new:
                return
            with self.path.open("ab") as file:
                file.write(b"\n")  # ends a line that a crash has cut off
                for done, blob in enumerate(new, start=1):
                    facts = self._facts(blob)
                    row = {
                        "blob": blob,
                        "trouble": facts.trouble,
                        "flat": facts.flat,
                        "hash": facts.hash,
                        "cells": base64.b64encode(facts.cells).decode(),
                    }
                    file.write(orjson.dumps(row) + b"\n")
                    if done % _FLUSH == 0 or done == len(new):
                        file.flush()
                        yield done, len(new)

    def _facts(self, blob: str) -> PictureFacts:
        try:
            data = self._blobs.get(blob)
            extrema: Any = decode_image(data).getextrema()
            flat = all(low == high for low, high in extrema)
            return PictureFacts(None, flat, perceptual_hash(data), thumbnail(data))
        except (BlobError, ValueError) as error:
            return PictureFacts(str(error).splitlines()[0], False, 0, b"")


@dataclass(frozen=True)
class PixelReport:
    """How many of a snapshot's `total` blobs were looked at (`seen`), and which are damaged, flat or nearly alike."""

    total: int
    seen: int
    damaged: Rows
    flat: Rows
    near: Rows


def pixel_report(tx: Tx, pixels: Pixels) -> PixelReport:
    """What was seen so far of a snapshot's blobs. Pictures of one colour are left out of the near ones."""
    blobs = all_blobs(tx)
    seen = pixels.seen()
    known = {blob: seen[blob] for blob in blobs if blob in seen}
    hashes = {blob: facts.hash for blob, facts in known.items() if facts.trouble is None and not facts.flat}
    near = [
        {"first": first, "second": second}
        for first, second in near_pairs(hashes, limit=_MOST_CANDIDATES)
        if alike(known[first].cells, known[second].cells)
    ]
    return PixelReport(
        total=len(blobs),
        seen=len(known),
        damaged=[
            {"blob": blob, "trouble": facts.trouble} for blob, facts in known.items() if facts.trouble is not None
        ],
        flat=[{"blob": blob} for blob, facts in known.items() if facts.flat],
        near=near[:_MOST_PAIRS],
    )
