"""Prelabels, annotations, reviews, enrichments: what goes in comes out as it was, once, and the digest sees it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb

from schemas.records import (
    AnnotatedDefect,
    Failure,
    ImageRecord,
    Origin,
    Prompt,
    Split,
    Tombstone,
    Withdrawn,
)
from sdg_data.blobs import Blobs
from sdg_data.store import (
    annotations,
    calls,
    enrichments,
    failures,
    images,
    prelabels,
    prompts,
    reviews,
    tombstones,
)
from sdg_data.store.calls import Call
from sdg_data.store.connection import Store
from sdg_data.store.digest import store_digest
from sdg_data.store.migrations import MIGRATIONS
from sdg_data.store.prelabels import WantedPrelabels
from tests.sdg_data.store.makers import VLM, annotation, at, defect, enrichment, prelabel, review

IMAGE, OTHER = "1" * 32, "2" * 32
ODD = "– “quoted” 'it' {\"a\": [1]}\n\t\\u003c 缺陷 \U0001f600"


def test_a_prelabel_comes_back_as_it_was(store: Store) -> None:
    full = prelabel(
        IMAGE,
        defect(5, subtype="texture", reason=ODD, importance=1),
        defect(900, type="misalignment", subtype="attribute", attribute="colour", importance=100),
        defect(0),
        raw=ODD,
        trace=ODD,
        repairs=("rounded[0]: [1.5, 2]", "code-fence"),
        cost=None,
        tokens_in=None,
    )
    clean = prelabel(OTHER)
    with store.write() as tx:
        assert prelabels.insert(tx, [full, clean]) == 2
        assert prelabels.insert(tx, [full.model_copy(update={"raw": "another"})]) == 0
    with store.read() as tx:
        assert prelabels.by_ids(tx, [full.id, clean.id, "f" * 32]) == {full.id: full, clean.id: clean}
        assert prelabels.of_images(tx, [IMAGE]) == {IMAGE: [full]}
        assert tx.execute("SELECT count(*) FROM prelabel_defects").fetchall() == [(3,)]
        assert tx.execute(
            "SELECT x0, y0, x1, y1, attribute FROM prelabel_defects WHERE type = 'misalignment'"
        ).fetchall() == [(900, 20, 930, 90, "colour")]


def test_annotation_review_and_enrichment_come_back_as_they_were(store: Store) -> None:
    kept = AnnotatedDefect(
        defect=defect(3, reason=ODD), region_id="r9", origin=Origin.PREDICTION_CHANGED, prelabel_index=2, rated=False
    )
    drawn = AnnotatedDefect(defect=defect(40, importance=7), region_id="ü", origin=Origin.MANUAL)
    first = annotation(IMAGE, "a", defect(1), prelabel_id=VLM.prelabel_id(IMAGE), note=ODD).model_copy(
        update={"defects": (kept, drawn)}
    )
    second = annotation(IMAGE, "b", parent_id=first.id, round=2, minute=5)
    skipped = annotation(OTHER, "c", status="skipped", seconds=None)
    verdict = review(first, "corrected", result=second, note=ODD)
    added = enrichment(first, raw=ODD)
    with store.write() as tx:
        assert annotations.insert(tx, [first, second, skipped, first]) == 3
        assert reviews.insert(tx, [verdict, verdict]) == 1
        assert enrichments.insert(tx, [added]) == 1
        assert annotations.insert(tx, [first]) == reviews.insert(tx, [verdict]) == enrichments.insert(tx, [added]) == 0
    with store.read() as tx:
        assert annotations.by_ids(tx, [first.id, skipped.id]) == {first.id: first, skipped.id: skipped}
        assert annotations.of_images(tx, [IMAGE, OTHER]) == {IMAGE: [first, second], OTHER: [skipped]}
        assert sorted(annotation.id for annotation in annotations.page(tx)) == sorted([first.id, second.id, skipped.id])
        assert annotations.page(tx, source_prefix="elsewhere") == []
        assert reviews.of_annotations(tx, [first.id, second.id]) == {first.id: [verdict]}
        assert reviews.by_ids(tx, [verdict.id]) == {verdict.id: verdict}
        assert enrichments.by_ids(tx, [added.id]) == {added.id: added}
        assert enrichments.of_annotations(tx, [first.id]) == {first.id: [added]}
        assert reviews.count_by_verdict(tx) == {"corrected": 1}
        assert tx.execute("SELECT count(*) FROM annotation_defects WHERE rated").fetchall() == [(1,)]


def test_a_tombstone_hides_but_does_not_delete(store: Store) -> None:
    answer, person = prelabel(IMAGE, defect()), annotation(OTHER, "a", defect())
    graves = [
        Tombstone(kind=Withdrawn.PRELABEL, item_id=answer.id, reason="wrong model", source="test", created_at=at(1)),
        Tombstone(kind=Withdrawn.IMAGE, item_id=OTHER, reason="not ours", source="test", created_at=at(1)),
    ]
    with store.write() as tx:
        prelabels.insert(tx, [answer])
        annotations.insert(tx, [person])
        assert tombstones.insert(tx, [*graves, graves[0]]) == 2
    with store.read() as tx:
        assert prelabels.of_images(tx, [IMAGE]) == annotations.of_images(tx, [OTHER]) == {}
        assert annotations.page(tx) == []
        assert prelabels.by_ids(tx, [answer.id]) == {answer.id: answer}
        assert tombstones.listed(tx) == sorted(graves, key=lambda answer: answer.kind)
        assert tombstones.listed(tx, Withdrawn.IMAGE) == [graves[1]]


def _world(
    store: Store, make_prompt: Callable[..., Prompt], make_image: Callable[..., ImageRecord], size: int
) -> list[Any]:
    texts = [make_prompt(f"prompt {number} \"with\" 'quotes'") for number in range(size)]
    drawn = [make_image(text, model="ab"[number % 2]) for number, text in enumerate(texts)]
    with store.write() as tx:
        prompts.insert(tx, texts)
        images.insert(tx, drawn)
    return list(zip(texts, drawn, strict=True))


def test_planning_finds_what_has_no_answer(
    store: Store, make_prompt: Callable[..., Prompt], make_image: Callable[..., ImageRecord]
) -> None:
    world = _world(store, make_prompt, make_image, 12)
    ids = [image.id for _, image in world]
    fail = lambda image, code, attempt: Failure(  # noqa: E731
        stage="prelabel", item_id=VLM.prelabel_id(image), code=code, message="m", raw="r", attempt=attempt
    )
    with store.write() as tx:
        prelabels.insert(tx, [prelabel(ids[0]), prelabel(ids[1])])
        failures.insert(tx, [fail(ids[2], "timeout", 1), fail(ids[2], "bad-box", 2), fail(ids[3], "timeout", 1)])
        # An answer that failed once and came at last is an answer.
        failures.insert(tx, [fail(ids[1], "timeout", 1)])
        tombstones.insert(tx, [Tombstone(kind="image", item_id=ids[4], reason="gone", source="test", created_at=at(0))])

    def missing(**changes: Any) -> list[tuple[str, int]]:
        pages = prelabels.missing(store, WantedPrelabels(VLM, **changes), page_rows=3)
        return [(item.image.id, item.attempt) for page in pages for item in page]

    never = {(image, 1) for image in ids[5:]}
    assert set(missing()) == never
    assert [image for image, _ in missing()] == sorted(ids[5:])
    assert set(missing(retry=("bad-box",))) == never | {(ids[2], 3)}
    assert set(missing(retry=("timeout",))) == never | {(ids[3], 2)}
    assert set(missing(retry_all=True)) == never | {(ids[2], 3), (ids[3], 2)}
    assert set(missing(models=("a",))) == {(image, 1) for image in ids[6::2]}
    for split in Split:
        expected = {(image.id, 1) for prompt, image in world[5:] if prompt.split == split}
        assert set(missing(split=split)) == expected
    with store.read() as tx:
        assert prelabels.count(tx, WantedPrelabels(VLM)) == {"present": 2, "failed": 2, "missing": 7}
    page = next(prelabels.missing(store, WantedPrelabels(VLM), page_rows=100))
    texts = {image.id: prompt.text for prompt, image in world}
    assert all(item.prompt == texts[item.image.id] and item.id == VLM.prelabel_id(item.image.id) for item in page)


def test_calls_are_the_whole_bill(store: Store) -> None:
    def call(item: str, attempt: int, outcome: str, cost: float | None) -> Call:
        return Call("prelabel", item, attempt, "vlm", outcome, 2, 100, 10, cost, 0.5)

    with store.write() as tx:
        assert calls.insert(tx, [call("a", 1, "bad-box", 0.25), call("a", 2, "answered", 0.5)]) == 2
        assert calls.insert(tx, [call("a", 2, "answered", 9.0), call("b", 1, "timeout", None)]) == 1
    with store.read() as tx:
        assert calls.spent(tx) == calls.spent(tx, "prelabel") == 0.75
        assert calls.spent(tx, "enrich") == 0
        assert [(row["outcome"], row["calls"], row["requests"]) for row in calls.statistics(tx)] == [
            ("answered", 1, 2),
            ("bad-box", 1, 2),
            ("timeout", 1, 2),
        ]


def test_the_digest_covers_them_and_not_their_times(tmp_path: Path) -> None:
    person = annotation(IMAGE, "a", defect(1), defect(2))

    def digest(name: str, **changes: Any) -> str:
        store = Store(tmp_path / name)
        with store.write() as tx:
            prelabels.insert(tx, [prelabel(OTHER, repairs=("rounded",)), prelabel(IMAGE, defect(), **changes)])
            annotations.insert(tx, [person])
            enrichments.insert(tx, [enrichment(person)])
        return store_digest(store, Blobs(tmp_path / "blobs"))

    before = digest("one")
    assert digest("two", minute=9, seconds=8.0) == before
    assert digest("three", raw="other") != before
    assert digest("four", defects=(defect(11),)) != before
    assert digest("five", repairs=("code-fence",)) != before


def test_a_store_of_the_first_release_goes_on(home: Path, make_prompt: Callable[..., Prompt]) -> None:
    prompt = make_prompt("an old prompt")
    with Store(home, migrations=MIGRATIONS[:2]).write() as tx:
        prompts.insert(tx, [prompt])
    store = Store(home)
    with store.read() as tx:
        assert prompts.by_ids(tx, [prompt.id]) == {prompt.id: prompt}
        assert prelabels.by_ids(tx, [IMAGE]) == {}
    with duckdb.connect(str(store.path), read_only=True) as connection:
        assert connection.execute("SELECT count(*) FROM gold").fetchall() == [(0,)]
