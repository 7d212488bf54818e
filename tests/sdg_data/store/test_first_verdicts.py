"""First verdicts, against a naive reading of the same rule over the same records, and by hand where one is late."""

import random
from typing import Any

from schemas.labelling import LabelEntry, LabelTask, TaskState
from schemas.records import Annotation, AnnotationStatus, Tombstone, Withdrawn
from sdg_data.ids import content_id
from sdg_data.store import annotations, answers, first_verdicts, labelling, tombstones
from sdg_data.store.connection import Store
from tests.sdg_data.store.makers import annotation, at, defect

IMAGE = "1" * 32
TASK = LabelTask(
    id="3" * 32, project_id="4" * 32, image_id=IMAGE, prelabel_id=None, parent_id=None, blind=False, overlap=2,
    priority=0, state=TaskState.PUSHED, created_at=at(0),
)  # fmt: skip


def claims(store: Store, images: list[str] | None = None) -> list[str]:
    with store.read() as tx:
        return [
            annotation.id
            for people in first_verdicts.of_images(tx, images or [IMAGE]).values()
            for annotation in people
        ]


def fill(store: Store, *people: Annotation) -> None:
    with store.write() as tx:
        annotations.insert(tx, people)


def answer(store: Store, version: Annotation, **changes: Any) -> None:
    """An answer in Label Studio as a pull stores it; a later one of the same person replaces it."""
    entry = content_id("entry", version.annotator)
    values = {
        "id": entry, "task_id": TASK.id, "task_number": 1, "number": 1, "annotator": version.annotator,
        "annotation_id": version.id, "quarantine_id": None, "deleted": False,
    }  # fmt: skip
    with store.write() as tx:
        labelling.mark_pending(tx, [TASK])
        annotations.insert(tx, [version])
        answers.insert_entered(tx, {version.id: (entry, "{}")})
        answers.put(tx, [LabelEntry.model_validate({**values, **changes})])


def test_a_reviewers_version_started_from_somebody_else(store: Store) -> None:
    anna, ben = annotation(IMAGE, "a", defect()), annotation(IMAGE, "b", annotator="ben")
    edited = annotation(IMAGE, "a2", defect(50), parent_id=anna.id, minute=1)
    corrected = annotation(IMAGE, "r", defect(9), parent_id=ben.id, annotator="rita", round=2, minute=2)
    fill(store, anna, ben, edited, corrected)
    assert claims(store) == [edited.id, ben.id], "an edit replaces one's own answer"


def test_the_last_word_counts_even_if_it_claims_nothing(store: Store) -> None:
    first = annotation(IMAGE, "a", defect())
    fill(store, first, annotation(IMAGE, "b", parent_id=first.id, status=AnnotationStatus.SKIPPED, minute=1))
    assert claims(store) == []
    with store.read() as tx:
        assert first_verdicts.listed(tx) == []
        assert [verdict.status for verdict in first_verdicts.listed(tx, skips=True)] == ["skipped"]


def test_an_answer_in_quarantine_is_no_verdict_until_it_is_mended(store: Store) -> None:
    first = annotation(IMAGE, "a", defect())
    answer(store, first)
    assert claims(store) == [first.id]
    answer(store, first, quarantine_id="2" * 32)  # the edit cannot be read; `first` is the last version that could be
    assert claims(store) == []
    mended = annotation(IMAGE, "b", defect(70), parent_id=first.id, minute=2)
    answer(store, mended)
    assert claims(store) == [mended.id]


def naive(people: list[Annotation], gone: set[str]) -> list[str]:
    """Each person's last own version in order of image and name, of those that make a claim."""
    by_id = {version.id: version for version in people}
    last: dict[tuple[str, str], Annotation] = {}
    for version in sorted(people, key=lambda version: (version.round, version.created_at, version.id)):
        parent = by_id.get(version.parent_id or "")
        own = version.parent_id is None or (
            version.round == 1 and parent is not None and parent.annotator == version.annotator
        )
        if own and version.id not in gone:
            last[version.image_id, version.annotator] = version
    return [version.id for _, version in sorted(last.items()) if version.status in ("defects", "clean")]


def test_as_a_naive_reading_has_it(store: Store) -> None:
    rng = random.Random(5)
    images = [f"{number:032x}" for number in range(12)]
    people: list[Annotation] = []
    for number in range(150):
        image = rng.choice(images)
        parents = [annotation for annotation in people if annotation.image_id == image]
        parent = rng.choice(parents) if parents and rng.random() < 0.5 else None
        status = rng.choice(["defects", "clean", "clean", "skipped", "cannot-judge"])
        people.append(
            annotation(
                image, str(number), *[defect()] * (status == "defects"), annotator=rng.choice(["anna", "ben", "cleo"]),
                parent_id=None if parent is None else parent.id, round=1 if parent is None else rng.choice([1, 1, 2]),
                status=status, minute=rng.randrange(40),
            )
        )  # fmt: skip
    gone = {annotation.id for annotation in rng.sample(people, 10)}
    fill(store, *people)
    with store.write() as tx:
        tombstones.insert(
            tx,
            [
                Tombstone(kind=Withdrawn.ANNOTATION, item_id=annotation_id, reason="no", source="t", created_at=at(9))
                for annotation_id in gone
            ],
        )
    claimed = claims(store, images)
    assert claimed == naive(people, gone)
    assert len(claimed) > 15
