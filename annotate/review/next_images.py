"""What to label next: the images that nobody has, ordered by what another answer about them is expected to teach.

`sdg annotate push` hands images out by `routing`, in the proportions of the whole. Here one reason at a time decides,
for a lead with hours for a thousand images and not for all:

    random        by hash: what every other policy has to beat
    uncertainty   the shown detector doubts (`routing.uncertainty`)
    detectors     the detectors do not agree about the boxes (`routing.disagreement`)
    spread        the detectors do not agree how bad it is: the standard deviation of their severities
    corrections   in images of this model and this gravest subtype, people changed much of what the machine said; blind
                  answers count, for they were not led by it, and others only where a group has none
    coverage      the same number of every model and subtype, so that the rare ones are seen at all

`benchmarks/next_images.py` says what each buys per 1,000 tasks.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from statistics import fmean, pstdev

from annotate.review.routing import AGREED_IOU, disagreement, fraction, uncertainty
from schemas.defect import Defect
from schemas.labelling import ProjectKind
from schemas.records import Annotation, AnnotationStatus, Prelabel, Withdrawn
from sdg_data.metrics.matching import box_f1
from sdg_data.store import annotations as annotation_table
from sdg_data.store import first_verdicts, labelling, prelabels, tombstones
from sdg_data.store.connection import Tx
from sdg_data.store.rows import select

PRIOR = 5
"""Answers that the mean of all groups weighs as much as, in the mean of one group: few answers say little about it."""
_PAGE = 2000
_CLEAN, _UNKNOWN = "clean", "unknown"
Group = tuple[str, str]
"""A model, and the subtype (or type) of the gravest defect that the detector sees; "clean", or "unknown"."""


class RankingPolicy(StrEnum):
    """The policies by which the next images are chosen; the module says what each means."""

    RANDOM = "random"
    UNCERTAINTY = "uncertainty"
    DETECTORS = "detectors"
    SPREAD = "spread"
    CORRECTIONS = "corrections"
    COVERAGE = "coverage"


@dataclass(frozen=True)
class Candidate:
    """An image that may go to people: its model, what detectors said of it, and whose answer people would see."""

    image_id: str
    model: str
    answers: Sequence[Prelabel]
    shown: Prelabel | None

    @property
    def group(self) -> Group:
        """The model and what the detector sees first."""
        if self.shown is None:
            return self.model, _UNKNOWN
        return self.model, gravest(self.shown.defects)


@dataclass(frozen=True)
class Corrected:
    """How much of a prelabel a person changed: 1 − F1 at IoU 0.5 within types; and whether they saw it."""

    group: Group
    error: float
    blind: bool


@dataclass(frozen=True)
class Ranked:
    """A candidate with the score that it is ranked by, 0..1; for coverage its place within its group."""

    candidate: Candidate
    score: float


def gravest(defects: Sequence[Defect]) -> str:
    """The subtype of the gravest defect, its type where it has none; "clean" without any."""
    if not defects:
        return _CLEAN
    worst = max(defects, key=lambda defect: defect.importance)
    return (worst.subtype or worst.type).value


def severity(defects: Iterable[Defect]) -> float:
    """How bad an image is, 0..1: 1 − the product of (1 − importance/100)."""
    spared = 1.0
    for defect in defects:
        spared *= 1 - defect.importance / 100
    return 1 - spared


def spread(answers: Sequence[Prelabel]) -> float:
    """Twice the standard deviation of the detectors' severities, 0..1; 0 for fewer than two detectors."""
    last = {(answer.model, answer.revision, answer.template, answer.settings): answer for answer in answers}
    if len(last) < 2:
        return 0.0
    return 2 * pstdev(severity(answer.defects) for answer in last.values())


def expected_errors(corrected: Sequence[Corrected]) -> tuple[dict[Group, float], float]:
    """How much of a prelabel is wrong, by group, drawn towards the mean of all; and that mean, for unseen groups."""
    by_group: dict[Group, list[Corrected]] = defaultdict(list)
    for answer in corrected:
        by_group[answer.group].append(answer)
    errors = {
        group: [answer.error for answer in answers if answer.blind] or [answer.error for answer in answers]
        for group, answers in by_group.items()
    }
    mean = fmean(error for values in errors.values() for error in values) if errors else 0.5
    return {group: (sum(values) + PRIOR * mean) / (len(values) + PRIOR) for group, values in errors.items()}, mean


