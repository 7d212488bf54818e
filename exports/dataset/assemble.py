"""What is exported of an image: one `Sample`, from which every format is written and to which every reader returns.

A sample names all that it came from (lineage), so it walks back to its prompt, and holds enough to be imported into
another store and exported from there again, byte for byte. It leaves out what only its own store knows: raw answers,
token counts and costs, people's notes, and annotations that did not count (the `agreement` of those survives an import
where the defects are a person's).

`sample_json` is its one text: canonical JSON, the same bytes for the same sample. Every key is always there, and free
forms (`settings`, `extras`) are JSON inside a string, so that columnar readers see one schema.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from exports.dataset.image_extras import SCORES_KEY
from schemas.base import Record
from schemas.defect import Defect, DefectType
from schemas.records import (
    AnnotatedDefect,
    Annotation,
    AnnotationStatus,
    Enrichment,
    ImageRecord,
    Prelabel,
    Prompt,
    Review,
)
from schemas.sample import (
    Agreement,
    AnnotationLink,
    EnrichmentLink,
    LabelSource,
    Lineage,
    PrelabelLink,
    ReviewLink,
    Sample,
    SampleDefect,
    Scores,
)
from sdg_data.ids import canonical_json
from sdg_data.people import pseudonym

_ROUNDING = 6


def sample_json(sample: Sample) -> bytes:
    """The sample's one text: canonical JSON in UTF-8."""
    return canonical_json(sample.model_dump(mode="json")).encode()


def scores_of(defects: Sequence[Defect]) -> Scores:
    """The burdens and the quality that follow from an image's defects; `Scores` has their formulas.

    They are rounded to 6 digits, so that the order in which importances are multiplied makes no difference.
    """

    def burden(kinds: frozenset[DefectType]) -> float:
        left = 1.0
        for importance in sorted(defect.importance for defect in defects if defect.type in kinds):
            left *= 1 - importance / 100
        return round(1 - left, _ROUNDING)

    return Scores(
        artifact_burden=burden(frozenset({DefectType.ARTIFACT})),
        misalignment_burden=burden(frozenset({DefectType.MISALIGNMENT})),
        quality=round(1 - burden(frozenset(DefectType)), _ROUNDING),
    )


def agreement_of(annotations: Sequence[Annotation]) -> Agreement | None:
    """How far an image's first verdicts agree, one a person (`store.first_verdicts`); None for fewer than two."""
    from sdg_data.metrics.matching import pairwise_box_f1  # numpy is only paid for where people agree or not

    people = [tuple(item.defect for item in annotation.defects) for annotation in annotations]
    if len(people) < 2:
        return None
    means = {f"{kind}_f1": round(mean, _ROUNDING) for kind, mean in pairwise_box_f1(people).items()}
    return Agreement(annotators=len(people), **means)


def envelope_of(extras: str, agreement: Agreement | None = None) -> str | None:
    """The envelope of an imported annotation (`Annotation.envelope`).

    Args:
        extras: What an outside format said beyond our fields: a JSON object.
        agreement: Of annotations that are not in the store.

    Returns:
        Canonical JSON, None where there is neither.
    """
    carried = orjson.loads(extras)
    if not carried and agreement is None:
        return None
    return canonical_json(
        {"extras": carried, "agreement": None if agreement is None else agreement.model_dump(mode="json")}
    )


def _carried(envelope: str | None) -> tuple[str, Agreement | None]:
    """What `envelope_of` put there: (extras, agreement)."""
    if envelope is None:
        return "{}", None
    carried = orjson.loads(envelope)
    agreement = carried["agreement"]
    return canonical_json(carried["extras"]), None if agreement is None else Agreement.model_validate(agreement)


