"""Records of people's and machines' verdicts, right unless a test says otherwise."""

from datetime import UTC, datetime, timedelta
from typing import Any

from schemas.defect import Defect
from schemas.geometry import Box
from schemas.records import AnnotatedDefect, Annotation, AnnotationStatus, Enrichment, Prelabel, Review
from sdg_data.ids import content_id
from sdg_data.store.prelabels import Prelabeller

START = datetime(2026, 3, 1, 12, tzinfo=UTC)
VLM = Prelabeller("vlm", "r1", "detect-1:aa", '{"temperature":0}')
RUN: dict[str, Any] = {
    "raw": "<answer>[]</answer>",
    "attempt": 1,
    "tokens_in": 500,
    "tokens_out": 40,
    "cost": 0.002,
    "seconds": 1.5,
    "tool": "test 1",
}


def at(minute: int) -> datetime:
    return START + timedelta(minutes=minute)


def defect(x0: int = 10, **changes: Any) -> Defect:
    values = {"box": Box(x0=x0, y0=20, x1=x0 + 30, y1=90), "type": "artifact", "reason": "a dent", "importance": 50}
    return Defect(**{**values, **changes})


def prelabel(image: str, *defects: Defect, by: Prelabeller = VLM, minute: int = 0, **changes: Any) -> Prelabel:
    values = {
        "id": by.prelabel_id(image),
        "image_id": image,
        "model": by.model,
        "revision": by.revision,
        "template": by.template,
        "settings": by.settings,
        "trace": None,
        "repairs": (),
        "created_at": at(minute),
    }
    return Prelabel(**{**RUN, **values, "defects": defects, **changes})


def annotation(image: str, name: str, *defects: Defect, minute: int = 0, **changes: Any) -> Annotation:
    values = {
        "id": content_id("annotation", image, name),
        "image_id": image,
        "prelabel_id": None,
        "parent_id": None,
        "annotator": "anna",
        "round": 1,
        "status": AnnotationStatus.DEFECTS if defects else AnnotationStatus.CLEAN,
        "defects": tuple(
            AnnotatedDefect(defect=defect_, region_id=f"r{index}", origin="manual")
            for index, defect_ in enumerate(defects)
        ),
        "note": None,
        "source": "label-studio:1",
        "seconds": 130.0,
        "tool": "test 1",
        "created_at": at(minute),
    }
    return Annotation(**{**values, **changes})


def review(
    version: Annotation, verdict: str, *, minute: int = 0, result: Annotation | None = None, **changes: Any
) -> Review:
    values = {
        "id": content_id("review", version.id, verdict, minute, changes.get("round", 1)),
        "annotation_id": version.id,
        "result_id": None if result is None else result.id,
        "reviewer": "rita",
        "round": 1,
        "verdict": verdict,
        "note": None,
        "seconds": 20.0,
        "tool": "test 1",
        "created_at": at(minute),
    }
    return Review(**{**values, **changes})


def enrichment(version: Annotation, *, minute: int = 0, importance: int = 80, **changes: Any) -> Enrichment:
    values = {
        "id": content_id("enrichment", version.id, minute),
        "annotation_id": version.id,
        "model": "vlm",
        "revision": "r1",
        "template": "enrich-1:bb",
        "settings": "{}",
        "trace": "### Step 1",
        "defects": [
            {"index": index, "reason": f"longer {index}", "importance": importance}
            for index in range(len(version.defects))
        ],
        "created_at": at(minute),
    }
    return Enrichment(**{**RUN, **values, **changes})
