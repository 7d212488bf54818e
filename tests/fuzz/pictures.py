"""Pictures by Pillow's own writers: every mode and format that it writes, turned, with profiles, cut and flipped."""

import hashlib
import io
import os
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from random import Random

import numpy as np
from PIL import Image, ImageCms

from tests.fuzz.source import Fate

ORIENTATION = 0x0112


@dataclass(frozen=True)
class Picture:
    """Encoded bytes. `size` is as a person sees it, None where nobody sees anything; `suffix` is its own."""

    data: bytes
    suffix: str
    size: tuple[int, int] | None
    fate: Fate
    odd: str | None = None

    @property
    def blob(self) -> str:
        return hashlib.sha256(self.data).hexdigest()


def plain_picture(rng: Random, size: tuple[int, int] | None = None) -> Picture:
    """An 8-bit PNG, JPEG or WebP that every importer takes. Never two with the same bytes."""
    size = size or (rng.randint(8, 40), rng.randint(8, 40))
    kind = rng.choice(("PNG", "PNG", "JPEG", "WEBP"))
    return _written(noise(rng, "RGB", size), kind, size, Fate.MUST)


def odd_picture(rng: Random) -> Picture:
    """Any picture: odd modes and formats, orientations, profiles, several frames, damage, none at all."""
    return rng.choice(_MAKERS)(rng)


def noise(rng: Random, mode: str, size: tuple[int, int]) -> Image.Image:
    """A picture of random cells in any of Pillow's modes."""
    width, height = size
    values = np.random.default_rng(rng.getrandbits(64))
    if mode == "P":
        return noise(rng, "RGB", size).quantize(rng.choice((2, 16, 256)))
    if mode == "PA":
        return noise(rng, "RGBA", size).convert("PA")
    if mode == "1":
        return Image.fromarray((values.random((height, width)) < 0.5).astype(np.uint8) * 255, "L").convert("1")
    if mode in ("I", "F"):
        return Image.fromarray(
            values.integers(0, 65536, (height, width)).astype(np.int32 if mode == "I" else np.float32)
        )
    if mode.startswith("I;16"):
        return Image.fromarray(values.integers(0, 65536, (height, width)).astype(np.uint16))
    if mode in ("YCbCr", "LAB", "HSV", "RGBX", "RGBa", "La"):
        return noise(rng, {"RGBa": "RGBA", "La": "LA"}.get(mode, "RGB"), size).convert(mode)
    bands = {"L": 1, "LA": 2, "RGB": 3, "RGBA": 4, "CMYK": 4}[mode]
    cells = values.integers(0, 256, (height, width, bands)).astype(np.uint8)
    return Image.fromarray(cells[:, :, 0] if bands == 1 else cells, mode)


MODES = (
    "1",
    "L",
    "LA",
    "P",
    "PA",
    "RGB",
    "RGBA",
    "CMYK",
    "YCbCr",
    "LAB",
    "HSV",
    "I",
    "F",
    "I;16",
    "RGBX",
    "RGBa",
    "La",
)
KNOWN = ("PNG", "JPEG", "WEBP")
OTHERS = (
    "GIF",
    "BMP",
    "TIFF",
    "AVIF",
    "PPM",
    "TGA",
    "ICO",
    "PCX",
    "JPEG2000",
    "DDS",
    "SGI",
    "MPO",
    "ICNS",
    "IM",
    "DIB",
    "QOI",
)
_SUFFIXES = {"JPEG": ".jpg", "TIFF": ".tif", "MPO": ".jpg", "JPEG2000": ".jp2"}


def _size(rng: Random) -> tuple[int, int]:
    return rng.choice(((1, 1), (1, 37), (41, 1), (16, 16), (33, 20), (7, 64), (100, 50)))


def _written(
    image: Image.Image, kind: str, size: tuple[int, int], fate: Fate, odd: str | None = None, **how: object
) -> Picture:
    buffer = io.BytesIO()
    image.save(buffer, format=kind, **how)  # type: ignore[arg-type]
    return Picture(buffer.getvalue(), _SUFFIXES.get(kind, "." + kind.lower()), size, fate, odd)


