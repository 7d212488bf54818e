"""Reading JSON that others wrote: one rule for every file of a source, whichever importer reads it."""

import json
import math
from typing import Any

import orjson


class DoubledKey(ValueError):
    """An object has a key twice, with two values: which of them is meant cannot be known."""


def parse_json(data: bytes, *, strict: bool = True) -> Any:
    """A JSON value. A byte order mark is passed over; NaN and infinities, which Python writes, become null.

    An object that has a key twice says two things. Other readers take the last one in silence, here it is refused.

    Args:
        data: In UTF-8.
        strict: Refuse halves of surrogate pairs, whole numbers beyond 64 bits and deep nesting. A caller that looks at
            its rows one by one can do without.

    Raises:
        ValueError: It is no JSON, has a key twice in one object, or is nested too deeply.
    """
    data = data.removeprefix(b"\xef\xbb\xbf")
    try:
        value = orjson.loads(data)
        _refuse_doubled_keys(data)
    except orjson.JSONDecodeError as error:
        try:
            value = json.loads(data, parse_constant=lambda _: None, parse_float=_finite, object_pairs_hook=_once)
        except DoubledKey:
            raise
        except (ValueError, RecursionError):
            raise error from None
    if strict:
        try:
            orjson.dumps(value)
        except orjson.JSONEncodeError as error:
            raise ValueError(f"it holds what no JSON does: {error}") from error
    return value


def finite_number(value: Any) -> float | None:
    """A number that can be counted with; None for everything else: null, NaN, infinity, text, true, 10**400."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def _refuse_doubled_keys(data: bytes) -> None:
    try:
        json.loads(data, parse_int=str, parse_float=str, object_pairs_hook=_mark)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _mark(pairs: list[tuple[str, Any]]) -> object:
    """Something small in the place of an object, equal to nothing else."""
    _once(pairs)
    return object()


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """The object of these pairs.

    Raises:
        DoubledKey: A key has two values.
    """
    result = dict(pairs)
    if len(result) < len(pairs):
        for key, value in pairs:
            if result[key] != value:
                raise DoubledKey(f"the key {key!r:.60} stands twice in an object, with two values")
    return result


def _finite(text: str) -> float | None:
    number = float(text)
    return number if math.isfinite(number) else None


def is_finite(value: Any) -> bool:
    """Whether a value of JSON is a number, and neither NaN nor infinite."""
    return finite_number(value) is not None


def without_surrogates(text: str) -> str:
    """Text without halves of surrogate pairs (JSON's, or a path's odd bytes), which no file and no database takes."""
    return text.encode("utf-8", "backslashreplace").decode()
