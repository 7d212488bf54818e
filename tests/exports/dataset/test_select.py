"""What is selected, against what the world was filled with."""

import json
from collections import Counter
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from exports.dataset.assemble import agreement_of, pseudonym, sample_json, scores_of
from exports.dataset.order import schema_examples_first
from exports.dataset.sample_buffer import Entry
from exports.dataset.select import ImageKind, Selection, select, stratified
from schemas.defect import Defect, DefectType
from schemas.geometry import Box
from schemas.records import Split
from schemas.sample import LabelSource, Sample
from sdg_data.blobs import Blobs
from sdg_data.errors import InputError
from sdg_data.store import cut_prompts, images
from sdg_data.store.connection import Store
from sdg_data.store.cut_prompts import CutPrompt
from sdg_data.store.images import Variant
from tests.exports.worlds import START, enriched, fill, person, picture

World = tuple[Store, Blobs]


def samples(world: World, **settings: Any) -> list[Sample]:
    buffer, _ = select(world[0], Selection(**settings))
    with buffer:
        return list(buffer.samples())


def numbers(samples_: list[Sample]) -> list[int]:
    return sorted(sample.sample for sample in samples_)


def test_gold_is_what_was_accepted(world: World) -> None:
    chosen = samples(world)
    assert numbers(chosen) == [n for n in range(24) if n % 6 < 4]
    assert {sample.label_source for sample in chosen} == {LabelSource.ACCEPTED}
    for sample_ in chosen:
        exact = picture(sample_.sample).defects
        assert [(d.box, d.type, d.reason) for d in sample_.defects] == [(d.box, d.type, d.reason) for d in exact]


def test_images_of_cut_prompts_can_be_left_out(tmp_path: Path) -> None:
    store = fill(tmp_path / "home")
    world = (store, Blobs(tmp_path / "home" / "blobs"))
    cut = samples(world)[:3]
    with store.write() as tx:
        stored = images.by_ids(tx, [sample.key for sample in cut])
        rows = [
            CutPrompt(image.prompt_id, Variant(image.model, image.revision, image.settings).id, 5, 40, 26)
            for image in stored.values()
        ]
        assert cut_prompts.insert(tx, [*rows, *rows]) == len({(row.prompt_id, row.variant_id) for row in rows})
        assert cut_prompts.insert(tx, rows) == 0
    gone = {(row.prompt_id, row.variant_id) for row in rows}
    left = samples(world, without_cut_prompts=True)
    assert len(left) < len(samples(world))
    assert all((s.prompt_id, Variant(s.model, s.revision, s.settings).id) not in gone for s in left)
    assert {s.key for s in samples(world)} == {s.key for s in left} | {
        s.key for s in samples(world) if (s.prompt_id, Variant(s.model, s.revision, s.settings).id) in gone
    }


def test_importance_and_reasons_come_from_whoever_gave_them(world: World) -> None:
    seen = Counter[str]()
    for sample_ in samples(world):
        is_enriched = bool(sample_.sample % 3) or not sample_.defects
        assert (sample_.lineage.enrichment is not None) == is_enriched
        for index, (defect, exact) in enumerate(zip(sample_.defects, picture(sample_.sample).defects, strict=True)):
            if index:
                assert defect.importance == exact.importance, "a person's importance stays"
                seen["rated"] += 1
            else:
                assert defect.importance == (77 if is_enriched else 50)
                seen["unrated"] += 1
            expected = f'longer: {exact.reason}, "quoted" — é' if is_enriched else exact.reason
            assert defect.defect.reason == expected
    assert seen["rated"]
    assert seen["unrated"]


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"unreviewed": True}, [n for n in range(24) if n % 6 < 5]),
        ({"unreviewed": True, "fill_prelabels": "vlm"}, list(range(24))),
        ({"unreviewed": True, "states": ["unreviewed"]}, [n for n in range(24) if n % 6 == 4]),
        ({"source": "prelabel:vlm"}, [n for n in range(24) if n % 6 == 5]),
        ({"source": "annotator:anna@example.org"}, [n for n in range(24) if n % 6 < 5]),
        ({"source": "source:label-studio:"}, [n for n in range(24) if n % 6 < 5]),
        ({"models": ["beta"]}, [n for n in range(24) if n % 6 < 4 and n % 2]),
        ({"licences": ["Apache-2.0"]}, [n for n in range(24) if n % 6 < 4 and not n % 2]),
        ({"which": ImageKind.CLEAN}, [n for n in range(24) if n % 6 < 4 and not n % 4]),
        ({"which": ImageKind.DEFECTIVE}, [n for n in range(24) if n % 6 < 4 and n % 4]),
        ({"since": START + timedelta(minutes=12)}, [n for n in range(12, 24) if n % 6 < 4]),
        ({"until": START + timedelta(minutes=12)}, [n for n in range(12) if n % 6 < 4]),
        ({"min_quality": 1.0}, [n for n in range(24) if n % 6 < 4 and not n % 4]),
    ],
)
def test_filters(world: World, settings: dict[str, Any], expected: list[int]) -> None:
    assert numbers(samples(world, **settings)) == expected