def _any_mode(rng: Random) -> Picture:
    mode, size = rng.choice(MODES), _size(rng)
    kind = rng.choice(KNOWN * 3 + OTHERS)
    # What is no PNG, JPEG or WebP may be taken or refused, as long as it is counted; an MPO is a JPEG.
    fate = Fate.MUST if kind in (*KNOWN, "MPO") else Fate.MAY
    try:
        return _written(noise(rng, mode, size), kind, size, fate, f"{kind} of mode {mode}")
    except (OSError, ValueError, KeyError, TypeError, SystemError, RuntimeError):  # a writer that has no such mode
        return _written(noise(rng, "RGB", size), "PNG", size, Fate.MUST)


def _turned(rng: Random) -> Picture:
    size, turn = _size(rng), rng.choice((*range(1, 9), 0, 9, 65535))
    exif = Image.Exif()
    exif[ORIENTATION] = turn
    kind = rng.choice(KNOWN)
    shown = (size[1], size[0]) if 5 <= turn <= 8 else size
    return _written(noise(rng, "RGB", size), kind, shown, Fate.MUST, f"{kind} with orientation {turn}", exif=exif)


def _junk_exif(rng: Random) -> Picture:
    size, exif = (
        _size(rng),
        b"Exif\0\0" + rng.choice((b"MM\0*", b"II*\0", b"", b"XX")) + rng.randbytes(rng.randint(0, 60)),
    )
    made = _written(noise(rng, "RGB", size), rng.choice(KNOWN), size, Fate.MUST, "EXIF of random bytes", exif=exif)
    return Picture(made.data, made.suffix, None, made.fate, made.odd)


def _profiled(rng: Random) -> Picture:
    size, kind = _size(rng), rng.choice(KNOWN)
    profile = rng.choice(
        (
            ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes(),
            ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes(),
            ImageCms.ImageCmsProfile(ImageCms.createProfile("XYZ")).tobytes(),
            rng.randbytes(rng.randint(0, 200)),
            b"\0" * 128,
        )
    )
    modes = {"PNG": ("RGB", "L", "RGBA", "P"), "JPEG": ("RGB", "L", "CMYK"), "WEBP": ("RGB", "RGBA")}
    mode = rng.choice(modes[kind])
    return _written(noise(rng, mode, size), kind, size, Fate.MUST, f"{kind} {mode} with a profile", icc_profile=profile)


def _frames(rng: Random) -> Picture:
    size, kind = _size(rng), rng.choice(("PNG", "WEBP", "GIF", "TIFF", "MPO"))
    frames = [noise(rng, "RGB", size) for _ in range(rng.randint(2, 4))]
    fate = Fate.MUST if kind in ("PNG", "WEBP", "MPO") else Fate.MAY
    return _written(frames[0], kind, size, fate, f"{kind} of several frames", save_all=True, append_images=frames[1:])


def _transparent(rng: Random) -> Picture:
    size = _size(rng)
    mode, value = rng.choice((("RGB", (1, 2, 3)), ("L", 7), ("P", 0), ("1", 0), ("I", 300)))
    how = {"transparency": bytes(rng.randbytes(2))} if mode == "P" and rng.random() < 0.5 else {"transparency": value}
    try:
        return _written(noise(rng, mode, size), "PNG", size, Fate.MUST, f"PNG {mode} with tRNS", **how)
    except (OSError, ValueError, TypeError):
        return plain_picture(rng)


