"""Sources of the store: what each says about an image, in columns, against the records it was made from."""

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from schemas.defect import Defect, Subtype
from schemas.records import AnnotatedDefect, AnnotationStatus, Failure, ImageRecord, Prompt, Split, Tombstone, Withdrawn
from sdg_data.cli import run
from sdg_data.errors import ConfigError, ExitCode, InputError
from sdg_data.metrics.agreement import agreement
from sdg_data.metrics.ceiling import overlapping, second_opinions
from sdg_data.metrics.confusion import confusion
from sdg_data.metrics.protocol import Protocol
from sdg_data.metrics.sdg_eval import evaluate, pair_up
from sdg_data.metrics.store_sources import Filter, SourceName, StoreSource, listed, parse_source
from sdg_data.metrics.tables import DEGENERATE, FAILED, PARSED, SUBTYPES, DefectTable
from sdg_data.store import annotations, enrichments, failures, gold, images, prelabels, prompts, reviews, tombstones
from sdg_data.store.connection import Store
from sdg_data.store.prelabels import Prelabeller
from tests.sdg_data.metrics.support import some_defects
from tests.sdg_data.store.makers import VLM, annotation, at, defect, enrichment, prelabel, review

Made = list[ImageRecord]


@pytest.fixture
def made(store: Store, make_prompt: Callable[..., Prompt], make_image: Callable[..., ImageRecord]) -> Made:
    """Eight images: four prompts (the last two for test) by the models m and n."""
    texts = [make_prompt(f"p{n}", split=Split.TEST if n > 1 else Split.TRAIN) for n in range(4)]
    records = [make_image(prompt, model) for prompt in texts for model in ("m", "n")]
    with store.write() as tx:
        prompts.insert(tx, texts)
        images.insert(tx, records)
    return records


def read(store: Store, name: str, **chosen: Any) -> DefectTable:
    source = parse_source(name)
    assert source is not None
    return StoreSource(store, source, Filter(**chosen)).read()


def defects_of(table: DefectTable) -> dict[str, list[tuple[Any, ...]]]:
    """Image -> (box, type, subtype, importance, reason) of its defects, None for one without a claim."""
    found = {}
    for row, key in enumerate(table.keys):
        span = range(int(table.offsets[row]), int(table.offsets[row + 1]))
        found[key] = [
            (
                tuple(table.boxes[at].tolist()),
                table.names[table.labels[at]],
                SUBTYPES[table.subtypes[at]].value if table.subtypes[at] >= 0 else None,
                table.importance[at] if not np.isnan(table.importance[at]) else None,
                table.reasons[at],
            )
            for at in span
        ]
    return found


def as_tuple(defect: Defect, importance: float | None = -1, reason: str | None = None) -> tuple[Any, ...]:
    box = defect.box
    return (
        (box.x0, box.y0, box.x1, box.y1),
        defect.type.value,
        defect.subtype.value if defect.subtype else None,
        defect.importance if importance == -1 else importance,
        reason or defect.reason,
    )


def test_names() -> None:
    assert parse_source("gold") == SourceName("gold")
    assert parse_source("prelabel:Qwen/Qwen3-VL-4B#detect-1:a") == SourceName("prelabel", "Qwen/Qwen3-VL-4B#detect-1:a")
    assert [parse_source(name) for name in ("gold.jsonl", "./gold", "C:prelabel", "oracle.jsonl", "x:y")] == [None] * 5
    for half in ("prelabel:", "gold:mine", "annotator:"):
        with pytest.raises(ConfigError):
            parse_source(half)


def test_gold_has_the_enrichments_words_and_what_nobody_weighed_is_unknown(store: Store, made: Made) -> None:
    rated, unrated = defect(10, subtype=Subtype.EDGE), defect(200)
    loose = annotation(made[1].id, "b", unrated)
    loose = loose.model_copy(
        update={"defects": (AnnotatedDefect(defect=unrated, region_id="r", origin="manual", rated=False),)}
    )
    both = annotation(made[0].id, "a", rated, unrated)
    both = both.model_copy(update={"defects": (both.defects[0], both.defects[1].model_copy(update={"rated": False}))})
    clean = annotation(made[2].id, "c")
    pending = annotation(made[3].id, "d", rated)
    with store.write() as tx:
        annotations.insert(tx, [both, loose, clean, pending])
        reviews.insert(tx, [review(annotation, "accepted") for annotation in (both, loose, clean)])
        enrichments.insert(tx, [enrichment(both, importance=80)])
    table = read(store, "gold")
    assert defects_of(table) == {
        made[0].id: [as_tuple(rated, reason="longer 0"), as_tuple(unrated, 80, "longer 1")],
        made[1].id: [as_tuple(unrated, None)],
        made[2].id: [],
    }
    assert list(table.keys) == sorted(table.keys)
    assert dict(zip(table.keys, table.groups, strict=True)) == {made[n].id: made[n].model for n in range(3)}
    assert made[3].id in defects_of(read(store, "gold:unreviewed"))
    with store.read() as tx:
        records = gold.of_images(tx, [image.id for image in made])
    assert {key: len(annotation.defects) for key, annotation in records.items()} == {
        key: len(d) for key, d in defects_of(table).items()
    }


