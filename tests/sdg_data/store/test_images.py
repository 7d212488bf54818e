"""The images table, and planning: the SQL anti-join against a naive loop."""

import itertools
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from schemas.records import Failure, ImageRecord, Prompt, Split
from sdg_data.store import failures, images, prompts
from sdg_data.store.connection import Store
from sdg_data.store.images import FailedImage, Variant, WantedImages

MakePrompt = Callable[..., Prompt]
MakeImage = Callable[..., ImageRecord]

A, B = Variant("a", "r1", "{}"), Variant("b", "r1", '{"steps":4}')


def missing_keys(store: Store, wanted: WantedImages, **options: Any) -> list[tuple[int, str, int, str]]:
    return [
        (row["variant"], row["prompt_id"], row["sample"], row["text"])
        for table in images.missing(store, wanted, **options)
        for row in table.to_pylist()
    ]


def failed_image(prompt: Prompt, variant: Variant, sample: int) -> FailedImage:
    failure = Failure(
        stage="generate", item_id=f"{prompt.id}{variant.model}{sample}", code="nan", message="m", raw=None, attempt=1
    )
    return FailedImage(prompt.id, variant, sample, failure)


def test_what_is_inserted_comes_back_equal_and_only_once(
    store: Store, make_prompt: MakePrompt, make_image: MakeImage
) -> None:
    cat, dog = make_prompt("a cat"), make_prompt("a dog")
    records = [make_image(cat), make_image(cat, sample=1, seed=None, seconds=None), make_image(dog, settings='{"é":1}')]
    with store.write() as tx:
        assert prompts.insert(tx, [cat, dog]) == 2
        assert images.insert(tx, [*records, records[0]]) == 3
        assert images.insert(tx, records) == 0
    with store.read() as tx:
        assert images.by_ids(tx, [record.id for record in records] + ["f" * 32]) == {
            image.id: image for image in records
        }
        assert images.page(tx) == sorted(records, key=lambda record: record.id)
        assert images.count_by_model(tx) == {"m": 3}
        assert tx.execute("SELECT count(*) FROM variants").fetchall() == [(2,)]


def test_pages_go_on_after_an_id_and_are_filtered(store: Store, make_prompt: MakePrompt, make_image: MakeImage) -> None:
    all_prompts = [make_prompt(f"prompt {number}") for number in range(6)]
    records = [make_image(prompt, model=model) for prompt in all_prompts for model in ("a", "b")]
    with store.write() as tx:
        prompts.insert(tx, all_prompts)
        images.insert(tx, records)
    in_order = sorted(records, key=lambda record: record.id)
    split = {prompt.id: prompt.split for prompt in all_prompts}
    with store.read() as tx:
        first = images.page(tx, limit=5)
        assert first + images.page(tx, after=first[-1].id) == in_order
        assert images.page(tx, models=["b"]) == [image for image in in_order if image.model == "b"]
        assert images.page(tx, models=[]) == []
        chosen = [all_prompts[0].id, all_prompts[3].id]
        assert images.page(tx, prompt_ids=chosen) == [image for image in in_order if image.prompt_id in chosen]
        for side in Split:
            assert images.page(tx, split=side) == [image for image in in_order if split[image.prompt_id] is side]


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_missing_is_what_a_loop_over_everything_finds(
    data: st.DataObject,
    tmp_path_factory: pytest.TempPathFactory,
    make_prompt: MakePrompt,
    make_image: MakeImage,
) -> None:
    store = Store(tmp_path_factory.mktemp("home"))
    all_prompts = [make_prompt(f"prompt {number}") for number in range(data.draw(st.integers(0, 6)))]
    keys = list(itertools.product(range(len(all_prompts)), (A, B), range(4)))
    state = {key: data.draw(st.sampled_from(["missing", "done", "failed"])) for key in keys}
    with store.write() as tx:
        prompts.insert(tx, all_prompts)
        images.insert(
            tx,
            [
                make_image(all_prompts[p], model=variant.model, sample=sample, settings=variant.settings)
                for (p, variant, sample), what in state.items()
                if what == "done"
            ],
        )
        images.insert_failed(
            tx, [failed_image(all_prompts[p], v, sample) for (p, v, sample), what in state.items() if what == "failed"]
        )
    wanted = WantedImages(
        variants=data.draw(st.sampled_from([(A,), (B, A), (A, B)])),
        samples=data.draw(st.integers(1, 5)),
        split=data.draw(st.sampled_from([None, *Split])),
        retry_failed=data.draw(st.booleans()),
    )
    asked = sorted((p for p in all_prompts if wanted.split in (None, p.split)), key=lambda p: p.id)
    open_states = {"missing", "failed"} if wanted.retry_failed else {"missing"}
    expected = [
        (index, prompt.id, sample, prompt.text)
        for index, variant in enumerate(wanted.variants)
        for prompt in asked
        for sample in range(wanted.samples)
        if state.get((all_prompts.index(prompt), variant, sample), "missing") in open_states
    ]
    assert missing_keys(store, wanted) == expected
    assert missing_keys(store, wanted, page_rows=data.draw(st.integers(1, 5))) == expected
    with store.read() as tx:
        assert images.count_missing(tx, wanted) == [
            sum(row[0] == index for row in expected) for index in range(len(wanted.variants))
        ]
        assert images.count_present(tx, wanted) == [
            sum(
                what == "done" and model == variant and sample < wanted.samples and all_prompts[p] in asked
                for (p, model, sample), what in state.items()
            )
            for variant in wanted.variants
        ]