def test_splits_partition_the_selection(world: World) -> None:
    both = [samples(world, splits=[split]) for split in Split]
    assert [sample_.split for side in both for sample_ in side] == [sample_.split for sample_ in samples(world)]
    assert numbers(both[0]) + numbers(both[1]) != []
    assert sorted(numbers(both[0]) + numbers(both[1])) == numbers(samples(world))


def test_nothing_selected_is_an_error_that_counts(world: World) -> None:
    with pytest.raises(InputError, match=r"no samples: 24 images, 8 without labels .* 16 filtered out"):
        select(world[0], Selection(licences=("MIT",)))
    with pytest.raises(InputError, match="24 without labels"):
        select(world[0], Selection(source="prelabel:nobody"))
    with pytest.raises(ValidationError, match="a source is gold"):
        Selection(source="people")


def test_order_is_the_stated_hash_behind_samples_that_fill_every_field(world: World) -> None:
    import hashlib

    def by_hash(keys: list[str], seed: int) -> list[str]:
        return sorted(keys, key=lambda key: hashlib.sha256(f"sdg-order:{seed}:{key}".encode()).hexdigest())

    chosen = samples(world, splits=["train"], seed=3)
    keys = [sample_.key for sample_ in chosen]
    leaders = next(n for n in range(len(keys)) if keys[n:] == by_hash(keys[n:], 3))
    assert 0 < leaders <= 5
    filled = [paths(json.loads(sample_json(sample))) for sample in chosen]
    assert set().union(*filled[:leaders]) == set().union(*filled)
    assert keys != [sample.key for sample in samples(world, splits=["train"], seed=4)]


def paths(value: Any, at: str = "") -> set[str]:
    """Where something stands that is not null, list places left out."""
    if isinstance(value, dict):
        return set().union(*(paths(inner, f"{at}/{name}") for name, inner in value.items()))
    if isinstance(value, list):
        return set().union(*(paths(inner, f"{at}/*") for inner in value))
    return set() if value is None else {at}


def test_leaders_are_as_few_as_a_greedy_choice_finds() -> None:
    fields = {"a": {"x"}, "b": {"x", "y"}, "c": {"z"}, "d": {"y", "z"}, "e": set()}
    found = schema_examples_first(fields, order=lambda item: item, fields=lambda item: frozenset(fields[item]))
    assert found == ["b", "c", "a", "d", "e"]  # b adds two (before d, which does too), c the third
    assert schema_examples_first([], order=str, fields=lambda item: frozenset()) == []


def test_stratified_takes_shares_by_largest_remainder() -> None:
    def entries(name: str, count: int) -> list[Entry]:
        return [Entry(f"{name}{n}", name, Split.TRAIN, "", "", 0, b"", 0, 0) for n in reversed(range(count))]

    strata: dict[tuple[Any, ...], list[Entry]] = {
        (name,): entries(name, size) for name, size in [("a", 7), ("b", 2), ("c", 1)]
    }
    chosen = stratified(strata, 5)  # quotas 3.5, 1.0, 0.5: the half goes to "a", which sorts first
    assert Counter(sample.key for sample in chosen) == {"a": 4, "b": 1}
    assert [sample.order for sample in chosen if sample.key == "a"] == ["a0", "a1", "a2", "a3"]
    assert len(stratified(strata, 99)) == 10


