"""A store of schema 6, where importers wrote into notes: what they wrote moves, what people wrote stays."""

import json
from pathlib import Path

from sdg_data.store import annotations
from sdg_data.store.connection import Store
from sdg_data.store.migrations import MIGRATIONS
from tests.sdg_data.store.makers import annotation, defect

IMAGE = "ab" * 16
AGREEMENT = {"annotators": 2, "artifact_f1": 0.5, "misalignment_f1": 1.0}
NOTES = {
    "imported:set": 'sdg-extras:{"release":{"row":{"filepath":"a.png"}},"sdg-agreement":' + json.dumps(AGREEMENT) + "}",
    "label-studio:1": 'sdg-extras:{"sdg-agreement":' + json.dumps(AGREEMENT) + "}",
    "imported:other": "sdg-extras: see the sheet",
    "imported:third": None,
}


def old_store(home: Path) -> Store:
    """As the software of schema 6 left it."""
    old = Store(home, migrations=MIGRATIONS[:6])
    with old.write() as tx:
        for source, note in NOTES.items():
            record = annotation(IMAGE, source, defect(), source=source, note=note)
            row = record.model_dump(mode="json", exclude={"defects", "envelope"})
            places = ", ".join("?" * len(row))
            tx.execute(f"INSERT INTO annotations ({', '.join(row)}) VALUES ({places})", list(row.values()))
            # A defect, as every annotation with this status has one.
            tx.execute(
                """
                INSERT INTO annotation_defects
                VALUES (?, 0, 10, 20, 40, 90, 'artifact', NULL, NULL, 'a dent', 50, 'r', 'manual', NULL, true)
                """,
                [record.id],
            )
    return Store(home)


def test_only_what_importers_wrote_becomes_an_envelope(tmp_path: Path) -> None:
    with old_store(tmp_path).read() as tx:
        stored = {record.source: record for record in annotations.page(tx)}
    moved = stored.pop("imported:set")
    assert moved.note is None
    assert moved.envelope is not None
    assert json.loads(moved.envelope) == {"extras": {"release": {"row": {"filepath": "a.png"}}}, "agreement": AGREEMENT}
    assert {source: (record.note, record.envelope) for source, record in stored.items()} == {
        source: (NOTES[source], None) for source in stored
    }


def test_an_agreement_that_came_with_a_pseudonym_moves_too(tmp_path: Path) -> None:
    store = old_store(tmp_path)
    old = Store(tmp_path, migrations=MIGRATIONS[:6])
    with old.write() as tx:
        tx.execute("UPDATE annotations SET annotator = 'person-0123456789ab' WHERE source = 'label-studio:1'")
    with store.read() as tx:
        (record,) = annotations.page(tx, annotator="person-0123456789ab")
    assert record.note is None
    assert json.loads(record.envelope or "") == {"extras": {}, "agreement": AGREEMENT}
