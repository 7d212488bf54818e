"""Select the samples of an export: one consistent view of the store, filters, and stratified sampling.

    gold               the version that counts (`sdg_data.store.gold`), by `rounds`, `unreviewed` and `fill_prelabels`
    prelabel:MODEL     that model's last prelabel of each image
    annotator:NAME     that annotator's last version for each image ("oracle" on the mini profile)
    source:PREFIX      the last version whose source begins so
    known-answers      the known-answer items, of which no other source has any: pictures with a complete known truth

It reads a published snapshot of the store, so no writer waits for it.
"""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_serializer

from exports.dataset.assemble import agreement_of, from_annotation, from_prelabel
from exports.dataset.image_extras import mean_scores
from exports.dataset.order import order_key
from exports.dataset.sample_buffer import Entry, SampleBuffer
from exports.dataset.stated import with_stated_ids
from schemas.records import (
    AnnotatedDefect,
    Annotation,
    AnnotationStatus,
    ImageRecord,
    Origin,
    Prompt,
    Split,
    UtcTime,
)
from schemas.sample import Agreement, Composition, LabelSource, Sample
from sdg_data.errors import InputError
from sdg_data.ids import content_id
from sdg_data.store import (
    annotations,
    answers,
    cut_prompts,
    enrichments,
    first_verdicts,
    gold,
    image_list,
    images,
    known_answers,
    prelabels,
    prompts,
    reviews,
    snapshot,
)
from sdg_data.store.connection import Store, Tx
from sdg_data.store.gold import GoldFrom, GoldRule

PAGE = 2000
GOLD = "gold"
KNOWN = "known-answers"
_FROM_GOLD = {GoldFrom.ACCEPTED: LabelSource.ACCEPTED, GoldFrom.UNREVIEWED: LabelSource.UNREVIEWED}


class ImageKind(StrEnum):
    """Keep all images, only clean ones, or only defective ones."""

    ALL = "all"
    CLEAN = "clean"
    DEFECTIVE = "defective"


