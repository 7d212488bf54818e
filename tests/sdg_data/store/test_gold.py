"""Gold, against a naive reading of the same rule over the same records, and by hand."""

import random
from pathlib import Path

import pytest

from schemas.records import Annotation, Prompt, Review, Tombstone, Verdict, Withdrawn
from sdg_data.ids import image_id
from sdg_data.store import annotations, enrichments, gold, images, prelabels, prompts, reviews, tombstones
from sdg_data.store.connection import Store
from sdg_data.store.gold import GoldFrom, GoldRule
from tests.sdg_data.store.makers import annotation, at, defect, enrichment, prelabel, review

IMAGE = "1" * 32
OPEN = GoldRule(unreviewed=True)


def _fill(store: Store, people: list[Annotation], verdicts: list[Review]) -> None:
    with store.write() as tx:
        annotations.insert(tx, people)
        reviews.insert(tx, verdicts)


def _gold(store: Store, rule: GoldRule = gold.STRICT, image: str = IMAGE) -> tuple[str, str] | None:
    with store.read() as tx:
        label = gold.of_images(tx, [image], rule).get(image)
    if label is None:
        return None
    record = label.annotation or label.prelabel
    assert record is not None
    return label.source.value, record.id


def test_an_unreviewed_annotation_counts_only_where_that_is_asked(store: Store) -> None:
    first = annotation(IMAGE, "a", defect())
    _fill(store, [first], [])
    assert _gold(store) is None
    assert _gold(store, OPEN) == ("unreviewed", first.id)


def test_two_people_whom_nobody_compared_are_no_gold(store: Store) -> None:
    _fill(store, [annotation(IMAGE, "a", defect()), annotation(IMAGE, "b")], [])
    assert _gold(store, OPEN) is None
    assert _gold(store, GoldRule(unreviewed=True, without_sources=("label-studio:1",))) is None


def test_a_second_measurement_of_the_test_set_stays_out(store: Store) -> None:
    first = annotation(IMAGE, "a", defect())
    again = annotation(IMAGE, "b", defect(2), source="ceiling:7")
    _fill(store, [first, again], [])
    assert _gold(store, GoldRule(unreviewed=True, without_sources=("ceiling:",))) == ("unreviewed", first.id)


def test_a_second_pass_supersedes_the_first(store: Store) -> None:
    first = annotation(IMAGE, "a", defect())
    second = annotation(IMAGE, "b", defect(2), parent_id=first.id, round=2, minute=1)
    _fill(store, [first, second], [])
    assert _gold(store, OPEN) == ("unreviewed", second.id)


def test_a_correction_is_accepted_until_it_is_rejected(store: Store) -> None:
    first, second = annotation(IMAGE, "a", defect()), annotation(IMAGE, "b", defect(2))
    _fill(store, [first, second], [review(first, "corrected", result=second)])
    assert _gold(store) == ("accepted", second.id)
    _fill(store, [], [review(second, "rejected", round=2, minute=1)])
    assert _gold(store) is None


def test_the_last_review_decides_and_the_round_comes_before_the_clock(store: Store) -> None:
    first = annotation(IMAGE, "a", defect())
    _fill(
        store, [first], [review(first, "rejected", round=1, minute=30), review(first, "accepted", round=2, minute=10)]
    )
    assert _gold(store) == ("accepted", first.id)
    assert _gold(store, GoldRule(rounds=2)) == ("accepted", first.id)
    assert _gold(store, GoldRule(rounds=3)) is None


@pytest.mark.parametrize("status", ["ambiguous-prompt", "cannot-judge", "skipped"])
def test_an_accepted_verdict_without_a_claim_is_no_gold(store: Store, status: str) -> None:
    claim, none = annotation(IMAGE, "a"), annotation(IMAGE, "b", status=status)
    _fill(store, [claim, none], [review(claim, "accepted"), review(none, "accepted", minute=1)])
    # A skipped task is nobody's verdict; the other two take the image out.
    assert _gold(store) == (("accepted", claim.id) if status == "skipped" else None)


