"""Stored images that are read otherwise than when they came in, and what people and models said about them before.

Versions before 0.2 decoded an image's samples as they are stored: no orientation, no colour space, no 16 bits, what is
transparent in whatever colour lies under it. Some importers took sizes from their source unmeasured. A store remembers
when it was first opened by a version that reads as `sdg_data.picture` says; older images are held to both readings.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from io import BytesIO
from typing import Any

import numpy as np
from PIL import Image

from schemas.records import ImageRecord
from sdg_data.blobs import Blobs
from sdg_data.errors import BlobCorrupt, BlobMissing
from sdg_data.picture import PictureError, decode_pixels, read_header
from sdg_data.progress import Progress
from sdg_data.store import images
from sdg_data.store.connection import Store, Tx
from sdg_data.store.rows import as_record, select

_PAGE = 500
_SINCE = 7
"""The schema version that came with `sdg_data.picture`."""
DEPENDENTS = ("prelabels", "annotations", "label_tasks")
"""Tables of what was said of an image, or asked, by what was seen of it."""


@dataclass(frozen=True)
class ImageFinding:
    """A stored image that is read otherwise now.

    Attributes:
        image: Its record.
        reason: "size" or "media-type" (the record's is not the picture's), "pixels" (same size, other pixels),
            "blob-missing", "blob-corrupt", or a code of `PictureError`.
        detail: What differs, for people.
        dependents: Table to how many of its rows are about the image.
    """

    image: ImageRecord
    reason: str
    detail: str
    dependents: dict[str, int]


@dataclass
class CheckReport:
    """The result of a check of the stored images: how many were checked, and what is wrong with which."""

    images: int = 0
    findings: list[ImageFinding] = field(default_factory=list)

    def by_reason(self) -> dict[str, int]:
        """How many images have something wrong, by reason, in order of the reasons."""
        return dict(sorted(Counter(finding.reason for finding in self.findings).items()))

    def dependents(self) -> dict[str, int]:
        """Table to how many of its rows are about these images."""
        return {table: sum(finding.dependents[table] for finding in self.findings) for table in DEPENDENTS}


def check_images(store: Store, blobs: Blobs) -> CheckReport:
    """Decode every stored image, and compare its picture with its record and with what earlier versions decoded."""
    report = CheckReport()
    with store.read() as tx:
        total, since = sum(images.count_by_model(tx).values()), _new_reading_since(tx)
    with Progress("check", unit="images").running(total) as running:
        for page in _pages(store):
            compared = ((image, _difference(image, blobs, since)) for image in page)
            differing = [(image, *difference) for image, difference in compared if difference is not None]
            report.images += len(page)
            with store.read() as tx:
                counts = _dependents(tx, [image.id for image, _, _ in differing])
            report.findings += [
                ImageFinding(image, reason, detail, counts[image.id]) for image, reason, detail in differing
            ]
            running.advance(len(page))
    return report


def _pages(store: Store) -> Iterator[list[ImageRecord]]:
    after = ""
    while True:
        with store.read() as tx:
            page = images.page(tx, after=after, limit=_PAGE)
        if not page:
            return
        yield page
        after = page[-1].id


def _new_reading_since(tx: Tx) -> datetime | None:
    """When the store was migrated to the present reading; None where it never knew another one."""
    applied = {row["version"]: row["applied_at"] for row in select(tx, "SELECT * FROM schema_versions")}
    return as_record(applied[_SINCE]) if applied[1] < applied[_SINCE] else None


def _difference(image: ImageRecord, blobs: Blobs, since: datetime | None) -> tuple[str, str] | None:
    """Reason and detail; None where the image is read as it was when it came in."""
    try:
        data = blobs.get(image.blob)
        header, pixels = read_header(data), decode_pixels(data)
    except BlobMissing:
        return "blob-missing", "its blob is not there"
    except BlobCorrupt:
        return "blob-corrupt", "its blob's bytes are damaged"
    except PictureError as error:
        return error.code, str(error)
    rules = f" ({', '.join(header.rules)})" if header.rules else ""
    if (image.width, image.height) != (header.width, header.height):
        return "size", f"recorded as {image.width}×{image.height}, seen as {header.width}×{header.height}{rules}"
    if image.media_type != header.media_type:
        return "media-type", f"recorded as {image.media_type}, it is {header.media_type}"
    old = since is not None and image.created_at < since
    if old and not header.plain and not np.array_equal(_as_before(data), pixels):
        return "pixels", f"other colours, or another way up{rules}"
    return None


def _as_before(data: bytes) -> np.ndarray[Any, Any]:
    """The pixels as versions before 0.2 decoded them."""
    try:
        with Image.open(BytesIO(data)) as image:  # noqa: TID251  (as it was)
            return np.asarray(image.convert("RGB"))
    except (OSError, SyntaxError, ValueError):
        return np.empty(0)  # it was not decoded at all


def _dependents(tx: Tx, image_ids: Sequence[str]) -> dict[str, dict[str, int]]:
    counts = {key: dict.fromkeys(DEPENDENTS, 0) for key in image_ids}
    for table in DEPENDENTS if image_ids else ():
        about = f"FROM {table} WHERE image_id IN (SELECT unnest(?::VARCHAR[]))"
        for row in select(tx, f"SELECT image_id, count(*) AS rows {about} GROUP BY image_id", [list(image_ids)]):
            counts[row["image_id"]][table] = row["rows"]
    return counts
