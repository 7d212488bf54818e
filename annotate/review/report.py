"""How annotation stands: agreement between people, each against the consensus, what prelabels do, hours, quarantine.

The figures are those of `sdg_data.metrics` (agreement, bias); this module hands them what the store holds. What counts:

- first-hand verdicts, a person's last one per image (the view `first_verdicts`), "clean" and "defects" only;
- agreement among all people of an image, and apart among those who worked blind: two who started from the same
  prelabel agree on it, so only the blind figure is a ceiling without that help;
- the consensus is gold, by rule; of an image that one person annotated it is what the review made of it;
- blind against prelabelled: images that have a prelabel in both cases, shown or not.
"""

from __future__ import annotations

import dataclasses
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from schemas.defect import DEFECT_TYPES, Defect
from schemas.records import Annotation, AnnotationStatus
from sdg_data.errors import ConfigError
from sdg_data.metrics.agreement import Agreement, against_consensus, agreement
from sdg_data.metrics.anchoring import Bias, bias, by_condition
from sdg_data.metrics.ceiling import prelabels_of
from sdg_data.metrics.estimate import Estimate
from sdg_data.store import annotations as annotation_table
from sdg_data.store import answers, first_verdicts, gold, reviews
from sdg_data.store.connection import Store, Tx
from sdg_data.store.gold import GoldRule

CLAIMS = (AnnotationStatus.DEFECTS, AnnotationStatus.CLEAN)
_REFERENCES = {"gold": GoldRule(), "gold:unreviewed": GoldRule(unreviewed=True)}


@dataclass(frozen=True)
class PersonRow:
    """One annotator: answers, hours, skips, what waits in quarantine, and how they stand against the consensus."""

    annotator: str
    images: int
    skipped: int
    quarantined: int
    hours: float
    median_seconds: float | None
    box_f1: Mapping[str, float | None]
    clean_accuracy: float | None
    importance_accuracy: Mapping[str, float | None]
    compared: int


@dataclass(frozen=True)
class Report:
    """Everything that `sdg annotate report` says. `hours`: person-hours by what was done."""

    images: int
    annotations: int
    statuses: Mapping[str, int]
    agreement: Agreement
    blind_agreement: Agreement
    people: Sequence[PersonRow]
    bias: Bias
    reviews: Mapping[str, int]
    standing: Mapping[str, int]
    hours: Mapping[str, float]
    minutes_per_image: float | None
    quarantine: Sequence[Mapping[str, Any]]
    reference: str
    resamples: int
    seed: int


def build(store: Store, *, reference: str = "gold", resamples: int = 1000, seed: int = 0) -> Report:
    """The report on a store. ConfigError for an unknown reference."""
    if reference not in _REFERENCES:
        raise ConfigError(
            f"there is no reference {reference!r}", item="--reference", hint=f"It is {' or '.join(_REFERENCES)}."
        )
    with store.read() as tx:
        everyone = _last_versions(tx)
        truth = _gold(tx, _REFERENCES[reference], sorted({one.image_id for one in everyone}))
        machine = prelabels_of(tx, everyone)
        quarantine = answers.count_quarantined(tx)
        waiting = Counter(one.annotator for one in answers.quarantined(tx, waiting=True))
        verdicts = reviews.count_by_verdict(tx)
        standing = _standing(tx)
        hours = _hours(tx)
    claims = [one for one in everyone if one.status in CLAIMS]
    by_image = _by_image(claims)
    blind_only = _by_image([one for one in claims if one.prelabel_id is None])
    done = {one.image_id for one in everyone if one.status is not AnnotationStatus.SKIPPED}
    return Report(
        images=len(done),
        annotations=len(everyone),
        statuses=dict(sorted(Counter(one.status.value for one in everyone).items())),
        agreement=agreement(by_image, resamples=resamples, seed=seed),
        blind_agreement=agreement(blind_only, resamples=resamples, seed=seed),
        people=_people(everyone, by_image, truth, waiting),
        bias=bias(*by_condition(claims, machine, truth), resamples=resamples, seed=seed),
        reviews=verdicts,
        standing=standing,
        hours=hours,
        minutes_per_image=60 * sum(hours.values()) / len(done) if done else None,
        quarantine=quarantine,
        reference=reference,
        resamples=resamples,
        seed=seed,
    )


# --- what the store holds


def _last_versions(tx: Tx) -> list[Annotation]:
    """First-hand, a person's last one per image, skips too."""
    ids = [one.annotation_id for one in first_verdicts.listed(tx, skips=True)]
    found = annotation_table.by_ids(tx, ids)
    return [found[one] for one in ids]


def _gold(tx: Tx, rule: GoldRule, image_ids: Sequence[str]) -> dict[str, tuple[Defect, ...]]:
    """As people left it: without a machine's longer reasons."""
    return {
        key: tuple(item.defect for item in one.annotation.defects)
        for key, one in gold.of_images(tx, image_ids, rule).items()
        if one.annotation is not None
    }


def _standing(tx: Tx) -> dict[str, int]:
    from annotate.review.rounds import standing

    return standing(tx)


def _hours(tx: Tx) -> dict[str, float]:
    """Person-hours in the first round and in later ones: the last version of every answer, skips too.

    Label Studio's lead time of an answer grows with every edit, so earlier versions are not added.
    """
    rows = tx.execute(
        """
        SELECT if(annotations.round = 1, 'annotation', 'review') AS what, sum(annotations.seconds) / 3600
        FROM annotations
        LEFT JOIN annotation_entries AS versions ON versions.annotation_id = annotations.id
        LEFT JOIN label_entries AS entries ON entries.id = versions.entry_id
        WHERE annotations.seconds IS NOT NULL AND (entries.id IS NULL OR entries.annotation_id = annotations.id)
        GROUP BY what ORDER BY what
        """
    ).fetchall()
    return {what: float(number) for what, number in rows}


