"""`sdg eval run` from the command line to the report."""

import itertools
import json
import math
import random
import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

from schemas.answer.parse import render_answer
from schemas.defect import Defect
from schemas.geometry import Box
from sdg_data.cli import run
from sdg_data.errors import ExitCode
from sdg_data.metrics.charts import Series, bars, histogram
from sdg_data.metrics.protocol import Protocol
from sdg_data.metrics.report import write_report
from sdg_data.metrics.sdg_eval import evaluate, pair_up
from sdg_data.metrics.tables import DefectTable
from tests.sdg_data.metrics.support import some_defects

SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    """gt, pred and second, 40 images each; pred lacks the last, has one more, one refusal and one bad line."""
    rng = random.Random(1)
    paths = {}
    for name in ("gt", "pred", "second"):
        rows = [
            {
                "filepath": f"d/{model}/test/{n:02}.png",
                "response" if name == "pred" else "ann_response": render_answer(some_defects(rng, grid=4), "t"),
            }
            for model in ("flux2", "sana")
            for n in range(20)
        ]
        paths[name] = tmp_path / f"{name}.jsonl"
        lines = [json.dumps(row) for row in rows]
        if name == "pred":
            extra = {"filepath": "d/flux2/test/<script>|x.png", "response": "[]"}
            lines = [*lines[1:-1], json.dumps({"filepath": rows[0]["filepath"], "response": "I'm sorry."}), "{"]
            lines.append(json.dumps(extra))
        paths[name].write_text("\n".join(lines), encoding="utf-8")
    return paths


