"""Routing: which images go to people, in what order, and how. A pure function of the store and of [annotate.routing].

- **Which images.** A share of the images of each model and split, chosen by the hash of the image's id: a larger share
adds
  images and drops none. Of the images that the detector calls clean a share of their own goes, so that people also
  confirm "no defects". Withdrawn images, and those that somebody annotated elsewhere, stay out.
- **Blind or not.** A share, again by hash and by nothing else, is worked on without prelabels.
- **How many people.** `overlap` for a share of each split (all of the test split: there the human ceiling is measured).
- **In what order.** Within each model, split and side (clean or not, by the detector) the most doubtful first. These
  lists are interleaved evenly, so that wherever people stop, their work has the proportions of the whole.

An answer without probabilities is doubtful where it had to be repaired or asked for again, where its gravest defect is
slight (near to "clean"), or where two detectors (models, templates, settings) do not agree about the image.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Callable, Sequence
from statistics import fmean

from annotate.labelstudio.push import RoutedImage
from schemas.records import Prelabel, Split, Withdrawn
from sdg_data.ids import content_id
from sdg_data.metrics.matching import box_f1
from sdg_data.settings import RoutingSettings
from sdg_data.store import prelabels, tombstones
from sdg_data.store.connection import Tx
from sdg_data.store.rows import select

ALL_MODELS = "*"
AGREED_IOU = 0.5
REPAIRED_DOUBT, RETRIED_DOUBT = 0.5, 0.75
"""Of an answer that had to be repaired, or asked for again."""
_PAGE = 2000
_DIGITS = 13
"""Hexadecimal digits that a float holds exactly."""


def route(
    tx: Tx,
    settings: RoutingSettings,
    *,
    prelabels_of: str = "",
    ours: str = "label-studio:",
    models: Sequence[str] | None = None,
    split: Split | None = None,
    listed: Sequence[str] | None = None,
    limit: int | None = None,
) -> list[RoutedImage]:
    """The images for people, in the order in which people shall see them.

    Args:
        tx: The store.
        settings: Shares, overlap and weights.
        prelabels_of: The model whose prelabels people see; "" for the last one of each image.
        ours: How the source of annotations begins that came by routing; an image with others stays out, unless
            `settings.annotated_elsewhere`.
        models: Only images of these models.
        split: Only images of this split.
        listed: Only these images, and all of them whatever the shares are: somebody chose them.
        limit: How many images at the most.
    """
    candidates = _candidates(tx, settings, ours, models, split, listed)
    sides: dict[tuple[str, str, str], list[tuple[float, str]]] = defaultdict(list)
    for start in range(0, len(candidates), _PAGE):
        page = candidates[start : start + _PAGE]
        by_image = prelabels.of_images(tx, [image for image, _, _ in page])
        for image, model, image_split in page:
            answers = by_image.get(image, [])
            shown = next((answer for answer in reversed(answers) if prelabels_of in ("", answer.model)), None)
            if shown is None and not settings.without_prelabel:
                continue
            side = "unknown" if shown is None else "defects" if shown.defects else "clean"
            share = _share(settings, model, image_split) * (settings.clean_share if side == "clean" else 1.0)
            if listed is not None or fraction("annotate-route", image) < share:
                sides[model, image_split, side].append((_score(settings, shown, answers), image))
    ordered = sorted(
        (-_interleaving_key(rank, len(members)), content_id("annotate-order", image), image, key[1])
        for key, members in sides.items()
        for rank, (_, image) in enumerate(sorted(members, key=lambda scored: (-scored[0], scored[1])))
    )
    return [
        RoutedImage(
            image_id=image,
            blind=is_blind(image, settings.blind_share),
            priority=-minus_priority,
            overlap=overlap_of(settings, image, image_split),
        )
        for minus_priority, _, image, image_split in ordered[:limit]
    ]


def fraction(domain: str, image_id: str) -> float:
    """A number from 0 to 1 that spreads images evenly: a pure function of the image's id, another for each `domain`."""
    return int(content_id(domain, image_id)[:_DIGITS], 16) / 16.0**_DIGITS