def rank(candidates: Sequence[Candidate], policy: RankingPolicy, corrected: Sequence[Corrected] = ()) -> list[Ranked]:
    """All candidates, what is to be labelled first first. Equal ones stand in an order of their own, by hash."""
    learned, mean = expected_errors(corrected)
    scores = {
        RankingPolicy.RANDOM: lambda candidate: fraction("next-random", candidate.image_id),
        RankingPolicy.UNCERTAINTY: lambda candidate: uncertainty(candidate.shown),
        RankingPolicy.DETECTORS: lambda candidate: disagreement(candidate.answers),
        RankingPolicy.SPREAD: lambda candidate: spread(candidate.answers),
        RankingPolicy.CORRECTIONS: lambda candidate: learned.get(candidate.group, mean),
    }
    by_hash = sorted(candidates, key=lambda candidate: fraction("next-order", candidate.image_id))
    if policy is RankingPolicy.COVERAGE:
        return _covering(by_hash, corrected)
    ranked = [Ranked(candidate, scores[policy](candidate)) for candidate in by_hash]
    return sorted(ranked, key=lambda image: -image.score)


def _covering(candidates: Sequence[Candidate], corrected: Sequence[Corrected]) -> list[Ranked]:
    """From each group in turn, the one with the fewest answers so far first."""
    had: dict[Group, int] = defaultdict(int)
    for answer in corrected:
        had[answer.group] += 1
    placed = []
    for order, candidate in enumerate(candidates):
        placed.append((had[candidate.group], order, candidate))
        had[candidate.group] += 1
    return [Ranked(candidate, 1 / (1 + place)) for place, _, candidate in sorted(placed, key=lambda entry: entry[:2])]


# --- from the store


def candidates(tx: Tx, *, prelabels_of: str = "") -> list[Candidate]:
    """The images that went to nobody and that nobody annotated, by id."""
    gone = labelling.images_with_tasks(tx, ProjectKind.ANNOTATE)
    rows = select(
        tx,
        f"""
        SELECT images.id AS image, variants.model FROM images JOIN variants ON variants.id = images.variant_id
        WHERE {tombstones.alive(Withdrawn.IMAGE, "images.id")}
          AND images.id NOT IN (SELECT image_id FROM annotation_states)
        ORDER BY images.id
        """,
    )
    models = {row["image"]: row["model"] for row in rows if row["image"] not in gone}
    ids, images_to_label = list(models), []
    for start in range(0, len(ids), _PAGE):
        page = ids[start : start + _PAGE]
        said = prelabels.of_images(tx, page)
        for image in page:
            answers = said.get(image, [])
            shown = next((answer for answer in reversed(answers) if prelabels_of in ("", answer.model)), None)
            images_to_label.append(Candidate(image, models[image], answers, shown))
    return images_to_label


def corrections(tx: Tx, *, prelabels_of: str = "") -> list[Corrected]:
    """What people made of prelabels so far: each one's last verdict of an image that the detector answered about."""
    verdicts = first_verdicts.listed(tx)
    versions = annotation_table.by_ids(tx, [verdict.annotation_id for verdict in verdicts])
    images_of = {verdict.image_id for verdict in verdicts}
    said = prelabels.of_images(tx, sorted(images_of), model=prelabels_of or None)
    models = {
        row["id"]: row["model"]
        for row in select(
            tx,
            """
            SELECT images.id, variants.model FROM images JOIN variants ON variants.id = images.variant_id
            WHERE images.id IN (SELECT unnest(?::VARCHAR[]))
            """,
            [sorted(images_of)],
        )
    }
    claims = (AnnotationStatus.DEFECTS, AnnotationStatus.CLEAN)
    return [
        changed(models[version.image_id], said[version.image_id][-1], version)
        for version in versions.values()
        if version.status in claims and version.image_id in said
    ]


def changed(model: str, prelabel: Prelabel, version: Annotation) -> Corrected:
    """What one person made of one prelabel."""
    drawn = [item.defect for item in version.defects]
    error = 1 - box_f1(prelabel.defects, drawn, AGREED_IOU, by_type=True)
    return Corrected((model, gravest(prelabel.defects)), error, version.prelabel_id is None)


def summary(ranked: Sequence[Ranked], limit: int | None) -> Mapping[Group, tuple[int, int]]:
    """How many images each group has, and how many of them are among the first `limit`."""
    counted: dict[Group, tuple[int, int]] = {}
    for place, image in enumerate(ranked):
        count, chosen = counted.get(image.candidate.group, (0, 0))
        counted[image.candidate.group] = count + 1, chosen + (limit is None or place < limit)
    return dict(sorted(counted.items()))