def test_a_detectors_last_answer_and_its_failures(store: Store, made: Made) -> None:
    other = Prelabeller("vlm", "r1", "detect-2:cc", VLM.settings)
    bystander = Prelabeller("other", "r9", "t", "{}")
    with store.write() as tx:
        prelabels.insert(
            tx,
            [
                prelabel(made[0].id, defect(10), minute=1),
                prelabel(made[0].id, defect(300), by=other, minute=2),
                prelabel(made[1].id, minute=3),
                prelabel(made[2].id, defect(5), by=bystander),
            ],
        )
        wrong = [
            (2, "not-json", "x["),
            (3, "degenerate-repetition", "aaaa"),
            (4, "timeout", None),
            (1, "not-json", "y"),
        ]
        failures.insert(
            tx,
            [
                Failure(
                    stage="prelabel", item_id=VLM.prelabel_id(made[n].id), code=code, message="m", raw=raw, attempt=1
                )
                for n, code, raw in wrong
            ],
        )
    table = read(store, "prelabel:vlm")
    outcomes = dict(zip(table.keys, table.outcomes.tolist(), strict=True))
    # Image 1 failed once and was answered later; image 4 timed out, so it was never answered.
    assert outcomes == {made[0].id: PARSED, made[1].id: PARSED, made[2].id: FAILED, made[3].id: DEGENERATE}
    assert defects_of(table)[made[0].id] == [as_tuple(defect(300))]
    assert defects_of(read(store, "prelabel:vlm#detect-1:aa"))[made[0].id] == [as_tuple(defect(10))]
    with pytest.raises(InputError):
        read(store, "prelabel:nobody")


def test_people_reviewers_sources_and_filters(store: Store, made: Made) -> None:
    first = annotation(made[0].id, "1", defect(10), annotator="ann", minute=1)
    again = annotation(made[0].id, "2", defect(40), annotator="ann", minute=5)
    skipped = annotation(made[0].id, "3", annotator="ann", status=AnnotationStatus.SKIPPED, minute=9)
    unsure = annotation(made[1].id, "4", annotator="ann", status=AnnotationStatus.CANNOT_JUDGE, minute=1)
    late = annotation(made[4].id, "5", annotator="bob", source="ceiling:1", minute=1)
    fixed = annotation(made[4].id, "6", defect(70), annotator="rita", parent_id=late.id, minute=2)
    gone = annotation(made[6].id, "7", defect(70), annotator="ann", minute=2)
    with store.write() as tx:
        annotations.insert(tx, [first, again, skipped, unsure, late, fixed, gone])
        reviews.insert(tx, [review(late, "corrected", result=fixed), review(again, "accepted", reviewer="otto")])
        tombstones.insert(
            tx,
            [Tombstone(kind=Withdrawn.IMAGE, item_id=made[6].id, reason="r", source="s", created_at=at(9))],
        )
    assert defects_of(read(store, "annotator:ann")) == {made[0].id: [as_tuple(defect(40))]}
    assert defects_of(read(store, "source:ceiling")) == {made[4].id: []}
    assert defects_of(read(store, "reviewer:rita")) == {made[4].id: [as_tuple(defect(70))]}
    assert defects_of(read(store, "reviewer:otto")) == {made[0].id: [as_tuple(defect(40))]}
    assert defects_of(read(store, "gold", split=Split.TEST)) == {made[4].id: [as_tuple(defect(70))]}
    with pytest.raises(InputError):
        read(store, "gold", models=("n",))
    with store.read() as tx:
        assert {row["source"]: row["images"] for row in listed(tx)} == {
            "gold": 2,
            "annotator:ann": 1,
            "annotator:bob": 1,
            "annotator:rita": 1,
            "reviewer:otto": 1,
            "reviewer:rita": 1,
        }