def from_annotation(
    image: ImageRecord,
    prompt: Prompt,
    annotation: Annotation,
    *,
    label_source: LabelSource,
    review: Review | None = None,
    enrichment: Enrichment | None = None,
    agreement: Agreement | None = None,
    scores: Mapping[str, float] | None = None,
    names: bool = False,
) -> Sample:
    """Make the sample of an image whose defects a person drew.

    Args:
        image: the image.
        prompt: the prompt that it was made for.
        annotation: what the person drew.
        label_source: where the label comes from, as the sample names it.
        review: the review that accepted the annotation.
        enrichment: a machine's reasons for the person's boxes.
        agreement: how far other people's annotations agree.
        scores: people's scores of the whole image (`exports.dataset.image_extras`).
        names: whether people's names are kept instead of pseudonyms.

    Returns:
        The sample.

    Raises:
        ValueError: the annotation makes no claim, or the enrichment has not one entry for each defect.
    """
    known = (lambda name: name) if names else pseudonym
    added = (None,) * len(annotation.defects) if enrichment is None else enrichment.defects
    defects = tuple(
        _person_defect(annotated, None if extra is None else (extra.reason, extra.importance))
        for annotated, extra in zip(annotation.defects, added, strict=True)
    )
    extras, imported = _carried(annotation.envelope)
    if scores:
        extras = canonical_json({**orjson.loads(extras), SCORES_KEY: dict(scores)})
    lineage = Lineage(
        annotation=AnnotationLink(
            annotator=known(annotation.annotator),
            **_common(annotation, AnnotationLink, "annotator"),
        ),
        review=None
        if review is None
        else ReviewLink(reviewer=known(review.reviewer), **_common(review, ReviewLink, "reviewer")),
        enrichment=None if enrichment is None else EnrichmentLink(**_common(enrichment, EnrichmentLink)),
    )
    trace = None if enrichment is None else enrichment.trace
    return _sample(image, prompt, label_source, defects, trace, agreement or imported, lineage, extras)


def from_prelabel(image: ImageRecord, prompt: Prompt, prelabel: Prelabel) -> Sample:
    """The sample of an image whose defects a machine named."""
    defects = tuple(
        SampleDefect(
            **_fields(defect),
            expanded_reason=None,
            rated=True,
            enriched_importance=None,
            region_id=None,
            origin=None,
            prelabel_index=None,
        )
        for defect in prelabel.defects
    )
    lineage = Lineage(prelabel=PrelabelLink(**_common(prelabel, PrelabelLink)))
    return _sample(image, prompt, LabelSource.PRELABEL, defects, prelabel.trace, None, lineage, "{}")


def _person_defect(annotated: AnnotatedDefect, added: tuple[str, int] | None) -> SampleDefect:
    fields = _fields(annotated.defect)
    if added is not None and not annotated.rated:
        fields["importance"] = added[1]
    return SampleDefect(
        **fields,
        expanded_reason=None if added is None else added[0],
        rated=annotated.rated,
        enriched_importance=None if added is None else added[1],
        region_id=annotated.region_id,
        origin=annotated.origin,
        prelabel_index=annotated.prelabel_index,
    )


def _sample(
    image: ImageRecord,
    prompt: Prompt,
    label_source: LabelSource,
    defects: tuple[SampleDefect, ...],
    trace: str | None,
    agreement: Agreement | None,
    lineage: Lineage,
    extras: str,
) -> Sample:
    same = ("model", "revision", "settings", "sample", "seed", "licence", "source", "tool", "seconds", "created_at")
    return Sample(
        key=image.id,
        split=prompt.split,
        prompt=prompt.text,
        prompt_id=prompt.id,
        prompt_source=prompt.source,
        prompt_licence=prompt.licence,
        sha256=image.blob,
        **{name: getattr(image, name) for name in (*same, "media_type", "width", "height", "bytes")},
        label_source=label_source,
        status=AnnotationStatus.claim(defects),
        defects=defects,
        trace=trace,
        scores=scores_of([defect.defect for defect in defects]),
        agreement=agreement,
        lineage=lineage,
        extras=extras,
    )


def _fields(defect: Defect) -> dict[str, Any]:
    return {name: getattr(defect, name) for name in Defect.model_fields}


def _common(record: Record, link: type[Record], *without: str) -> dict[str, Any]:
    """The fields of `link` that `record` has under the same name."""
    return {name: getattr(record, name) for name in link.model_fields if name not in without}
