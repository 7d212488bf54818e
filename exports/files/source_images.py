"""The images of an export as the store has them: their original bytes, and which of them cannot be exported.

An image whose bytes are missing, damaged or no picture is left out of an export, named and counted. Everything about
the blob folder as a whole (it does not answer, it may not be read) ends the export instead.
"""

import binascii
import struct
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from exports.dataset.sample_buffer import Entry, SampleBuffer
from sdg_data.blobs import Blobs
from sdg_data.errors import BlobCorrupt, BlobMissing, ExitCode, SdgError
from sdg_data.picture import PictureError, measure, read_header

_PNG_END = b"IEND"


class UnreadableImage(SdgError):
    """An image cannot be exported.

    Args:
        key: The sample's.
        code: Why, as programs count it: `missing-blob`, `corrupt-blob`, `other-size`, or a code of `sdg_data.picture`.
        message: Why, as people read it.
    """

    exit_code = ExitCode.BLOB

    def __init__(self, key: str, code: str, message: str) -> None:
        super().__init__(message, item=key)
        self.key, self.code = key, code


def image_bytes(blobs: Blobs, entry: Entry, *, decode: bool = False) -> bytes:
    """Read an image's original bytes, and see that they are the picture that its sample describes.

    Args:
        blobs: Where it is.
        entry: The sample.
        decode: Decode every pixel. Else its header is read, and whether the file is whole.

    Raises:
        UnreadableImage: It cannot be exported.
        BlobError: The blob folder cannot be read.
    """
    try:
        data = blobs.get(entry.blob)
    except BlobMissing as error:
        raise UnreadableImage(entry.key, "missing-blob", error.message) from error
    except BlobCorrupt as error:
        raise UnreadableImage(entry.key, "corrupt-blob", error.message) from error
    if len(data) != entry.image_bytes:
        message = f"the blob has {len(data)} bytes, the store says {entry.image_bytes}"
        raise UnreadableImage(entry.key, "other-size", message)
    try:
        header = measure(data) if decode else read_header(data)
        if not decode and not _whole(data, header.media_type):
            header = measure(data)  # what its end says may still be a picture to a decoder
    except PictureError as error:
        raise UnreadableImage(entry.key, str(error.code), str(error)) from error
    stated, actual = (entry.media_type, entry.width, entry.height), (header.media_type, header.width, header.height)
    if stated != actual:
        message = (
            f"the picture is {actual[0]}, {actual[1]}×{actual[2]}; the store says {stated[0]}, {stated[1]}×{stated[2]}"
        )
        raise UnreadableImage(entry.key, "other-size" if stated[0] == actual[0] else "other-type", message)
    return data


def unreadable_images(
    blobs: Blobs, buffer: SampleBuffer, *, workers: int, advance: Callable[[int], None] = lambda number: None
) -> list[UnreadableImage]:
    """Decode all images, and list those that cannot be exported, in order.

    Args:
        blobs: Where they are.
        buffer: The samples.
        workers: So many at a time.
        advance: Called with 1 after each.

    Raises:
        BlobError: The blob folder cannot be read.
    """

    def look(entry: Entry) -> UnreadableImage | None:
        try:
            image_bytes(blobs, entry, decode=True)
        except UnreadableImage as error:
            return error
        finally:
            advance(1)
        return None

    with ThreadPoolExecutor(workers, thread_name_prefix="export-look") as pool:
        return [error for error in pool.map(look, buffer.entries) if error is not None]


def _whole(data: bytes, media_type: str) -> bool:
    """Whether a file ends where its format says, and a PNG's chunks have their checksums; nothing is decoded."""
    if media_type == "image/png":
        return _whole_png(data)
    if media_type == "image/jpeg":
        return data.rstrip(b"\0").endswith(b"\xff\xd9")
    return len(data) >= int.from_bytes(data[4:8], "little") + 8


def _whole_png(data: bytes) -> bool:
    view, place = memoryview(data), 8
    while place + 12 <= len(data):
        (length,) = struct.unpack_from(">I", data, place)
        end = place + 8 + length
        if end + 4 > len(data):
            return False
        (checksum,) = struct.unpack_from(">I", data, end)
        if binascii.crc32(view[place + 4 : end]) != checksum:
            return False
        if data[place + 4 : place + 8] == _PNG_END:
            return True
        place = end + 4
    return False