def _by_hand(rng: Random) -> Picture:
    """PNGs that Pillow does not write: 16 bits a channel, odd depths, colour chunks, interlaced headers, huge sizes."""
    width, height = _size(rng)
    depth, colour, channels = rng.choice(
        ((16, 2, 3), (16, 0, 1), (16, 4, 2), (16, 6, 4), (2, 0, 1), (4, 0, 1), (8, 2, 3))
    )
    row = (width * depth * channels + 7) // 8
    cells = b"".join(b"\0" + rng.randbytes(row) for _ in range(height))
    extra = rng.choice(
        (
            b"",
            _chunk(b"gAMA", struct.pack(">I", rng.choice((45455, 100000, 55556, 0, 2**32 - 1)))),
            _chunk(b"sRGB", bytes([rng.randint(0, 5)])),
            _chunk(b"cHRM", struct.pack(">8I", *(rng.randint(0, 100000) for _ in range(8)))),
            _chunk(b"iCCP", b"x\0\0" + rng.randbytes(20)),
            _chunk(b"iCCP", b"x\0\0" + zlib.compress(rng.randbytes(150))),
            _chunk(b"eXIf", b"MM\0*" + rng.randbytes(20)),
            _chunk(b"cICP", rng.randbytes(4)),
            _chunk(b"tEXt", b"Comment\0" + rng.randbytes(30)),
            _chunk(b"zTXt", b"Comment\0\0" + rng.randbytes(30)),
            _chunk(b"iTXt", rng.randbytes(30)),
            _chunk(b"tRNS", rng.randbytes(rng.choice((2, 6)))),
            _chunk(b"acTL", struct.pack(">II", rng.randint(0, 3), 0)),
        )
    )
    data = b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    data += extra + _chunk(b"IDAT", zlib.compress(cells)) + _chunk(b"IEND", b"")
    fate = Fate.MAY if extra else Fate.MUST
    odd = f"PNG of {depth} bits, colour type {colour}, {extra[4:8].decode() or 'no'} chunk"
    return Picture(data, ".png", None if extra else (width, height), fate, odd)


def _huge(rng: Random) -> Picture:
    width, height = rng.choice(
        ((60_000, 60_000), (2**31 - 1, 2**31 - 1), (2**20, 2**14), (0, 5), (5, 0), (2**32 - 1, 1))
    )
    data = b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    data += _chunk(b"IDAT", zlib.compress(rng.randbytes(8) + b"\0" * rng.choice((0, 10**6)))) + _chunk(b"IEND", b"")
    return Picture(data, ".png", None, Fate.NEVER, f"PNG that says {width}×{height}")


def _chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def _cut(rng: Random) -> Picture:
    size = (60, 60)
    whole = _written(noise(rng, "RGB", size), rng.choice(KNOWN), size, Fate.MUST)
    kept = rng.randint(20, len(whole.data) * 8 // 10)
    return Picture(
        whole.data[:kept], whole.suffix, None, Fate.NEVER, f"{whole.suffix} cut at {kept} of {len(whole.data)}"
    )


def _flipped(rng: Random) -> Picture:
    whole = _turned(rng) if rng.random() < 0.5 else _any_mode(rng)
    data = bytearray(whole.data)
    for _ in range(rng.randint(1, 6)):
        data[rng.randrange(min(len(data), rng.choice((40, 200, 10**6))))] ^= 1 << rng.randrange(8)
    return Picture(bytes(data), whole.suffix, None, Fate.MAY, f"{whole.odd}, bits flipped")


def _tail(rng: Random) -> Picture:
    whole = plain_picture(rng)
    return Picture(
        whole.data + rng.randbytes(rng.randint(1, 99)), whole.suffix, whole.size, Fate.MAY, "bytes after its end"
    )


def _none(rng: Random) -> Picture:
    content = rng.choice(
        (
            b"",
            b"<html><body>404</body></html>",
            b"\x89PNG\r\n\x1a\n",
            b"\xff\xd8\xff\xe0",
            b"RIFF\0\0\0\0WEBP",
            b"GIF89a",
            b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n",
            b"<svg xmlns='http://www.w3.org/2000/svg'/>",
            b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n",
            b"%PDF-1.4",
            b"\0" * 600,
            os.urandom(0) + rng.randbytes(300),
        )
    )
    return Picture(content, rng.choice((".png", ".jpg", ".webp")), None, Fate.NEVER, f"no picture: {content[:12]!r}")


_MAKERS: tuple[Callable[[Random], Picture], ...] = (
    _any_mode,
    _any_mode,
    _any_mode,
    _turned,
    _turned,
    _junk_exif,
    _profiled,
    _frames,
    _transparent,
    _by_hand,
    _huge,
    _cut,
    _flipped,
    _flipped,
    _tail,
    _none,
)
