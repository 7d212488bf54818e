"""Reading JSON that others wrote: one rule for every file of a source, whichever importer reads it."""

import json
import math
from typing import Any

import orjson


def parse_json(data: bytes, *, strict: bool = True) -> Any:
    """A JSON value. A byte order mark is passed over; NaN and infinities, which Python writes, become null.

    Args:
        data: In UTF-8.
        strict: Refuse halves of surrogate pairs, whole numbers beyond 64 bits and deep nesting. A caller that looks at
            its rows one by one can do without.

    Raises:
        ValueError: It is no JSON, or is nested too deeply.
    """
    data = data.removeprefix(b"\xef\xbb\xbf")
    try:
        value = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        try:
            value = json.loads(data, parse_constant=lambda _: None, parse_float=_finite)
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


def _finite(text: str) -> float | None:
    number = float(text)
    return number if math.isfinite(number) else None