def test_withdrawn_records_do_not_count(store: Store) -> None:
    first, second = annotation(IMAGE, "a", defect()), annotation(IMAGE, "b", defect(2))
    later = review(second, "accepted", minute=1)
    _fill(store, [first, second], [review(first, "accepted"), later])
    assert _gold(store) == ("accepted", second.id)
    with store.write() as tx:
        tombstones.insert(
            tx,
            [Tombstone(kind=Withdrawn.REVIEW, item_id=later.id, reason="misclick", source="test", created_at=at(2))],
        )
    assert _gold(store) == ("accepted", first.id)
    with store.write() as tx:
        tombstones.insert(
            tx, [Tombstone(kind="annotation", item_id=first.id, reason="deleted", source="test", created_at=at(2))]
        )
    assert _gold(store) is None
    assert _gold(store, OPEN) == ("unreviewed", second.id)
    with store.write() as tx:
        tombstones.insert(tx, [Tombstone(kind="image", item_id=IMAGE, reason="x", source="test", created_at=at(2))])
    assert _gold(store, OPEN) is None


def test_a_prelabel_counts_only_when_asked_and_where_nobody_looked(store: Store) -> None:
    other = "2" * 32
    machine = [prelabel(IMAGE, defect()), prelabel(other, defect())]
    rejected = annotation(IMAGE, "a", defect())
    with store.write() as tx:
        prelabels.insert(tx, machine)
    _fill(store, [rejected], [review(rejected, "rejected")])
    rule = GoldRule(unreviewed=True, prelabels_of="vlm")
    assert _gold(store, OPEN, other) is None
    assert _gold(store, rule, other) == ("prelabel", machine[1].id)
    assert _gold(store, rule, IMAGE) is None
    assert _gold(store, GoldRule(prelabels_of="another"), other) is None


def test_enrichment_adds_reasons_and_only_the_importance_nobody_gave(store: Store) -> None:
    first = annotation(IMAGE, "a", defect(1, importance=77), defect(2))
    unrated = first.defects[1].model_copy(update={"rated": False})
    first = first.model_copy(update={"defects": (first.defects[0], unrated)})
    _fill(store, [first], [review(first, "accepted")])
    with store.write() as tx:
        enrichments.insert(tx, [enrichment(first, importance=31), enrichment(first, minute=1, importance=32)])
    with store.read() as tx:
        labels = gold.of_images(tx, [IMAGE])[IMAGE]
    assert labels.source is GoldFrom.ACCEPTED
    assert labels.trace == "### Step 1"
    assert [(d.box.x0, d.reason, d.importance) for d in labels.defects] == [(1, "longer 0", 77), (2, "longer 1", 32)]


def test_pages_and_counts(store: Store, tmp_path: Path) -> None:
    texts = [Prompt(id=f"{n:032x}", text=f"p{n}", source="t", licence=None, split="test") for n in range(5)]
    with store.write() as tx:
        prompts.insert(tx, texts)
        drawn = []
        for text in texts:
            identity = image_id(text.id, "m", "r", 0, "{}")
            drawn.append(identity)
            images.insert(tx, [_image(identity, text.id)])
    people = [annotation(identity, "a") for identity in drawn]
    _fill(store, people, [review(annotation, "accepted") for annotation in people[:3]])
    with store.read() as tx:
        assert gold.count(tx) == {"accepted": 3}
        assert gold.count(tx, OPEN) == {"accepted": 3, "unreviewed": 2}
        first = gold.page(tx, OPEN, limit=2)
        rest = gold.page(tx, OPEN, after=first[-1].image_id)
        assert [annotation.image_id for annotation in (*first, *rest)] == sorted(drawn)
        assert len(gold.page(tx, models=["m"])) == 3
        assert gold.page(tx, models=["other"]) == gold.page(tx, split="train") == []
        assert {row[0] for row in tx.execute("SELECT image_id FROM gold").fetchall()} == set(drawn[:3])


def _image(identity: str, prompt: str):  # type: ignore[no-untyped-def]
    from schemas.records import ImageRecord

    return ImageRecord(
        id=identity, prompt_id=prompt, model="m", revision="r", sample=0, seed=1, settings="{}", blob="a" * 64,
        media_type="image/png", width=8, height=8, bytes=9, licence="x", source="generated", tool="t", seconds=None,
        created_at=at(0),
    )  # fmt: skip


