"""The same small scene in every kind of file, each with the pixels that it shows, worked out by hand with numpy."""

from dataclasses import dataclass
from io import BytesIO
from typing import Any

import numpy as np
from PIL import Image

from tests.sdg_data.picture import icc, pngs

HEIGHT, WIDTH = 24, 40
Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Case:
    """A file, its media type, the pixels that a person sees, and by how many levels a lossy file may miss them."""

    data: bytes
    media_type: str
    shown: Array
    within: int = 0


def scene(channels: int = 3, top: int = 255) -> Array:
    """Smooth, so that JPEG keeps it; every channel and every quarter differs."""
    rows, columns = np.mgrid[0:HEIGHT, 0:WIDTH]
    waves = [np.sin(rows / (5 + n) + n) * np.cos(columns / (9 - n)) for n in range(channels)]
    return np.rint((np.stack(waves, -1) * 0.45 + 0.5) * top).astype(np.uint16 if top > 255 else np.uint8)


def over_white(colour: Array, alpha: Array) -> Array:
    opacity = alpha[..., None] / 255
    return np.rint(colour * opacity + 255 * (1 - opacity)).astype(np.uint8)


def grey3(grey: Array) -> Array:
    return np.repeat(grey[..., None], 3, axis=2).astype(np.uint8)


def saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    file = BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


TURNED = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: a[::-1].transpose(1, 0, 2),
    7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
    8: lambda a: a[:, ::-1].transpose(1, 0, 2),
}
"""EXIF 2.32, 4.6.5: where row 0 and column 0 of the samples are, for each orientation."""


