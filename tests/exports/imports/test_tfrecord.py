"""The checksum of TFRecord files: CRC-32C by the standard's own examples, masked by a rotation and a sum."""

import pytest

from exports.imports.tfrecord import checksum


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
    turned = (checksum(data) - 0xA282EAD8) & 0xFFFFFFFF
    assert ((turned >> 17) | (turned << 15)) & 0xFFFFFFFF == expected == reference(data)