def is_blind(image_id: str, share: float) -> bool:
    """Whether an image is annotated without prelabels: by its id alone, so the same for everybody and for good."""
    return fraction("annotate-blind", image_id) < share


def uncertainty(answer: Prelabel | None) -> float:
    """How doubtful an answer is by itself, from 0 to 1; 1 where there is no answer."""
    if answer is None:
        return 1.0
    doubts = [0.0]
    if answer.repairs:
        doubts.append(REPAIRED_DOUBT)
    if answer.attempt > 1:
        doubts.append(RETRIED_DOUBT)
    if answer.defects:
        doubts.append(1 - max(defect.importance for defect in answer.defects) / 100)
    return max(doubts)


def disagreement(answers: Sequence[Prelabel]) -> float:
    """1 − mean over pairs of detectors of `box_f1` (IoU ≥ 0.5, within types); 0 for fewer than two detectors.

    Of each detector (model, revision, template, settings) the last answer counts. Two that say "clean" agree fully.
    """
    last = {(answer.model, answer.revision, answer.template, answer.settings): answer for answer in answers}
    pairs = list(itertools.combinations((last[key] for key in sorted(last)), 2))
    if not pairs:
        return 0.0
    return 1 - fmean(box_f1(first.defects, second.defects, AGREED_IOU, by_type=True) for first, second in pairs)


def _score(settings: RoutingSettings, shown: Prelabel | None, answers: Sequence[Prelabel]) -> float:
    weights: list[tuple[float, Callable[[], float]]] = [
        (settings.uncertainty, lambda: uncertainty(shown)),
        (settings.disagreement, lambda: disagreement(answers)),
    ]
    return sum(weight * value() for weight, value in weights if weight)


def _interleaving_key(rank: int, length: int) -> float:
    """A key that interleaves lists of any length evenly: 1 for the first of a list, falling towards 0 for the last."""
    return 1 - rank / length


def _share(settings: RoutingSettings, model: str, split: str) -> float:
    """The most specific share: the model's own, that of all models, the general one."""
    for name in (model, ALL_MODELS):
        share = settings.shares.get(name, {}).get(Split(split))
        if share is not None:
            return share
    return settings.share


def overlap_of(settings: RoutingSettings, image: str, split: str) -> int:
    """How many people see an image: by its id and its split alone."""
    share = settings.overlap_shares.get(Split(split), 0.0)
    return settings.overlap if fraction("annotate-overlap", image) < share else 1


def _candidates(
    tx: Tx,
    settings: RoutingSettings,
    ours: str,
    models: Sequence[str] | None,
    split: Split | None,
    listed: Sequence[str] | None,
) -> list[tuple[str, str, str]]:
    """(image id, model, split) of every image that may go, by id."""
    rows = select(
        tx,
        f"""
        SELECT images.id AS image, variants.model, prompts.split
        FROM images JOIN prompts ON prompts.id = images.prompt_id JOIN variants ON variants.id = images.variant_id
        WHERE {tombstones.alive(Withdrawn.IMAGE, "images.id")}
          AND ($split::VARCHAR IS NULL OR prompts.split = $split)
          AND ($models::VARCHAR[] IS NULL OR variants.model IN (SELECT unnest($models::VARCHAR[])))
          AND ($listed::VARCHAR[] IS NULL OR images.id IN (SELECT unnest($listed::VARCHAR[])))
          AND ($elsewhere OR images.id NOT IN (
              SELECT image_id FROM annotations
              WHERE NOT starts_with(source, $ours) AND {tombstones.alive(Withdrawn.ANNOTATION, "id")}
          ))
        ORDER BY images.id
        """,
        {
            "elsewhere": settings.annotated_elsewhere,
            "ours": ours,
            "split": split,
            "models": None if models is None else list(models),
            "listed": None if listed is None else list(listed),
        },
    )
    return [(row["image"], row["model"], row["split"]) for row in rows]
