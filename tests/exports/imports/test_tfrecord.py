"""CRC-32C against the standard's own examples, and against a bit-by-bit reference at every kind of length."""

import random

import pytest

from exports.imports.crc32c import crc32c, masked


def reference(data: bytes) -> int:
    state = 0xFFFFFFFF
    for byte in data:
        for bit in range(8):
            low = (state ^ (byte >> bit)) & 1
            state = (state >> 1) ^ (0x82F63B78 if low else 0)
    return state ^ 0xFFFFFFFF


@pytest.mark.parametrize(
    ("data", "expected"),
    [  # RFC 3720, B.4
        (bytes(32), 0x8A9136AA),
        (b"\xff" * 32, 0x62A8AB43),
        (bytes(range(32)), 0x46DD794E),
        (bytes(range(31, -1, -1)), 0x113FDB5C),
        (b"123456789", 0xE3069283),
        (b"", 0),
    ],
)
def test_the_standards_examples(data: bytes, expected: int) -> None:
    assert crc32c(data) == expected


@pytest.mark.parametrize("length", [1, 255, 256, 257, 511, 512, 256 * 3, 256 * 7 + 13, 5000, 40_001])
def test_any_length(length: int) -> None:
    data = random.Random(length).randbytes(length)
    assert crc32c(data) == reference(data)


def test_masked_undoes_by_rotation() -> None:
    for crc in (0, 1, 0x8A9136AA, 0xFFFFFFFF):
        turned = (masked(crc) - 0xA282EAD8) & 0xFFFFFFFF
        assert ((turned >> 17) | (turned << 15)) & 0xFFFFFFFF == crc