def test_the_ceiling_is_of_independent_verdicts_first_against_second(store: Store, made: Made) -> None:
    rng = random.Random(3)
    said = []
    for image in made:
        for minute, person in enumerate(("zoe", "ann", "max")):
            said.append(annotation(image.id, person, *some_defects(rng, grid=4), annotator=person, minute=minute))
    correction = annotation(made[0].id, "x", defect(), annotator="rita", parent_id=said[0].id, minute=8)
    first = next(
        annotation for annotation in said if annotation.image_id == made[1].id and annotation.annotator == "max"
    )
    edited = annotation(made[1].id, "y", defect(33), annotator="max", parent_id=first.id, minute=9)
    with store.write() as tx:
        annotations.insert(tx, [*said, correction, edited])
    with store.read() as tx:
        people = overlapping(tx, Filter())
        assert people[made[1].id]["max"] == (defect(33),)
        assert list(overlapping(tx, Filter(split=Split.TEST))) == sorted(image.id for image in made[4:])
    assert list(people) == sorted(image.id for image in made)
    assert all(list(verdicts) == ["zoe", "ann", "max"] for verdicts in people.values())
    first, second = second_opinions(people)
    result = evaluate(pair_up(first, second, Protocol.PAPER), resamples=0)
    two = {image: {name: verdicts[name] for name in ("zoe", "ann")} for image, verdicts in people.items()}
    agreed = agreement(two, resamples=0)
    for threshold in ("0.1", "0.5"):
        for scope in ("all", "artifact", "misalignment"):
            value = result.summary["boxes"][threshold][scope]["f1"]
            assert value == pytest.approx(agreed.box_f1[threshold][scope].value)


def test_confusion_by_hand() -> None:
    left, right = defect(0, subtype=Subtype.EDGE), defect(500, type="misalignment", subtype=Subtype.STYLE, reason="s")
    taken = defect(0, type="misalignment", subtype=Subtype.ACTION, reason="t")
    truth = DefectTable.from_defects([("a", [left, right]), ("b", [left])])
    guess = DefectTable.from_defects([("a", [taken, defect(900)]), ("b", [left])])
    figures = confusion(pair_up(truth, guess, Protocol.PAPER))
    assert figures["type"] == {
        "labels": ["artifact", "misalignment", "nothing"],
        "counts": [[1, 1, 0], [0, 0, 1], [1, 0, 0]],
    }
    subtypes = figures["subtype"]
    assert subtypes["labels"] == ["edge", "action", "style", "no subtype", "nothing"]
    assert subtypes["counts"] == [
        [1, 1, 0, 0, 0],
        [0, 0, 0, 0, 0],
        [0, 0, 0, 0, 1],
        [0, 0, 0, 0, 0],
        [0, 0, 0, 1, 0],
    ]


def test_confusion_counts_every_box_once() -> None:
    rng = random.Random(5)
    keys = [str(n) for n in range(60)]
    truth = DefectTable.from_defects([(key, some_defects(rng)) for key in keys])
    guess = DefectTable.from_defects([(key, some_defects(rng)) for key in keys])
    figures = confusion(pair_up(truth, guess, Protocol.PAPER), threshold=0.2)
    for name in ("type", "subtype"):
        counts = np.array(figures[name]["counts"])
        assert counts[:-1].sum() == len(truth.reasons)
        assert counts[:, :-1].sum() == len(guess.reasons)
        assert counts[-1, -1] == 0


def test_from_the_command_line(
    store: Store, made: Made, home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = random.Random(4)
    said = [annotation(image.id, "a", *some_defects(rng, grid=4), minute=1) for image in made]
    second = [annotation(image.id, "b", *some_defects(rng, grid=4), annotator="bob", minute=2) for image in made[:3]]
    with store.write() as tx:
        annotations.insert(tx, [*said, *second])
        reviews.insert(tx, [review(annotation, "accepted") for annotation in said])
        prelabels.insert(tx, [prelabel(image.id, *some_defects(rng, grid=4)) for image in made[:6]])
    out, report = tmp_path / "out.json", tmp_path / "report"
    command = ["--home", str(home), "eval", "run", "--gt", "gold", "--pred", "prelabel:vlm", "--resamples", "20"]
    assert run([*command, "--json", str(out), "--report", str(report)]) == 0
    document = json.loads(out.read_text(encoding="utf-8"))
    assert document["images"] == 6
    assert document["rows"]["gt"] == {"source": "gold", "images": 8, "split": None, "models": None}
    assert set(document["rows"]["missing"]) == {image.id for image in made[6:]}
    assert document["ceiling"]["images"] == document["agreement"]["images"] == 3
    assert set(document["breakdown"]["model"]) == {"m", "n"}
    assert "taken for what" in (report / "report.md").read_text(encoding="utf-8")
    assert "SDG SFT (published)" in capsys.readouterr().out

    assert run([*command, "--models", "m", "--split", "train", "--ceiling", "annotator:bob", "--json", str(out)]) == 0
    document = json.loads(out.read_text(encoding="utf-8"))
    assert document["images"] == 2
    assert document["ceiling"]["images"] == 2

    assert run([*command[:6], "--pred", "answers.jsonl"]) == ExitCode.CONFIG
    assert run([*command[:4], "--gt", "a.jsonl", "--pred", "b.jsonl", "--split", "test"]) == ExitCode.CONFIG
    capsys.readouterr()
    assert run(["--home", str(home), "eval", "sources", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0] == {"source": "gold", "images": 8}
