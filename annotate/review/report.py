"""`sdg annotate report`: agreement of people, with each other and with gold, effect of prelabels, hours, quarantine.

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
from sdg_data.metrics.agreement import AgreementFigures, against_consensus, agreement
from sdg_data.metrics.anchoring import Bias, bias, by_condition
from sdg_data.metrics.ceiling import consensus, prelabels_of
from sdg_data.metrics.estimate import Estimate
from sdg_data.people import People
from sdg_data.store import annotations as annotation_table
from sdg_data.store import answers, first_verdicts, reviews
from sdg_data.store.connection import Store, Tx
from sdg_data.store.gold import GoldRule
from sdg_data.store.rows import select
from sdg_data.words import rounded

CLAIMS = (AnnotationStatus.DEFECTS, AnnotationStatus.CLEAN)
_REFERENCES = {"gold": GoldRule(), "gold:unreviewed": GoldRule(unreviewed=True)}


@dataclass(frozen=True)
class AnnotatorRow:
    """One annotator: answers, hours, skips, answers in quarantine, and agreement with the consensus."""

    annotator: str
    images: int
    skipped: int
    quarantined: int
    hours: float | None
    median_seconds: float | None
    box_f1: Mapping[str, float | None]
    clean_accuracy: float | None
    importance_accuracy: Mapping[str, float | None]
    compared: int


@dataclass(frozen=True)
class Report:
    """Everything that `sdg annotate report` prints. `hours`: person-hours of annotation and review."""

    images: int
    annotations: int
    statuses: Mapping[str, int]
    agreement: AgreementFigures
    blind_agreement: AgreementFigures
    people: Sequence[AnnotatorRow]
    bias: Bias
    reviews: Mapping[str, int]
    standing: Mapping[str, int]
    hours: Mapping[str, float]
    minutes_per_image: float | None
    quarantine: Sequence[Mapping[str, Any]]
    reference: str
    resamples: int
    seed: int


def build(
    store: Store, *, reference: str = "gold", resamples: int = 1000, seed: int = 0, people: People | None = None
) -> Report:
    """The report on a store.

    Args:
        store: The store.
        reference: A key of `gold` or `gold:unreviewed`, which annotators are compared with.
        resamples: Bootstrap resamples of the 95 % intervals.
        seed: Seed of the resamples.
        people: What people are called in it.

    Raises:
        ConfigError: There is no such reference.
    """
    people = people or People()
    if reference not in _REFERENCES:
        raise ConfigError(
            f"there is no reference {reference!r}", item="--reference", hint=f"It is {' or '.join(_REFERENCES)}."
        )
    with store.read() as tx:
        versions = _last_versions(tx)
        truth = consensus(tx, sorted({version.image_id for version in versions}), _REFERENCES[reference])
        machine = prelabels_of(tx, versions)
        quarantine = answers.count_quarantined(tx)
        waiting = Counter(answer.annotator for answer in answers.quarantined(tx, waiting=True))
        verdicts = reviews.count_by_verdict(tx)
        review_status = _review_status(tx)
        hours, speed = _hours(tx), _speed(tx)
    claims = [version for version in versions if version.status in CLAIMS]
    by_image = _by_image(claims)
    blind_only = _by_image([version for version in claims if version.prelabel_id is None])
    done = {version.image_id for version in versions if version.status is not AnnotationStatus.SKIPPED}
    return Report(
        images=len(done),
        annotations=len(versions),
        statuses=dict(sorted(Counter(version.status.value for version in versions).items())),
        agreement=agreement(by_image, resamples=resamples, seed=seed),
        blind_agreement=agreement(blind_only, resamples=resamples, seed=seed),
        people=[
            dataclasses.replace(row, annotator=people.called(row.annotator))
            for row in _annotator_rows(versions, by_image, truth, waiting, speed)
        ],
        bias=bias(*by_condition(claims, machine, truth), resamples=resamples, seed=seed),
        reviews=verdicts,
        standing=review_status,
        hours=hours,
        minutes_per_image=60 * sum(hours.values()) / len(done) if done else None,
        quarantine=quarantine,
        reference=reference,
        resamples=resamples,
        seed=seed,
    )


# --- what the store holds


def _last_versions(tx: Tx) -> list[Annotation]:
    """Each person's own last version of an image in the first round, skips too."""
    ids = [verdict.annotation_id for verdict in first_verdicts.listed(tx, skips=True)]
    by_id = annotation_table.by_ids(tx, ids)
    return [by_id[key] for key in ids]


def _review_status(tx: Tx) -> dict[str, int]:
    from annotate.review.rounds import status

    return status(tx)