def test_pages_are_about_as_large_as_asked(store: Store, make_prompt: MakePrompt) -> None:
    with store.write() as tx:
        prompts.insert(tx, [make_prompt(f"prompt {number}") for number in range(400)])
    sizes = [table.num_rows for table in images.missing(store, WantedImages((A,), samples=1), page_rows=100)]
    assert sum(sizes) == 400
    assert len(sizes) == 4
    assert max(sizes) < 150  # binomial(400, 1/4) has a standard deviation under 9


def test_what_is_committed_between_pages_does_not_disturb_the_rest(
    store: Store, make_prompt: MakePrompt, make_image: MakeImage
) -> None:
    by_id = {prompt.id: prompt for prompt in (make_prompt(f"prompt {number}") for number in range(30))}
    with store.write() as tx:
        prompts.insert(tx, list(by_id.values()))
    seen = []
    for table in images.missing(store, WantedImages((A, B), samples=2), page_rows=20):
        rows = table.to_pylist()
        seen += [(row["variant"], row["prompt_id"], row["sample"]) for row in rows]
        with store.write() as tx:
            done = [(by_id[row["prompt_id"]], (A, B)[row["variant"]], row["sample"]) for row in rows]
            images.insert(
                tx,
                [make_image(prompt, model=v.model, sample=sample, settings=v.settings) for prompt, v, sample in done],
            )
    assert seen == list(itertools.product(range(2), sorted(by_id), range(2)))
    assert missing_keys(store, WantedImages((A, B), samples=2)) == []


def test_variants_that_differ_in_anything_are_planned_apart(
    store: Store, make_prompt: MakePrompt, make_image: MakeImage
) -> None:
    cat = make_prompt("a cat")
    with store.write() as tx:
        prompts.insert(tx, [cat])
        images.insert(tx, [make_image(cat, model="a", settings="{}")])
    variants = (A, Variant("a", "r2", "{}"), Variant("a", "r1", '{"x":1}'), Variant("c", "r1", "{}"))
    with store.read() as tx:
        assert images.count_missing(tx, WantedImages(variants, samples=1)) == [0, 1, 1, 1]


def test_a_failed_image_is_a_failure_too_and_recording_it_twice_changes_nothing(
    store: Store, make_prompt: MakePrompt
) -> None:
    cat = make_prompt("a cat")
    failed = failed_image(cat, A, 0)
    again = FailedImage(cat.id, A, 0, failed.failure.model_copy(update={"attempt": 2}))
    with store.write() as tx:
        prompts.insert(tx, [cat])
        images.insert_failed(tx, [failed])
        images.insert_failed(tx, [failed, again])
    with store.read() as tx:
        assert failures.listed(tx) == [failed.failure, again.failure]
        assert failures.listed(tx, "other") == []
        assert failures.attempts(tx, "generate", [failed.failure.item_id, "never"]) == {failed.failure.item_id: 2}
        assert failures.count_by_code(tx, "generate") == {"nan": 2}
        assert tx.execute("SELECT count(*) FROM failed_images").fetchall() == [(1,)]