def _naive(people: list[Annotation], verdicts: list[Review], graves: set[str], *, unreviewed: bool) -> str | None:
    """The rule of `sdg_data.store.gold`, read one annotation at a time."""
    live = [version for version in people if version.id not in graves]
    standing = [review for review in verdicts if review.id not in graves]

    def last(annotation: str) -> Review | None:
        return max((r for r in standing if r.annotation_id == annotation), key=_order, default=None)

    accepted: list[tuple[tuple[object, ...], Annotation]] = []
    untouched = []
    for version in live:
        own = last(version.id)
        made = max(
            (r for r in standing if r.result_id == version.id and last(r.annotation_id) == r), key=_order, default=None
        )
        if own is not None:
            if own.verdict is Verdict.ACCEPTED:
                accepted.append(((own.round, own.created_at, version.id), version))
        elif made is not None:
            accepted.append(((made.round, made.created_at, version.id), version))
        elif not any(child.parent_id == version.id for child in live):
            untouched.append(version)
    accepted = [(key, version) for key, version in accepted if version.status != "skipped"]
    if accepted:
        winner = max(accepted)[1]
        return winner.id if winner.status in ("defects", "clean") else None
    untouched = [version for version in untouched if version.status != "skipped"]
    if unreviewed and len(untouched) == 1 and untouched[0].status in ("defects", "clean"):
        return untouched[0].id
    return None


def _order(review: Review) -> tuple[object, ...]:
    return review.round, review.created_at, review.id


def test_the_same_as_a_naive_reading_of_the_rule(store: Store) -> None:
    rng = random.Random(3)
    worlds = []
    for number in range(300):
        image = f"{number:032x}"
        people: list[Annotation] = []
        for name in range(rng.randrange(1, 5)):
            status = rng.choice(["clean", "clean", "clean", "skipped", "ambiguous-prompt"])
            parent = rng.choice([None, *(annotation.id for annotation in people)])
            people.append(annotation(image, str(name), status=status, parent_id=parent, minute=name))
        verdicts: dict[str, Review] = {}
        for _ in range(rng.randrange(5)):
            judged = rng.choice(people)
            verdict = rng.choice(list(Verdict))
            others = [annotation for annotation in people if annotation.created_at > judged.created_at]
            if verdict is Verdict.CORRECTED and not others:
                continue
            result = rng.choice(others) if verdict is Verdict.CORRECTED else None
            made = review(judged, verdict, minute=rng.randrange(3), round=rng.randrange(1, 3), result=result)
            verdicts[made.id] = made
        graves = {record.id for record in (*people, *verdicts.values()) if rng.random() < 0.1}
        worlds.append((image, people, list(verdicts.values()), graves))
    with store.write() as tx:
        annotations.insert(tx, [annotation for _, people, _, _ in worlds for annotation in people])
        reviews.insert(tx, [review for _, _, verdicts, _ in worlds for review in verdicts])
        names = {annotation.id for _, people, _, _ in worlds for annotation in people}
        dead = [
            Tombstone(
                kind="annotation" if grave in names else "review",
                item_id=grave, reason="r", source="s", created_at=at(0),
            )
            for *_, graves in worlds for grave in graves
        ]  # fmt: skip
        tombstones.insert(tx, dead)
    with store.read() as tx:
        ids = [image for image, *_ in worlds]
        strict, loose = gold.of_images(tx, ids), gold.of_images(tx, ids, OPEN)
        view = dict(tx.execute("SELECT image_id, annotation_id FROM gold").fetchall())
    seen = set()
    for image, people, verdicts, graves in worlds:
        for rule, found in ((False, strict), (True, loose)):
            expected = _naive(people, verdicts, graves, unreviewed=rule)
            label = found.get(image)
            assert (None if label is None or label.annotation is None else label.annotation.id) == expected
            seen.add((rule, expected is None))
        assert view.get(image) == _naive(people, verdicts, graves, unreviewed=False)
    assert len(seen) == 4
