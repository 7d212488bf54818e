"""False alarms on clean images and on photographs: by hand."""

import pytest

from schemas.defect import Defect, Subtype
from schemas.geometry import Box
from sdg_data.metrics.protocol import Protocol
from sdg_data.metrics.sdg_eval import evaluate, pair_up
from sdg_data.metrics.tables import DefectTable

BOX = Box(x0=0, y0=0, x1=100, y1=100)
FIRST = next(subtype for subtype in Subtype if subtype.type == "artifact")


def boxes(*kinds: str, subtype: Subtype | None = None) -> list[Defect]:
    return [Defect(box=BOX, type=kind, subtype=subtype, reason="r", importance=50) for kind in kinds]


@pytest.mark.parametrize("protocol", Protocol)
def test_by_hand(protocol: Protocol) -> None:
    """Four clean images, two of them photographs; a photograph with a true defect is neither."""
    truth = [("a", []), ("b", []), ("c", []), ("d", []), ("e", boxes("artifact"))]
    guess = [
        ("a", boxes("artifact", "artifact", "misalignment")),
        ("b", []),
        ("c", boxes("artifact", subtype=FIRST)),
        ("d", []),
        ("e", boxes("artifact", "misalignment")),
    ]
    groups = {"a": "sana", "b": "sana", "c": "Photograph", "d": "camera", "e": "photo"}
    gt, pred = DefectTable.from_defects(truth, groups=groups), DefectTable.from_defects(guess)
    evaluation = evaluate(pair_up(gt, pred, protocol), protocol=protocol, resamples=200).summary
    assert evaluation["false_alarms"] == {
        "clean": {
            "all": {"share": 0.5, "boxes": 1.0},
            "artifact": {"share": 0.5, "boxes": 0.75},
            "misalignment": {"share": 0.25, "boxes": 0.25},
            "subtype": {FIRST.value: 1, "no subtype": 3},
        },
        "photographs": {
            "all": {"share": 0.5, "boxes": 0.5},
            "artifact": {"share": 0.5, "boxes": 0.5},
            "misalignment": {"share": 0.0, "boxes": 0.0},
            "subtype": {FIRST.value: 1},
        },
    }
    assert evaluation["n"]["false_alarms"]["clean"]["all"] == {"share": 4, "boxes": 4}
    assert evaluation["n"]["false_alarms"]["photographs"]["artifact"] == {"share": 2, "boxes": 2}
    low, high = evaluation["intervals"]["false_alarms"]["clean"]["all"]["share"]
    assert 0 <= low < 0.5 < high <= 1


def test_no_photograph_no_figure() -> None:
    table = DefectTable.from_defects([("a", [])], groups={"a": "sana"})
    summary = evaluate(pair_up(table, table, Protocol.PAPER), resamples=20).summary
    assert summary["false_alarms"]["photographs"]["all"] == {"share": None, "boxes": None}
    assert summary["n"]["false_alarms"]["photographs"]["all"] == {"share": 0, "boxes": 0}
    assert summary["false_alarms"]["clean"]["all"] == {"share": 0.0, "boxes": 0.0}
