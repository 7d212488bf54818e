"""SDG-Eval against the loop-only reference, by hand, and on awkward inputs."""

import json
import random
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.answer.parse import render_answer
from schemas.defect import Defect
from sdg_data.metrics.definitions import METRICS, Metric, headline
from sdg_data.metrics.paper_numbers import published
from sdg_data.metrics.protocol import Protocol
from sdg_data.metrics.release_files import ReleaseFile
from sdg_data.metrics.report import markdown, summary_rows
from sdg_data.metrics.sdg_eval import evaluate, pair_up
from sdg_data.metrics.similarity import LexicalSimilarity
from sdg_data.metrics.tables import DefectTable
from tests.sdg_data.metrics import naive
from tests.sdg_data.metrics.support import defects, some_defects

PAPER, RELEASE = Protocol
FIGURES = ("protocol", "images", "image_level", "boxes", "description", "importance", "count")
Write = Callable[[str, list[dict[str, Any]]], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write(name: str, rows: list[dict[str, Any]]) -> Path:
        path = tmp_path / name
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        return path

    return write


def same(found: Any, expected: Any, where: str = "") -> None:
    """Equal trees, numbers to twelve digits, and the same keys."""
    if isinstance(expected, Mapping):
        assert found.keys() == expected.keys(), where
        for key in expected:
            same(found[key], expected[key], f"{where}/{key}")
    elif isinstance(expected, float) and expected is not None:
        assert found == pytest.approx(expected, abs=1e-12), where
    else:
        assert found == expected, where


def run(gt: Path, pred: Path, protocol: Protocol, **options: Any) -> dict[str, Any]:
    options.setdefault("resamples", 0)
    fill = options.pop("fill_missing", False)
    tables = ReleaseFile(gt, "gt", protocol).read(), ReleaseFile(pred, "pred", protocol).read()
    return evaluate(pair_up(*tables, protocol, fill_missing=fill), protocol=protocol, **options).as_dict()


def answer(things: list[naive.Thing]) -> str:
    items = [
        {"box_2d": list(t.box), "label": t.label, "description": t.reason, "importance": t.importance} for t in things
    ]
    return f"<think>a trace</think><answer>{json.dumps(items)}</answer>"


def thing(defect: Defect) -> naive.Thing:
    box = defect.box
    return naive.Thing((box.x0, box.y0, box.x1, box.y1), defect.type.value, defect.reason, defect.importance)


@pytest.mark.parametrize("seed", range(6))
def test_paper_equals_the_naive_reference(seed: int, write: Write) -> None:
    rng = random.Random(seed)
    images = [
        naive.Image([thing(d) for d in some_defects(rng, 5, grid=5)], [thing(d) for d in some_defects(rng, 5, grid=5)])
        for _ in range(40)
    ]
    for image in images[:3]:
        image.pred, image.parsed = [], False
    rows = [
        (f"a/{n:03}.png", answer(image.gt), answer(image.pred) if image.parsed else "I see nothing wrong.")
        for n, image in enumerate(images)
    ]
    gt = write("gt", [{"filepath": key, "ann_response": text} for key, text, _ in rows])
    rng.shuffle(rows)
    pred = write("pred", [{"filepath": key, "response": text} for key, _, text in rows])
    summary = run(gt, pred, PAPER)
    same({key: summary[key] for key in FIGURES}, naive.evaluate(images, "paper"))
    assert summary["parsing"] == {"parsed": 37, "failed": 3, "degenerate": 0, "rate": 3 / 40}


@pytest.mark.parametrize("seed", range(6))
def test_release_equals_the_naive_reference(seed: int, write: Write) -> None:
    rng = random.Random(seed)

    def strange(things: list[naive.Thing]) -> list[naive.Thing]:
        for thing in things:
            thing.label = rng.choice(["artifact", "misalignment", "both", "both", "Artifact", ""])
            if rng.random() < 0.1:
                thing.box = tuple(value + rng.choice([0, 0.5]) for value in thing.box)  # type: ignore[assignment]
            if rng.random() < 0.1:
                thing.box = (thing.box[2], thing.box[1], thing.box[0], thing.box[3])
            thing.importance = rng.choice([thing.importance, None, -3.5, 1000])
            thing.reason = rng.choice([thing.reason, "", "!", "Six FINGERS, six!"])
        return things

    images = [
        naive.Image(
            strange([thing(d) for d in some_defects(rng, 5, grid=4)]),
            strange([thing(d) for d in some_defects(rng, 5, grid=4)]),
        )
        for _ in range(40)
    ]
    for image in images[:2]:
        image.gt, image.parsed = [], False
    keys = [f"a/{n:03}.png" for n in range(40)]
    gt = [
        {"filepath": key, "ann_response": answer(image.gt) if image.parsed else "none"}
        for key, image in zip(keys, images, strict=True)
    ]
    pred = [{"filepath": key, "response": answer(image.pred)} for key, image in zip(keys, images, strict=True)]
    summary = run(write("gt", gt), write("pred", pred[::-1]), RELEASE)
    same({key: summary[key] for key in FIGURES}, naive.evaluate(images, "release"))


def test_by_hand_in_both_protocols(write: Write) -> None:
    gt = [
        # Hungarian pairs 0-1 and 1-0 (IoU 1/3 + 9/11), greedy takes the best pair alone.
        naive.Thing((0, 0, 100, 100), "artifact", "six fingers", 80),
        naive.Thing((500, 0, 600, 100), "misalignment", "a green hat", 40),
    ]
    pred = [
        naive.Thing((50, 0, 150, 100), "artifact", "six fingers", 60),  # IoU 1/3
        naive.Thing((500, 0, 590, 100), "misalignment", "a blue hat", 50),  # IoU 0.9
        naive.Thing((900, 900, 1000, 1000), "misalignment", "nothing", 10),
    ]
    rows = [("with", gt, pred), ("clean", [], []), ("false alarm", [], pred[:1])]
    files = (
        write("gt", [{"filepath": key, "ann_response": answer(g)} for key, g, _ in rows]),
        write("pred", [{"filepath": key, "response": answer(p)} for key, _, p in rows]),
    )
    paper = run(*files, PAPER)
    assert paper["image_level"]["artifact"] == {
        "accuracy": 2 / 3, "precision": 0.5, "recall": 1.0, "f1": 2 / 3, "clean_accuracy": 0.5,
    }  # fmt: skip
    assert paper["image_level"]["misalignment"]["clean_accuracy"] == 1.0
    assert paper["boxes"]["0.1"]["artifact"] == {
        "tp": 1, "fp": 1, "fn": 0, "precision": 0.5, "recall": 1.0, "f1": 2 / 3,
    }  # fmt: skip
    assert paper["boxes"]["0.5"]["artifact"]["tp"] == 0
    assert paper["boxes"]["0.5"]["all"] == {"tp": 1, "fp": 3, "fn": 1, "precision": 0.25, "recall": 0.5, "f1": 1 / 3}
    assert paper["description"]["artifact"]["mean"] == 1.0
    assert paper["description"]["misalignment"]["mean"] == pytest.approx(2 / 3)  # two of three words
    assert paper["description"]["detection_aware"] == pytest.approx((1 + 2 / 3) / 3 / 3)
    assert paper["importance"] == {"threshold": 0.1, "artifact": 0.8, "misalignment": 0.9}
    assert paper["count"]["mae"] == pytest.approx(2 / 3)
    assert paper["count"]["exact_match"] == pytest.approx(1 / 3)

    release = run(*files, RELEASE)
    assert list(release["boxes"]) == ["0.1", "0.2", "0.25", "0.3", "0.4", "0.5"]
    assert [release["boxes"][key]["artifact"]["tp"] for key in release["boxes"]] == [1, 1, 1, 1, 0, 0]
    assert release["description"]["artifact"] == {
        "pairs": 0, "mean": 0.0, "median": 0.0, "shares": {"0.3": 0.0, "0.5": 0.0, "0.7": 0.0},
    }  # fmt: skip
    assert release["description"]["token_f1"]["misalignment"]["shares"] == {"0.3": 1.0, "0.5": 1.0, "0.7": 0.0}


def test_hungarian_and_greedy_differ_where_they_should(write: Write) -> None:
    # 0-0 is the best pair (0.6), but 0-1 and 1-0 together are better (0.275 + 0.48).
    gt = [naive.Thing((0, 0, 100, 100), "artifact"), naive.Thing((0, 60, 100, 160), "artifact")]
    pred = [naive.Thing((0, 25, 100, 125), "artifact"), naive.Thing((0, 0, 50, 55), "artifact")]
    files = (
        write("gt", [{"filepath": "x", "ann_response": answer(gt)}]),
        write("pred", [{"filepath": "x", "response": answer(pred)}]),
    )
    assert float(naive.iou(gt[0], pred[0])) == 0.6
    assert run(*files, PAPER)["boxes"]["0.1"]["all"]["tp"] == 2
    assert run(*files, RELEASE)["boxes"]["0.1"]["all"]["tp"] == 1


AWKWARD = [
    ("three numbers", '<answer>[{"box_2d":[1,2,3],"label":"artifact"}]</answer>', "parsed", 1, 0),
    ("five numbers", '<answer>[{"box_2d":[1,2,3,4,5],"label":"artifact"}]</answer>', "parsed", 1, 0),
    ("strings", '<answer>[{"box_2d":"0,0,100,100","label":"artifact"}]</answer>', "parsed", 1, 0),
    ("a list of strings", '<answer>["artifact", "misalignment"]</answer>', "parsed", 0, 0),
    ("no box", '<answer>[{"box_2d":null,"label":"artifact"},null]</answer>', "parsed", 1, 0),
    ("no label", '<answer>[{"box_2d":[0,0,9,9],"label":null}]</answer>', "parsed", 1, 0),
    ("null reason", '<answer>[{"box_2d":[0,0,100,100],"label":"both","description":null}]</answer>', "parsed", 1, 1),
    ("NaN", '<answer>[{"box_2d":[0,0,NaN,100],"label":"artifact"}]</answer>', "parsed", 1, 0),
    ("an object", '<answer>{"box_2d":[0,0,100,100],"label":"artifact"}</answer>', "parsed", 0, 0),
    ("python", "<answer>[{'box_2d':(0,0,100,100),'label':'artifact'}]</answer>", "parsed", 1, 1),
    ("fence", '```json\n[{"box_2d":[0,0,100,100],"label":"artifact"}]\n```', "parsed", 1, 1),
    ("bare list", '[{"box_2d":[0,0,100,100],"label":"artifact"}]', "parsed", 1, 1),
    ("words", "There is a sixth finger.", "failed", 0, 0),
    ("broken", '<answer>[{"box_2d":[0,0,100', "failed", 0, 0),
    ("empty", "", "failed", 0, 0),
    ("digits", "1" * 200, "degenerate", 0, 0),
    ("replacement characters", "\ufffd" * 200, "degenerate", 0, 0),
    ("deep", "<answer>" + "[" * 5000 + "</answer>", "failed", 0, 0),
]  # fmt: skip


@pytest.mark.parametrize(("name", "text", "outcome", "boxes", "hits"), AWKWARD)
def test_release_reads_awkward_answers_and_goes_on(
    name: str, text: str, outcome: str, boxes: int, hits: int, write: Write
) -> None:
    truth = [naive.Thing((0, 0, 100, 100), "artifact", "")]
    gt = write("gt", [{"filepath": key, "ann_response": answer(truth)} for key in (name, "plain")])
    pred = write("pred", [{"filepath": name, "response": text}, {"filepath": "plain", "response": answer(truth)}])
    summary = run(gt, pred, RELEASE)
    row = next(row for row in summary["per_image"] if row["filepath"] == name)
    assert (row["parsing"], row["pred_all"], row["tp_all@0.5"]) == (outcome, boxes, hits)
    assert summary["parsing"][outcome] == (2 if outcome == "parsed" else 1)
    assert summary["boxes"]["0.5"]["all"]["tp"] == 1 + hits
    run(gt, pred, PAPER)  # and no crash there either


@pytest.mark.parametrize(("name", "text", "outcome", "boxes"), [row[:4] for row in AWKWARD])
def test_awkward_ground_truth(name: str, text: str, outcome: str, boxes: int, write: Write) -> None:
    gt = write("gt", [{"filepath": name, "ann_response": text}, {"filepath": "clean", "ann_response": answer([])}])
    pred = write("pred", [{"filepath": key, "response": answer([])} for key in (name, "clean")])
    release = run(gt, pred, RELEASE)
    assert (release["images"], release["boxes"]["0.5"]["all"]["fn"]) == (2, boxes)
    paper = run(gt, pred, PAPER)
    assert paper["images"] == 2 - len(paper["rows"]["unreadable"])
    if outcome != "parsed":
        assert paper["rows"]["unreadable"] == [name]


def test_both_is_compatible_with_either_type_and_counts_by_its_own_label(write: Write) -> None:
    gt = [naive.Thing((0, 0, 100, 100), "artifact"), naive.Thing((200, 0, 300, 100), "both")]
    pred = [naive.Thing((0, 0, 100, 100), "both"), naive.Thing((200, 0, 300, 100), "misalignment")]
    pred += [naive.Thing((500, 0, 600, 100), "both")]
    files = (
        write("gt", [{"filepath": "x", "ann_response": answer(gt)}]),
        write("pred", [{"filepath": "x", "response": answer(pred)}]),
    )
    summary = run(*files, RELEASE)
    counts = {scope: [figures[key] for key in ("tp", "fp", "fn")] for scope, figures in summary["boxes"]["0.5"].items()}
    assert counts == {"all": [2, 1, 0], "artifact": [1, 0, 0], "misalignment": [0, 0, 0]}
    assert [summary["image_level"][kind]["recall"] for kind in ("any", "artifact", "misalignment")] == [1.0, 1.0, 1.0]
    # In the paper's protocol "both" is an unknown label: the answer is rejected, and so is the ground truth.
    assert run(*files, PAPER)["rows"]["unreadable"] == ["x"]


@settings(deadline=None, max_examples=40)
@given(st.lists(st.lists(defects(), max_size=4), min_size=1, max_size=6), st.sampled_from(Protocol))
def test_a_set_against_itself_is_perfect(images: list[list[Defect]], protocol: Protocol) -> None:
    table = DefectTable.from_defects((f"{n:02}", boxes) for n, boxes in enumerate(images))
    evaluation = evaluate(pair_up(table, table, protocol), protocol=protocol, resamples=0).summary
    undefined = None if protocol is PAPER else 0.0
    for scopes in evaluation["boxes"].values():
        for scope, figures in scopes.items():
            present = any(scope in ("all", d.type) for image in images for d in image)
            assert (figures["f1"], figures["fp"], figures["fn"]) == (1.0 if present else undefined, 0, 0)
    assert all(scores["accuracy"] == 1.0 for scores in evaluation["image_level"].values())
    assert evaluation["count"]["mae"] == 0
    for kind in ("artifact", "misalignment"):
        if evaluation["importance"][kind] is not None:
            assert evaluation["importance"][kind] == 1.0 or protocol is RELEASE  # greedy ties may pair other twins


@settings(deadline=None, max_examples=40)
@given(st.lists(st.tuples(st.lists(defects(), max_size=4), st.lists(defects(), max_size=4)), min_size=1, max_size=5))
def test_swapping_the_sides_swaps_precision_and_recall(images: list[tuple[list[Defect], list[Defect]]]) -> None:
    sides = [DefectTable.from_defects((f"{n}", image[side]) for n, image in enumerate(images)) for side in (0, 1)]
    forth = evaluate(pair_up(sides[0], sides[1], PAPER), resamples=0).summary["boxes"]["0.1"]
    back = evaluate(pair_up(sides[1], sides[0], PAPER), resamples=0).summary["boxes"]["0.1"]
    for scope in forth:
        if forth[scope]["tp"] == back[scope]["tp"]:  # ties in the total may keep another number over 0.1
            assert forth[scope]["precision"] == back[scope]["recall"]
            assert forth[scope]["f1"] == back[scope]["f1"]
    assert [forth["all"][key] + forth["all"]["tp"] for key in ("fn", "fp")] == [
        sum(len(image[side]) for image in images) for side in (0, 1)
    ]


def test_missing_extra_and_failing_images(write: Write) -> None:
    text = answer([naive.Thing((0, 0, 100, 100), "artifact")])
    gt = write("gt", [{"filepath": key, "ann_response": text} for key in ("b", "a", "c")])
    pred = write("pred", [{"filepath": key, "response": text} for key in ("d", "c", "a")])
    summary = run(gt, pred, PAPER)
    assert (summary["images"], summary["rows"]["missing"], summary["rows"]["extra"]) == (2, ["b"], ["d"])
    assert summary["boxes"]["0.5"]["all"]["f1"] == 1.0
    assert [row["filepath"] for row in summary["per_image"]] == ["a", "c"]
    strict = run(gt, pred, PAPER, fill_missing=True)
    assert (strict["images"], strict["rows"]["missing"], strict["parsing"]["failed"]) == (3, ["b"], 1)
    assert strict["boxes"]["0.5"]["all"]["recall"] == 2 / 3


def test_nothing_in_common(write: Write) -> None:
    gt = write("gt", [{"filepath": "a", "ann_response": answer([])}])
    pred = write("pred", [{"filepath": "b", "response": answer([])}])
    for protocol in Protocol:
        summary = run(gt, pred, protocol, resamples=20)
        assert (summary["images"], summary["per_image"], summary["parsing"]["rate"]) == (0, [], None)
        assert summary["intervals"]["image_level"]["any"]["clean_accuracy"] is None


# --- the JSON


def keys(tree: Any) -> Any:
    """The shape of a tree."""
    return {key: keys(value) for key, value in tree.items()} if isinstance(tree, dict) else None


@pytest.mark.parametrize("protocol", Protocol)
def test_every_key_of_the_json(protocol: Protocol, write: Write) -> None:
    rng = random.Random(9)
    rows = [
        {"filepath": f"x/SDG/flux2/test/{n}.png", "ann_response": render_answer(some_defects(rng), "t")}
        for n in range(30)
    ]
    path = write("both", rows)
    gt = ReleaseFile(path, "gt", protocol)
    pairs = pair_up(gt.read(), ReleaseFile(path, "pred", protocol).read(), protocol)
    result = evaluate(pairs, protocol=protocol, resamples=50)
    found = result.as_dict(ceiling=result, rows={"gt": gt.report.as_dict()})
    json.dumps(found, allow_nan=False)

    types, scopes = ("artifact", "misalignment"), ("all", "artifact", "misalignment")
    thresholds = ("0.1", "0.5") if protocol is PAPER else ("0.1", "0.2", "0.25", "0.3", "0.4", "0.5")
    rates = dict.fromkeys(("precision", "recall", "f1"))
    boxes = {"tp": None, "fp": None, "fn": None, **rates}
    image = {"accuracy": None, **rates, "clean_accuracy": None}
    pairs = {"pairs": None, "mean": None, "median": None, "shares": dict.fromkeys(("0.3", "0.5", "0.7"))}
    reasons = {**dict.fromkeys(scopes, pairs), "detection_aware": None}
    means = {**{scope: {"mean": None} for scope in scopes}, "detection_aware": None}
    image_level = dict.fromkeys(("any", *types), image)
    count = dict.fromkeys(("mae", "exact_match", "correlation"))
    alarms = dict.fromkeys(("clean", "photographs"), dict.fromkeys(scopes, dict.fromkeys(("share", "boxes"))))
    summary = {
        "protocol": None,
        "images": None,
        "n": {
            "image_level": image_level,
            "boxes": {threshold: dict.fromkeys(scopes, rates) for threshold in thresholds},
            "description": {**means, "token_f1": means},
            "importance": dict.fromkeys(types),
            "count": count,
            "false_alarms": alarms,
        },
        "parsing": dict.fromkeys(("parsed", "failed", "degenerate", "rate")),
        "image_level": image_level,
        "boxes": {threshold: dict.fromkeys(scopes, boxes) for threshold in thresholds},
        "description": {"threshold": None, "similarity": None, **reasons, "token_f1": reasons},
        "importance": {"threshold": None, **dict.fromkeys(types)},
        "count": count,
        "intervals": {
            "level": None,
            "resamples": None,
            "seed": None,
            "image_level": image_level,
            "boxes": {threshold: dict.fromkeys(scopes, rates) for threshold in thresholds},
            "description": {**means, "token_f1": means},
            "importance": dict.fromkeys(types),
            "count": count,
            "false_alarms": alarms,
        },
        "false_alarms": {group: {**values, "subtype": {}} for group, values in alarms.items()},
        "calibration": {
            "threshold": None,
            **dict.fromkeys(scopes, dict.fromkeys(("pairs", "bias", "error", "spearman", "bins"))),
        },
        "at_worst": {
            **dict.fromkeys(("images", "unanswered", "charged")),
            "image_level": image_level,
            "boxes": {threshold: dict.fromkeys(scopes, boxes) for threshold in thresholds},
            "description": {**reasons, "token_f1": reasons},
            "importance": dict.fromkeys(types),
            "count": dict.fromkeys(("mae", "exact_match")),
            "false_alarms": alarms,
            "calibration": dict.fromkeys(scopes, dict.fromkeys(("pairs", "error"))),
        },
    }
    kinds = {"model", "subtype", "tier", "size"}
    for shape in (keys(found), keys(found["ceiling"])):
        assert set(shape["at_worst"].pop("breakdown")) == kinds
        assert {key: shape[key] for key in summary} == summary
    assert set(found) == {*summary, "breakdown", "rows", "ceiling", "published", "per_image"}
    assert set(found["breakdown"]) == kinds
    assert set(found["rows"]) == {"gt", "missing", "extra", "unreadable"}
    assert set(found["published"]) == {"source", "images", "protocol", "similarity", "models"}
    counted = {f"{side}_{scope}" for side in ("gt", "pred") for scope in scopes}
    hits = {f"tp_{scope}@{threshold}" for scope in scopes for threshold in thresholds}
    f1s = {f"f1@{threshold}" for threshold in thresholds}
    rest = {"filepath", "model", "parsing", "pairs", "description", "token_f1", "importance", "detection_aware"}
    assert set(found["per_image"][0]) == counted | hits | f1s | rest


def test_rows_of_images_add_up_to_the_figures(write: Write) -> None:
    rng = random.Random(10)
    files = [
        write(name, [{"filepath": f"{n}", "ann_response": render_answer(some_defects(rng), None)} for n in range(50)])
        for name in ("gt", "pred")
    ]
    summary = run(files[0], files[1], PAPER)
    rows = summary["per_image"]
    for scope, figures in summary["boxes"]["0.1"].items():
        assert figures["tp"] == sum(row[f"tp_{scope}@0.1"] for row in rows)
        assert figures["tp"] + figures["fp"] == sum(row[f"pred_{scope}"] for row in rows)
        assert figures["tp"] + figures["fn"] == sum(row[f"gt_{scope}"] for row in rows)
    assert summary["description"]["all"]["pairs"] == sum(row["pairs"] for row in rows)
    total = sum(row["description"] * row["pairs"] for row in rows if row["pairs"])
    assert summary["description"]["all"]["mean"] == pytest.approx(total / summary["description"]["all"]["pairs"])
    for row in rows:
        if row["gt_all"] + row["pred_all"]:
            assert row["f1@0.1"] == 2 * row["tp_all@0.1"] / (row["gt_all"] + row["pred_all"])
        else:
            assert row["f1@0.1"] is None


# --- intervals, breakdowns, published figures


def test_intervals_bracket_the_figures_and_repeat(write: Write) -> None:
    rng = random.Random(11)
    sides = [DefectTable.from_defects((f"{n:03}", some_defects(rng, 4, grid=4)) for n in range(200)) for _ in range(2)]
    pairs = pair_up(sides[0], sides[1], PAPER)
    first, second = (evaluate(pairs, resamples=400, seed=5).summary for _ in range(2))
    assert first["intervals"] == second["intervals"]
    assert first["intervals"] != evaluate(pairs, resamples=400, seed=6).summary["intervals"]
    for kind in ("artifact", "misalignment"):
        low, high = first["intervals"]["boxes"]["0.1"][kind]["f1"]
        value = first["boxes"]["0.1"][kind]["f1"]
        assert low < value < high
        # About as wide as four standard errors of a share of so many boxes; clustering widens it.
        n = sum(first["boxes"]["0.1"][kind][key] for key in ("tp", "fp", "fn"))
        assert 0.5 < (high - low) / (4 * np.sqrt(value * (1 - value) / n)) < 3


def test_the_breakdown_parts_the_whole() -> None:
    rng = random.Random(12)
    groups = {f"{n:03}": rng.choice(["flux2", "sana", ""]) for n in range(90)}
    sides = [DefectTable.from_defects(((key, some_defects(rng)) for key in groups), groups=groups) for _ in range(2)]
    summary = evaluate(pair_up(sides[0], sides[1], PAPER), resamples=0)
    by_model = summary.summary["breakdown"]["model"]
    assert set(by_model) == {"flux2", "sana", "unknown"}
    assert sum(part["images"] for part in by_model.values()) == 90
    for group, name in (("flux2", "flux2"), ("", "unknown")):
        chosen = [key for key, things in groups.items() if things == group]
        parts = [side.take([side.keys.index(key) for key in chosen]) for side in sides]
        alone = evaluate(pair_up(parts[0], parts[1], PAPER), resamples=0).summary
        same(by_model[name]["boxes"], alone["boxes"])
        same(by_model[name]["image_level"], alone["image_level"])
    tiers = summary.summary["breakdown"]["tier"]
    for threshold in ("0.1", "0.5"):
        recalled = sum(part["boxes"][threshold]["recall"] * part["gt"] for part in tiers.values())
        assert recalled == pytest.approx(summary.summary["boxes"][threshold]["all"]["tp"])
    assert sum(part["pred"] for part in summary.summary["breakdown"]["size"].values()) == len(sides[1].labels)


def test_tiers_sizes_and_subtypes_by_hand() -> None:
    def defect(box: tuple[int, int, int, int], subtype: str, importance: int) -> Defect:
        kind = "artifact" if subtype in ("anatomy", "edge") else "misalignment"
        x0, y0, x1, y1 = box
        return Defect.model_validate(
            {
                "box": {"x0": x0, "y0": y0, "x1": x1, "y1": y1},
                "type": kind, "subtype": subtype, "reason": "r", "importance": importance,
            }
        )  # fmt: skip

    gt = [defect((0, 0, 99, 101), "anatomy", 90), defect((200, 0, 300, 100), "edge", 89)]
    gt.append(defect((0, 500, 500, 1000), "style", 14))
    pred = [defect((0, 0, 99, 101), "edge", 15), defect((200, 0, 300, 100), "edge", 70)]
    tables = [DefectTable.from_defects([("x", found)]) for found in (gt, pred)]
    parts = evaluate(pair_up(tables[0], tables[1], PAPER), resamples=0).summary["breakdown"]
    assert {name: (part["gt"], part["pred"]) for name, part in parts["subtype"].items()} == {
        "anatomy": (1, 0), "edge": (1, 2), "style": (1, 0),
    }  # fmt: skip
    assert parts["subtype"]["edge"]["boxes"]["0.5"] == {"recall": 1.0, "precision": 1.0}
    assert parts["subtype"]["style"]["boxes"]["0.5"] == {"recall": 0.0, "precision": None}
    assert {name: (part["gt"], part["pred"]) for name, part in parts["tier"].items()} == {
        "critical": (1, 0), "major": (1, 1), "minor": (0, 1), "negligible": (1, 0),
    }  # fmt: skip
    # 99 · 101 is just under 1 % of the image, 100 · 100 is 1 %, 500 · 500 is 25 %.
    assert {name: part["gt"] for name, part in parts["size"].items()} == {"small": 1, "medium": 1, "large": 1}


def test_the_published_figures_are_the_papers() -> None:
    table = published()
    assert table["SDG GRPO"]["box_f1@0.5"] == {"artifact": 0.263, "misalignment": 0.387}
    assert table["human"]["det_type_f1"] == {"artifact": 0.792, "misalignment": 0.712}
    assert table["human"]["description"] == {"artifact": None, "misalignment": None}
    assert len(table) == 5
    clean_table = DefectTable.from_defects([("x", [])])
    assert set(headline(evaluate(pair_up(clean_table, clean_table, PAPER), resamples=0).summary)) == set(table["human"])


def test_the_similarity_is_asked_for_matched_pairs_only() -> None:
    asked = []

    class Spy:
        name = "spy"

        def pairs(self, first: Any, second: Any) -> Any:
            asked.append((list(first), list(second)))
            return np.full(len(first), 0.25)

    rng = random.Random(13)
    sides = [DefectTable.from_defects((f"{n}", some_defects(rng)) for n in range(20)) for _ in range(2)]
    pairs = pair_up(sides[0], sides[1], PAPER)
    summary = evaluate(pairs, similarity=Spy(), resamples=0).summary
    assert len(asked) == 1
    assert len(asked[0][0]) == summary["description"]["all"]["pairs"] > 0
    assert summary["description"]["similarity"] == "spy"
    assert summary["description"]["all"]["mean"] == 0.25
    lexical = evaluate(pairs, similarity=LexicalSimilarity(), resamples=0).summary
    assert summary["description"]["token_f1"] == lexical["description"]["token_f1"]


def test_a_metric_is_one_row_with_its_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Added from outside, it stands in the JSON with an interval, in every generator's part, in tables and chart."""

    def wide(pairs: Any, matches: Any, protocol: Protocol) -> dict[str, Any]:
        table = pairs.gt
        of_image = np.repeat(np.arange(len(table)), np.diff(table.offsets))
        is_wide = table.boxes[:, 2] - table.boxes[:, 0] > 300
        return {
            f"wide/{kind}": np.bincount(of_image, is_wide & (table.labels == code), len(table))
            for code, kind in enumerate(("artifact", "misalignment"))
        }

    row = Metric(
        title="WideShare",
        path=("image_level", "{scope}", "wide_share"),
        numerator=lambda sums, kind: sums[f"wide/{kind}"],
        denominator=lambda sums, kind: sums[f"gt/{kind}"],
        headline=True,
        columns=wide,
    )
    monkeypatch.setitem(METRICS, "wide_share", row)
    rng = random.Random(14)
    truth = [(f"{n}", some_defects(rng)) for n in range(40)]
    table = DefectTable.from_defects(truth, groups={f"{n}": "flux2" if n % 2 else "sana" for n in range(40)})
    document = evaluate(pair_up(table, table, PAPER), resamples=50).as_dict()

    for kind in ("artifact", "misalignment"):
        of_kind = [(int(key), d.box.x1 - d.box.x0 > 300) for key, ds in truth for d in ds if d.type == kind]
        expected = sum(is_wide for _, is_wide in of_kind) / len(of_kind)
        assert document["image_level"][kind]["wide_share"] == pytest.approx(expected, abs=1e-12)
        low, high = document["intervals"]["image_level"][kind]["wide_share"]
        assert low <= expected <= high
        flux2 = [is_wide for key, is_wide in of_kind if key % 2]
        part = document["breakdown"]["model"]["flux2"]["image_level"][kind]
        assert part["wide_share"] == pytest.approx(sum(flux2) / len(flux2), abs=1e-12)
        (line,) = [row for row in summary_rows(document) if (row["metric"], row["type"]) == ("WideShare", kind)]
        assert (line["value"], line["human (published)"]) == (f"{expected:.3f}", "–")
    assert "WideShare" in markdown(document)
