"""Records: what they refuse, and that JSON carries them."""

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from schemas.base import Record
from schemas.records import Annotation, Enrichment, Failure, ImageRecord, Prelabel, Prompt, Review

ID, OTHER = "0123456789abcdef" * 2, "f" * 32
NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
DEFECT = {"box": {"x0": 1, "y0": 2, "x1": 3, "y1": 4}, "type": "artifact", "reason": "r", "importance": 5}
BY_HAND = {"defect": DEFECT, "region_id": "r1", "origin": "manual"}
KEPT = {"defect": DEFECT, "region_id": "r2", "origin": "prediction", "prelabel_index": 0}
RUN: dict[str, Any] = {
    "model": "m", "revision": "v", "template": "t1", "settings": "{}", "raw": "…", "attempt": 1,
    "tokens_in": 5, "tokens_out": None, "cost": 0.01, "seconds": 1.5, "tool": "sdg 0.1", "created_at": NOW,
}  # fmt: skip
GOOD: dict[type[Record], dict[str, Any]] = {
    Prompt: {"id": ID, "text": "a cat", "source": "file:x", "licence": None, "split": "train"},
    ImageRecord: {
        "id": ID, "prompt_id": OTHER, "model": "m", "revision": "v", "sample": 0, "seed": 2**63 - 1,
        "settings": '{"a":1}', "blob": "a" * 64, "media_type": "image/png", "width": 64, "height": 48,
        "bytes": 100, "licence": "Apache-2.0",
        "source": "generated", "tool": "diffusers 0.42", "seconds": None, "created_at": NOW,
    },
    Failure: {"stage": "generate", "item_id": ID, "code": "oom", "message": "m", "raw": None, "attempt": 1},
    Prelabel: RUN | {"id": ID, "image_id": OTHER, "trace": None, "defects": [DEFECT], "repairs": []},
    Annotation: {
        "id": ID, "image_id": OTHER, "prelabel_id": OTHER, "parent_id": None, "annotator": "a1", "round": 1,
        "status": "defects", "defects": [BY_HAND, KEPT], "note": None, "source": "label-studio:1/2/3", "seconds": 130.0,
        "tool": "ls", "created_at": NOW,
    },
    Review: {
        "id": ID, "annotation_id": OTHER, "result_id": None, "reviewer": "r", "round": 1, "verdict": "accepted",
        "note": None, "seconds": 20.0, "tool": "ls", "created_at": NOW,
    },
    Enrichment: RUN | {
        "id": ID, "annotation_id": OTHER, "trace": "### Step 1",
        "defects": [{"index": 0, "reason": "longer", "importance": 70}],
    },
}  # fmt: skip

BAD: list[tuple[type[Record], dict[str, Any]]] = [
    (Prompt, {"id": "p1"}),
    (Prompt, {"id": ID.upper()}),
    (Prompt, {"id": ID + "\n"}),
    (Prompt, {"text": ""}),
    (Prompt, {"split": "validation"}),
    (ImageRecord, {"seed": 2**63}),
    (ImageRecord, {"seed": -1}),
    (ImageRecord, {"sample": -1}),
    (ImageRecord, {"settings": "[1]"}),
    (ImageRecord, {"settings": "{"}),
    (ImageRecord, {"blob": "a" * 63}),
    (ImageRecord, {"source": "imported:"}),
    (ImageRecord, {"source": "found"}),
    (ImageRecord, {"media_type": "text/html"}),
    (ImageRecord, {"bytes": 0}),
    (ImageRecord, {"seconds": float("nan")}),
    (ImageRecord, {"created_at": datetime(2026, 1, 2)}),  # naive on purpose
    (Failure, {"attempt": 0}),
    (Failure, {"code": ""}),
    (Prelabel, {"cost": -1.0}),
    (Annotation, {"status": "clean"}),
    (Annotation, {"status": "cannot-judge"}),
    (Annotation, {"defects": []}),
    (Annotation, {"prelabel_id": None}),
    (Annotation, {"defects": [BY_HAND | {"prelabel_index": 0}]}),
    (Review, {"verdict": "corrected"}),
    (Review, {"result_id": ID}),
    (Review, {"verdict": "corrected", "result_id": OTHER}),
    (Enrichment, {"defects": [{"index": 1, "reason": "longer", "importance": 70}]}),
    (Enrichment, {"defects": [{"index": 0, "reason": " ", "importance": 70}]}),
    (Enrichment, {"trace": ""}),
]


@pytest.mark.parametrize("record", list(GOOD))
def test_json_and_back_is_the_identity_and_extra_fields_are_errors(record: type[Record]) -> None:
    made = record.model_validate(GOOD[record])
    assert record.model_validate_json(made.model_dump_json()) == made
    with pytest.raises(ValueError):
        record.model_validate(GOOD[record] | {"colour": "red"})


@pytest.mark.parametrize(("record", "change"), BAD)
def test_a_record_refuses(record: type[Record], change: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        record.model_validate(GOOD[record] | change)


@pytest.mark.parametrize("record", list(GOOD))
def test_every_field_without_a_default_is_needed(record: type[Record]) -> None:
    for name in GOOD[record]:
        with pytest.raises(ValueError, match=name):
            record.model_validate({key: value for key, value in GOOD[record].items() if key != name})


def test_times_are_held_in_utc() -> None:
    local = datetime(2026, 1, 2, 5, 4, 5, tzinfo=timezone(timedelta(hours=2)))
    made = ImageRecord.model_validate(GOOD[ImageRecord] | {"created_at": local})
    assert made.created_at == NOW
    assert made.created_at.utcoffset() == timedelta(0)


def test_a_clean_annotation_is_a_claim_without_boxes() -> None:
    made = Annotation.model_validate(GOOD[Annotation] | {"status": "clean", "defects": []})
    assert made.defects == ()


def test_a_failure_can_hold_any_text() -> None:
    made = Failure.model_validate(GOOD[Failure] | {"raw": "\0 \ud83d half", "message": "\udc00"})
    assert made.raw == "\0 \ufffd half"
    made.model_dump_json().encode()