# --- what the metrics want


def _by_image(versions: Sequence[Annotation]) -> dict[str, dict[str, list[Defect]]]:
    found: dict[str, dict[str, list[Defect]]] = defaultdict(dict)
    for one in versions:
        found[one.image_id][one.annotator] = [item.defect for item in one.defects]
    return dict(found)


def _people(
    everyone: Sequence[Annotation],
    by_image: Mapping[str, Mapping[str, Sequence[Defect]]],
    truth: Mapping[str, Sequence[Defect]],
    waiting: Mapping[str, int],
) -> list[PersonRow]:
    held = against_consensus({key: by_image[key] for key in by_image if key in truth}, truth, resamples=0)
    mine: dict[str, list[Annotation]] = defaultdict(list)
    for one in everyone:
        mine[one.annotator].append(one)
    rows = []
    for name in sorted(mine.keys() | waiting.keys()):
        times = sorted(one.seconds for one in mine[name] if one.seconds is not None)
        summary = held[name].summary if name in held else None
        rows.append(
            PersonRow(
                annotator=name,
                images=sum(one.status is not AnnotationStatus.SKIPPED for one in mine[name]),
                skipped=sum(one.status is AnnotationStatus.SKIPPED for one in mine[name]),
                quarantined=waiting.get(name, 0),
                hours=sum(times) / 3600,
                median_seconds=times[(len(times) - 1) // 2] if times else None,
                box_f1={
                    kind: None if summary is None else summary["boxes"]["0.5"][kind]["f1"] for kind in DEFECT_TYPES
                },
                clean_accuracy=None if summary is None else _clean_accuracy(mine[name], truth),
                importance_accuracy={
                    kind: None if summary is None else summary["importance"][kind] for kind in DEFECT_TYPES
                },
                compared=0 if summary is None else int(summary["images"]),
            )
        )
    return rows


def _clean_accuracy(versions: Sequence[Annotation], truth: Mapping[str, Sequence[Defect]]) -> float | None:
    """Share of the images that are clean by the consensus which this person called clean."""
    clean = [one for one in versions if one.status in CLAIMS and one.image_id in truth and not truth[one.image_id]]
    return sum(not one.defects for one in clean) / len(clean) if clean else None


# --- for people and programs


def as_json(report: Report) -> dict[str, Any]:
    """The report as plain values; every estimate as value, interval and count."""
    return {**dataclasses.asdict(report), "bias": report.bias.as_dict()}


def tables(report: Report) -> list[tuple[str, list[dict[str, Any]]]]:
    """(title, rows) for a terminal."""
    minutes = "" if report.minutes_per_image is None else f", {report.minutes_per_image:.2f} minutes an image"
    hours = sum(report.hours.values())
    blind, shown = report.bias.blind.annotations, report.bias.prelabelled.annotations
    return [
        (
            f"{report.images} images, {report.annotations} answers, {hours:.2f} person-hours{minutes}",
            [{"what": name, "answers": number} for name, number in report.statuses.items()],
        ),
        (f"Agreement between people ({report.agreement.images} images seen by several)", _agreement_rows(report)),
        (f"Each person against the consensus ({report.reference})", [_person_row(one) for one in report.people]),
        (f"Blind ({blind} answers) against prelabelled ({shown})", _bias_rows(report.bias)),
        (
            "Review",
            [{"what": name, "number": number} for name, number in {**report.reviews, **report.standing}.items()],
        ),
        ("Quarantine", [dict(row) for row in report.quarantine]),
    ]


def _agreement_rows(report: Report) -> list[dict[str, Any]]:
    pairs = zip(report.agreement.rows(), report.blind_agreement.rows(), strict=True)
    return [
        {
            "figure": f"{everybody.title}, {everybody.scope}",
            "everybody": show(everybody.estimate),
            "blind only": show(blind.estimate),
        }
        for everybody, blind in pairs
    ]


def _person_row(one: PersonRow) -> dict[str, Any]:
    return {
        "annotator": one.annotator,
        "images": one.images,
        "skipped": one.skipped,
        "quarantine": one.quarantined,
        "hours": round(one.hours, 2),
        "median s": _rounded(one.median_seconds, 0),
        **{f"BoxF1@0.5 {kind}": _rounded(value) for kind, value in one.box_f1.items()},
        "clean found": _rounded(one.clean_accuracy),
        **{f"importance {kind}": _rounded(value) for kind, value in one.importance_accuracy.items()},
        "of images": one.compared,
    }


def _bias_rows(measured: Bias) -> list[dict[str, Any]]:
    rows = []
    for row in measured.rows():
        digits = 1 if "seconds" in row.key else 3
        rows.append(
            {
                "figure": row.title,
                "blind": show(row.blind, digits),
                "prelabelled": show(row.prelabelled, digits),
                "difference": "" if row.difference is None else show(row.difference, digits),
            }
        )
    return rows


def show(figure: Estimate, digits: int = 3) -> str:
    """`0.412 [0.380, 0.450]`, or a dash where nothing was measured."""
    if figure.value is None:
        return "–"
    text = f"{figure.value:.{digits}f}"
    if figure.interval is None:
        return text
    low, high = figure.interval
    return f"{text} [{low:.{digits}f}, {high:.{digits}f}]"


def _rounded(value: float | None, digits: int = 3) -> float | str:
    return "–" if value is None else round(value, digits)
