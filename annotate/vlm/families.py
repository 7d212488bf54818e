"""Model families: how each writes boxes, and the size of image that it wants.

The size matters for Qwen2.5-VL alone: its boxes count pixels of the image *after* its processor has resized it. So the
image is brought to that size here. The processor then leaves it as it is, and both sides count alike.
"""

from __future__ import annotations

import io
import json
import re
from pathlib import Path
from typing import Final

from PIL import Image

from annotate.vlm.contract import EncodedImage
from schemas.codecs import QWEN25VL_MIN_PIXELS, AnswerCodec, Gemini, Qwen3VL, Qwen25VL, smart_resize
from schemas.geometry import ImageSize
from sdg_data.errors import ConfigError
from sdg_data.picture import decode_image, read_header

FAMILIES: Final = ("qwen3-vl", "qwen2.5-vl", "gemini")
_NAMES: Final = (
    ("gemini", re.compile(r"gemini")),
    ("qwen2.5-vl", re.compile(r"qwen[-_. ]?2[-_. p]?5[-_. ]?vl")),
    ("qwen3-vl", re.compile(r"qwen[-_. ]?3[-_. ]?vl")),
)
"""How the families' models are called: `Qwen/Qwen3-VL-8B-Instruct`, `qwen2.5vl:7b`, `qwen2_5_vl`, `gemini-2.5-pro`."""
_OWN_FORMS: Final = re.compile(r"qwen|qvq|mimo-?vl|ui-?tars|olmocr|cosmos-?reason|gemma|molmo|kimi-?vl|florence")
"""Lines of models that were trained to write places in a form of their own, whatever they are asked: Qwens before and
after those above, models made of them (pixels), Gemma and PaliGemma (y first), Molmo (points), Kimi-VL (fractions)."""
TYPES: Final = {"qwen3_vl": "qwen3-vl", "qwen3_vl_moe": "qwen3-vl", "qwen2_5_vl": "qwen2.5-vl"}
"""The `model_type` of a model's config -> its family."""
_SENDABLE: Final = ("image/png", "image/jpeg")
LONGEST_ASPECT: Final = 200
"""Qwen's image processors refuse an image whose longer side is more than so many times the shorter one."""


def family_of(model: str, stated: str = "") -> str:
    """The family of a model: the one that is stated, else by the config of the folder that it names, else by its name.

    Models of other makers get Qwen3-VL's convention, which the question puts into words. A line of models that was
    trained to write its own, whatever it is asked, is not guessed at.

    Raises:
        ConfigError: The stated family does not exist, or it is not known how the model writes boxes.
    """
    if stated:
        if stated not in FAMILIES:
            raise ConfigError(f"there is no codec {stated!r}", hint=f"It is one of {', '.join(FAMILIES)}.")
        return stated
    kind = model_type(Path(model).expanduser())
    if kind in TYPES:
        return TYPES[kind]
    name = (kind or model).lower()
    for family, pattern in _NAMES:
        if pattern.search(name):
            return family
    if _OWN_FORMS.search(name):
        raise ConfigError(
            f"how this model writes boxes cannot be told from its {'config' if kind else 'name'}",
            item=model,
            hint=f"Set `codec` in the config file's section: one of {', '.join(FAMILIES)}.",
        )
    return "qwen3-vl"


def model_type(folder: Path) -> str:
    """The `model_type` in a model folder's config; "" where there is no such folder, or it says nothing.

    A server is often started with a folder, which is then the model's name for its clients too.
    """
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return ""
    kind = config.get("model_type") if isinstance(config, dict) else None
    return kind if isinstance(kind, str) else ""


def codec_of(family: str, sent: ImageSize) -> AnswerCodec:
    """The convention of a family's boxes on an image of the size that `fit_image` gave it."""
    if family == "gemini":
        return Gemini()
    return Qwen25VL(sent) if family == "qwen2.5-vl" else Qwen3VL()


def fit_image(
    data: bytes,
    media_type: str,
    *,
    family: str,
    max_side: int,
    image_format: str = "",
    quality: int = 95,
    check: bool = True,
) -> EncodedImage:
    """An image for a model: its own bytes where size and type fit and are plain, else encoded anew in the size wanted.

    Args:
        data: The encoded image.
        media_type: Its media type, by its record.
        family: One of `FAMILIES`.
        max_side: The longest side in pixels.
        image_format: jpeg or webp: what it is to be; "": PNG, and JPEG where it is one already.
        quality: Of JPEG and WebP, 1..100.
        check: Decode it even where its own bytes will do.

    Raises:
        PictureError: The bytes give no picture.
        ValueError: The family's models do not take a picture of this shape.
    """
    header = read_header(data)
    size = ImageSize(width=header.width, height=header.height)
    wanted_types = (f"image/{image_format}",) if image_format else _SENDABLE
    plain = header.plain and media_type == header.media_type in wanted_types
    if plain and not check and fitted_size(size, family, max_side) == size:
        return EncodedImage(data, media_type, size)
    image = decode_image(data)
    size = ImageSize(width=image.width, height=image.height)
    wanted = fitted_size(size, family, max_side)
    if plain and wanted == size:
        return EncodedImage(data, media_type, size)
    if wanted != size:
        image = image.resize((wanted.width, wanted.height), Image.Resampling.BICUBIC)
    buffer = io.BytesIO()
    if image_format == "jpeg":
        image.save(buffer, "JPEG", quality=quality, subsampling=0)
    elif image_format == "webp":
        image.save(buffer, "WEBP", quality=quality, method=0)
    else:
        image.save(buffer, "PNG", compress_level=4)
    return EncodedImage(buffer.getvalue(), f"image/{image_format or 'png'}", wanted)


def fitted_size(size: ImageSize, family: str, max_side: int) -> ImageSize:
    """The size that `fit_image` gives an image: the longer side at most `max_side`, then the family's own rule.

    Raises:
        ValueError: The family's models take no image of such a shape.
    """
    longest = max(size.width, size.height)
    if longest > max_side:
        size = ImageSize(
            width=max(1, round(size.width * max_side / longest)), height=max(1, round(size.height * max_side / longest))
        )
    if family.startswith("qwen") and max(size.width, size.height) > LONGEST_ASPECT * min(size.width, size.height):
        raise ValueError(
            f"{size.width}x{size.height} pixels: {family} takes no image with sides beyond {LONGEST_ASPECT}:1"
        )
    if family == "qwen2.5-vl":
        return smart_resize(size, min_pixels=QWEN25VL_MIN_PIXELS, max_pixels=max(max_side, 56) ** 2)
    return size