def _hours(tx: Tx) -> dict[str, float]:
    """Person-hours by kind of work (the view `person_work`)."""
    rows = select(tx, "SELECT work, sum(seconds) / 3600 AS hours FROM person_work GROUP BY work ORDER BY work")
    return {row["work"]: row["hours"] for row in rows if row["hours"] is not None}


def _speed(tx: Tx) -> dict[str, tuple[float | None, float | None]]:
    """By person: the hours of their own verdicts and the median seconds of one; None where no time is known."""
    rows = select(
        tx,
        """
        SELECT person, sum(seconds) / 3600 AS hours, median(seconds) AS median_seconds
        FROM person_work WHERE work = 'annotation' GROUP BY person
        """,
    )
    return {row["person"]: (row["hours"], row["median_seconds"]) for row in rows}


# --- what the metrics want


def _by_image(versions: Sequence[Annotation]) -> dict[str, dict[str, list[Defect]]]:
    by_image: dict[str, dict[str, list[Defect]]] = defaultdict(dict)
    for version in versions:
        by_image[version.image_id][version.annotator] = [annotated.defect for annotated in version.defects]
    return dict(by_image)


def _annotator_rows(
    versions: Sequence[Annotation],
    by_image: Mapping[str, Mapping[str, Sequence[Defect]]],
    truth: Mapping[str, Sequence[Defect]],
    waiting: Mapping[str, int],
    speed: Mapping[str, tuple[float | None, float | None]],
) -> list[AnnotatorRow]:
    compared = against_consensus({key: by_image[key] for key in by_image if key in truth}, truth, resamples=0)
    by_annotator: dict[str, list[Annotation]] = defaultdict(list)
    for version in versions:
        by_annotator[version.annotator].append(version)
    rows = []
    for name in sorted(by_annotator.keys() | waiting.keys()):
        own = by_annotator[name]
        hours, median_seconds = speed.get(name, (None, None))
        summary = compared[name].summary if name in compared else None
        rows.append(
            AnnotatorRow(
                annotator=name,
                images=sum(version.status is not AnnotationStatus.SKIPPED for version in own),
                skipped=sum(version.status is AnnotationStatus.SKIPPED for version in own),
                quarantined=waiting.get(name, 0),
                hours=hours,
                median_seconds=median_seconds,
                box_f1={
                    kind: None if summary is None else summary["boxes"]["0.5"][kind]["f1"] for kind in DEFECT_TYPES
                },
                clean_accuracy=None if summary is None else _clean_accuracy(own, truth),
                importance_accuracy={
                    kind: None if summary is None else summary["importance"][kind] for kind in DEFECT_TYPES
                },
                compared=0 if summary is None else int(summary["images"]),
            )
        )
    return rows


def _clean_accuracy(versions: Sequence[Annotation], truth: Mapping[str, Sequence[Defect]]) -> float | None:
    """Of the images that are clean by the consensus, the share that this person called clean; None without any."""
    clean = [
        version
        for version in versions
        if version.status in CLAIMS and version.image_id in truth and not truth[version.image_id]
    ]
    return sum(not version.defects for version in clean) / len(clean) if clean else None


# --- as JSON and as tables


def as_json(report: Report) -> dict[str, Any]:
    """The report as plain values; every estimate as value, interval and count."""
    return {**dataclasses.asdict(report), "bias": report.bias.as_dict()}


def tables(report: Report) -> list[tuple[str, list[dict[str, Any]]]]:
    """The report as tables for a terminal, each a title with rows."""
    minutes = "" if report.minutes_per_image is None else f", {report.minutes_per_image:.2f} minutes an image"
    hours = sum(report.hours.values())
    blind, shown = report.bias.blind.annotations, report.bias.prelabelled.annotations
    return [
        (
            f"{report.images} images, {report.annotations} answers, {hours:.2f} person-hours{minutes}",
            [{"what": name, "answers": number} for name, number in report.statuses.items()],
        ),
        (f"Agreement between people ({report.agreement.images} images seen by several)", _agreement_rows(report)),
        (f"Each person against the consensus ({report.reference})", [_table_row(row) for row in report.people]),
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


def _table_row(row: AnnotatorRow) -> dict[str, Any]:
    return {
        "annotator": row.annotator,
        "images": row.images,
        "skipped": row.skipped,
        "quarantine": row.quarantined,
        "hours": rounded(row.hours, 2),
        "median s": rounded(row.median_seconds, 0),
        **{f"BoxF1@0.5 {kind}": rounded(value) for kind, value in row.box_f1.items()},
        "clean found": rounded(row.clean_accuracy),
        **{f"importance {kind}": rounded(value) for kind, value in row.importance_accuracy.items()},
        "of images": row.compared,
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
