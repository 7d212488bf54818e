"""Our own exports as rows of an import: prompts, images and where their defects came from.

    webdataset, coco   ours come back whole, with the lineage of their defects

A file says of itself that it is ours, so nothing in it is believed that can be worked out: ids are those of the
content, pictures are decoded and measured, a verdict counts only for its own sample. Files beside a manifest are
compared with it first; only where it is known who wrote the manifest, pictures are taken as they were sealed. Not in
our files, hence gone after an import: raw answers, token counts, costs, notes, annotations that did not count.
"""

from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

import orjson
from pydantic import ValidationError

from exports.dataset.assemble import envelope_of
from exports.files.shards import named_split
from exports.formats.contract import RejectedRow
from exports.formats.release_jsonl import EXTRAS as RELEASE
from exports.imports.manifest_check import check_files, refuse_damaged
from exports.imports.rows import ImportRow, PreparedRecord, measured
from exports.read.reader import ShardReader
from exports.read.shard_files import Shard, find_shards, open_shard
from schemas.defect import Defect
from schemas.records import (
    UNRATED_IMPORTANCE,
    AnnotatedDefect,
    Annotation,
    EnrichedDefect,
    Enrichment,
    ImageRecord,
    Origin,
    Prelabel,
    Prompt,
    Review,
    Split,
    Verdict,
)
from schemas.sample import Sample
from sdg_data.file_part import FilePart, Stamp
from sdg_data.ids import blob_name, image_id, is_prompt_id
from sdg_data.ingest.prompts import check_prompt


def webdataset_rows(source: str, *, take_sound: bool = False, seal: str | None = None) -> Iterator[ImportRow]:
    """The samples of our shards.

    Args:
        source: An export's folder or URL, a tar file, or a pattern of them.
        take_sound: Leave out the shards that are not what the manifest beside them says, instead of refusing all.
        seal: The digest of the manifest, as whoever made the export told it: the pictures are then not decoded again,
            as those of this account's own exports are not (`exports.files.seals`).

    Raises:
        InputError: There are no shards, they are damaged, or the manifest is not the one of the seal.
    """
    shards = find_shards(source, None)
    checked = check_files([shard.path for shard in shards], seal=seal)
    if not take_sound:
        refuse_damaged(checked.damaged, hint="Copy the export again, or leave those files out with --take-sound.")
    for file in checked.damaged:
        for number in range(file.samples):
            yield RejectedRow(f"{file.path}#{number}", "damaged-shard", file.reason)
    left_out = {file.path for file in checked.damaged}
    sound = [shard for shard in shards if shard.path not in left_out]
    for (is_sealed, split), group in groupby(
        sound, lambda shard: (shard.path in checked.sealed, named_split(shard.path))
    ):
        if is_sealed:
            for shard in group:
                yield from _sealed_rows(shard, checked.sealed[shard.path])
        else:
            yield from _unsealed_rows([shard.path for shard in group], split)


def _unsealed_rows(paths: list[str], split: Split | None) -> Iterator[ImportRow]:
    """The samples of shards of unknown origin: every byte is looked into.

    `split` is that of the shards' names: a sample that says another one was changed, and would leak into training.
    """
    reader = ShardReader(paths, check_bytes=True, on_error="skip", rank=0, world=1)
    reported = 0
    for example in reader:
        while reported < len(reader.skipped):
            yield RejectedRow(reader.skipped[reported], "corrupt-sample", reader.skipped[reported])
            reported += 1
        assert example.sample is not None
        if split is not None and example.sample.split is not split:
            problem = f"it says {example.sample.split}, in a shard of {split}"
            yield RejectedRow(example.key, "split-conflict", problem)
            continue
        yield restored(example.sample, example.image, hashed=True)
    for problem in reader.skipped[reported:]:
        yield RejectedRow(problem, "corrupt-sample", problem)


def _sealed_rows(shard: Shard, stamp: Stamp) -> Iterator[ImportRow]:
    """The samples of a shard whose every byte is what the export wrote, who compared the pictures with their records.

    Ids, prompts and verdicts are looked at as always; the pictures' bytes are not, and are copied from file to file.
    """
    path = Path(shard.path)
    for number, place in enumerate(open_shard(shard, path.parent).places):
        name = f"{shard.path}#{number}"
        if place.problem is not None:
            yield RejectedRow(name, "corrupt-sample", f"{name}: {place.problem}")
            continue
        try:
            sample = Sample.model_validate_json(FilePart(path, *place.text, stamp).read())
        except ValidationError as error:
            problem = f"{name} ({place.key}): its JSON is no sample: {error.errors()[0]['msg']}"
            yield RejectedRow(name, "corrupt-sample", problem)
            continue
        yield restored(sample, FilePart(path, *place.image, stamp))


def restored(sample: Sample, data: bytes | FilePart, *, hashed: bool = False) -> PreparedRecord | RejectedRow:
    """The records that a sample was made from, without what samples do not hold, under the ids that it states.

    Args:
        sample: What a file says.
        data: The picture's bytes, which are decoded and measured; a part of a sealed file is taken as it is.
        hashed: The bytes are known to have the sample's sha256.

    Returns:
        The records, or why there are none.
    """
    try:
        _check(sample)
        if isinstance(data, bytes):
            _check_picture(sample, data, hashed=hashed)
        return _records(sample, data)
    except RejectedRow as error:
        return error
    except ValidationError as error:
        return RejectedRow(sample.key, "bad-row", error.errors()[0]["msg"])


