"""Which images Browse shows, and in what order: a filter that an address can hold, as SQL.

Type, subtype, tier and the bounds of importance are about one and the same defect of the label that counts for an
image. Person, way of working and dates are about one and the same answer.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from types import MappingProxyType
from typing import Any, Final, Self

from sdg_data.dashboard.page import Parameters
from sdg_data.errors import InputError

STATES = ("accepted", "annotated", "rejected", "prelabelled", "new")
CLEAN = "clean"
COMPOSITIONS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "clean": "label_source IS NOT NULL AND artifacts = 0 AND misalignments = 0",
        "artifact only": "artifacts > 0 AND misalignments = 0",
        "misalignment only": "artifacts = 0 AND misalignments > 0",
        "both": "artifacts > 0 AND misalignments > 0",
    }
)
AGREEMENTS: Final[Mapping[str, str]] = MappingProxyType(
    {"several people": "true", "differ": "f1 < 0.5", "agree": "f1 >= 0.5"}
)
"""How far the people agree who judged an image, by F1 at IoU 0.5 of the first two."""
MODES = ("prelabelled", "blind", "no prelabel", "review")
SORTS: Final[Mapping[str, tuple[str, str]]] = MappingProxyType(
    {
        "prompt": ("prompt", "n"),
        "importance": ("most important defect first", "-coalesce(worst, 0)"),
        "defects": ("most defects first", "-(artifacts + misalignments)"),
        "newest": ("last answered first", "-epoch_us(coalesce(answered_at, TIMESTAMP '1970-01-01'))"),
        "agreement": ("least agreement first", "coalesce(f1, 2)"),
    }
)
"""By name, what it is called and the key in SQL; equal keys stand in the order of prompt, generator and sample."""
_JOINS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "newest": "LEFT JOIN (SELECT n, max(answered_at) AS answered_at FROM dash_work GROUP BY n) USING (n)",
        "agreement": "LEFT JOIN dash_agreement USING (n)",
    }
)


@dataclass(frozen=True)
class ImageFilter:
    """Which images Browse shows; "" does not filter.

    Attributes:
        model: The generator.
        split: The prompt's split.
        state: The review state, one of `STATES`.
        type: artifact, misalignment or clean (somebody looked and found nothing).
        subtype: Of the defect.
        tier: The importance's tier.
        text: Words looked for in prompts and reasons, in any case.
        label: Whose label counts: gold, people or detector.
        composition: One of `COMPOSITIONS`.
        annotator: Who answered.
        mode: How, one of `MODES`.
        since: The first day on which it was answered (UTC), YYYY-MM-DD.
        until: The last such day.
        failure: What failed or was held back, "stage: code".
        least: The least importance of the defect.
        most: The largest.
        agreement: One of `AGREEMENTS`.
        ids: Only these images; None: all. No part of an address: it comes from a list or a page's selection.
    """

    model: str = ""
    split: str = ""
    state: str = ""
    type: str = ""
    subtype: str = ""
    tier: str = ""
    text: str = ""
    label: str = ""
    composition: str = ""
    annotator: str = ""
    mode: str = ""
    since: str = ""
    until: str = ""
    failure: str = ""
    least: str = ""
    most: str = ""
    agreement: str = ""
    ids: tuple[str, ...] | None = None

    @classmethod
    def from_parameters(cls, parameters: Parameters) -> Self:
        """The filter in a query string; names that are no filter are ignored."""
        asked: dict[str, Any] = {name: parameters[name] for name in NAMES if parameters.get(name)}
        return cls(**asked)

    def as_parameters(self) -> dict[str, str]:
        """What an address holds of it."""
        return {name: getattr(self, name) for name in NAMES if getattr(self, name)}


NAMES = tuple(name for name in ImageFilter.__dataclass_fields__ if name != "ids")


def source(sort: str) -> str:
    """The table with what the order needs, for FROM.

    Raises:
        InputError: There is no such order.
    """
    if sort not in SORTS:
        raise InputError(f"images are sorted by {', '.join(SORTS)}", item=f"sort={sort[:40]}")
    return f"dash_images {_JOINS.get(sort, '')}"


def condition(wanted: ImageFilter) -> tuple[str, list[Any]]:
    """The filter as SQL over `dash_images`, and its values.

    Raises:
        InputError: A bound is no number, or a day is no date.
    """
    parts, values = ["true"], list[Any]()

    def add(part: str, *parameters: Any) -> None:
        parts.append(part)
        values.extend(parameters)

    for name, column in (("model", "model"), ("split", "split"), ("state", "state"), ("label", "label_source")):
        if getattr(wanted, name):
            add(f"{column} = ?", getattr(wanted, name))
    if wanted.composition:
        add(COMPOSITIONS.get(wanted.composition, "false"))
    if wanted.type == CLEAN:
        add(COMPOSITIONS[CLEAN])
    _add_group(
        add,
        "dash_defects",
        [
            ("type = ?", "" if wanted.type == CLEAN else wanted.type),
            ("subtype = ?", wanted.subtype),
            ("tier = ?", wanted.tier),
            ("importance >= ?", _whole(wanted.least)),
            ("importance <= ?", _whole(wanted.most)),
        ],
    )
    _add_group(
        add,
        "dash_work",
        [
            ("person = ?", wanted.annotator),
            ("mode = ?", wanted.mode),
            ("answered_at >= ?::DATE", _day(wanted.since)),
            ("answered_at < ?::DATE", _day(wanted.until, after=1)),
        ],
    )
    if wanted.failure:
        add("n IN (SELECT n FROM dash_failures_of WHERE stage || ': ' || code = ?)", wanted.failure)
    if wanted.agreement:
        add(f"n IN (SELECT n FROM dash_agreement WHERE {AGREEMENTS.get(wanted.agreement, 'false')})")
    text = " ".join(wanted.text.split()).lower()
    if text:
        add(
            "(contains(lower_prompt, ?) OR n IN (SELECT n FROM dash_defects WHERE contains(lower_reason, ?)))",
            text,
            text,
        )
    if wanted.ids is not None:
        add("image_id IN (SELECT unnest(?::VARCHAR[]))", list(wanted.ids))
    return " AND ".join(parts), values


def _add_group(add: Any, table: str, conditions: list[tuple[str, Any]]) -> None:
    """Ask for one row of `table` about the image that fits all conditions that have a value."""
    asked = [(part, value) for part, value in conditions if value not in ("", None)]
    if asked:
        where = " AND ".join(part for part, _ in asked)
        add(f"n IN (SELECT n FROM {table} WHERE {where})", *(value for _, value in asked))


def _whole(bound: str) -> int | None:
    if not bound:
        return None
    if not bound.isascii() or not bound.isdecimal() or len(bound) > 4:
        raise InputError("importance is a whole number from 1 to 100", item=bound[:40])
    return int(bound)


def _day(day: str, *, after: int = 0) -> date | None:
    """A day, or the one `after` so many; None where none is given."""
    if not day:
        return None
    try:
        return date.fromisoformat(day.strip()) + timedelta(days=after)
    except (ValueError, OverflowError) as error:
        raise InputError("a day is written YYYY-MM-DD", item=day[:40]) from error
