"""Which format bytes are in, by their first bytes, and the header of those that are taken. Nothing is decoded."""

from collections.abc import Callable
from typing import Final

from sdg_data.picture import jpeg, png, webp
from sdg_data.picture.header import PictureHeader
from sdg_data.picture.refusal import DAMAGED, TOO_LARGE, UNSUPPORTED, PictureError

MOST_PIXELS: Final = 178_956_970
"""The most pixels of a picture, of one frame: as many as a gibibyte holds at six bytes each, Pillow's own limit."""
_SIGNATURES: Final = (
    (b"GIF87a", "GIF"),
    (b"GIF89a", "GIF"),
    (b"BM", "BMP"),
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
    (b"II+\0", "TIFF"),
    (b"MM\0+", "TIFF"),
    (b"\0\0\1\0", "ICO"),
    (b"8BPS", "PSD"),
    (b"\xff\x0a", "JPEG XL"),
    (b"\0\0\0\x0cJXL \r\n\x87\n", "JPEG XL"),
    (b"\0\0\0\x0cjP  \r\n\x87\n", "JPEG 2000"),
    (b"\xff\x4f\xff\x51", "JPEG 2000"),
    (b"\x76\x2f\x31\x01", "OpenEXR"),
    (b"#?RADIANCE", "Radiance HDR"),
    (b"DDS ", "DDS"),
    (b"qoif", "QOI"),
    (b"icns", "ICNS"),
    (b"%PDF", "PDF"),
)
_BRANDS: Final = {b"avif": "AVIF", b"avis": "AVIF", b"heic": "HEIC", b"heix": "HEIC", b"mif1": "HEIF", b"msf1": "HEIF"}


def read_header(data: bytes) -> PictureHeader:
    """Read the header of a PNG, JPEG or WebP.

    Raises:
        PictureError: The bytes are none of these, too large a picture, or damaged in what was read.
    """
    header = _reader(data)(data)
    if not header.stored_width or not header.stored_height:
        raise PictureError(DAMAGED, "damaged: its header says that it has no pixels")
    if header.stored_width * header.stored_height > MOST_PIXELS:
        size = f"{header.stored_width}×{header.stored_height}"
        raise PictureError(TOO_LARGE, f"{size} are more pixels than the {MOST_PIXELS:,} that are read")
    return header


def _reader(data: bytes) -> Callable[[bytes], PictureHeader]:
    if data.startswith(png.SIGNATURE):
        return png.read_header
    if data.startswith(jpeg.SIGNATURE):
        return jpeg.read_header
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return webp.read_header
    name = _name(data)
    if name:
        raise PictureError(UNSUPPORTED, f"{name} is not PNG, JPEG or WebP")
    if not data:
        raise PictureError(DAMAGED, "not an image: there are no bytes")
    raise PictureError(DAMAGED, "not an image, or one that is damaged at its beginning")


def _name(data: bytes) -> str | None:
    """The name of another known format, for people."""
    if data[4:8] == b"ftyp":
        return _BRANDS.get(data[8:12], "MP4 or a relative of it")
    if data[:1] == b"P" and data[1:2] in b"1234567" and data[2:3].isspace():
        return "PNM"
    text = data[:512].removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if text.startswith((b"<svg", b"<?xml")) and b"<svg" in data[:4096].lower():
        return "SVG"
    if text.startswith((b"<!doctype html", b"<html")):
        return "HTML"
    return next((name for signature, name in _SIGNATURES if data.startswith(signature)), None)
