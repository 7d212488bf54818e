"""Images as files that Label Studio may serve, in `media/images/ab/`.

A browser shows the file, and people mark boxes on what they see. Where every browser shows the picture that the rest of
this software reads (`PictureHeader.plain`), the file is a hard link to the blob, `<sha256>.png`. Else it is that
picture as PNG, `<sha256>.shown.png`: a photo turned upright, in sRGB, over white.

Blobs have no extension, and the server tells a browser what an image is by it. The folder stands apart from the rest of
the home, because a server that serves a folder serves everything in it.
"""

from __future__ import annotations

import contextlib
import os
import secrets
from pathlib import Path

from schemas.records import ImageRecord
from sdg_data.blobs import Blobs
from sdg_data.errors import BlobError
from sdg_data.picture import for_browser, read_header

IMAGES = "images"
_EXTENSIONS = {"image/jpeg": "jpg", "image/svg+xml": "svg"}


def extension(image: ImageRecord) -> str:
    """The file extension of an image's media type: `png`, `jpg`, `webp`."""
    return _EXTENSIONS.get(image.media_type, image.media_type.removeprefix("image/"))


def url_elsewhere(image: ImageRecord, template: str) -> str:
    """Where another server has an image's blob: `template` filled with {blob} and {extension}."""
    return template.format(blob=image.blob, extension=extension(image))


def serve(blobs: Blobs, media: Path, image: ImageRecord) -> str:
    """Put an image's file there, if it is not there: a link, a copy where blobs lie elsewhere, or our rendering.

    Args:
        blobs: The images' bytes.
        media: The folder that the server serves files from.
        image: The image.

    Returns:
        The URL of the file, for a task's `data.image`.

    Raises:
        PictureError: The blob gives no picture.
        BlobMissing: There is no such blob.
        BlobCorrupt: The blob is not what its name says.
        BlobError: The folder cannot be written.
    """
    folder = media / IMAGES / image.blob[:2]
    own, rendered = folder / f"{image.blob}.{extension(image)}", folder / f"{image.blob}.shown.png"
    source = Path(blobs.path(image.blob))
    try:
        if rendered.exists():
            return _url(rendered)
        published = own.exists() and (not source.exists() or own.samefile(source) or _is_copy(own, image))
        # Compared with its name once: a swapped blob would be annotated under another image's id.
        data = own.read_bytes() if published else blobs.get(image.blob)
        if not read_header(data).plain:
            _publish(rendered, for_browser(data)[1], None)
            return _url(rendered)
        if not published:
            _publish(own, data, source)
        return _url(own)
    except OSError as error:
        raise BlobError(f"cannot make the image available to Label Studio ({error.strerror})", item=str(own)) from error


def _url(file: Path) -> str:
    return f"/data/local-files/?d={IMAGES}/{file.parent.name}/{file.name}"


def _publish(target: Path, data: bytes, source: Path | None) -> None:
    """Make a file appear whole: a link to `source` where that can be, else a copy of `data`."""
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{secrets.token_hex(8)}")
    try:
        if source is not None:
            os.link(source, temporary)
    except OSError:
        source = None  # it lies on another disk or an object store
    if source is None:
        temporary.write_bytes(data)
    temporary.replace(target)
    # POSIX: renaming one link of a file over another link of it leaves both.
    with contextlib.suppress(FileNotFoundError):
        temporary.unlink()


def _is_copy(target: Path, image: ImageRecord) -> bool:
    """Whether a file is a whole copy, and no link; copies are written under another name first, so size is enough."""
    status = target.stat()
    return status.st_nlink == 1 and status.st_size == image.bytes
