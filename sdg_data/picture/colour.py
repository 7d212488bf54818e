"""From a file's colour space to sRGB, as Chromium does: by an ICC profile, or by primaries and a transfer curve.

Traps: a profile of another kind of colour than the samples (a CMYK profile on RGB) and one that cannot be read count
as none, as in browsers. Many files carry a profile of sRGB itself; within one level of 255 it changes nothing, and the
samples are kept.
"""

from dataclasses import dataclass
from functools import lru_cache
from io import BytesIO
from typing import Final

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageCms

_SRGB_PRIMARIES: Final = (0.64, 0.33, 0.30, 0.60, 0.15, 0.06)
_D65: Final = (0.3127, 0.3290)
_BRADFORD: Final = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])
_KINDS: Final = {b"RGB ": "RGB", b"GRAY": "L", b"CMYK": "CMYK"}
"""A profile's own word for its kind of colour (bytes 16 to 20), as a mode of Pillow."""
_STEPS: Final = np.linspace(0, 255, 17).round().astype(np.uint8)
_RAMP: Final = Image.fromarray(np.arange(256, dtype=np.uint8)[None, :])
_CUBE: Final = Image.fromarray(np.stack(np.meshgrid(_STEPS, _STEPS, _STEPS, indexing="ij"), -1).reshape(17, -1, 3))
"""All greys, and colours of all kinds."""


@dataclass(frozen=True)
class IccProfile:
    """A colour profile (ICC), as the bytes that the image file holds."""

    data: bytes


@dataclass(frozen=True)
class CodedColour:
    """A colour space by numbers.

    Attributes:
        gamma: Light is a sample to that power; None is sRGB's own curve.
        primaries: x and y of red, green and blue.
        white: x and y of white.
    """

    gamma: float | None
    primaries: tuple[float, ...] = _SRGB_PRIMARIES
    white: tuple[float, ...] = _D65


Colour = IccProfile | CodedColour


def is_srgb(colour: Colour | None, mode: str) -> bool:
    """Whether the samples of a Pillow mode ("RGB", "L" or "CMYK") are the picture's own already."""
    if isinstance(colour, IccProfile):
        return mode != "CMYK" and _transform(colour.data, _profile_mode(colour.data, mode)) is None
    return mode != "CMYK" and colour in (None, CodedColour(None))


def to_srgb(image: Image.Image, colour: Colour | None) -> Image.Image:
    """An image of mode "RGB", "L" or "CMYK" as RGB in sRGB."""
    if isinstance(colour, CodedColour):
        return _decoded(in_mode(image, "RGB"), colour)
    mode = _profile_mode(colour.data, image.mode) if colour else None
    transform = _transform(colour.data, mode) if colour else None
    if mode is None or transform is None:
        return in_mode(image, "RGB")
    if mode == "L":
        table = np.asarray(_apply(transform, _RAMP))[0]
        return Image.merge("RGB", [image.point(table[:, channel].tolist()) for channel in range(3)])
    return _apply(transform, in_mode(image, mode))


def in_mode(image: Image.Image, mode: str) -> Image.Image:
    """The image in a mode of Pillow: itself where it is in that mode, which Pillow would copy."""
    return image if image.mode == mode else image.convert(mode)


# --- ICC profiles


def _profile_mode(profile: bytes, mode: str) -> str | None:
    """The mode in which samples of `mode` are given to a profile; None where it speaks of other colours."""
    kind = _KINDS.get(profile[16:20])
    return kind if kind == mode or (kind, mode) == ("RGB", "L") else None


@lru_cache(maxsize=64)
def _transform(profile: bytes, mode: str | None) -> ImageCms.ImageCmsTransform | None:
    """From a profile to sRGB; None where the profile cannot be used, or changes nothing."""
    if mode is None:
        return None
    try:
        transform = ImageCms.buildTransform(
            ImageCms.ImageCmsProfile(BytesIO(profile)),
            ImageCms.createProfile("sRGB"),
            mode,
            "RGB",
            renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
            # Without a cache of the last pixel, one transform serves several threads. Greys are 256 in all, and need no
            # short cuts, which miss dark ones by several levels.
            flags=ImageCms.Flags.NOCACHE | (ImageCms.Flags.NOOPTIMIZE if mode == "L" else 0),
        )
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return None  # browsers too show a picture as if it had no profile where they cannot read it
    return None if mode != "CMYK" and _changes_nothing(transform, mode) else transform


def _changes_nothing(transform: ImageCms.ImageCmsTransform, mode: str) -> bool:
    image = _RAMP if mode == "L" else _CUBE
    before = np.asarray(image.convert("RGB"), dtype=np.int16)
    return bool(np.abs(np.asarray(_apply(transform, image), dtype=np.int16) - before).max() <= 1)


def _apply(transform: ImageCms.ImageCmsTransform, image: Image.Image) -> Image.Image:
    converted = ImageCms.applyTransform(image, transform)
    assert converted is not None  # it is None only where the image is changed in place
    return converted


# --- primaries and a curve


def _decoded(image: Image.Image, colour: CodedColour) -> Image.Image:
    levels = np.arange(256) / 255
    light = _srgb_light(levels) if colour.gamma is None else levels**colour.gamma
    if (colour.primaries, colour.white) == (_SRGB_PRIMARIES, _D65):
        return image.point(_srgb_levels(light).tolist() * 3)
    to_srgb_light = _to_xyz(_SRGB_PRIMARIES, _D65)
    matrix = np.linalg.inv(to_srgb_light) @ _adapted(colour.white) @ _to_xyz(colour.primaries, colour.white)
    return Image.fromarray(_srgb_levels(light[np.asarray(image)] @ matrix.T))


def _srgb_light(levels: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """IEC 61966-2-1: light from samples of 0..1."""
    return np.where(levels <= 0.04045, levels / 12.92, ((levels + 0.055) / 1.055) ** 2.4)


def _srgb_levels(light: npt.NDArray[np.float64]) -> npt.NDArray[np.uint8]:
    light = np.clip(light, 0, 1)
    levels = np.where(light <= 0.0031308, light * 12.92, 1.055 * light ** (1 / 2.4) - 0.055)
    rounded: npt.NDArray[np.uint8] = np.rint(levels * 255).astype(np.uint8)
    return rounded


def _to_xyz(primaries: tuple[float, ...], white: tuple[float, ...]) -> npt.NDArray[np.float64]:
    """The matrix from light in a colour space to CIE XYZ."""
    x, y = np.array(primaries[0::2]), np.array(primaries[1::2])
    columns = np.stack([x / y, np.ones(3), (1 - x - y) / y])
    return columns * np.linalg.solve(columns, _white_xyz(white))


def _white_xyz(white: tuple[float, ...]) -> npt.NDArray[np.float64]:
    return np.array([white[0] / white[1], 1, (1 - white[0] - white[1]) / white[1]])


def _adapted(white: tuple[float, ...]) -> npt.NDArray[np.float64]:
    """Bradford's adaptation from a white to D65."""
    scale = (_BRADFORD @ _white_xyz(_D65)) / (_BRADFORD @ _white_xyz(white))
    adapted: npt.NDArray[np.float64] = np.linalg.inv(_BRADFORD) @ (scale[:, None] * _BRADFORD)
    return adapted
