"""Two detectors compared: against two evaluations, one resample at a time, and by hand."""

import json
import random
from pathlib import Path

import numpy as np
import pytest

from schemas.answer.parse import render_answer
from schemas.defect import Defect
from schemas.geometry import Box
from sdg_data import cli
from sdg_data.metrics.bootstrap import interval
from sdg_data.metrics.compare import compare
from sdg_data.metrics.protocol import Protocol
from sdg_data.metrics.sdg_eval import evaluate, pair_up
from sdg_data.metrics.tables import DefectTable
from sdg_data.store import image_list, prelabels
from sdg_data.store.connection import Store
from tests.exports.worlds import fill
from tests.sdg_data.metrics.support import some_defects


def tables(seed: int, images: int = 30) -> list[DefectTable]:
    rng = random.Random(seed)
    return [DefectTable.from_defects((f"{n:02}", some_defects(rng, grid=4)) for n in range(images)) for _ in range(3)]


@pytest.mark.parametrize("protocol", Protocol)
def test_each_side_is_what_evaluation_says_of_it(protocol: Protocol) -> None:
    gt, *sides = tables(1)
    comparison = compare(gt, *sides, protocol=protocol, resamples=50)
    alone = [evaluate(pair_up(gt, side, protocol), protocol=protocol, resamples=0).summary for side in sides]
    rows = {(row["metric"], row["scope"]): row for row in comparison["metrics"]}
    for scope in ("artifact", "misalignment"):
        for name, path in (("box_f1@0.5", ("boxes", "0.5", scope, "f1")), ("importance", ("importance", scope))):
            row = rows[name, scope]
            for side, summary in zip(("first", "second"), alone, strict=True):
                value = summary
                for key in path:
                    value = value[key]
                assert row[side] == pytest.approx(value)
            assert row["difference"] == pytest.approx(row["second"] - row["first"])
    assert comparison["images"] == 30


def test_the_interval_is_of_differences_on_the_same_images() -> None:
    """Each resample by itself: draw images, evaluate both on these, subtract."""
    gt, first, second = tables(2, images=12)
    comparison = compare(gt, first, second, resamples=40, seed=7)
    row = next(row for row in comparison["metrics"] if (row["metric"], row["scope"]) == ("box_f1@0.5", "all"))
    hits = [evaluate(pair_up(gt, side, Protocol.PAPER), resamples=0).per_image() for side in (first, second)]
    rng = np.random.default_rng(7)
    differences = []
    for _ in range(40):
        drawn = rng.integers(0, 12, size=12, dtype=np.uint32)
        f1s = [
            2 * sum(rows[n]["tp_all@0.5"] for n in drawn) / sum(rows[n]["gt_all"] + rows[n]["pred_all"] for n in drawn)
            for rows in hits
        ]
        differences.append(f1s[1] - f1s[0])
    assert row["interval"] == pytest.approx(interval(np.array(differences)))
    assert row["second_higher"] == pytest.approx(
        np.mean([1.0 if value > 0 else 0.5 if value == 0 else 0.0 for value in differences])
    )


def test_one_with_itself_and_the_other_way_round() -> None:
    gt, first, second = tables(3)
    same = compare(gt, first, first, resamples=50)
    assert not same["differ"]
    for row in same["metrics"]:
        assert row["difference"] in (0, None)
        assert row["interval"] in ([0.0, 0.0], None)
        assert row["second_higher"] in (0.5, None)
    forth, back = compare(gt, first, second, resamples=50), compare(gt, second, first, resamples=50)
    for one, other in zip(forth["metrics"], back["metrics"], strict=True):
        if one["interval"] is not None:
            assert one["difference"] == pytest.approx(-other["difference"])
            assert one["interval"] == pytest.approx([-end for end in other["interval"][::-1]])
    assert [(row["image"], row["difference"]) for row in forth["differ"]] == [
        (row["image"], -row["difference"]) for row in back["differ"]
    ]