def exif_of(orientation: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif.tobytes()


def _png_cases() -> dict[str, Case]:
    rgb, grey, alpha = scene(), scene(1)[..., 0], scene(4)[..., 3]
    bits = {depth: scene(1, 2**depth - 1)[..., 0].astype(np.uint8) for depth in (1, 2, 4)}
    colours = scene(3).reshape(-1, 3)[:16]
    deep_grey, deep = scene(1, 65535)[..., 0], scene(3, 65535)
    deep_alpha = scene(4, 65535)[..., 3]
    key = deep[3, 4]
    shown = {
        "1": (pngs.png(bits[1], pngs.GREY, 1), grey3(bits[1] * 255)),
        "grey of 2 bits": (pngs.png(bits[2], pngs.GREY, 2), grey3(bits[2] * 85)),
        "grey of 4 bits": (pngs.png(bits[4], pngs.GREY, 4), grey3(bits[4] * 17)),
        "L": (pngs.png(grey, pngs.GREY, 8), grey3(grey)),
        "LA": (pngs.png(np.dstack([grey, alpha]), pngs.GREY_ALPHA, 8), over_white(grey3(grey), alpha)),
        "P": (pngs.png(bits[4], pngs.PALETTE, 4, before=((b"PLTE", colours.tobytes()),)), colours[bits[4]]),
        "P with transparency": (
            pngs.png(
                bits[4], pngs.PALETTE, 4, before=((b"PLTE", colours.tobytes()), (b"tRNS", bytes(range(0, 240, 30))))
            ),
            over_white(colours[bits[4]], np.array([*range(0, 240, 30), *[255] * 8])[bits[4]]),
        ),
        "L with a transparent grey": (
            pngs.png(grey, pngs.GREY, 8, before=((b"tRNS", bytes([0, grey[2, 3]])),)),
            over_white(grey3(grey), np.where(grey == grey[2, 3], 0, 255)),
        ),
        "2 bits with a transparent grey": (
            pngs.png(bits[2], pngs.GREY, 2, before=((b"tRNS", b"\0\2"),)),
            over_white(grey3(bits[2] * 85), np.where(bits[2] == 2, 0, 255)),
        ),
        "RGB with a transparent colour": (
            pngs.png(rgb, pngs.RGB, 8, before=((b"tRNS", rgb[5, 6].astype(">u2").tobytes()),)),
            over_white(rgb, np.where((rgb == rgb[5, 6]).all(-1), 0, 255)),
        ),
        "RGB": (pngs.png(rgb, pngs.RGB, 8), rgb),
        "RGB, interlaced": (pngs.png(rgb, pngs.RGB, 8, adam7=True), rgb),
        "RGBA": (pngs.png(np.dstack([rgb, alpha]), pngs.RGBA, 8), over_white(rgb, alpha)),
        "I;16": (pngs.png(deep_grey, pngs.GREY, 16), grey3(deep_grey // 256)),
        "I;16, interlaced": (pngs.png(deep_grey, pngs.GREY, 16, adam7=True), grey3(deep_grey // 256)),
        "RGB of 16 bits": (pngs.png(deep, pngs.RGB, 16), (deep // 256).astype(np.uint8)),
        "RGB of 16 bits with a transparent colour": (
            pngs.png(deep, pngs.RGB, 16, before=((b"tRNS", key.astype(">u2").tobytes()),)),
            over_white(deep // 256, np.where((deep == key).all(-1), 0, 255)),
        ),
        "RGB of 16 bits with a transparent colour that is nearly there": (
            pngs.png(deep, pngs.RGB, 16, before=((b"tRNS", (key ^ 1).astype(">u2").tobytes()),)),
            (deep // 256).astype(np.uint8),
        ),
        "RGBA of 16 bits": (
            pngs.png(np.dstack([deep, deep_alpha]), pngs.RGBA, 16),
            over_white(deep // 256, deep_alpha // 256),
        ),
    }
    return {f"PNG {name}": Case(data, "image/png", pixels) for name, (data, pixels) in shown.items()}


def _other_cases() -> dict[str, Case]:
    rgb, grey, alpha = scene(), scene(1)[..., 0], scene(4)[..., 3]
    image = Image.fromarray(rgb)
    ink = scene(4)
    printed = (255 - ink[..., :3].astype(np.float64)) * (255 - ink[..., 3:].astype(np.float64)) / 255
    first = {"save_all": True, "append_images": [Image.fromarray(255 - rgb)], "duration": 90_000}
    fine = {"quality": 97, "subsampling": 0}
    return {
        "JPEG YCbCr": Case(saved(image, "JPEG", **fine), "image/jpeg", rgb, 6),
        "JPEG RGB": Case(saved(image, "JPEG", keep_rgb=True, quality=97), "image/jpeg", rgb, 6),
        "JPEG progressive": Case(saved(image, "JPEG", progressive=True, **fine), "image/jpeg", rgb, 6),
        "JPEG grey": Case(saved(Image.fromarray(grey), "JPEG", quality=97), "image/jpeg", grey3(grey), 4),
        "JPEG CMYK": Case(saved(Image.fromarray(ink, "CMYK"), "JPEG", **fine), "image/jpeg", np.rint(printed), 8),
        "JPEG of a phone (MPO)": Case(
            saved(image, "MPO", save_all=True, append_images=[image.rotate(180)], **fine), "image/jpeg", rgb, 6
        ),
        "WebP": Case(saved(image, "WEBP", lossless=True), "image/webp", rgb),
        "WebP with transparency": Case(
            saved(Image.fromarray(np.dstack([rgb, alpha])), "WEBP", lossless=True, exact=True),
            "image/webp",
            over_white(rgb, alpha),
        ),
        "WebP, animated": Case(saved(image, "WEBP", lossless=True, **first), "image/webp", rgb),
        "PNG, animated": Case(saved(image, "PNG", **first), "image/png", rgb),
    }


def _turned_cases() -> dict[str, Case]:
    rgb = scene()
    cases = {}
    for kind, options, within in (
        ("PNG", {}, 0),
        ("WEBP", {"lossless": True}, 0),
        ("JPEG", {"quality": 97, "subsampling": 0}, 6),
    ):
        for orientation, turn in TURNED.items():
            data = saved(Image.fromarray(rgb), kind, exif=exif_of(orientation), **options)
            cases[f"{kind} {orientation}"] = Case(data, f"image/{kind.lower()}", turn(rgb), within)
    return cases


def _coloured_cases() -> dict[str, Case]:
    rgb, grey = scene(), scene(1)[..., 0]
    p3 = icc.matrix_profile(icc.DISPLAY_P3, icc.SRGB_CURVE)
    adobe = icc.matrix_profile(icc.ADOBE_RGB, (2.2,))
    image = Image.fromarray(rgb)
    shown_p3 = to_srgb(srgb_light(rgb / 255), icc.DISPLAY_P3)
    shown_adobe = to_srgb((rgb / 255) ** 2.2, icc.ADOBE_RGB)
    linear = saved(Image.fromarray(grey), "PNG", icc_profile=icc.grey_profile(1.0))
    same = icc.matrix_profile(icc.SRGB, icc.SRGB_CURVE)
    gamma = pngs.png(rgb, pngs.RGB, 8, before=((b"gAMA", (100_000).to_bytes(4, "big")),))
    upright = saved(image, "JPEG", quality=97, subsampling=0, icc_profile=p3, exif=exif_of(6))
    return {
        "PNG in Display P3": Case(saved(image, "PNG", icc_profile=p3), "image/png", shown_p3, 1),
        "WebP in Adobe RGB": Case(saved(image, "WEBP", lossless=True, icc_profile=adobe), "image/webp", shown_adobe, 1),
        "JPEG in Display P3, lying": Case(upright, "image/jpeg", TURNED[6](shown_p3), 12),
        "PNG of linear grey": Case(linear, "image/png", grey3(srgb_levels(grey / 255)), 1),
        "PNG with sRGB's own profile": Case(saved(image, "PNG", icc_profile=same), "image/png", rgb),
        "PNG with a gamma": Case(gamma, "image/png", srgb_levels(rgb / 255), 1),
    }


def srgb_light(levels: Array) -> Array:
    return np.where(levels <= 0.04045, levels / 12.92, ((levels + 0.055) / 1.055) ** 2.4)


def srgb_levels(light: Array) -> Array:
    light = np.clip(light, 0, 1)
    return np.rint(np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055) * 255)


def to_srgb(light: Array, primaries: tuple[tuple[float, float], ...]) -> Array:
    matrix = np.linalg.inv(icc.rgb_to_xyz_d50(icc.SRGB)) @ icc.rgb_to_xyz_d50(primaries)
    return srgb_levels(light @ matrix.T)


CASES = _png_cases() | _other_cases() | _turned_cases() | _coloured_cases()
