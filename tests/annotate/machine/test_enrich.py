"""The enrich stage: asked again with the rule named, recorded as failed in the end, and a person's word stands."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from annotate.machine.budget import Budget
from annotate.machine.enrich import ROUNDS, EnrichStage
from annotate.machine.template_enricher import TemplateEnricher, expanded, trace_of
from annotate.vlm.contract import AskError, Backend, Prices, Question
from schemas.answer.parse import render_answer
from schemas.records import UNRATED_IMPORTANCE, Annotation, Enrichment, Failure
from sdg_data.prompt_templates import ENRICH, load_template
from sdg_data.store import annotations, calls, enrichments, failures, gold, reviews
from sdg_data.store.gold import GoldRule
from sdg_data.work import LocalExecutor
from tests.annotate.fake_backend import FakeBackend
from tests.annotate.support import QUICK, Home
from tests.sdg_data.store.makers import annotation, defect, review

MakeHome = Callable[[int], Home]


def people(home: Home, *, unrated: bool = False) -> dict[str, Annotation]:
    """An accepted annotation of each image, by caption: the first one clean, the others with a growing number."""
    made = {}
    for number, (caption, image) in enumerate(home.image_of.items()):
        version = annotation(image.id, "a", *(defect(10 + 50 * k, importance=33) for k in range(number)))
        if unrated:
            plain = tuple(
                d.model_copy(
                    update={"rated": False, "defect": d.defect.model_copy(update={"importance": UNRATED_IMPORTANCE})}
                )
                for d in version.defects
            )
            version = version.model_copy(update={"defects": plain})
        made[caption] = version
    with home.store.write() as tx:
        annotations.insert(tx, list(made.values()))
        reviews.insert(tx, [review(annotated, "accepted") for annotated in made.values()])
    return made


def good_text(asked: Question) -> str:
    assert asked.known is not None
    return render_answer([expanded(defect) for defect in asked.known], trace_of(asked.known))


def run(home: Home, backend: Backend, **more: Any) -> EnrichStage:
    more = {"limits": QUICK, "budget": Budget(None, None), **more}
    stage = EnrichStage(home.store, home.blobs, backend, load_template(ENRICH), **more)
    stage.recover()
    try:
        LocalExecutor().execute(stage)
    finally:
        stage.close()
    return stage


def stored(home: Home, made: dict[str, Annotation]) -> tuple[dict[str, Enrichment], list[Failure]]:
    with home.store.read() as tx:
        enriched = enrichments.of_annotations(tx, [annotated.id for annotated in made.values()])
        return {
            caption: enriched[annotated.id][-1] for caption, annotated in made.items() if annotated.id in enriched
        }, failures.listed(tx, "enrich")


def test_additions_are_stored_beside_the_persons_word(make_home: MakeHome) -> None:
    home = make_home(4)
    made = people(home, unrated=True)
    backend = FakeBackend(lambda asked: [good_text(asked).replace('"importance":', '"importance": ')])
    stage = run(home, backend)
    enriched, failed = stored(home, made)
    assert (set(enriched), failed, stage.made) == (set(made), [], 4)
    for caption, annotated in made.items():
        asked = next(question for question in backend.asked if question.prompt == caption)
        assert all(f'"short description": "{d.defect.reason}"' in asked.text for d in annotated.defects)
        assert '"importance": 50}' not in asked.text, "an importance that nobody gave is not shown as if somebody had"
        with home.store.read() as tx:
            merged = gold.of_images(tx, [annotated.image_id])[annotated.image_id]
        assert [d.box for d in merged.defects] == [d.defect.box for d in annotated.defects]
        assert [d.importance for d in merged.defects] == [d.importance for d in enriched[caption].defects]
        assert merged.trace == enriched[caption].trace


def test_a_persons_importance_stands_whatever_the_model_wrote(make_home: MakeHome) -> None:
    home = make_home(2)
    made = people(home)
    run(home, FakeBackend(lambda asked: [good_text(asked).replace('"importance":33', '"importance":99')]))
    enriched, _ = stored(home, made)
    caption = list(made)[1]
    assert [defect.importance for defect in enriched[caption].defects] == [99]
    with home.store.read() as tx:
        assert [
            defect.importance for defect in gold.of_images(tx, [made[caption].image_id])[made[caption].image_id].defects
        ] == [33]


def test_a_broken_rule_is_named_and_asked_again(make_home: MakeHome) -> None:
    home = make_home(3)
    made = people(home)

    def script(asked: Question) -> list[str]:
        return (
            [good_text(asked)] if asked.more else [good_text(asked).replace("\n###", "\nAn annotator said so.\n###", 1)]
        )

    backend = FakeBackend(script)
    run(home, backend, budget=Budget(None, Prices(1.0, 1.0)))
    enriched, failed = stored(home, made)
    assert (len(enriched), failed) == (3, [])
    second = [asked for asked in backend.asked if asked.more]
    assert len(second) == 3
    for asked in second:
        reply, correction = asked.more
        assert (reply.role, correction.role) == ("assistant", "user")
        assert "An annotator said so." in reply.text
        assert 'mentions-annotation: the steps say "annotator"' in correction.text
    # Both answers are on the bill: 100 tokens in and 10 out each, a dollar a million.
    assert [enrichment.cost for enrichment in enriched.values()] == pytest.approx([220e-6] * 3)
    with home.store.read() as tx:
        assert [row["requests"] for row in calls.statistics(tx)] == [6]


def test_after_so_many_rounds_it_is_a_failure_with_the_rules_name(make_home: MakeHome) -> None:
    home = make_home(3)
    made = people(home)
    backend = FakeBackend(
        lambda asked: [
            good_text(asked).replace('"description":"', '"description":"weird ', 1) if asked.known else good_text(asked)
        ]
    )
    stage = run(home, backend)
    enriched, failed = stored(home, made)
    assert set(enriched) == {next(iter(made))}, "the clean one has no reason that could be vague"
    assert [failure.code for failure in failed] == ["vague-words"] * 2
    assert all("weird" in (failure.raw or "") and "description 1 says weird" in failure.message for failure in failed)
    assert len(backend.asked) == 1 + 2 * ROUNDS
    assert stage.failed == {"vague-words": 2}
    healed = FakeBackend(lambda asked: [good_text(asked)])
    assert run(home, healed).made == 0
    assert run(home, healed, retry=("vague-words",)).made == 2
    assert {enrichment.attempt for enrichment in stored(home, made)[0].values()} == {1, 2}


def test_what_does_not_parse_and_what_is_not_answered(make_home: MakeHome) -> None:
    home = make_home(3)
    people(home)
    names = list(home.image_of)
    steps = {names[0]: "no", names[1]: AskError("refused", "no"), names[2]: "<think>x</think><answer>[{</answer>"}
    backend = FakeBackend(lambda asked: [steps[asked.prompt]])
    run(home, backend)
    with home.store.read() as tx:
        codes = failures.count_by_code(tx, "enrich")
    assert sum(codes.values()) == 3
    assert codes["refused"] == 1
    assert codes["no-answer-block"] == 1
    assert sum(asked.prompt == names[1] for asked in backend.asked) == 1, "a refusal is not argued with"


def test_only_gold_is_enriched_and_once(make_home: MakeHome) -> None:
    home = make_home(2)
    first, second = home.image_of.values()
    accepted, unreviewed = annotation(first.id, "a", defect()), annotation(second.id, "b", defect())
    with home.store.write() as tx:
        annotations.insert(tx, [accepted, unreviewed])
        reviews.insert(tx, [review(accepted, "accepted")])
    backend = FakeBackend(lambda asked: [good_text(asked)])
    assert run(home, backend).made == 1
    assert run(home, backend).made == 0
    assert run(home, backend, rule=GoldRule(unreviewed=True)).made == 1
    assert len(backend.asked) == 2


def test_without_a_model_every_annotation_is_enriched(make_home: MakeHome) -> None:
    home = make_home(5)
    made = people(home)
    run(home, TemplateEnricher())
    enriched, failed = stored(home, made)
    assert (set(enriched), failed) == (set(made), [])
    assert {(enrichment.model, enrichment.template.partition(":")[0]) for enrichment in enriched.values()} == {
        ("template-sentences", "enrich-1")
    }


def test_the_budget_reserves_all_rounds(make_home: MakeHome) -> None:
    home = make_home(3)
    people(home)
    backend = FakeBackend(["no"])
    prices = Prices(1.0, 100.0)
    stage = EnrichStage(
        home.store,
        home.blobs,
        backend,
        load_template(ENRICH),
        limits=replace(QUICK, concurrency=1),
        budget=Budget(None, prices),
    )
    question = stage.question(
        next(iter(stage.items())), backend.prepare(home.blobs.get(next(iter(home.image_of.values())).blob), "image/png")
    )
    worst = stage.worst(question)
    # Three answers of 200 tokens, and the question three times.
    assert worst > ROUNDS * (200 * 100 + len(question.text)) / 1e6
    limited = run(home, backend, budget=Budget(worst * 0.99, prices))
    assert limited.out_of_budget
    assert backend.asked == []
