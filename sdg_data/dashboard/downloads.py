"""Figures as files: CSV made from rows."""

import csv
import io
from collections.abc import Iterable, Mapping
from typing import Any

import orjson

from sdg_data.store import image_list

_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def as_csv(rows: Any) -> str:
    """CSV of rows; nested values as JSON. Text that a spreadsheet would run as a formula gets a ' in front."""
    if isinstance(rows, Mapping):
        rows = [{"key": key, "value": value} for key, value in rows.items()]
    text = io.StringIO()
    if rows:
        names = list(dict.fromkeys(name for row in rows for name in row))
        writer = csv.DictWriter(text, names)
        writer.writeheader()
        writer.writerows({name: _cell(value) for name, value in row.items()} for row in rows)
    return text.getvalue()


def as_list(ids: Iterable[str], source: str) -> str:
    """A list of images as commands read it (`--images FILE`): one id a line below the address that it came from."""
    return image_list.text_of(ids, heading=source)


def _cell(value: Any) -> Any:
    if isinstance(value, dict | list | tuple):
        return orjson.dumps(value).decode()
    if isinstance(value, str) and value.startswith(_FORMULA):
        return f"'{value}"
    return value