class Selection(BaseModel):
    """What to export; part of the manifest. An empty tuple or None does not filter.

    `since` and `until` bound when the defects were stated (`until` itself is out). `min_agreement` wants both types'
    agreement, and drops images that fewer than two people judged. `sample`: so many, in proportion to the strata
    (split, model, composition). `seed` shapes the order (`exports.dataset.order`) and with it the sampling.
    `without_cut_prompts` drops images whose model did not read all of their prompt (`store.cut_prompts`). `images`:
    only these, by their ids in the store (`store.image_list`).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: str = GOLD
    rounds: int = Field(default=1, ge=1)
    unreviewed: bool = False
    fill_prelabels: str | None = None
    without_sources: tuple[str, ...] = ()
    splits: tuple[Split, ...] = ()
    models: tuple[str, ...] = ()
    licences: tuple[str, ...] = ()
    states: tuple[LabelSource, ...] = ()
    which: ImageKind = ImageKind.ALL
    since: UtcTime | None = None
    until: UtcTime | None = None
    min_agreement: float | None = Field(default=None, ge=0, le=1)
    min_quality: float | None = Field(default=None, ge=0, le=1)
    max_quality: float | None = Field(default=None, ge=0, le=1)
    sample: int | None = Field(default=None, ge=1)
    seed: int = 0
    names: bool = False
    without_cut_prompts: bool = False
    images: tuple[str, ...] | None = None

    @model_serializer(mode="wrap")
    def _without_the_list(self, serialise: Any) -> dict[str, Any]:
        """A manifest says which list was exported by its length and the hash of its sorted ids, not by the ids."""
        fields: dict[str, Any] = serialise(self)
        chosen = fields.pop("images")
        if chosen is None:
            return fields
        names = "".join(f"{image}\n" for image in sorted(chosen))
        return {**fields, "images": {"count": len(chosen), "sha256": hashlib.sha256(names.encode()).hexdigest()}}

    @field_validator("source")
    @classmethod
    def _known_source(cls, source: str) -> str:
        kind, _, rest = source.partition(":")
        if source not in (GOLD, KNOWN) and (kind not in ("prelabel", "annotator", "source") or not rest):
            raise ValueError("a source is gold, known-answers, prelabel:MODEL, annotator:NAME or source:PREFIX")
        return source


@dataclass
class SelectionCounts:
    """What became of the stored images, or of those of a list: how many there are, and how many each step left out.

    `unlabelled` names those of a list that have no labels.
    """

    images: int = 0
    without_labels: int = 0
    filtered: int = 0
    sampled_out: int = 0
    unlabelled: list[str] = field(default_factory=list)

    def numbers(self) -> dict[str, int]:
        """The counts, by name."""
        counts = asdict(self)
        del counts["unlabelled"]
        return counts


def select(store: Store, selection: Selection, *, folder: Path | None = None) -> tuple[SampleBuffer, SelectionCounts]:
    """Select samples and put them in order.

    Args:
        store: A snapshot of it is published and read.
        selection: Which samples.
        folder: Where the buffer's file is; None: the system's folder for temporary files.

    Returns:
        The samples in a buffer, which the caller closes, and what became of all stored images.

    Raises:
        InputError: Nothing is left, or the list of images names one that the store does not have.
    """
    considered = SelectionCounts()
    published = snapshot.publish(store)
    buffer = SampleBuffer(folder)
    strata: dict[tuple[Any, ...], list[Entry]] = {}
    try:
        with Store(published.parent).read() as tx:
            if selection.images is not None:
                image_list.check(tx, selection.images)
            for sample in _labelled(tx, selection, considered):
                if not _passes(sample, selection):
                    considered.filtered += 1
                    continue
                buffer.add(sample, order_key(sample.key, selection.seed))
                stratum = (sample.split, sample.model, sample.composition)
                strata.setdefault(stratum, []).append(buffer.entries[-1])
        if not buffer.entries:
            raise InputError(
                f"the selection has no samples: {considered.images} images, {considered.without_labels} without labels "
                f"from {selection.source}, {considered.filtered} filtered out",
                item=selection.source,
                hint="Loosen the filters; gold needs accepted reviews, or --unreviewed, or --fill-prelabels MODEL.",
            )
        kept = None if selection.sample is None else stratified(strata, selection.sample)
        considered.sampled_out = 0 if kept is None else len(buffer) - len(kept)
        buffer.arrange(kept)
    except BaseException:
        buffer.__exit__(None, None, None)
        raise
    return buffer, considered


def stratified(strata: dict[tuple[Any, ...], list[Entry]], number: int) -> list[Entry]:
    """Take `number` entries, each stratum in proportion to its size (largest remainder), its first ones in order.

    All are taken where there are no more. Ties of remainders go to the stratum that sorts first.
    """
    total = sum(len(entries) for entries in strata.values())
    if number >= total:
        return [entry for entries in strata.values() for entry in entries]
    shares = {name: divmod(number * len(entries), total) for name, entries in strata.items()}
    missing = number - sum(whole for whole, _ in shares.values())
    extra = set(sorted(strata, key=lambda name: (-shares[name][1], name))[:missing])
    chosen: list[Entry] = []
    for name in sorted(strata):
        chosen += sorted(strata[name])[: shares[name][0] + (name in extra)]
    return chosen


def _known_answers(tx: Tx, selection: Selection, considered: SelectionCounts) -> Iterator[Sample]:
    """The known-answer items whose truth is complete, as samples. Their pictures are no images of the dataset."""
    items = [
        item
        for item in known_answers.items(tx).values()
        if (not selection.models or item.image.model in selection.models)
        and (selection.images is None or item.image.id in selection.images)
    ]
    texts = prompts.by_ids(tx, list({item.image.prompt_id for item in items}))
    for item in items:
        considered.images += 1
        if not item.truth.complete:
            considered.without_labels += 1
            continue
        yield from_annotation(
            item.image,
            texts[item.image.prompt_id],
            annotations.record(
                content_id("known-truth", item.image.id),
                item.image.id,
                KNOWN,
                [
                    AnnotatedDefect(defect=defect, region_id=f"known-{index}", origin=Origin.MANUAL)
                    for index, defect in enumerate(item.truth.defects)
                ],
                source=f"{KNOWN}:{item.kind.value}",
            ).model_copy(update={"created_at": item.created_at}),
            label_source=LabelSource.ANNOTATOR,
            names=True,
        )


def _labelled(tx: Tx, selection: Selection, considered: SelectionCounts) -> Iterator[Sample]:
    if selection.source == KNOWN:
        yield from _known_answers(tx, selection, considered)
        return
    samples_of = _source(selection)
    after = ""
    while True:
        page = images.page(tx, models=selection.models or None, ids=selection.images, after=after, limit=PAGE)
        if not page:
            return
        after = page[-1].id
        texts = prompts.by_ids(tx, list({image.prompt_id for image in page}))
        considered.images += len(page)
        if selection.without_cut_prompts:
            cuts = cut_prompts.of_images(tx, [image.id for image in page])
            considered.filtered += len(cuts)
            page = [image for image in page if image.id not in cuts]
        samples = list(samples_of(tx, page, texts))
        considered.without_labels += len(page) - len(samples)
        if selection.images is not None:
            labelled = {sample.key for sample in samples}
            considered.unlabelled += [image.id for image in page if image.id not in labelled]
        yield from with_stated_ids(tx, samples)


_Source = Callable[[Tx, Sequence[ImageRecord], dict[str, Prompt]], Iterator[Sample]]


def _source(selection: Selection) -> _Source:
    kind, _, name = selection.source.partition(":")
    if kind == GOLD:
        rule = GoldRule(
            rounds=selection.rounds,
            unreviewed=selection.unreviewed,
            prelabels_of=selection.fill_prelabels,
            without_sources=selection.without_sources,
        )
        return lambda tx, page, texts: _of_gold(tx, page, texts, rule, names=selection.names)
    if kind == "prelabel":
        return lambda tx, page, texts: _of_prelabels(tx, page, texts, name)

    def matches(annotation: Annotation) -> bool:
        return annotation.annotator == name if kind == "annotator" else annotation.source.startswith(name)

    return lambda tx, page, texts: _of_annotations(tx, page, texts, matches, names=selection.names)


def _of_gold(
    tx: Tx, page: Sequence[ImageRecord], texts: dict[str, Prompt], rule: GoldRule, *, names: bool
) -> Iterator[Sample]:
    ids = [image.id for image in page]
    counted = gold.of_images(tx, ids, rule)
    agreements = _agreements(tx, ids)
    scores = {image: mean_scores(entered) for image, entered in answers.scored_of_images(tx, ids).items()}
    verdicts = reviews.by_ids(tx, [label.review_id for label in counted.values() if label.review_id is not None])
    for image in page:
        label = counted.get(image.id)
        if label is None:
            continue
        prompt = texts[image.prompt_id]
        if label.annotation is None:
            assert label.prelabel is not None
            yield from_prelabel(image, prompt, label.prelabel)
        else:
            yield from_annotation(
                image,
                prompt,
                label.annotation,
                label_source=_FROM_GOLD[label.source],
                review=None if label.review_id is None else verdicts[label.review_id],
                enrichment=label.enrichment,
                agreement=agreements.get(image.id),
                scores=scores.get(image.id),
                names=names,
            )


def _of_prelabels(tx: Tx, page: Sequence[ImageRecord], texts: dict[str, Prompt], model: str) -> Iterator[Sample]:
    answers = prelabels.of_images(tx, [image.id for image in page], model=model)
    for image in page:
        if image.id in answers:
            yield from_prelabel(image, texts[image.prompt_id], answers[image.id][-1])


def _of_annotations(
    tx: Tx,
    page: Sequence[ImageRecord],
    texts: dict[str, Prompt],
    matches: Callable[[Annotation], bool],
    *,
    names: bool,
) -> Iterator[Sample]:
    ids = [image.id for image in page]
    chosen: dict[str, Annotation] = {}
    for key, versions in annotations.of_images(tx, ids).items():
        own = [version for version in versions if matches(version) and version.status is not AnnotationStatus.SKIPPED]
        if own and own[-1].status in (AnnotationStatus.CLEAN, AnnotationStatus.DEFECTS):
            chosen[key] = own[-1]
    agreements = _agreements(tx, ids)
    added = enrichments.of_annotations(tx, [version.id for version in chosen.values()])
    entered = answers.scored(tx, [version.id for version in chosen.values()])
    for image in page:
        if image.id in chosen:
            annotation = chosen[image.id]
            yield from_annotation(
                image,
                texts[image.prompt_id],
                annotation,
                label_source=LabelSource.ANNOTATOR,
                enrichment=added[annotation.id][-1] if annotation.id in added else None,
                agreement=agreements.get(image.id),
                scores=mean_scores([entered[annotation.id]]) if annotation.id in entered else None,
                names=names,
            )


def _agreements(tx: Tx, ids: Sequence[str]) -> dict[str, Agreement]:
    agreements = {key: agreement_of(verdicts) for key, verdicts in first_verdicts.of_images(tx, ids).items()}
    return {key: agreement for key, agreement in agreements.items() if agreement is not None}


def _passes(sample: Sample, selection: Selection) -> bool:
    agreement = sample.agreement
    moment = _stated_at(sample)
    return (
        (not selection.splits or sample.split in selection.splits)
        and (not selection.licences or sample.licence in selection.licences)
        and (not selection.states or sample.label_source in selection.states)
        and (
            selection.which is ImageKind.ALL
            or (sample.composition is Composition.CLEAN) == (selection.which is ImageKind.CLEAN)
        )
        and (selection.since is None or moment >= selection.since)
        and (selection.until is None or moment < selection.until)
        and (selection.min_quality is None or sample.scores.quality >= selection.min_quality)
        and (selection.max_quality is None or sample.scores.quality <= selection.max_quality)
        and (
            selection.min_agreement is None
            or (
                agreement is not None
                and min(agreement.artifact_f1, agreement.misalignment_f1) >= selection.min_agreement
            )
        )
    )


def _stated_at(sample: Sample) -> datetime:
    """When the defects were stated: by the annotation, or by the prelabel."""
    link = sample.lineage.annotation or sample.lineage.prelabel
    assert link is not None  # every sample is made from one of them
    return link.created_at
