"""Small ICC profiles, written byte by byte after ICC.1:2022."""

import struct

import numpy as np

D50 = (0.9642, 1.0, 0.8249)
BRADFORD = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])
DISPLAY_P3 = ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060))
ADOBE_RGB = ((0.64, 0.33), (0.21, 0.71), (0.15, 0.06))
SRGB = ((0.64, 0.33), (0.30, 0.60), (0.15, 0.06))
SRGB_CURVE = (2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)


def matrix_profile(primaries: tuple[tuple[float, float], ...], curve: tuple[float, ...]) -> bytes:
    """RGB with a D65 white: `curve` is a gamma alone, or g, a, b, c, d of a parametric curve."""
    columns = rgb_to_xyz_d50(primaries).T
    tags = [(name, _xyz(column)) for name, column in zip((b"rXYZ", b"gXYZ", b"bXYZ"), columns, strict=True)]
    tags += [(b"wtpt", _xyz(D50)), *((name, _curve(curve)) for name in (b"rTRC", b"gTRC", b"bTRC"))]
    return _profile(b"RGB ", tags)


def grey_profile(gamma: float) -> bytes:
    return _profile(b"GRAY", [(b"wtpt", _xyz(D50)), (b"kTRC", _curve((gamma,)))])


def cmyk_profile(perceptual: np.ndarray, colorimetric: np.ndarray) -> bytes:
    """CMYK to Lab by tables of shape (2, 2, 2, 2, 3), L 0..100, a and b -128..127, linear between the corners."""
    tables = [(b"A2B0", _table(perceptual)), (b"A2B1", _table(colorimetric))]
    return _profile(b"CMYK", [(b"wtpt", _xyz(D50)), *tables], connection=b"Lab ", device=b"prtr")


def rgb_to_xyz_d50(primaries: tuple[tuple[float, float], ...]) -> np.ndarray:
    white = np.array([0.3127 / 0.3290, 1, (1 - 0.3127 - 0.3290) / 0.3290])
    columns = np.array([[x / y, 1, (1 - x - y) / y] for x, y in primaries]).T
    scaled = columns * np.linalg.solve(columns, white)
    return np.linalg.inv(BRADFORD) @ np.diag((BRADFORD @ np.array(D50)) / (BRADFORD @ white)) @ BRADFORD @ scaled


def _table(lab: np.ndarray) -> bytes:
    identity = bytes(range(256))
    values = np.clip(np.rint(lab * [2.55, 1, 1] + [0, 128, 128]), 0, 255).astype(np.uint8)
    unit = b"".join(struct.pack(">i", 0x10000 * (place % 4 == 0)) for place in range(9))
    return b"mft1\0\0\0\0" + bytes([4, 3, 2, 0]) + unit + identity * 4 + values.tobytes() + identity * 3


def _xyz(values: object) -> bytes:
    return b"XYZ \0\0\0\0" + b"".join(struct.pack(">i", round(float(value) * 65536)) for value in np.asarray(values))


def _curve(curve: tuple[float, ...]) -> bytes:
    kind = 0 if len(curve) == 1 else 3
    return b"para\0\0\0\0" + struct.pack(">HH", kind, 0) + b"".join(struct.pack(">i", round(v * 65536)) for v in curve)


def _profile(
    kind: bytes, tags: list[tuple[bytes, bytes]], *, connection: bytes = b"XYZ ", device: bytes = b"mntr"
) -> bytes:
    text = "made for a test".encode("utf-16-be")
    words = b"mluc\0\0\0\0" + struct.pack(">II2s2sII", 1, 12, b"en", b"US", len(text), 28) + text
    tags = [(b"desc", words), (b"cprt", words), *tags]
    table, body, place = b"", b"", 128 + 4 + 12 * len(tags)
    for name, content in tags:
        content += b"\0" * (-len(content) % 4)
        table += name + struct.pack(">II", place + len(body), len(content))
        body += content
    size = place + len(body)
    version = 0x04000000 if connection == b"XYZ " else 0x02400000
    head = struct.pack(">I4sI4s4s4s12s4s", size, b"none", version, device, kind, connection, b"\0" * 12, b"acsp")
    head = head.ljust(68, b"\0") + _xyz(D50)[8:]
    return head.ljust(128, b"\0") + struct.pack(">I", len(tags)) + table + body
