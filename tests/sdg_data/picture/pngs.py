"""PNG files, written by hand after its specification, of every kind that Pillow does not write."""

import struct
import zlib

import numpy as np

GREY, RGB, PALETTE, GREY_ALPHA, RGBA = 0, 2, 3, 4, 6
ADAM7 = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1))
"""First row, first column, step of rows, step of columns of each pass."""
Chunks = tuple[tuple[bytes, bytes], ...]


def png(samples: np.ndarray, kind: int, depth: int, *, before: Chunks = (), after: Chunks = (), adam7: bool = False):
    """The bytes of a PNG: samples of shape (H, W) or (H, W, channels), chunks `before` and `after` its IDAT."""
    height, width = samples.shape[:2]
    samples = samples.reshape(height, width, -1)
    parts = [samples[top::down, left::right] for top, left, down, right in ADAM7] if adam7 else [samples]
    body = b"".join(_scanlines(part, depth) for part in parts if part.size)
    header = struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, adam7)
    chunks = ((b"IHDR", header), *before, (b"IDAT", zlib.compress(body)), *after, (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(name, content) for name, content in chunks)


def chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def with_chunk(data: bytes, name: bytes, content: bytes) -> bytes:
    """A PNG with one more chunk, behind its header."""
    return data[:33] + chunk(name, content) + data[33:]


def _scanlines(samples: np.ndarray, depth: int) -> bytes:
    if depth == 16:
        rows = samples.astype(">u2").reshape(len(samples), -1).view(np.uint8)
    else:
        bits = np.unpackbits(samples.astype(np.uint8).reshape(len(samples), -1, 1), axis=2)[..., 8 - depth :]
        rows = np.packbits(bits.reshape(len(samples), -1), axis=1)
    return b"".join(b"\0" + row.tobytes() for row in rows)
