"""The detectors' breakdown by generator and by kind, on answers by hand."""

import pytest

from schemas.defect import Attribute, Defect, DefectType, Subtype
from schemas.geometry import Box
from sdg_data.metrics.tables import DefectTable
from trainers.paper.detector.breakdown import EVERY, markdown, recall_by_kind, summarise


def bite(x0: int) -> Defect:
    box = Box(x0=x0, y0=0, x1=x0 + 100, y1=100)
    reason = "the outline of the red circle is broken"
    return Defect(box=box, type=DefectType.ARTIFACT, subtype=Subtype.GEOMETRY, reason=reason, importance=50)


def size(x0: int) -> Defect:
    return bite(x0).model_copy(
        update={"type": DefectType.MISALIGNMENT, "subtype": Subtype.ATTRIBUTE, "attribute": Attribute.SIZE}
    )


SEEN = {"a": (bite(0), size(500)), "b": (bite(0), bite(300)), "c": (), "d": (size(0),)}
GROUPS = {"a": "one", "b": "one", "c": "other", "d": "other"}


def answers(said: dict[str, tuple[Defect, ...] | None]) -> DefectTable:
    return DefectTable.from_defects(said.items(), groups=GROUPS)


def test_recall_counts_what_is_found_of_each_kind() -> None:
    # of two boxes on one place a single one counts; the right place with the wrong type does not
    said = answers({"a": (bite(10), bite(20), size(500)), "b": (bite(305),), "c": (bite(0),), "d": (bite(0),)})
    recall = recall_by_kind(SEEN, said)
    assert {kind: (figures["found"], figures["all"]) for kind, figures in recall.items()} == {
        "bite": (2, 3),
        "size": (1, 2),
    }
    low, high = recall["bite"]["interval"]
    assert 0 <= low < 2 / 3 < high <= 1
    unread = recall_by_kind(SEEN, answers({"a": None, "b": (bite(0),)}))
    assert (unread["bite"]["found"], unread["size"]["found"]) == (1, 0)


def test_the_page_compares_each_detector_with_the_one_before_it() -> None:
    truth = answers(SEEN)
    said = {
        "old": answers(dict.fromkeys(SEEN, ())),
        "new": truth,
        "second person": answers({"a": SEEN["a"], "b": ()}),  # who skipped two images
        "oracle": truth,
    }
    summary = summarise(truth, said, SEEN, ["old", "new"])
    assert list(summary["generators"]["new"]) == [EVERY, "one", "other"]
    assert summary["generators"]["second person"][EVERY]["images"] == 2
    assert summary["generators"]["second person"][EVERY]["box_f1"]["artifact"] == pytest.approx(2 * 1 / (1 + 3))
    assert set(summary["kinds"]) == {"old", "new"}
    assert [(gap["of"], gap["to"], gap["mean"]) for gap in summary["gaps"]] == [("new", "old", 1.0)] * 2
    page = markdown(summary)
    assert "| new | 1.000 (1.000–1.000) / 1.000 (1.000–1.000) |" in page
    assert "| bite | 3 | 0.00 (0.00–0.00) | 1.00 (1.00–1.00) |" in page
    assert "- new − old, artifact: +1.000 (+1.000 to +1.000): better." in page
