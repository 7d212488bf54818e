"""Figures as rows: tables made from metrics' results, and CSV made from tables."""

import csv
import io
from collections.abc import Mapping
from typing import Any

import orjson

from sdg_data.dashboard.aggregates import People
from sdg_data.metrics.ceiling import as_dict
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
    tree = as_dict(found.agreed)
    rows: Rows = []

    def add(name: str, scope: str, one: Mapping[str, Any]) -> None:
        low, high = one["interval"] or (None, None)
        rows.append(
            {"figure": name, "scope": scope, "value": one["value"], "low": low, "high": high, "count": one["count"]}
        )

    for threshold, scopes in tree["box_f1"].items():
        for scope, one in scopes.items():
            add(f"BoxF1@{threshold} between people", scope, one)
    add("same answer: has it a defect?", "images", tree["clean"])
    add("the same, Krippendorff's α", "images", tree["clean_alpha"])
    for kind, one in tree["image_types"].items():
        add("same answer: has it one of this type?", kind, one)
    add("matched boxes of the same type", "boxes", tree["types"])
    add("the same, Krippendorff's α", "boxes", tree["types_alpha"])
    add("importance, Krippendorff's α", "boxes", tree["importance_alpha"])
    return rows


def blind_rows(found: Any) -> Rows:
    """`metrics.bias` as a table: figure, blind, prelabelled, their difference with its interval."""
    if found is None:
        return []
    rows: Rows = []
    for name in (field for field in vars(found.blind) if field not in ("images", "annotations")):
        blind, seen, apart = getattr(found.blind, name), getattr(found.prelabelled, name), found.difference.get(name)
        low, high = (apart.interval if apart is not None and apart.interval else None) or (None, None)
        rows.append(
            {
                "figure": name,
                "blind": blind.value,
                "prelabelled": seen.value,
                "difference": None if apart is None else apart.value,
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
