"""Figures as rows: tables made from metrics' results, and CSV made from tables."""

import csv
import io
from collections.abc import Mapping
from typing import Any

import orjson

from sdg_data.dashboard.aggregates import People
from sdg_data.metrics.anchoring import Bias
from sdg_data.metrics.report import worst_images

Rows = list[dict[str, Any]]
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def worst(document: Mapping[str, Any], limit: int = 60) -> Rows:
    """The images with the lowest F1 at 0.5, those with the most boxes first."""
    names = ("filepath", "model", "gt_all", "pred_all", "tp_all@0.5", "f1@0.5", "f1@0.1", "importance", "parsing")
    rows = worst_images(document["per_image"])[:limit]
    return [{"image" if name == "filepath" else name: row[name] for name in names} for row in rows]


def agreement_rows(found: People) -> Rows:
    """`metrics.agreement` as a table: figure, scope, value, interval, what it counts."""
    rows: Rows = []
    for title, scope, estimate in found.agreed.rows():
        low, high = estimate.interval or (None, None)
        rows.append(
            {
                "figure": title,
                "scope": scope,
                "value": estimate.value,
                "low": low,
                "high": high,
                "count": estimate.count,
            }
        )
    return rows


def blind_rows(found: Bias | None) -> Rows:
    """`metrics.anchoring` as a table: figure, blind, prelabelled, their difference with its interval."""
    rows: Rows = []
    for row in found.rows() if found is not None else []:
        low, high = (row.difference.interval if row.difference is not None else None) or (None, None)
        rows.append(
            {
                "figure": row.key,
                "blind": row.blind.value,
                "prelabelled": row.prelabelled.value,
                "difference": None if row.difference is None else row.difference.value,
                "low": low,
                "high": high,
            }
        )
    return rows


def as_csv(rows: Any) -> str:
    """CSV of rows; nested values as JSON. Text that a spreadsheet would run as a formula gets a ' in front."""
    if isinstance(rows, Mapping):
        rows = [{"key": key, "value": value} for key, value in rows.items()]
    out = io.StringIO()
    if rows:
        names = list(dict.fromkeys(name for row in rows for name in row))
        writer = csv.DictWriter(out, names)
        writer.writeheader()
        writer.writerows({name: _cell(value) for name, value in row.items()} for row in rows)
    return out.getvalue()


def _cell(value: Any) -> Any:
    if isinstance(value, dict | list | tuple):
        return orjson.dumps(value).decode()
    if isinstance(value, str) and value.startswith(_FORMULA):
        return f"'{value}"
    return value