def test_sampling_is_nested_in_the_whole_and_exact_in_number(world: World) -> None:
    some = samples(world, sample=9)
    assert len(some) == 9
    assert set(numbers(some)) < set(numbers(samples(world)))


def test_people_have_pseudonyms_unless_names_are_asked_for(world: World) -> None:
    text = b"".join(sample_json(sample) for sample in samples(world))
    assert b"example.org" not in text
    assert b"a private remark" not in text
    named = samples(world, names=True)[0]
    assert named.lineage.annotation is not None
    assert named.lineage.annotation.annotator == "anna@example.org"
    assert pseudonym(pseudonym("anna")) == pseudonym("anna") != pseudonym("berta")


def test_a_sample_is_read_back_as_it_was(world: World) -> None:
    for sample in samples(world, unreviewed=True, fill_prelabels="vlm"):
        assert Sample.model_validate_json(sample_json(sample)) == sample
        assert "." not in sample.key


def defect(kind: DefectType, importance: int, x0: int = 0) -> Defect:
    return Defect(box=Box(x0=x0, y0=0, x1=x0 + 100, y1=100), type=kind, reason="r", importance=importance)


def test_scores_by_hand() -> None:
    scores = scores_of(
        [defect(DefectType.ARTIFACT, 50), defect(DefectType.ARTIFACT, 20), defect(DefectType.MISALIGNMENT, 10)]
    )
    assert (scores.artifact_burden, scores.misalignment_burden) == (0.6, 0.1)  # 1 - .5*.8, 1 - .9
    assert scores.quality == 0.36  # .5 * .8 * .9
    assert scores_of([]).quality == 1


def test_agreement_by_hand(world: World) -> None:
    image = samples(world)[0]
    record: Any = type("Image", (), {"id": image.key})
    same, far = defect(DefectType.ARTIFACT, 50), defect(DefectType.ARTIFACT, 50, x0=500)
    people = [person(record, (same, far), 0, "a"), person(record, (same,), 0, "b"), person(record, (), 0, "c")]
    agreement = agreement_of(people)
    assert agreement is not None
    assert agreement.annotators == 3
    assert agreement.artifact_f1 == round((2 / 3 + 0 + 0) / 3, 6)
    assert agreement.misalignment_f1 == 1
    assert agreement_of(people[:1]) is None
    edited = people[2].model_copy(update={"status": people[1].status, "defects": people[1].defects})
    after = agreement_of([*people[:2], edited])
    assert after is not None
    assert after.artifact_f1 == round((2 / 3 + 2 / 3 + 1) / 3, 6)


def test_agreement_filters_images_that_two_people_judged(tmp_path: Path) -> None:
    from sdg_data.store import annotations, images

    store = fill(tmp_path / "home", 4)
    with store.write() as tx:
        first, second = sorted(images.page(tx), key=lambda image: image.sample)[:2]
        annotations.insert(tx, [person(first, picture(0).defects, 9, "ben"), person(second, (), 9, "ben")])
    world = (store, Blobs(tmp_path / "home" / "blobs"))
    assert numbers(samples(world, min_agreement=0.5)) == [0]
    agreements = {sample.sample: sample.agreement for sample in samples(world)}
    assert agreements[2] is None
    assert agreements[1] is not None
    assert min(agreements[1].artifact_f1, agreements[1].misalignment_f1) == 0


def test_enrichment_must_fit(world: World) -> None:
    """The makers' enrichment has an entry for each defect; one too few cannot be merged silently."""
    from exports.dataset.assemble import from_annotation
    from sdg_data.store import annotations, images, prompts

    with world[0].read() as tx:
        image = next(record for record in images.page(tx) if record.sample == 1)
        text = prompts.by_ids(tx, [image.prompt_id])[image.prompt_id]
        said = annotations.of_images(tx, [image.id])[image.id][0]
    short = enriched(said, 0).model_copy(update={"defects": ()})
    with pytest.raises(ValueError, match="zip"):
        from_annotation(image, text, said, label_source=LabelSource.ACCEPTED, enrichment=short)
