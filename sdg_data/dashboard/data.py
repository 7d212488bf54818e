"""Every figure as data: `/data/NAME.csv` and `/data/NAME.json`, the rows that the figure was drawn from."""

import csv
import io
from collections.abc import Callable, Mapping
from typing import Any

import orjson

from sdg_data.dashboard import aggregates as measures
from sdg_data.dashboard import queries_browse, queries_health, queries_overview
from sdg_data.dashboard.aggregates import Memory
from sdg_data.dashboard.queries_browse import Wanted
from sdg_data.metrics.ceiling import as_dict
from sdg_data.metrics.report import summary_rows, worst_images
from sdg_data.store.connection import Tx

Rows = list[dict[str, Any]]
Parameters = Mapping[str, str]
MOST = 100_000
"""Rows of a download of Browse at the most."""
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


class Figures:
    """The figures' rows, for pages and downloads alike; what takes long is remembered while an edition lives."""

    def __init__(self) -> None:
        self.memory = Memory()
        self._rows: dict[str, Callable[[Tx, Parameters], Any]] = {
            "composition": lambda tx, of: queries_overview.composition(tx, _said(tx, of)),
            "defects-per-image": lambda tx, of: queries_overview.per_image(tx, _said(tx, of)),
            "importance": lambda tx, of: queries_overview.importance(tx, _said(tx, of)),
            "progress": lambda tx, of: queries_overview.progress(tx),
            "states": lambda tx, of: queries_overview.states(tx),
            "people": lambda tx, of: queries_overview.people(tx),
            "costs": lambda tx, of: queries_overview.costs(tx),
            "failures": lambda tx, of: queries_overview.failures(tx),
            "images": lambda tx, of: queries_browse.page(tx, wanted(of), 0, MOST),
            "same-bytes": lambda tx, of: queries_health.same_bytes(tx, limit=MOST),
            "split": lambda tx, of: [queries_health.split_proof(tx)],
            "quarantine": lambda tx, of: queries_health.quarantine(tx),
            "quarantined": lambda tx, of: queries_health.quarantined(tx, limit=MOST),
            "bad-pictures": lambda tx, of: queries_health.bad_pictures(tx),
            "withdrawn": lambda tx, of: queries_health.withdrawn(tx),
            "agreement": self._agreement,
            "ceiling": self._ceiling,
            "queue": self._queue,
            "annotators": lambda tx, of: self.annotators(tx),
            "blind": lambda tx, of: blind_rows(self.blind(tx)),
            "evaluation": lambda tx, of: found.document if (found := self.compare(tx, of)) else {},
            "metrics": lambda tx, of: summary_rows(found.document) if (found := self.compare(tx, of)) else [],
            "worst": lambda tx, of: worst(found.document) if (found := self.compare(tx, of)) else [],
            "confusion-type": lambda tx, of: self._confusion(tx, of, "type"),
            "confusion-subtype": lambda tx, of: self._confusion(tx, of, "subtype"),
            "importance-pairs": self._pairs,
        }

    @property
    def names(self) -> list[str]:
        """Every figure that can be downloaded."""
        return list(self._rows)

    def rows(self, tx: Tx, name: str, parameters: Parameters) -> Any:
        """The rows of a figure (a document for "evaluation"). KeyError where there is no such figure."""
        return self._rows[name](tx, parameters)

    def people(self, tx: Tx) -> measures.People | None:
        """See `measures.people`."""
        return self.memory.of((_edition(tx), "people"), lambda: measures.people(tx))

    def annotators(self, tx: Tx) -> Rows:
        """See `measures.annotators`."""
        return self.memory.of((_edition(tx), "annotators"), lambda: measures.annotators(tx))

    def blind(self, tx: Tx) -> Any:
        """See `measures.blind_or_not`."""
        return self.memory.of((_edition(tx), "blind"), lambda: measures.blind_or_not(tx))

    def compare(self, tx: Tx, of: Parameters) -> measures.Compared | None:
        """See `measures.compare`."""
        names = ("gt", "pred", "model", "split", "protocol")
        gt, pred, model, split, protocol = (of.get(name, "") for name in names)
        key = (_edition(tx), "compare", gt, pred, model, split, protocol)
        return self.memory.of(
            key,
            lambda: measures.compare(tx, gt, pred, model=model, split=split, protocol=protocol or "paper"),
        )

    def _agreement(self, tx: Tx, of: Parameters) -> Any:
        found = self.people(tx)
        return agreement_rows(found) if found else []

    def _ceiling(self, tx: Tx, of: Parameters) -> Any:
        found = self.people(tx)
        return summary_rows(found.ceiling.as_dict()) if found else []

    def _queue(self, tx: Tx, of: Parameters) -> Rows:
        found = self.people(tx)
        return found.queue if found else []

    def _confusion(self, tx: Tx, of: Parameters, name: str) -> Rows:
        found = self.compare(tx, of)
        if found is None:
            return []
        part = found.document["confusion"][name]
        return [
            {"ground_truth": label, **dict(zip(part["labels"], row, strict=True))}
            for label, row in zip(part["labels"], part["counts"], strict=True)
        ]

    def _pairs(self, tx: Tx, of: Parameters) -> Rows:
        found = self.compare(tx, of)
        points = found.importance if found else {}
        return [{"type": name, "ground_truth": a, "predicted": b} for name, pairs in points.items() for a, b in pairs]


def _edition(tx: Tx) -> str:
    return str(tx.execute("SELECT stamp_time FROM dash_edition").fetchall()[0][0])


def _said(tx: Tx, of: Parameters) -> str:
    there = queries_overview.speakers(tx)
    said = of.get("said", "")
    return said if said in there else (there[0] if there else "gold")


def wanted(of: Parameters) -> Wanted:
    """The filters out of a query string; what is no filter is ignored."""
    return Wanted(**{name: of[name] for name in Wanted.__dataclass_fields__ if of.get(name)})


def worst(document: Mapping[str, Any], limit: int = 60) -> Rows:
    """The images with the lowest F1 at 0.5, those with the most boxes first."""
    names = ("filepath", "model", "gt_all", "pred_all", "tp_all@0.5", "f1@0.5", "f1@0.1", "importance", "parsing")
    rows = worst_images(document["per_image"])[:limit]
    return [{"image" if name == "filepath" else name: row[name] for name in names} for row in rows]


def agreement_rows(found: measures.People) -> Rows:
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