def _check_picture(sample: Sample, data: bytes, *, hashed: bool) -> None:
    """Whether the picture is the one that the sample describes."""
    name = sample.key
    if not hashed and blob_name(data) != sample.sha256:
        raise RejectedRow(name, "wrong-bytes", "the image's bytes are not those that the sample names")
    picture = measured(name, data)
    stated = (sample.media_type, sample.width, sample.height, sample.bytes)
    if stated != (picture.media_type, picture.width, picture.height, len(data)):
        expected, actual = (
            f"{stated[0]} {stated[1]}×{stated[2]}",
            f"{picture.media_type} {picture.width}×{picture.height}",
        )
        raise RejectedRow(name, "size-differs", f"it says {expected}, {sample.bytes} bytes; the picture is {actual}")


def _check(sample: Sample) -> None:
    """What the sample says of its prompt and of where it comes from."""
    name = sample.key
    identity = image_id(sample.prompt_id, sample.model, sample.revision, sample.sample, sample.settings)
    if identity != sample.key or not is_prompt_id(sample.prompt_id, sample.prompt):
        raise RejectedRow(name, "wrong-id", "its id does not follow from its fields: it was changed by hand")
    problem = check_prompt(sample.prompt)
    if problem is not None:
        raise RejectedRow(name, f"prompt-{problem[0]}", f"the prompt: {problem[1]}")
    release = orjson.loads(sample.extras).get(RELEASE, {})
    row = release.get("row", {}) if isinstance(release, dict) else None
    if (
        not isinstance(row, dict)
        or not isinstance(row.get("filepath", ""), str)
        or not isinstance(release.get("absent", []), list)
    ):
        raise RejectedRow(name, "bad-extras", "what it keeps of a release row is none")


def _records(sample: Sample, data: bytes | FilePart) -> PreparedRecord:
    image = ImageRecord(
        id=sample.key,
        blob=sample.sha256,
        **{field: getattr(sample, field) for field in ImageRecord.model_fields if field not in ("id", "blob")},
    )
    prompt = Prompt(
        id=sample.prompt_id,
        text=sample.prompt,
        source=sample.prompt_source,
        licence=sample.prompt_licence,
        split=sample.split,
    )
    link = sample.lineage
    if link.annotation is None:
        if link.prelabel is None:
            raise RejectedRow(sample.key, "no-lineage", "it names neither an annotation nor a prelabel")
        prelabel = Prelabel(
            image_id=sample.key,
            raw="",
            trace=sample.trace,
            defects=_own_defects(sample),
            **_uncounted(),
            **dict(link.prelabel),
        )
        return PreparedRecord(sample.key, data, image, prompt, prelabel=prelabel, foreign=True)
    annotation = Annotation(
        image_id=sample.key,
        status=sample.status,
        defects=_annotated(sample),
        note=None,
        envelope=envelope_of(sample.extras, sample.agreement),
        **dict(link.annotation),
    )
    enrichment = None
    if link.enrichment is not None:
        enrichment = Enrichment(
            annotation_id=annotation.id,
            raw="",
            trace=sample.trace or "",
            defects=tuple(
                EnrichedDefect(index=n, reason=defect.expanded_reason or "", importance=defect.enriched_importance or 0)
                for n, defect in enumerate(sample.defects)
            ),
            **_uncounted(),
            **dict(link.enrichment),
        )
    review = _review(sample, annotation)
    return PreparedRecord(sample.key, data, image, prompt, annotation, review, enrichment, foreign=True)


def _review(sample: Sample, annotation: Annotation) -> Review | None:
    """The verdict that accepted the sample's annotation, and nothing else."""
    link = sample.lineage.review
    if link is None:
        return None
    review = Review(note=None, seconds=None, **dict(link))
    about = review.result_id if review.verdict is Verdict.CORRECTED else review.annotation_id
    if review.verdict is Verdict.REJECTED or about != annotation.id:
        raise RejectedRow(sample.key, "foreign-review", "its review accepts another annotation than the sample's")
    return review


def _uncounted() -> dict[str, Any]:
    return dict.fromkeys(("tokens_in", "tokens_out", "cost", "seconds"))


def _own_defects(sample: Sample) -> tuple[Defect, ...]:
    return tuple(Defect(**{name: getattr(defect, name) for name in Defect.model_fields}) for defect in sample.defects)


def _annotated(sample: Sample) -> tuple[AnnotatedDefect, ...]:
    return tuple(
        AnnotatedDefect(
            defect=plain if defect.rated else plain.model_copy(update={"importance": UNRATED_IMPORTANCE}),
            region_id=defect.region_id or "?",
            origin=defect.origin or Origin.MANUAL,
            prelabel_index=defect.prelabel_index,
            rated=defect.rated,
        )
        for defect, plain in zip(sample.defects, _own_defects(sample), strict=True)
    )
