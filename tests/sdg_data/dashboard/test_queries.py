"""The pages' SQL against loops over the records that the store was made from."""

import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import date, timedelta
from pathlib import Path
from statistics import median

import pytest

pytest.importorskip("gradio")

from schemas.defect import Defect, tier
from schemas.labelling import LabelTask
from schemas.records import Annotation
from sdg_data.dashboard import tables
from sdg_data.dashboard.app import PAGES, make_context
from sdg_data.dashboard.page import all_tables
from sdg_data.dashboard.pages import comparison, evaluate, overview
from sdg_data.dashboard.pages.agreement import aggregates
from sdg_data.dashboard.pages.agreement import page as agreement
from sdg_data.dashboard.pages.agreement.over_time import charts, person_weeks
from sdg_data.dashboard.pages.browse.filters import CLEAN, SORTS, ImageFilter
from sdg_data.dashboard.pages.browse.queries import (
    by_numbers,
    choices,
    image_detail,
    image_ids,
    matching,
    matching_key,
    neighbour,
    page,
)
from sdg_data.dashboard.pages.health import queries as health
from sdg_data.dashboard.snapshots import Snapshots
from sdg_data.dashboard.tables import label_studio_links
from sdg_data.errors import InputError
from sdg_data.store import annotations, labelling
from sdg_data.store.connection import Store
from sdg_data.store.labelling import ServerIds
from tests.sdg_data.dashboard.conftest import HOSTILE, LONG, Filled, fill
from tests.sdg_data.store import makers
from tests.sdg_data.store.makers import at, defect


def label_of(filled: Filled, image_id: str) -> tuple[str | None, Sequence[Defect]]:
    """Whose label counts for an image, and its defects, by the rule's words."""
    by_people = [annotation for annotation in filled.annotations if annotation.image_id == image_id]
    verdicts = {review.annotation_id: review.verdict for review in filled.reviews}

    def last(annotations: list[Annotation]) -> Annotation:
        return max(annotations, key=lambda annotation: annotation.created_at)

    accepted = [annotation for annotation in by_people if verdicts.get(annotation.id) == "accepted"]
    if accepted:
        return "gold", [item.defect for item in last(accepted).defects]
    waiting = [annotation for annotation in by_people if annotation.id not in verdicts]
    if waiting:
        return "people", [item.defect for item in last(waiting).defects]
    by_detector = [prelabel for prelabel in filled.prelabels if prelabel.image_id == image_id]
    if by_detector:
        return "detector", max(by_detector, key=lambda prelabel: prelabel.created_at).defects
    return None, ()


def everything(filled: Filled) -> dict[str, tuple[str | None, Sequence[Defect]]]:
    return {image.id: label_of(filled, image.id) for image in filled.images if image.id != filled.gone}


def naive(filled: Filled, wanted: ImageFilter) -> list[str]:
    texts = {prompt.id: prompt for prompt in filled.prompts}
    matching = []
    for image in filled.images:
        if image.id == filled.gone:
            continue
        label_source, defects = label_of(filled, image.id)
        prompt = texts[image.prompt_id]
        fits = [
            defect
            for defect in defects
            if wanted.type in ("", defect.type)
            and wanted.subtype in ("", defect.subtype)
            and wanted.tier in ("", tier(defect.importance))
        ]
        words, clean = wanted.text.lower(), label_source is not None and not defects
        if (
            wanted.model in ("", image.model)
            and wanted.split in ("", prompt.split)
            and (not (wanted.type or wanted.subtype or wanted.tier) or fits or (wanted.type == CLEAN and clean))
            and (words in prompt.text.lower() or any(words in defect.reason.lower() for defect in defects))
        ):
            matching.append(image.id)
    return matching


