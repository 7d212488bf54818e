"""`--protocol release` beside the figures that the public release's own script gave for the same rows.

The rows were made for this: answers in every wrapping, empty blocks, fences of other languages, degenerate answers,
`desc` for `description`, tags in it, corners out of order, strange labels, and a contradicting `ann_response`.
"""

import json
from pathlib import Path
from typing import Any

import pytest

from sdg_data.metrics.protocol import Protocol
from sdg_data.metrics.release_files import ReleaseFile
from sdg_data.metrics.sdg_eval import evaluate, pair_up

GOLDEN = json.loads((Path(__file__).parent / "release_golden.json").read_text(encoding="utf-8"))
TYPES = ("artifact", "misalignment")


@pytest.fixture(scope="module")
def summary(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("golden")
    rows = {
        "gt": [{"filepath": key, "ann_translated_bboxes": truth, "ann_response": "<answer>[]</answer>"}
               for key, truth, _ in GOLDEN["rows"]],
        "pred": [{"filepath": key, "response": answer} for key, _, answer in GOLDEN["rows"]],
    }  # fmt: skip
    for name, lines in rows.items():
        (folder / name).write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    gt = ReleaseFile(folder / "gt", "gt", Protocol.RELEASE).read()
    pred = ReleaseFile(folder / "pred", "pred", Protocol.RELEASE).read()
    return evaluate(pair_up(gt, pred, Protocol.RELEASE), protocol=Protocol.RELEASE, resamples=0).summary


def ours(summary: dict[str, Any]) -> dict[str, Any]:
    """Our figures under the golden names."""
    rates = ("precision", "recall", "f1")
    images, boxes, words = summary["image_level"], summary["boxes"], summary["description"]["token_f1"]
    figures = {"deg": summary["parsing"]["degenerate"], "ok": summary["parsing"]["parsed"]}
    figures["fail"] = summary["parsing"]["failed"]
    figures |= {f"il{key}": images["any"][key] for key in ("accuracy", *rates)}
    figures |= {f"ll{kind}{key}": images[kind][key] for kind in TYPES for key in ("accuracy", *rates)}
    for threshold in ("0.1", "0.2", "0.25", "0.3", "0.4", "0.5"):
        figures |= {f"b{threshold}{key}": boxes[threshold]["all"][key] for key in rates}
        figures |= {f"b{threshold}{kind}{key}": boxes[threshold][kind][key] for kind in TYPES for key in rates}
    figures |= {f"m5{kind}{key}": boxes["0.5"][kind][key] for kind in TYPES for key in ("tp", "fp", "fn")}
    figures |= {"mae": summary["count"]["mae"], "ex": summary["count"]["exact_match"]}
    figures |= {"corr": summary["count"]["correlation"], "aware": words["detection_aware"]}
    figures |= {"tm": words["all"]["mean"], "tmed": words["all"]["median"], "n": words["all"]["pairs"]}
    figures |= {f"acc{edge}": share for edge, share in words["all"]["shares"].items()}
    for kind in TYPES:
        figures |= {f"t{kind}": words[kind]["mean"], f"tm{kind}": words[kind]["median"]}
        figures[f"tn{kind}"] = words[kind]["pairs"]
    return figures


def test_every_figure_is_the_public_scripts(summary: dict[str, Any]) -> None:
    assert len(GOLDEN["figures"]) == 91
    assert ours(summary) == pytest.approx(GOLDEN["figures"], rel=1e-12, abs=1e-12)


def test_the_rows_are_awkward_enough(summary: dict[str, Any]) -> None:
    assert min(summary["parsing"][name] for name in ("parsed", "failed", "degenerate")) >= 2
    assert summary["description"]["token_f1"]["all"]["pairs"] >= 20