def test_everything_is_written(files: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, report = tmp_path / "deep" / "out.json", tmp_path / "report"
    arguments = ["--gt", str(files["gt"]), "--pred", str(files["pred"]), "--ceiling", str(files["second"])]
    arguments += ["--json", str(out), "--report", str(report), "--resamples", "50"]
    assert run(["eval", "run", *arguments]) == ExitCode.PARTIAL
    document = json.loads(out.read_text(encoding="utf-8"))
    captured = capsys.readouterr()

    assert document["images"] == 39
    assert document["rows"]["missing"] == ["d/sana/test/19.png"]
    assert document["rows"]["extra"] == ["d/flux2/test/<script>|x.png"]
    assert document["rows"]["pred"]["rejected_lines"] == [{"line": 40, "code": "not-json"}]
    assert document["parsing"] == {"parsed": 38, "failed": 1, "degenerate": 0, "rate": 1 / 39}
    assert document["ceiling"]["images"] == 40
    assert document["description"]["similarity"] == "lexical"
    assert "1 image without a prediction left out: d/sana/test/19.png" in captured.err
    assert "refused 1" in captured.err
    value = document["boxes"]["0.5"]["artifact"]["f1"]
    low, high = document["intervals"]["boxes"]["0.5"]["artifact"]["f1"]
    ceiling = document["ceiling"]["boxes"]["0.5"]["artifact"]["f1"]
    boxes = document["n"]["boxes"]["0.5"]["artifact"]["f1"]
    assert boxes == sum(row["gt_artifact"] for row in document["per_image"])
    worst = document["at_worst"]["boxes"]["0.5"]["artifact"]["f1"]
    assert (document["at_worst"]["images"], document["at_worst"]["unanswered"]) == (40, 2)
    assert worst < value
    cells = [f"{value:.3f}", str(boxes), f"{low:.3f}–{high:.3f}", f"{worst:.3f}", f"{ceiling:.3f}", "0.255", "0.278"]
    line = next(line for line in captured.out.splitlines() if re.match(r"BoxF1@0\.5\s+artifact", line))
    assert line.split()[2:] == cells
    assert "39 of 40 images measured, 1 of them without an answer" in captured.out
    assert "1 without a prediction left out, 1 prediction without ground truth left out." in captured.out

    text = (report / "report.md").read_text(encoding="utf-8")
    assert "| BoxF1@0.5 | artifact | " + " | ".join(cells) + " |" in text
    assert "**lexical**" in text
    assert "## Is the importance calibrated?" in text
    assert "## False alarms where there is nothing" in text
    assert "do not compare" in text, "lexical figures must not be set beside the published ones without a word"
    for name in re.findall(r"\]\((\w+\.svg)\)", text):
        root = ElementTree.fromstring((report / name).read_text(encoding="utf-8"))
        assert root.tag == f"{SVG}svg"
        assert len(root.findall(f"{SVG}rect")) > 3
    assert {path.name for path in report.iterdir()} == {"report.md", *re.findall(r"\w+\.svg", text)}


def test_json_on_stdout_is_all_of_stdout(files: dict[str, Path], capfd: pytest.CaptureFixture[str]) -> None:
    arguments = ["--gt", str(files["gt"]), "--pred", str(files["gt"]), "--protocol", "release", "--resamples", "0"]
    assert run(["eval", "run", *arguments, "--json", "-"]) == 0
    document = json.loads(capfd.readouterr().out)
    assert document["protocol"] == "release"
    assert document["boxes"]["0.5"]["all"]["fp"] == 0
    assert "boxes" not in document["intervals"]


def test_missing_predictions_can_count_as_failures(files: dict[str, Path], tmp_path: Path) -> None:
    arguments = ["--gt", str(files["gt"]), "--pred", str(files["pred"]), "--resamples", "0", "--missing", "fail"]
    assert run(["eval", "run", *arguments, "--json", str(tmp_path / "o.json")]) == ExitCode.PARTIAL  # one too many
    document = json.loads((tmp_path / "o.json").read_text(encoding="utf-8"))
    assert (document["images"], document["parsing"]["failed"]) == (40, 2)
    assert document["rows"]["missing"] == ["d/sana/test/19.png"]


def test_order_of_rows_and_files_does_not_matter(files: dict[str, Path], tmp_path: Path) -> None:
    shuffled = tmp_path / "shuffled"
    lines = files["pred"].read_text(encoding="utf-8").splitlines()
    random.Random(2).shuffle(lines)
    shuffled.write_text("\n".join(lines), encoding="utf-8")
    documents: list[Any] = []
    for pred in (files["pred"], shuffled):
        out = tmp_path / "o.json"
        arguments = ["--gt", str(files["gt"]), "--pred", str(pred), "--resamples", "20", "--json", str(out)]
        assert run(["eval", "run", *arguments]) == ExitCode.PARTIAL
        documents.append(json.loads(out.read_text(encoding="utf-8")))
        del documents[-1]["rows"]
    assert documents[0] == documents[1]


@pytest.mark.parametrize(
    ("change", "code", "words"),
    [
        (["--gt", "nowhere.jsonl"], ExitCode.INPUT, "cannot read the file"),
        (["--missing", "maybe"], ExitCode.CONFIG, "--missing is exclude or fail"),
        (["--protocol", "mine"], ExitCode.USAGE, "'mine' is not one of"),
        (["--report", "/dev/null/x"], ExitCode.INPUT, "cannot write"),
    ],
)
def test_errors_say_what_is_wrong(
    change: list[str], code: ExitCode, words: str, files: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--gt", str(files["gt"]), "--pred", str(files["gt"]), "--resamples", "0", *change]
    assert run(["eval", "run", *arguments]) == code
    assert words in capsys.readouterr().err


SPELLINGS = {
    "dot": "./SDG/flux2/test/{}.png",
    "windows": "SDG\\flux2\\test\\{}.png",
    "drive": "D:\\data\\SDG\\flux2\\test\\{}.png",
    "absolute": "/data/SDG/flux2/test/{}.png",
    "up": "../SDG/flux2/test/{}.png",
    "shorter": "flux2/test/{}.png",
    "doubled": "SDG//flux2/./test/{}.png",
}


@pytest.mark.parametrize("spelling", SPELLINGS.values(), ids=list(SPELLINGS))
def test_one_image_under_another_spelling(spelling: str, tmp_path: Path) -> None:
    answer = render_answer(some_defects(random.Random(3), grid=4), "t")
    gt, pred = tmp_path / "gt", tmp_path / "pred"
    gt.write_text("\n".join(json.dumps({"filepath": f"SDG/flux2/test/{n}.png", "ann_response": answer}) for n in "12"))
    pred.write_text("\n".join(json.dumps({"filepath": spelling.format(n), "response": answer}) for n in "12"))
    out = tmp_path / "o.json"
    assert run(["eval", "run", "--gt", str(gt), "--pred", str(pred), "--resamples", "0", "--json", str(out)]) == 0
    document = json.loads(out.read_text())
    assert [row["filepath"] for row in document["per_image"]] == ["SDG/flux2/test/1.png", "SDG/flux2/test/2.png"]
    assert document["boxes"]["0.5"]["all"]["f1"] == 1.0


def test_nothing_in_common_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    gt, pred = tmp_path / "gt", tmp_path / "pred"
    gt.write_text(json.dumps({"filepath": "SDG/flux2/test/1.png", "ann_response": "<answer>[]</answer>"}))
    pred.write_text(json.dumps({"filepath": "SDG/sana/test/1.png", "response": "<answer>[]</answer>"}))
    for more in ([], ["--missing", "fail"]):
        assert run(["eval", "run", "--gt", str(gt), "--pred", str(pred), *more]) == ExitCode.INPUT
        captured = capsys.readouterr()
        assert captured.out == ""
        assert "no image in common: the ground truth has SDG/flux2/test/1.png; the predictions SDG/sana" in captured.err


@pytest.mark.parametrize("silence", [{"response": None}, {}], ids=["null", "missing"])
def test_a_detector_that_never_answered_finds_nothing(
    silence: dict[str, None], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    answer = render_answer([defect for n in range(9) for defect in some_defects(random.Random(n), grid=4)], "t")
    gt, pred = tmp_path / "gt", tmp_path / "pred"
    rows = [{"filepath": f"{n}.png", "ann_response": answer} for n in range(5)]
    gt.write_text("\n".join(map(json.dumps, rows)))
    pred.write_text("\n".join(json.dumps({**row, **silence}) for row in rows))
    out = tmp_path / "o.json"
    assert run(["eval", "run", "--gt", str(gt), "--pred", str(pred), "--resamples", "0", "--json", str(out)]) == 0
    document = json.loads(out.read_text())
    assert document["boxes"]["0.1"]["all"]["tp"] == 0
    assert document["image_level"]["any"]["recall"] == 0
    assert document["parsing"]["failed"] == 5
    assert document["rows"]["pred"]["reasons"] == {"no-answer": 5}
    assert "no-answer 5 (0.png, 1.png, 2.png, …)" in capsys.readouterr().err


def test_annotations_against_annotations(files: dict[str, Path], capsys: pytest.CaptureFixture[str]) -> None:
    sides = ["--gt", str(files["gt"]), "--pred", str(files["second"]), "--resamples", "0"]
    assert run(["eval", "run", *sides]) == 0
    assert "no row has a `response`, so its annotations are measured like predictions" in capsys.readouterr().err


def test_names_out_of_the_data_are_shown_as_text(tmp_path: Path) -> None:
    nasty = "<script>alert(1)</script>|**x**\n\x00"
    images = [(f"{nasty}{n}", some_defects(random.Random(n), grid=4)) for n in range(9)]
    table = DefectTable.from_defects(images, groups={key: nasty for key, _ in images})
    report = write_report(evaluate(pair_up(table, table, Protocol.PAPER), resamples=0).as_dict(), tmp_path)
    text = report.read_text(encoding="utf-8")
    assert "<script>" not in text
    assert "\\<script\\>alert(1)\\</script\\>\\|\\*\\*x\\*\\*" in text
    svg = (tmp_path / "models.svg").read_text(encoding="utf-8")
    assert not list(ElementTree.fromstring(svg).iter(f"{SVG}script"))


# --- charts


def test_bars_are_as_high_as_their_values() -> None:
    svg = bars("T < 1", ["a & b", "c"], [Series("one", [0.25, None], [[0.1, 0.4], None]), Series("two", [1.0, 0.5])])
    root = ElementTree.fromstring(svg)
    heights = {rect.find(f"{SVG}title").text: float(rect.get("height")) for rect in root.iter(f"{SVG}rect")
               if rect.find(f"{SVG}title") is not None}  # type: ignore[union-attr, arg-type]  # fmt: skip
    assert heights == {"a & b, one: 0.250": 60.0, "a & b, two: 1.000": 240.0, "c, two: 0.500": 120.0}
    assert root.find(f"{SVG}text").text == "T < 1"  # type: ignore[union-attr]


def test_nothing_is_cut_off_or_overlaps() -> None:
    """Letters of 11 pixels are about 6 wide: no label reaches its neighbour, and everything is inside the picture."""
    figures = [
        bars("A title that is much wider than its one bar", ["x"], [Series("a long name of a series", [0.5])]),
        bars("T", [f"BoxF1@0.{n} misalignment" for n in range(5)], [Series(f"s{n}", [0.5] * 5) for n in range(4)]),
        bars("T", ["a generator with a name without end"] * 3, [Series("s", [0.5] * 3)]),
        histogram("boxes", {"ground truth": list(range(30)), "predicted": [3]}),
    ]
    for svg in figures:
        root = ElementTree.fromstring(svg)
        width = float(root.get("width") or 0)
        rows: dict[tuple[str, int], list[tuple[float, float]]] = {}
        for text in root.iter(f"{SVG}text"):
            spans = [(text, 0), *((span, line) for line, span in enumerate(text.iter(f"{SVG}tspan")))]
            for node, line in spans:
                if node.text is None or node.get("x") is None:
                    continue
                half = len(node.text) * (8 if text.get("font-size") == "14" else 6)
                left = float(node.get("x") or 0) - {"middle": half / 2, "end": half}.get(text.get("text-anchor", ""), 0)
                rows.setdefault((text.get("y") or "", line), []).append((left, left + half))
        for spans_of_row in rows.values():
            spans_of_row.sort()
            assert spans_of_row[0][0] >= 0
            assert spans_of_row[-1][1] <= width
            assert all(a[1] <= b[0] for a, b in itertools.pairwise(spans_of_row)), spans_of_row
        for rect in list(root.iter(f"{SVG}rect"))[1:]:
            assert float(rect.get("x") or 0) + float(rect.get("width") or 0) <= width


def test_a_histogram_counts_and_gathers_the_tail() -> None:
    svg = histogram("boxes", {"gt": [0, 0, 1, 99], "pred": [1, 1, 1, 25]})
    titles = [title.text for title in ElementTree.fromstring(svg).iter(f"{SVG}title")]
    assert "0, gt: 2.000" in titles
    assert "1, pred: 3.000" in titles
    assert "20+, gt: 1.000" in titles
    ElementTree.fromstring(histogram("nothing", {"gt": []}))


def test_boxes_that_look_transposed_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rng = random.Random(5)
    scenes = [some_defects(rng, grid=20) for _ in range(60)]

    def swapped(defect: Defect) -> Defect:
        box = defect.box
        return defect.model_copy(update={"box": Box(x0=box.y0, y0=box.x0, x1=box.y1, y1=box.x1)})

    for name, sides in (
        ("gt", scenes),
        ("same", scenes),
        ("swapped", [[swapped(d) for d in scene] for scene in scenes]),
    ):
        key = "ann_response" if name == "gt" else "response"
        rows = [{"filepath": f"{n}.png", key: render_answer(side, "t")} for n, side in enumerate(sides)]
        (tmp_path / name).write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    for name, warned in (("same", False), ("swapped", True)):
        sides = ["--gt", str(tmp_path / "gt"), "--pred", str(tmp_path / name)]
        assert run(["eval", "run", *sides, "--resamples", "0"]) == 0
        assert ("look transposed" in capsys.readouterr().err) == warned


def test_boxes_of_fractions_of_a_picture_end_nothing(tmp_path: Path) -> None:
    """Rounded down such edges bound no area, so nobody can ask whether the boxes are transposed; figures take them."""
    boxes = [[0.1, 0.2, 0.5, 0.9], [0.6, 2.5, 30.7, 40.9]]
    answer = json.dumps([{"box_2d": box, "label": "artifact", "desc": "a", "importance": 50} for box in boxes])
    for name, key in (("gt", "ann_response"), ("pred", "response")):
        rows = [{"filepath": f"{n}.png", key: f"<think>t</think><answer>{answer}</answer>"} for n in range(60)]
        (tmp_path / name).write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    out = tmp_path / "out.json"
    sides = ["--gt", str(tmp_path / "gt"), "--pred", str(tmp_path / "pred"), "--protocol", "release"]
    assert run(["eval", "run", *sides, "--resamples", "0", "--json", str(out)]) == 0
    figures = json.loads(out.read_text())["boxes"]["0.5"]["all"]
    assert (figures["tp"], figures["fp"], figures["fn"]) == (120, 0, 0)  # each box is its own


def test_only_boxes_within_the_grid_are_looked_at() -> None:
    edges = [[0.1, 0.2, 0.5, 0.9], [math.nan, 0, 1, 1], [-1, 0, 5, 5], [0, 0, 1e300, 5], [9, 1, 2, 5], [1.9, 2, 7, 8.1]]
    rows = len(edges)
    table = DefectTable(
        keys=("a", "b"), groups=("", ""), outcomes=np.zeros(2, dtype=np.int64), offsets=np.array([0, 1, rows]),
        boxes=np.array(edges), labels=np.zeros(rows, dtype=np.int64), importance=np.zeros(rows),
        subtypes=np.full(rows, -1), reasons=("",) * rows,
    )  # fmt: skip
    assert list(table.box_lists()) == [[], [Box(x0=1, y0=2, x1=7, y1=8)]]
