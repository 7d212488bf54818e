"""TFRecord files of `tf.train.Example`s, without TensorFlow.

A record is: length (8 bytes, little-endian), masked CRC-32C of the length, data, masked CRC-32C of the data. An Example
is the protobuf message `{features {map<string, Feature> feature}}`, a Feature a list of bytes, floats or integers.
"""

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import google_crc32c

_LIMIT = 1 << 30
"""A record above this is taken for damage."""

Value = list[bytes] | list[float] | list[int]


class DamagedRecord(ValueError):
    """A record that cannot be trusted; `last`: nothing behind it can be found."""

    def __init__(self, message: str, *, last: bool = False) -> None:
        super().__init__(message)
        self.last = last


def records(path: Path) -> Iterator[bytes | DamagedRecord]:
    """Read the records of a TFRecord file, in order.

    Args:
        path: The file.

    Yields:
        The bytes of a record, or a `DamagedRecord` where they do not match their checksum or end too early.

    Raises:
        OSError: The file cannot be read.
    """
    with path.open("rb") as file:
        while True:
            record = _record(file)
            if record is None:
                return
            yield record
            if isinstance(record, DamagedRecord) and record.last:
                return


def checksum(data: bytes) -> int:
    """The masked CRC-32C of TFRecord files: rotated and shifted, so that data may have checksums in it."""
    crc: int = google_crc32c.value(data)
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF


def _record(file: BinaryIO) -> bytes | DamagedRecord | None:
    head = file.read(12)
    if not head:
        return None
    if len(head) < 12:
        return DamagedRecord("the file is cut off in a record's head", last=True)
    length, check = struct.unpack("<QI", head)
    if checksum(head[:8]) != check or length > _LIMIT:
        return DamagedRecord("a record's length is damaged, what follows cannot be found", last=True)
    data, tail = file.read(length), file.read(4)
    if len(data) < length or len(tail) < 4:
        return DamagedRecord("the file is cut off in a record", last=True)
    if checksum(data) != struct.unpack("<I", tail)[0]:
        return DamagedRecord("the record's bytes are damaged (CRC differs)")
    return data


def example(data: bytes) -> dict[str, Value]:
    """The features of a `tf.train.Example`. Raises Damaged for what is no such message."""
    values: dict[str, Value] = {}
    for features in _messages(data, 1):
        for entry in _messages(features, 1):
            name, value = b"", b""
            for number, _, content in _fields(entry):
                if number == 1 and isinstance(content, bytes):
                    name = content
                elif number == 2 and isinstance(content, bytes):
                    value = content
            try:
                values[name.decode()] = _feature(value)
            except UnicodeDecodeError as error:
                raise DamagedRecord("a feature's name is no UTF-8") from error
    return values


def _feature(data: bytes) -> Value:
    result: Value = []
    for number, _, content in _fields(data):
        if not isinstance(content, bytes):
            raise DamagedRecord("a feature is no list")
        if number == 1:
            result = _messages(content, 1)
        elif number == 2:
            result = _floats(content)
        elif number == 3:
            result = _integers(content)
    return result


def _floats(data: bytes) -> list[float]:
    """Packed or one by one."""
    numbers: list[float] = []
    for number, kind, content in _fields(data):
        if number == 1 and isinstance(content, bytes) and kind in (2, 5):
            if len(content) % 4:
                raise DamagedRecord("a list of floats is cut off")
            numbers += struct.unpack(f"<{len(content) // 4}f", content)
    return numbers


def _integers(data: bytes) -> list[int]:
    numbers: list[int] = []
    for number, _, content in _fields(data):
        if number != 1:
            continue
        if isinstance(content, int):
            numbers.append(_signed(content))
        else:
            at = 0
            while at < len(content):
                value, at = _varint(content, at)
                numbers.append(_signed(value))
    return numbers


def _signed(value: int) -> int:
    return value - (1 << 64) if value >> 63 else value


def _messages(data: bytes, field: int) -> list[bytes]:
    return [content for number, _, content in _fields(data) if number == field and isinstance(content, bytes)]


def _fields(data: bytes) -> Iterator[tuple[int, int, bytes | int]]:
    """(number, wire type, content) of each field of a message."""
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        number, kind = key >> 3, key & 7
        if kind == 0:
            value, at = _varint(data, at)
            yield number, kind, value
            continue
        if kind == 2:
            length, at = _varint(data, at)
        elif kind in (1, 5):
            length = 8 if kind == 1 else 4
        else:
            raise DamagedRecord(f"wire type {kind} is none of an Example's")
        if at + length > len(data):
            raise DamagedRecord("a field is longer than its message")
        yield number, kind, data[at : at + length]
        at += length


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for place in range(10):
        if at >= len(data):
            raise DamagedRecord("a number is cut off")
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << (7 * place)
        if not byte & 0x80:
            return value & ((1 << 64) - 1), at
    raise DamagedRecord("a number is too long")
