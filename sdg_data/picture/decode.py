"""The picture of a file's bytes: every pixel decoded, turned upright, in sRGB, over white.

PNG is decoded by pyspng where it is installed and the picture is plain (1.4 times as fast as Pillow), the rest by
Pillow; the pixels are the same either way. Pillow is given the samples alone: its answers would else depend on what
it makes of damaged metadata.
"""

import struct
import zlib
from functools import cache
from io import BytesIO
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from PIL import Image, JpegImagePlugin, PngImagePlugin, WebPImagePlugin

from sdg_data.picture import jpeg, png
from sdg_data.picture.colour import in_mode, to_srgb
from sdg_data.picture.formats import read_header
from sdg_data.picture.header import PictureHeader
from sdg_data.picture.refusal import DAMAGED, PictureError

Pixels = npt.NDArray[np.uint8]

_TURNS: Final = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

_DAMAGE: Final = (
    OSError, SyntaxError, EOFError, ValueError, KeyError, IndexError, TypeError, struct.error, zlib.error,
)  # fmt: skip
"""What Pillow and zlib raise on damaged data."""
_OPAQUE: Final = {"1": "L", "L": "L", "LA": "L", "CMYK": "CMYK"}
"""What samples of some modes are without their opacity; those of all others are RGB."""


def decode_image(data: bytes) -> Image.Image:
    """Decode a picture to the pixels that a person sees.

    Args:
        data: An encoded PNG, JPEG or WebP.

    Returns:
        The picture, mode RGB, with no metadata.

    Raises:
        PictureError: The bytes give no picture.
    """
    return _decoded(data, read_header(data))


def decode_pixels(data: bytes) -> Pixels:
    """Decode a picture to an array.

    Args:
        data: An encoded PNG, JPEG or WebP.

    Returns:
        (height, width, 3), RGB.

    Raises:
        PictureError: The bytes give no picture.
    """
    return _pixels(data, read_header(data))


def measure(data: bytes) -> PictureHeader:
    """The header of a picture whose every pixel decodes.

    Raises:
        PictureError: The bytes give no picture.
    """
    header = read_header(data)
    _pixels(data, header)
    return header


def for_browser(data: bytes) -> tuple[str, bytes]:
    """The picture as bytes that every browser shows as it is: the file's own where it is plain, else a PNG.

    Args:
        data: An encoded PNG, JPEG or WebP.

    Returns:
        (media type, bytes).

    Raises:
        PictureError: The bytes give no picture.
    """
    header = read_header(data)
    if header.plain:
        return header.media_type, data
    file = BytesIO()
    _decoded(data, header).save(file, "PNG", compress_level=1)
    return "image/png", file.getvalue()


def _pixels(data: bytes, header: PictureHeader) -> Pixels:
    if header.plain and header.media_type == "image/png" and _pyspng() is not None:
        png.check_sums(data)
        try:
            pixels: Pixels = _pyspng().load(png.critical_chunks(data), format="RGB")
        except RuntimeError as error:
            raise PictureError(DAMAGED, f"damaged: {error}") from error
        return pixels
    return np.asarray(_decoded(data, header))


def _decoded(data: bytes, header: PictureHeader) -> Image.Image:
    try:
        samples = _samples(data, header.media_type)
        alpha = _alpha(samples, data, header.media_type)
    except PictureError:
        raise
    except _DAMAGE as error:
        raise PictureError(DAMAGED, f"damaged: {error}") from error
    if samples.size != (header.stored_width, header.stored_height):
        raise PictureError(DAMAGED, f"damaged: its header says {header.stored_width}×{header.stored_height}")
    picture = to_srgb(_opaque(samples), header.colour)
    if alpha is not None:
        white = Image.new("RGB", picture.size, (255, 255, 255))
        white.paste(picture, mask=alpha)
        picture = white
    if header.orientation != 1:
        picture = picture.transpose(_TURNS[header.orientation])
    picture.info.clear()
    return picture


def _samples(data: bytes, media_type: str) -> Image.Image:
    image: Image.Image
    if media_type == "image/png":
        png.check_samples(data)
        image = PngImagePlugin.PngImageFile(BytesIO(png.critical_chunks(data)))
    elif media_type == "image/jpeg":
        image = JpegImagePlugin.JpegImageFile(BytesIO(jpeg.decisive_segments(data)))
    else:
        image = WebPImagePlugin.WebPImageFile(BytesIO(data))
    image.load()
    return image


def _alpha(samples: Image.Image, data: bytes, media_type: str) -> Image.Image | None:
    """How opaque each pixel is, 0 to 255; None where all are."""
    if samples.mode in ("LA", "RGBA"):
        return samples.getchannel("A")
    if samples.mode == "P":
        return samples.convert("RGBA").getchannel("A") if "transparency" in samples.info else None
    colour = png.transparent_colour(data) if media_type == "image/png" else None
    if colour is None:
        return None
    values = np.asarray(samples.convert("L") if samples.mode == "1" else samples, dtype=np.uint16)
    if png.is_deep(data) and samples.mode == "RGB":
        values = values * np.uint16(256) + _lower_bytes(data)
    other = values.reshape(samples.height, samples.width, -1) != np.array(colour, dtype=np.uint16)
    return Image.fromarray(other.any(axis=2).astype(np.uint8) * 255)


def _lower_bytes(data: bytes) -> Pixels:
    """The lower halves of a PNG's RGB samples of 16 bits, of which Pillow gives the upper ones."""
    image = PngImagePlugin.PngImageFile(BytesIO(png.critical_chunks(data)))
    image.tile = [tile._replace(args="RGB;16L") for tile in image.tile]
    return np.asarray(image)


def _opaque(samples: Image.Image) -> Image.Image:
    """The samples without their opacity, in 8 bits a channel: mode L, RGB or CMYK."""
    if samples.mode.startswith("I"):
        # Of 16 bits a browser shows the upper 8, and so does Pillow in colour.
        return Image.fromarray((np.asarray(samples, dtype=np.uint16) >> 8).astype(np.uint8))
    samples.info.pop("transparency", None)
    return in_mode(samples, _OPAQUE.get(samples.mode, "RGB"))


@cache
def _pyspng() -> Any:
    try:
        import pyspng
    except ImportError:
        return None
    return pyspng
