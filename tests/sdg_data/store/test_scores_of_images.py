"""Which scores of whole images count: each person's last word that was not withdrawn."""

from schemas.records import Annotation, Tombstone, Withdrawn
from sdg_data.store import annotations, answers, tombstones
from sdg_data.store.connection import Store
from tests.sdg_data.store.makers import annotation, at

IMAGES = [digit * 32 for digit in "1234"]
SCORED = '{"scores":{"overall":%d}}'


def test_each_persons_last_live_word_counts(store: Store) -> None:
    entered: list[tuple[Annotation, str]] = [
        (annotation(IMAGES[0], "zoe", annotator="zoe"), SCORED % 5),
        (annotation(IMAGES[0], "anna first"), SCORED % 1),
        (annotation(IMAGES[0], "anna last", minute=3, round=2), SCORED % 2),
        (annotation(IMAGES[0], "bert", annotator="bert"), SCORED % 4),
        (annotation(IMAGES[0], "bert thinks better of it", annotator="bert", minute=1), '{"scores":{}}'),
        (annotation(IMAGES[1], "anna once"), SCORED % 3),
        (annotation(IMAGES[1], "anna withdrawn", minute=1), SCORED % 4),
        (annotation(IMAGES[2], "anna without"), "{}"),
        (annotation(IMAGES[3], "not asked for"), SCORED % 1),
    ]
    with store.write() as tx:
        annotations.insert(tx, [version for version, _ in entered])
        answers.insert_entered(tx, {version.id: ("e" * 32, text) for version, text in entered})
        gone = Tombstone(
            kind=Withdrawn.ANNOTATION, item_id=entered[6][0].id, reason="deleted", source="test", created_at=at(9)
        )
        tombstones.insert(tx, [gone])
    with store.read() as tx:
        assert answers.scored_of_images(tx, IMAGES[:3]) == {
            IMAGES[0]: [SCORED % 2, SCORED % 5],
            IMAGES[1]: [SCORED % 3],
        }
