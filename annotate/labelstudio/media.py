"""Images as files that Label Studio may serve: `media/images/ab/<sha256>.png`, hard links to blobs.

Blobs have no extension, and the server tells a browser what an image is by it. The folder stands apart from the rest of
the home, because a server that serves a folder serves everything in it.
"""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterable
from pathlib import Path

from schemas.records import ImageRecord
from sdg_data.blobs import Blobs
from sdg_data.errors import BlobError

IMAGES = "images"
_EXTENSIONS = {"image/jpeg": "jpg", "image/svg+xml": "svg"}


def extension(image: ImageRecord) -> str:
    """The file extension of an image's media type: `png`, `jpg`, `webp`."""
    return _EXTENSIONS.get(image.media_type, image.media_type.removeprefix("image/"))


def image_url(image: ImageRecord, template: str = "") -> str:
    """A task's `data.image`: a file that the server serves, or `template` filled with {blob} and {extension}."""
    if template:
        return template.format(blob=image.blob, extension=extension(image))
    return f"/data/local-files/?d={IMAGES}/{image.blob[:2]}/{image.blob}.{extension(image)}"


def serve(blobs: Blobs, media: Path, images: Iterable[ImageRecord]) -> int:
    """Put the images' files there: links to the blobs or, where blobs lie on another disk or an object store, copies.

    Args:
        blobs: The images' bytes.
        media: The folder that the server serves files from.
        images: The images.

    Returns:
        How many files were new.

    Raises:
        BlobMissing: There is no such blob.
        BlobCorrupt: The blob is not what its name says.
        BlobError: The folder cannot be written.
    """
    created = 0
    for image in images:
        target = media / IMAGES / image.blob[:2] / f"{image.blob}.{extension(image)}"
        source = Path(blobs.path(image.blob))
        try:
            if target.exists() and (not source.exists() or target.samefile(source) or _is_copy(target, image)):
                continue
            # Compared with its name once: a swapped blob would be annotated under another image's id.
            data = blobs.get(image.blob)
            target.parent.mkdir(parents=True, exist_ok=True)
            temporary = target.with_name(f".{secrets.token_hex(8)}")
            try:
                os.link(source, temporary)
            except OSError:
                temporary.write_bytes(data)
            temporary.replace(target)
            # POSIX: renaming one link of a file over another link of it leaves both.
            with contextlib.suppress(FileNotFoundError):
                temporary.unlink()
            created += 1
        except OSError as error:
            raise BlobError(
                f"cannot make the image available to Label Studio ({error.strerror})", item=str(target)
            ) from error
    return created


def _is_copy(target: Path, image: ImageRecord) -> bool:
    """Whether a file is a whole copy, and no link; copies are written under another name first, so size is enough."""
    status = target.stat()
    return status.st_nlink == 1 and status.st_size == image.bytes