@pytest.mark.parametrize(
    "wanted",
    [
        ImageFilter(),
        ImageFilter(model="sana"),
        ImageFilter(split="test", model="flux2"),
        ImageFilter(type="artifact"),
        ImageFilter(type="misalignment", tier="minor"),
        ImageFilter(type=CLEAN),
        ImageFilter(subtype="style"),
        ImageFilter(tier="critical"),
        ImageFilter(text="  HAND   melts "),
        ImageFilter(text="thing 1", type="artifact"),
        ImageFilter(text="100% _"),
        ImageFilter(text="<script>"),
    ],
)
def test_filters(snapshots: Snapshots, filled: Filled, wanted: ImageFilter) -> None:
    plain = ImageFilter(**{**vars(wanted), "text": " ".join(wanted.text.split())})
    expected = naive(filled, plain)
    with snapshots.read() as tx:
        assert tx is not None
        numbers = matching(tx, wanted)
        assert image_ids(tx, numbers) == expected
        listed: list[str] = []
        while rows := page(tx, numbers, len(listed) // 7, 7):
            listed += [row["image_id"] for row in rows]
            if len(rows) < 7:
                break
    assert listed == expected


def answers(filled: Filled, image_id: str) -> list[tuple[str, str, date]]:
    """(person, way of working, day) of every answer about an image, reviewers' too."""
    own = [annotation for annotation in filled.annotations if annotation.image_id == image_id]
    by_people = [
        (
            annotation.annotator,
            "blind" if annotation.prelabel_id is None else "prelabelled",
            annotation.created_at.date(),
        )
        for annotation in own
    ]
    ids = {annotation.id for annotation in own}
    return by_people + [
        (review.reviewer, "review", review.created_at.date())
        for review in filled.reviews
        if review.annotation_id in ids
    ]


def test_filters_by_answers_labels_and_bounds(snapshots: Snapshots, filled: Filled) -> None:
    labels = everything(filled)
    day = at(0).date()

    def by_answer(fits: Callable[[str, str, date], bool]) -> list[str]:
        return [image for image in labels if any(fits(*answer) for answer in answers(filled, image))]

    cases = {
        ImageFilter(annotator="ann1"): by_answer(lambda who, how, when: who == "ann1"),
        ImageFilter(annotator="ann1", mode="blind"): by_answer(lambda who, how, when: (who, how) == ("ann1", "blind")),
        ImageFilter(mode="review"): by_answer(lambda who, how, when: how == "review"),
        ImageFilter(since=str(day), until=str(day)): by_answer(lambda who, how, when: when == day),
        ImageFilter(since=str(day + timedelta(days=1))): by_answer(lambda who, how, when: when > day),
        ImageFilter(label="gold"): [image for image, (label, _) in labels.items() if label == "gold"],
        ImageFilter(composition="both"): [
            image for image, (_, defects) in labels.items() if len({defect.type for defect in defects}) == 2
        ],
        ImageFilter(least="40", most="60", type="artifact"): [
            image
            for image, (_, defects) in labels.items()
            if any(defect.type == "artifact" and 40 <= defect.importance <= 60 for defect in defects)
        ],
        ImageFilter(failure="prelabel: not-json"): [filled.images[-1].id],
        ImageFilter(agreement="several people"): [
            image for image in labels if len({who for who, how, _ in answers(filled, image) if how != "review"}) > 1
        ],
        ImageFilter(composition="strange"): [],
        ImageFilter(ids=(filled.images[0].id, "0" * 32)): [filled.images[0].id],
    }
    order = [image.id for image in filled.images]
    with snapshots.read() as tx:
        assert tx is not None
        for wanted, expected in cases.items():
            assert image_ids(tx, matching(tx, wanted)) == sorted(expected, key=order.index), wanted
        several, differ, agree = (
            {*matching(tx, ImageFilter(agreement=name)).tolist()} for name in ("several people", "differ", "agree")
        )
        assert differ | agree == several != set()
        assert not differ & agree
        for wrong in (ImageFilter(least="x"), ImageFilter(most="-1"), ImageFilter(since="2026-13-01")):
            with pytest.raises(InputError):
                matching(tx, wrong)
        with pytest.raises(InputError):
            matching(tx, ImageFilter(), sort="colour")
        assert choices(tx)["failure"] == ["prelabel: not-json"]
        assert choices(tx)["annotator"] == ["ann0", "ann1", "ann2", "rita", "zed"]


def test_orders_and_neighbours(snapshots: Snapshots, filled: Filled) -> None:
    labels = everything(filled)
    wanted = ImageFilter(split="train")
    keys: dict[str, Callable[[str], float]] = {
        "importance": lambda image: -max((defect.importance for defect in labels[image][1]), default=0),
        "defects": lambda image: -len(labels[image][1]),
    }
    with snapshots.read() as tx:
        assert tx is not None
        by_prompt = image_ids(tx, matching(tx, wanted))
        for name in SORTS:
            numbers, of_all = matching(tx, wanted, sort=name), matching(tx, ImageFilter(), sort=name)
            listed, every = image_ids(tx, numbers), image_ids(tx, of_all)
            assert sorted(listed) == sorted(by_prompt)
            if name in keys:
                assert listed == sorted(by_prompt, key=keys[name])
            paged = [row["image_id"] for number in range(9) for row in page(tx, numbers, number, 7)]
            assert paged == listed
            for place, image in enumerate(every):  # also from images that do not match themselves
                after = next((other for other in every[place + 1 :] if other in listed), None)
                before = next((other for other in reversed(every[:place]) if other in listed), None)
                assert neighbour(tx, numbers, of_all, image, 1) == after
                assert neighbour(tx, numbers, of_all, image, -1) == before
            assert neighbour(tx, numbers, of_all, "nothing", 1) is None
            assert neighbour(tx, numbers[:0], of_all, listed[0], 1) is None


def test_other_filters_and_orders_are_remembered_apart() -> None:
    filters = [
        ImageFilter(), ImageFilter(model="a"), ImageFilter(ids=()), ImageFilter(ids=("a", "b")),
        ImageFilter(ids=("b", "a")), ImageFilter(ids=("a", "b"), model="a"), ImageFilter(ids=("\ud800",)),
    ]  # fmt: skip
    keys = [matching_key(wanted, sort) for wanted in filters for sort in ("prompt", "newest")]
    assert len({*keys}) == len(keys)
    assert matching_key(ImageFilter(ids=tuple("ab")), "prompt") == matching_key(ImageFilter(ids=("a", "b")), "prompt")


def test_history_tells_everything_in_order(snapshots: Snapshots, filled: Filled) -> None:
    review = filled.reviews[0]
    judged = next(annotation for annotation in filled.annotations if annotation.id == review.annotation_id)
    with snapshots.read() as tx:
        assert tx is not None
        detail = image_detail(tx, judged.image_id)
    assert detail is not None
    said = [(row["who"], row["verdict"]) for row in detail.history]
    assert (judged.annotator, judged.status) in said
    assert (review.reviewer, review.verdict) in said
    times = [row["created_at"] for row in detail.history]
    assert times == sorted(times)
    number = sum(record.image_id == judged.image_id for record in (*filled.prelabels, *filled.annotations))
    assert len(said) == number + sum(
        other.annotation_id
        in {annotation.id for annotation in filled.annotations if annotation.image_id == judged.image_id}
        for other in filled.reviews
    )


def test_states_are_parted_and_whoever_speaks_is_right(snapshots: Snapshots, filled: Filled) -> None:
    with snapshots.read() as tx:
        assert tx is not None
        rows = {row["image_id"]: row for row in page(tx, matching(tx, ImageFilter()), 0, 1000)}
        by_state = {
            state: len(matching(tx, ImageFilter(state=state)))
            for state in ("accepted", "annotated", "rejected", "prelabelled", "new")
        }
        assert choices(tx)["model"] == ["flux2", "sana"]
        assert by_numbers(tx, []) == []
    expected = everything(filled)
    assert sum(by_state.values()) == len(expected) == len(rows)
    assert by_state["new"] == 1
    for image, (label_source, defects) in expected.items():
        row = rows[image]
        kinds = Counter(defect.type for defect in defects)
        assert (row["label_source"], row["artifacts"], row["misalignments"]) == (
            label_source,
            kinds["artifact"],
            kinds["misalignment"],
        )
        assert row["worst"] == max((defect.importance for defect in defects), default=None)
        assert {"gold": "accepted", "people": "annotated", None: "new"}.get(label_source, row["state"]) == row["state"]


def test_overview(snapshots: Snapshots, filled: Filled) -> None:
    spoken = [(image, label_source, defects) for image, (label_source, defects) in everything(filled).items()]
    models = {image.id: image.model for image in filled.images}
    with snapshots.read() as tx:
        assert tx is not None
        assert overview.label_sources(tx) == ["gold", "people", "detector"]
        for label_source in ("gold", "people", "detector"):
            mine = [(image, defects) for image, who, defects in spoken if who == label_source]
            kinds = [frozenset(defect.type for defect in defects) for _, defects in mine]
            shares = {row["composition"]: row["images"] for row in overview.composition(tx, label_source)}
            assert shares == {
                "clean": kinds.count(frozenset()),
                "artifact only": kinds.count(frozenset({"artifact"})),  # type: ignore[arg-type]
                "misalignment only": kinds.count(frozenset({"misalignment"})),  # type: ignore[arg-type]
                "both": kinds.count(frozenset({"artifact", "misalignment"})),  # type: ignore[arg-type]
            }
            for row in overview.per_image(tx, label_source):
                here = [defects for image, defects in mine if models[image] == row["model"]]
                total = sum(defect.type == "artifact" for defects in here for defect in defects)
                assert row["artifact"] == pytest.approx(total / len(here))
            weights = Counter((defect.type, (defect.importance - 1) // 10) for _, defects in mine for defect in defects)
            for decile, row in enumerate(overview.importance(tx, label_source)):
                assert (row["artifact"], row["misalignment"]) == (
                    weights["artifact", decile],  # type: ignore[index]
                    weights["misalignment", decile],  # type: ignore[index]
                )
        done = {row["stage"]: (row["done"], row["total"], row["failed"]) for row in overview.progress(tx)}
        total = len(spoken)
        annotated = {annotation.image_id for annotation in filled.annotations} - {filled.gone}
        gold = sum(label_source == "gold" for _, label_source, _ in spoken)
        assert done["images"] == (total, total, 0)
        assert done["prelabelled"] == (total - 1, total, 1)
        assert done["annotated"] == (len(annotated), total, 0)
        assert done["accepted"] == (gold, len(annotated), 0)
        sums = overview.totals(tx)
        assert sums.gold_defects == sum(len(defects) for _, label_source, defects in spoken if label_source == "gold")
        alive = [annotation for annotation in filled.annotations if annotation.image_id != filled.gone]
        assert sums.hours == pytest.approx((130 * len(alive) + 20 * len(filled.reviews)) / 3600)
        assert sums.cost == pytest.approx(0.002 * len(filled.prelabels))
        assert overview.failures(tx) == [{"stage": "prelabel", "code": "not-json", "failures": 1, "items": 1}]
        people = {(row["who"], row["mode"]): row["items"] for row in overview.people(tx)}
        modes = Counter(
            (annotation.annotator, "blind" if annotation.prelabel_id is None else "prelabelled") for annotation in alive
        )
        assert people == {**modes, ("rita", "review"): len(filled.reviews)}


def test_an_image_goes_back_to_the_seed(snapshots: Snapshots, filled: Filled) -> None:
    image = next(image for image in filled.images if image.prompt_id == filled.prompts[0].id)
    acceptance = next(review for review in filled.reviews if review.verdict == "accepted")
    accepted = next(annotation for annotation in filled.annotations if annotation.id == acceptance.annotation_id)
    with snapshots.read() as tx:
        assert tx is not None
        detail = image_detail(tx, image.id)
        other = image_detail(tx, accepted.image_id)
        assert image_detail(tx, filled.gone) is None
        assert image_detail(tx, "' OR 1=1 --") is None
    assert detail is not None
    assert other is not None
    facts = dict(detail.lineage)
    assert facts["prompt"] == HOSTILE
    assert facts["sample, seed"] == f"0, {image.seed}"
    assert facts["blob (sha256)"] == image.blob
    assert {defect.reason for layer in detail.layers for defect in layer.defects} >= {HOSTILE, LONG}
    assert ("evil<b> (eeeeeeee)", HOSTILE) in detail.raw
    assert other.layers[0].kind == "gold"
    assert list(other.layers[0].defects) == [item.defect for item in accepted.defects]
    assert dict(other.lineage)[f"review {acceptance.id[:8]}"].startswith("accepted by rita, round 1")
    assert {layer.kind for layer in other.layers} == {"gold", "prelabel", "annotator"}


def test_health(snapshots: Snapshots, filled: Filled) -> None:
    alive = [image for image in filled.images if image.id != filled.gone]
    splits = {prompt.id: prompt.split for prompt in filled.prompts}
    owners: dict[str, list[str]] = {}
    for image in alive:
        owners.setdefault(image.blob, []).append(splits[image.prompt_id])
    with snapshots.read() as tx:
        assert tx is not None
        shared = {row["blob"]: (row["images"], row["splits"]) for row in health.same_bytes(tx)}
        assert shared == {blob: (len(s), len(set(s))) for blob, s in owners.items() if len(s) > 1}
        proof = health.split_leakage(tx)
        assert proof["shared_prompts"] == 0
        assert proof["shared_images"] == sum(len(set(s)) > 1 for s in owners.values())
        assert proof["test_prompts"] == sum(prompt.split == "test" for prompt in filled.prompts)
        assert health.withdrawn(tx) == [{"kind": "image", "reason": "asked for", "records": 1}]
        assert health.all_blobs(tx) == sorted(owners)
        train, test = health.prompts_of_both(tx)
        assert (len(train), len(test)) == (24, 6)


def test_what_agreement_and_evaluate_compute(snapshots: Snapshots, filled: Filled) -> None:
    with snapshots.read() as tx:
        assert tx is not None
        people = aggregates.people_agreement(tx)
        assert people is not None
        shared = Counter(annotation.image_id for annotation in filled.annotations if annotation.image_id != filled.gone)
        assert people.agreed.images == sum(number > 1 for number in shared.values())
        scores = [row["f1@0.5"] for row in agreement.queue(tx, people)]
        assert scores == sorted(scores)
        assert max(scores) < 1
        rows = {row["who"]: row for row in aggregates.annotators(tx)}
        assert set(rows) == {"ann0", "ann2", "ann1", "zed"}
        assert rows["ann0"]["artifact_F1_gold"] == 1
        assert rows["zed"]["shared_images"] == people.agreed.images
        bias = aggregates.blind_or_not(tx)
        assert bias is not None
        alive = [annotation for annotation in filled.annotations if annotation.image_id != filled.gone]
        assert bias.blind.annotations == sum(annotation.prelabel_id is None for annotation in alive)
        assert "annotator:zed" in evaluate.sources(tx)
        same = comparison.compare_sources(tx, "gold", "gold")
        assert same is not None
        assert same.document["boxes"]["0.5"]["all"]["f1"] == 1
        assert all(a == b for pairs in same.importance.values() for a, b in pairs)
        other = comparison.compare_sources(tx, "gold", "prelabel:vlm", model="flux2", split="train")
        assert other is not None
        assert set(other.document["breakdown"]["model"]) == {"flux2"}
        assert (
            comparison.compare_sources(tx, "gold", "prelabel:vlm", model="sana") is None
        )  # every other image is annotated
        assert comparison.compare_sources(tx, "gold", "prelabel:nobody") is None


def test_each_persons_weeks(snapshots: Snapshots, filled: Filled) -> None:
    alive = [annotation for annotation in filled.annotations if annotation.image_id != filled.gone]
    expected: dict[tuple[str, str], list[Annotation]] = {}
    for annotation in alive:
        day = annotation.created_at.date()
        monday = day - timedelta(days=day.weekday())
        expected.setdefault((annotation.annotator, str(monday)), []).append(annotation)
    with snapshots.read() as tx:
        assert tx is not None
        rows = person_weeks(tx)
        people = {row["who"]: row for row in aggregates.annotators(tx)}
    assert {(row["who"], row["week"]): row["verdicts"] for row in rows} == {
        key: len(annotations) for key, annotations in expected.items()
    }
    for row in rows:
        seconds = [annotation.seconds for annotation in expected[row["who"], row["week"]]]
        assert row["hours"] == pytest.approx(sum(second or 0 for second in seconds) / 3600)
        assert row["median_seconds"] == median(second for second in seconds if second is not None)
        assert (row["f1@0.5"] is None) == (row["reviewed_images"] == 0)
    for who, person in people.items():
        assert sum(row["reviewed_images"] for row in rows if row["who"] == who) == person["reviewed_images"]
    seconds_chart, quality_chart = charts(rows)
    assert "median seconds a verdict" in seconds_chart
    assert "against gold" in quality_chart


def test_links_into_label_studio(tmp_path: Path) -> None:
    """The last pushed task of each image, under the server's numbers; what was never pushed has no link."""
    store = Store(tmp_path)
    pushed_twice, pending, last = ("1" * 32, "2" * 32, "3" * 32)
    with store.write() as tx:
        for number, (image, state) in enumerate(
            [(pushed_twice, "pushed"), (pushed_twice, "pushed"), (pending, "intended"), (last, "pushed")]
        ):
            task = LabelTask(
                id=f"{number:032x}", project_id="a" * 32, image_id=image, prelabel_id=None, parent_id=None, blind=True,
                overlap=1, priority=0.0, state=state, created_at=at(number),
            )  # fmt: skip
            labelling.mark_pending(tx, [task])
            if number != 3:
                labelling.mark_pushed(tx, {task.id: 40 + number})
        labelling.set_on_server(tx, ServerIds(project_id="a" * 32, url="http://127.0.0.1:8085/", server_id=7))
        tx.execute("UPDATE label_tasks SET state = 'intended' WHERE image_id = ?", [pending])
        links = label_studio_links(tx, [pushed_twice, pending, last])
    assert links == {pushed_twice: "http://127.0.0.1:8085/projects/7/data?task=41"}


def test_rows_in_the_order_of_their_lookups_say_the_same(
    snapshots: Snapshots, filled: Filled, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(filled.home, tmp_path / "home", ignore=shutil.ignore_patterns("snapshots"))
    monkeypatch.setattr(tables, "ROW_GROUP", 0)  # as if each table had more rows than a row group
    ordered = Snapshots(Store(tmp_path / "home"), all_tables(PAGES))
    with snapshots.read() as plain, ordered.read() as tx:
        assert plain is not None
        assert tx is not None
        for name, key in tables.LOOKED_UP.items():
            keys = [value for (value,) in tx.execute(f"SELECT {key} FROM {name}").fetchall()]
            assert keys == sorted(keys)
            everything = f"SELECT * FROM {name} ORDER BY ALL"
            assert tx.execute(everything).fetchall() == plain.execute(everything).fetchall()
        for image in filled.images[:12]:
            assert image_detail(tx, image.id) == image_detail(plain, image.id)


def test_people_who_agree_on_every_image_leave_no_queue(tmp_path: Path) -> None:
    """Two people with the same boxes on one image, and both with none on another."""
    made = fill(tmp_path / "home", 2)
    drawn = [defect(10), defect(400, type="misalignment")]
    with made.store.write() as tx:
        tx.execute("DELETE FROM reviews")
        tx.execute("DELETE FROM annotations")
        annotations.insert(
            tx,
            [
                makers.annotation(image.id, f"{who} {place}", *drawn[: 2 * (1 - place)], annotator=who)
                for place, image in enumerate([made.images[0], made.images[1]])
                for who in ("ann", "bob")
            ],
        )
    context = make_context(made.home, made.blobs)
    with context.snapshots.read() as tx:
        assert tx is not None
        people = aggregates.people_agreement(tx)
        assert people is not None
        assert people.agreed.images == 2
        assert agreement.queue(tx, people) == []
        assert "They differ nowhere" in agreement.render_ceiling(context, tx)
        compared = comparison.compare_sources(tx, "annotator:ann", "annotator:bob")
        assert compared is not None
        assert compared.worst == []