def test_where_they_differ_by_hand() -> None:
    hit = Defect(box=Box(x0=0, y0=0, x1=500, y1=500), type="artifact", reason="r", importance=50)
    far = hit.model_copy(update={"box": Box(x0=900, y0=900, x1=1000, y1=1000)})
    gt = DefectTable.from_defects([("a", [hit]), ("b", []), ("c", [hit]), ("d", []), ("e", [hit])])
    first = DefectTable.from_defects([("a", [hit]), ("b", []), ("c", [far]), ("d", []), ("f", [])])
    second = DefectTable.from_defects([("a", [hit, far]), ("b", [far]), ("c", [far]), ("d", None), ("e", [hit])])
    comparison = compare(gt, first, second, resamples=0)
    assert (comparison["images"], comparison["left_out"]) == (4, {"only_first": 0, "only_second": 1, "neither": 0})
    assert [(row["image"], row["true"], row["first"]["f1"], row["second"]["f1"]) for row in comparison["differ"]] == [
        ("b", 0, 1.0, 0.0),
        ("d", 0, 1.0, 0.0),
        ("a", 1, 1.0, pytest.approx(2 / 3)),
    ]
    filled = compare(gt, first, second, resamples=0, fill_missing=True)
    assert (filled["images"], filled["left_out"]["only_second"]) == (5, 0)
    assert filled["parsing"]["first"]["failed"] == 1
    assert {row["interval"] is None for row in filled["metrics"]} == {True}


def test_files_are_compared_on_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rng = random.Random(4)
    for name, key in (("gt", "ann_response"), ("a", "response"), ("b", "response")):
        rows = [{"filepath": f"x/{n}.png", key: render_answer(some_defects(rng, grid=4), "t")} for n in range(20)]
        (tmp_path / name).write_text("\n".join(map(json.dumps, rows[: 19 if name == "b" else 20])))
    gt, a, b = (str(tmp_path / name) for name in ("gt", "a", "b"))
    command = ["eval", "compare", a, b, "--gt", gt, "--resamples", "50", "--list", str(tmp_path / "list.txt")]
    assert cli.run([*command, "--json", str(tmp_path / "o.json"), "--report", str(tmp_path / "report")]) == 10
    document = json.loads((tmp_path / "o.json").read_text())
    printed = capsys.readouterr().out
    assert (document["images"], document["left_out"]["only_first"]) == (19, 1)
    assert "19 images with both answers" in printed
    assert "left out: 1 that only A has" in printed
    row = next(row for row in document["metrics"] if (row["metric"], row["scope"]) == ("box_f1@0.5", "artifact"))
    line = next(line for line in printed.splitlines() if line.startswith("BoxF1@0.5") and "artifact" in line)
    assert f"{row['difference']:+.3f}" in line
    assert list(image_list.read(tmp_path / "list.txt")) == [row["image"] for row in document["differ"]] != []
    page = (tmp_path / "report" / "compare.md").read_text()
    assert all(row["image"] in page for row in document["differ"])


def test_detectors_of_a_store_give_a_list_that_export_takes(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    store = fill(tmp_path / "home", 12)
    with store.write() as tx:
        ids = [image for (image,) in tx.execute("SELECT image_id FROM gold ORDER BY image_id").fetchall()]
        stored = [image for (image,) in tx.execute("SELECT id FROM images").fetchall()]
        some = next(iter(prelabels.of_images(tx, stored).values()))
        for model in ("one", "two"):
            prelabels.insert(
                tx,
                [
                    some[0].model_copy(
                        update={
                            "id": f"{number:031x}{'ab'[model == 'two']}",
                            "image_id": image,
                            "model": model,
                            "defects": some[0].defects if number % 2 or model == "two" else (),
                        }
                    )
                    for number, image in enumerate(ids)
                ],
            )
    home = ["--home", str(tmp_path / "home")]
    compared = ["eval", "compare", "prelabel:one", "prelabel:two", "--list", str(tmp_path / "list.txt")]
    assert cli.run([*home, *compared, "--json", "-"]) == 0
    document = json.loads(capfd.readouterr().out)
    assert document["images"] == len(ids)
    assert {row["image"] for row in document["differ"]} <= set(ids[::2])
    command = ["export", "run", "--no-phash", "--images", str(tmp_path / "list.txt"), "--output", str(tmp_path / "o")]
    assert cli.run([*home, *command]) == 0
    assert Store(tmp_path / "home").path.exists()
    assert cli.run([*home, "eval", "compare", "prelabel:one", "prelabel:none"]) == 4
    assert cli.run([*home, "eval", "compare", "prelabel:one", "nobody.jsonl"]) == 3
